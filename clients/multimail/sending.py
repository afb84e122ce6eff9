"""Sending: what a mail may be made of, what must be true for it to go, and the requests this becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multimail import _json
from multimail._wire import Call, minted
from multimail._words import ref, refusal_from, told
from multimail.mail import Email, email_from
from multimail.mailboxes import mode
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from multimail.errors import Refusal

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class Guard:
    """What must be true of the one recipient for a mail to go; GuardRefusedError when it is not.

    Check and send are one step: of any number of senders at once exactly one passes.

    Attributes:
        not_contacted_within: Nobody of the account has written to them for so long, and no mail to them is held or
            scheduled.
        no_open_thread: No conversation with them is open: none has a mail younger than 14 days, an unanswered inbound
            one, or a held or scheduled one.
        contact_etag: The contact is still as it was read: `contact.etag`.
        require_contact: They are a contact already.
        filters: The contact meets these conditions; as in `contacts.search`.
        filter: The contact meets this condition, as text; as in `contacts.search`.
        dedupe_key: No earlier mail to them bore this key, at most 256 characters; mail that was cancelled, rejected or
            not approved in time does not count.
    """

    not_contacted_within: timedelta | None = None
    no_open_thread: bool = False
    contact_etag: str = ""
    require_contact: bool = False
    filters: Mapping[str, Any] | None = None
    dedupe_key: str = ""
    filter: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingAttachment:
    """A file to send.

    Attributes:
        filename: Its name, 1 to 255 characters, no path.
        content: Its bytes.
        content_type: Its media type; guessed from the name when left out.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str = ""

    @classmethod
    def read(cls, path: str | Path) -> OutgoingAttachment:
        """The file at a path, under its own name."""
        return cls(Path(path).name, Path(path).read_bytes())


@dataclass(frozen=True, slots=True)
class SendCheck:
    """What would become of a mail to an address.

    Attributes:
        address: The address as it was asked about.
        state: How the mail would stand; empty when it would be refused.
        refusal: Why it would be refused; None when it would be accepted.
    """

    address: str
    state: Literal["queued", "held", ""]
    refusal: Refusal | None


def _guard(guard: Guard | None) -> pb.SendGuard | None:
    if guard is None:
        return None
    return _json.message(
        pb.SendGuard,
        not_contacted_within=_json.to_duration(guard.not_contacted_within, "guard.not_contacted_within"),
        no_open_thread=guard.no_open_thread,
        contact_etag=guard.contact_etag,
        require_contact=guard.require_contact,
        filters=_json.to_values(guard.filters, "guard.filters"),
        dedupe_key=guard.dedupe_key,
        filter=guard.filter,
    )


def _files(attachments: Sequence[OutgoingAttachment]) -> list[pb.OutgoingAttachment]:
    return [
        _json.message(
            pb.OutgoingAttachment, filename=each.filename, content_type=each.content_type, content=each.content
        )
        for each in attachments
    ]


def _addresses(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def send(
    from_mailbox: str,
    to: str | Sequence[str],
    *,
    subject: str,
    body: str,
    oversight_mode: str | None,
    cc: str | Sequence[str],
    bcc: str | Sequence[str],
    reply_to: str | Sequence[str],
    html_body: str,
    markdown_body: str,
    attachments: Sequence[OutgoingAttachment],
    send_time: datetime | None,
    guard: Guard | None,
    list_unsubscribe: bool,
    validate_only: bool,
    request_id: str | None,
) -> Call[Email]:
    """SendEmail."""
    request = _json.message(
        pb.SendEmailRequest,
        **ref(from_mailbox, "from_mailbox_id", "from_mailbox_email"),
        to=_addresses(to),
        subject=subject,
        body=body,
        oversight_mode=mode(oversight_mode),
        cc=_addresses(cc),
        bcc=_addresses(bcc),
        reply_to=_addresses(reply_to),
        html_body=html_body,
        markdown_body=markdown_body,
        attachments=_files(attachments),
        send_time=_json.to_timestamp(send_time, "send_time") if send_time is not None else None,
        guard=_guard(guard),
        list_unsubscribe=list_unsubscribe,
        validate_only=validate_only,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "SendEmail", request, lambda reply: email_from(reply.email))


def reply(
    email_id: str,
    *,
    body: str,
    subject: str | None,
    oversight_mode: str | None,
    html_body: str,
    markdown_body: str,
    attachments: Sequence[OutgoingAttachment],
    send_time: datetime | None,
    reply_all: bool,
    validate_only: bool,
    request_id: str | None,
) -> Call[Email]:
    """ReplyEmail."""
    request = _json.message(
        pb.ReplyEmailRequest,
        email_id=email_id,
        body=body,
        subject=subject,
        oversight_mode=mode(oversight_mode),
        html_body=html_body,
        markdown_body=markdown_body,
        attachments=_files(attachments),
        send_time=_json.to_timestamp(send_time, "send_time") if send_time is not None else None,
        reply_all=reply_all,
        validate_only=validate_only,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "ReplyEmail", request, lambda reply: email_from(reply.email))


def cancel(email_id: str, request_id: str | None) -> Call[Email]:
    """CancelEmail."""
    request = _json.message(pb.CancelEmailRequest, id=email_id, request_id=minted(request_id))
    return Call(_SERVICE, "CancelEmail", request, email_from)


def update(
    email_id: str,
    *,
    subject: str | None,
    body: str | None,
    html_body: str | None,
    markdown_body: str | None,
    content_sha256: str,
    request_id: str | None,
) -> Call[Email]:
    """UpdateEmail."""
    request = _json.message(
        pb.UpdateEmailRequest,
        id=email_id,
        subject=subject,
        body=body,
        html_body=html_body,
        markdown_body=markdown_body,
        content_sha256=content_sha256,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "UpdateEmail", request, email_from)


def check(
    from_mailbox: str, to: str | Sequence[str], guard: Guard | None, oversight_mode: str | None
) -> Call[list[SendCheck]]:
    """BatchCheckSends."""
    request = _json.message(
        pb.BatchCheckSendsRequest,
        **ref(from_mailbox, "from_mailbox_id", "from_mailbox_email"),
        to=_addresses(to),
        guard=_guard(guard),
        oversight_mode=mode(oversight_mode),
    )
    return Call(_SERVICE, "BatchCheckSends", request, lambda reply: [_checked(each) for each in reply.checks])


def _checked(message: pb.SendCheck) -> SendCheck:
    refusal = refusal_from(message.refusal) if message.HasField("refusal") else None
    return SendCheck(message.address, told(mail_pb2.EmailState, message.state), refusal)
