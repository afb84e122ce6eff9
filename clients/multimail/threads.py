"""Threads: what callers get, and how they are listed and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail import _json
from multimail._wire import Call
from multimail._words import refs, word
from multimail.mail import Email, email_from
from multimail.paging import Page
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from multimail import words

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class Thread:
    """One conversation, put together by Message-ID, In-Reply-To and References. All times are in UTC.

    Attributes:
        id: `thread_` and 26 characters.
        subject: The subject of its first mail.
        contact_ids: The contacts that take part.
        mailbox_ids: The mailboxes it went through.
        email_count: How many mails it holds.
        latest_email_id: Its newest mail.
        latest_direction: Which way that went; `inbound` means that somebody may be waiting for us.
        create_time: When its first mail was accepted or arrived.
        update_time: When its newest mail was accepted or arrived.
        emails: Its newest 100 mails without bodies, oldest of them first; filled by `threads.get` only.
        outbound_count: How many mails of it went out, held and scheduled ones included.
        inbound_count: How many arrived.
        awaiting_reply_since: Since when we wait for an answer; None when we do not. Automatic ones are no answers.
        unanswered_since: Since when somebody waits for ours; None when nobody does.
    """

    id: str
    subject: str
    contact_ids: list[str]
    mailbox_ids: list[str]
    email_count: int
    latest_email_id: str
    latest_direction: words.Direction
    create_time: datetime | None
    update_time: datetime | None
    emails: list[Email]
    outbound_count: int
    inbound_count: int
    awaiting_reply_since: datetime | None
    unanswered_since: datetime | None


def thread_from(message: mail_pb2.Thread, emails: Sequence[mail_pb2.Email] = ()) -> Thread:
    """The thread of a message, with these mails."""
    return Thread(
        id=message.id,
        subject=message.subject,
        contact_ids=list(message.contact_ids),
        mailbox_ids=list(message.mailbox_ids),
        email_count=message.email_count,
        latest_email_id=message.latest_email_id,
        latest_direction=word(mail_pb2.Direction, message.latest_direction),
        create_time=_json.moment(message, "create_time"),
        update_time=_json.moment(message, "update_time"),
        emails=[email_from(each) for each in emails],
        outbound_count=message.outbound_count,
        inbound_count=message.inbound_count,
        awaiting_reply_since=_json.moment(message, "awaiting_reply_since"),
        unanswered_since=_json.moment(message, "unanswered_since"),
    )


def list_all(
    mailbox: str | None,
    contact: str | None,
    awaiting_reply_before: datetime | None,
    token: str,
    size: int,
    *,
    unanswered: bool,
) -> Call[Page[Thread]]:
    """ListThreads, one page."""
    request = _json.message(
        pb.ListThreadsRequest,
        **refs(mailbox, contact),
        awaiting_reply_before=_json.to_timestamp(awaiting_reply_before, "awaiting_reply_before")
        if awaiting_reply_before is not None
        else None,
        unanswered=unanswered,
        page_token=token,
        page_size=size,
    )
    return Call(
        _SERVICE,
        "ListThreads",
        request,
        lambda reply: Page([thread_from(each) for each in reply.threads], reply.next_page_token),
    )


def get(identifier: str) -> Call[Thread]:
    """GetThread."""
    request = _json.message(pb.GetThreadRequest, id=identifier)
    return Call(_SERVICE, "GetThread", request, lambda reply: thread_from(reply.thread, reply.emails))
