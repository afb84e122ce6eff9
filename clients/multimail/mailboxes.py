"""Mailboxes: what callers get, and the requests and replies it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimail import _json
from multimail._wire import Call, minted
from multimail._words import choice, ref, word
from multimail.paging import Page
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from multimail import words

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address that mail leaves from and arrives at. All times are in UTC.

    Attributes:
        id: `mbx_` and 26 characters.
        email: The address as given.
        display_name: The name shown in From.
        oversight_mode: How closely people watch it.
        etag: The version; send it back to change only what you read.
        create_time: When it was made.
        update_time: When it last changed.
        delete_time: When it was deleted; None while it lives. A deleted one is still read by id.
        hold_first_contact: Whether the first mail to a person waits for approval, whatever the mode.
        allow_list: Addresses and domains to which mail goes without the approval the mode asks for.
        approval_ttl: How long held mail waits for a person before it is `expired`.
        in_doubt_policy: What happens to mail of which nobody can tell whether it was handed over.
    """

    id: str
    email: str
    display_name: str
    oversight_mode: words.OversightMode
    etag: str
    create_time: datetime | None
    update_time: datetime | None
    delete_time: datetime | None
    hold_first_contact: bool
    allow_list: list[str]
    approval_ttl: timedelta
    in_doubt_policy: words.InDoubtPolicy


def _mailbox(message: mail_pb2.Mailbox) -> Mailbox:
    return Mailbox(
        id=message.id,
        email=message.email,
        display_name=message.display_name,
        oversight_mode=word(mail_pb2.OversightMode, message.oversight_mode),
        etag=message.etag,
        create_time=_json.moment(message, "create_time"),
        update_time=_json.moment(message, "update_time"),
        delete_time=_json.moment(message, "delete_time"),
        hold_first_contact=message.hold_first_contact,
        allow_list=list(message.allow_list),
        approval_ttl=message.approval_ttl.ToTimedelta(),
        in_doubt_policy=word(mail_pb2.InDoubtPolicy, message.in_doubt_policy),
    )


def mode(given: str | None) -> Any:
    """The oversight mode of a plain word."""
    return choice(mail_pb2.OversightMode, given, "oversight_mode")


def _listed(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def create(
    email: str,
    display_name: str,
    oversight_mode: str | None,
    allow_list: Sequence[str],
    approval_ttl: timedelta | None,
    in_doubt_policy: str | None,
    request_id: str | None,
    *,
    hold_first_contact: bool | None,
) -> Call[Mailbox]:
    """CreateMailbox."""
    request = _json.message(
        pb.CreateMailboxRequest,
        email=email,
        display_name=display_name,
        oversight_mode=mode(oversight_mode),
        hold_first_contact=hold_first_contact,
        allow_list=_listed(allow_list),
        approval_ttl=_json.to_duration(approval_ttl, "approval_ttl"),
        in_doubt_policy=choice(mail_pb2.InDoubtPolicy, in_doubt_policy, "in_doubt_policy"),
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "CreateMailbox", request, _mailbox)


def get(mailbox: str) -> Call[Mailbox]:
    """GetMailbox."""
    return Call(_SERVICE, "GetMailbox", _json.message(pb.GetMailboxRequest, **ref(mailbox, "id", "email")), _mailbox)


def list_all(token: str, size: int) -> Call[Page[Mailbox]]:
    """ListMailboxes, one page."""
    return Call(
        _SERVICE,
        "ListMailboxes",
        _json.message(pb.ListMailboxesRequest, page_token=token, page_size=size),
        lambda reply: Page([_mailbox(each) for each in reply.mailboxes], reply.next_page_token),
    )


def update(
    mailbox: str,
    display_name: str | None,
    oversight_mode: str | None,
    allow_list: Sequence[str] | None,
    approval_ttl: timedelta | None,
    in_doubt_policy: str | None,
    etag: str,
    request_id: str | None,
    *,
    hold_first_contact: bool | None,
) -> Call[Mailbox]:
    """UpdateMailbox."""
    request = _json.message(
        pb.UpdateMailboxRequest,
        **ref(mailbox, "id", "email"),
        display_name=display_name,
        oversight_mode=mode(oversight_mode),
        hold_first_contact=hold_first_contact,
        allow_list=None if allow_list is None else _json.message(pb.AllowList, entries=_listed(allow_list)),
        approval_ttl=_json.to_duration(approval_ttl, "approval_ttl"),
        in_doubt_policy=choice(mail_pb2.InDoubtPolicy, in_doubt_policy, "in_doubt_policy"),
        etag=etag,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "UpdateMailbox", request, _mailbox)


def delete(mailbox: str, etag: str, request_id: str | None) -> Call[Mailbox]:
    """DeleteMailbox."""
    request = _json.message(
        pb.DeleteMailboxRequest, **ref(mailbox, "id", "email"), etag=etag, request_id=minted(request_id)
    )
    return Call(_SERVICE, "DeleteMailbox", request, _mailbox)
