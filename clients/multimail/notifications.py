"""Notifications: what callers get, and the requests that list and follow them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from multimail import _json
from multimail._wire import Call
from multimail._words import choice, refs, told, word
from multimail.paging import Page
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from multimail import words

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class Notification:
    """One numbered line of the account's history. It holds ids, never an address or a text.

    Attributes:
        seq: Its number. Numbers only grow; some are not shown, such as acts through an `autonomous` mailbox.
        type: What happened.
        time: When it happened, in UTC.
        agent: The agent that did it; empty when the service did.
        key_id: The API key that did it; empty when the service did.
        contact_id: The contact it is about; empty when none.
        mailbox_id: The mailbox it is about; empty when none.
        email_id: The mail it is about; empty when none.
        thread_id: The thread it is about; empty when none.
        email_state: Of `email_settled` the state it came to; else empty.
        rule: Of `send_refused` the field of the guard that refused (`filter` for its filters), or `suppressed`, `rate`
            or `mode`; else empty.
        event: Of `email_event` what was reported; else empty.
    """

    seq: int
    type: words.NotificationType
    time: datetime | None
    agent: str
    key_id: str
    contact_id: str
    mailbox_id: str
    email_id: str
    thread_id: str
    email_state: words.EmailState | Literal[""]
    rule: str
    event: words.DeliveryEventType | Literal[""]


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
) -> Call[Notification | None]:
    """WatchNotifications; a response may only say how far the stream is."""
    request = _json.message(
        pb.WatchNotificationsRequest, **refs(mailbox), after_seq=after_seq, types=_types(types), only_new=only_new
    )
    return Call(
        _SERVICE,
        "WatchNotifications",
        request,
        lambda reply: notification_from(reply.notification) if reply.HasField("notification") else None,
    )
