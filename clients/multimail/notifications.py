"""Notifications: what callers get, and the requests that list and follow them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimail import _json
from multimail._wire import Call
from multimail._words import choice, refs, told, word
from multimail.paging import Page
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class Notification:
    """One numbered line of the account's history; `type` is a plain word, `email_queued`.

    `email_state` is told of settled mail, `rule` of refused sends, `event` of reports about delivery; else empty.
    """

    seq: int
    type: str
    time: datetime | None
    agent: str
    key_id: str
    contact_id: str
    mailbox_id: str
    email_id: str
    thread_id: str
    email_state: str
    rule: str
    event: str


def notification_from(message: mail_pb2.Notification) -> Notification:
    """The notification of a message."""
    return Notification(
        seq=message.seq,
        type=word(mail_pb2.NotificationType, message.type),
        time=_json.moment(message, "time"),
        agent=message.agent,
        key_id=message.key_id,
        contact_id=message.contact_id,
        mailbox_id=message.mailbox_id,
        email_id=message.email_id,
        thread_id=message.thread_id,
        email_state=told(mail_pb2.EmailState, message.email_state),
        rule=message.rule,
        event=told(mail_pb2.DeliveryEventType, message.event),
    )


def _types(types: str | Sequence[str]) -> list[Any]:
    given = [types] if isinstance(types, str) else types
    return [choice(mail_pb2.NotificationType, each, "types") for each in given]


def list_all(
    after_seq: int, types: str | Sequence[str], mailbox: str | None, token: str, size: int
) -> Call[Page[Notification]]:
    """ListNotifications, one page."""
    request = _json.message(
        pb.ListNotificationsRequest,
        **refs(mailbox),
        after_seq=after_seq,
        types=_types(types),
        page_token=token,
        page_size=size,
    )
    return Call(
        _SERVICE,
        "ListNotifications",
        request,
        lambda reply: Page([notification_from(each) for each in reply.notifications], reply.next_page_token),
    )


def watch(
    after_seq: int, types: str | Sequence[str], mailbox: str | None, *, only_new: bool
) -> pb.WatchNotificationsRequest:
    """The request of WatchNotifications."""
    return _json.message(
        pb.WatchNotificationsRequest, **refs(mailbox), after_seq=after_seq, types=_types(types), only_new=only_new
    )
