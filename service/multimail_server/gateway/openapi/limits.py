"""The bounds of request fields that JSON Schema can state, taken from the rules that enforce them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail_server.aip import filtering, paging
from multimail_server.contacts import contact, filter_map, filters
from multimail_server.contacts import requests as contact_requests
from multimail_server.mail import accepting, compose, content, mime
from multimail_server.mail import requests as mail_requests
from multimail_server.rpc.validation import choices_of, is_count, is_required, longest

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

# The conditions of a search by their names.
_CONDITIONS = {
    "maxProperties": filter_map.MAX_CONDITIONS,
    "propertyNames": {"pattern": rf"^(metadata\..+|{'|'.join(filter_map.OWN_KEYS)})$"},
}
_ADDRESS = {"format": "idn-email"}
_ADDRESSES = {"items": {"type": "string", **_ADDRESS}}
_SPAN = {"pattern": r"^\d{1,9}(\.\d{1,9})?[smhd]$", "examples": ["36h", "7d"]}
_ALLOWED = {"maxItems": mail_requests.MAX_ALLOWED}
_PAGE_SIZE = {"default": paging.DEFAULT_SIZE}
_ROWS = {"minItems": 1, "maxItems": contact_requests.MAX_ROWS}
# As characters: a body of more of them has more bytes too.
_BODY = {"maxLength": mime.MAX_BODY_BYTES}
_DECISIONS = {"minItems": 1, "maxItems": mail_requests.MAX_DECISIONS}

# By the field's name where every request means the same by it.
_BY_NAME: dict[str, dict[str, Any]] = {
    "email": _ADDRESS,
    "mailbox_email": _ADDRESS,
    "contact_email": _ADDRESS,
    "from_mailbox_email": _ADDRESS,
    "address": _ADDRESS,
    "to": _ADDRESSES,
    "cc": _ADDRESSES,
    "bcc": _ADDRESSES,
    "reply_to": _ADDRESSES | {"maxItems": mail_requests.MAX_REPLY_TO},
    "name": {"maxLength": contact.MAX_NAME},
    "display_name": {"maxLength": mail_requests.MAX_DISPLAY_NAME},
    "subject": {"maxLength": compose.MAX_SUBJECT},
    "body": _BODY,
    "html_body": _BODY,
    "markdown_body": _BODY,
    "filter": {"maxLength": filtering.MAX_LENGTH},
    "filters": _CONDITIONS,
    "query": {"maxLength": filters.MAX_TEXT},
    "page_size": _PAGE_SIZE,
    "attachments": {"maxItems": content.MAX_FILES},
    "reason": {"maxLength": mail_requests.MAX_REASON},
}
_BY_PLACE: dict[str, dict[str, Any]] = {
    "BatchUpsertContactsRequest.contacts": _ROWS,
    "BatchGetContactsRequest.contacts": _ROWS,
    "ApproveEmailsRequest.emails": _DECISIONS,
    "RejectEmailsRequest.emails": _DECISIONS,
    "SendEmailRequest.to": _ADDRESSES | {"maxItems": accepting.MAX_RECIPIENTS},
    # What is no address has a refusal for its answer.
    "BatchCheckSendsRequest.to": {"minItems": 1, "maxItems": mail_requests.MAX_CHECKS},
    "CreateMailboxRequest.allow_list": _ALLOWED,
    "AllowList.entries": _ALLOWED,
    "GetContactContextRequest.max_characters": {
        "minimum": contact_requests.MIN_CHARACTERS,
        "maximum": contact_requests.MAX_CHARACTERS,
        "default": contact_requests.DEFAULT_CHARACTERS,
    },
}


def limits_of(field: FieldDescriptor) -> dict[str, Any]:
    """The keywords of JSON Schema that bound a field of a request."""
    place = ".".join(field.full_name.split(".")[-2:])
    bounds: dict[str, Any] = {"minimum": 0} if is_count(field) else {}
    most = longest(field)
    if field.name == "request_id":
        bounds["pattern"] = "^[!-~]*$"
    if most is not None:
        bounds["maxLength"] = most
    if is_required(field) and field.is_repeated:
        bounds["minItems"] = 1
    elif field.type in (field.TYPE_STRING, field.TYPE_BYTES) and (is_required(field) or _is_choice(field)):
        bounds["minLength"] = 1
    if field.type == field.TYPE_BYTES:
        bounds["pattern"] = "^[A-Za-z0-9+/_-]*={0,2}$"
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Duration":
        bounds |= _SPAN
    return bounds | (_BY_PLACE[place] if place in _BY_PLACE else _BY_NAME.get(field.name, {}))


def _is_choice(field: FieldDescriptor) -> bool:
    """Whether the field is one of several of which one must be given."""
    message = field.containing_type
    return message is not None and any(needed and field in oneof.fields for oneof, needed in choices_of(message))
