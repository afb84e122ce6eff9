"""Mail between documents and protobuf messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from multimail.v1 import mail_pb2
from multimail_server.aip.etag import etag_of
from multimail_server.mail.oversight import MODES

if TYPE_CHECKING:
    from datetime import datetime

    from multimail_server.storage.mongo import Document

MODE_VALUES = {mode: mail_pb2.OversightMode.Value(f"OVERSIGHT_MODE_{mode.upper()}") for mode in MODES}
MODE_NAMES = {value: mode for mode, value in MODE_VALUES.items()} | {mail_pb2.OVERSIGHT_MODE_UNSPECIFIED: ""}
DIRECTIONS = {"outbound": mail_pb2.DIRECTION_OUTBOUND, "inbound": mail_pb2.DIRECTION_INBOUND}
DIRECTION_NAMES = {value: name for name, value in DIRECTIONS.items()}
STATES = {name.removeprefix("EMAIL_STATE_").lower(): value for name, value in mail_pb2.EmailState.items() if value}
STATE_NAMES = {value: name for name, value in STATES.items()}
_RECIPIENT_STATES = {
    name.removeprefix("RECIPIENT_STATE_").lower(): value for name, value in mail_pb2.RecipientState.items() if value
}
_NOTIFICATION_TYPES = {
    name.removeprefix("NOTIFICATION_TYPE_").lower(): value for name, value in mail_pb2.NotificationType.items() if value
}


def timestamp(moment: datetime | None) -> Timestamp | None:
    """The Timestamp of a moment; None for none."""
    if moment is None:
        return None
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def mailbox_to_proto(mailbox: Document) -> mail_pb2.Mailbox:
    """The message of a mailbox document."""
    return mail_pb2.Mailbox(
        id=mailbox["_id"],
        email=mailbox["email"],
        display_name=mailbox["display_name"],
        oversight_mode=MODE_VALUES[mailbox["mode"]],
        etag=etag_of(mailbox["_id"], mailbox["revision"]),
        create_time=timestamp(mailbox["create_time"]),
        update_time=timestamp(mailbox["update_time"]),
        delete_time=timestamp(mailbox["delete_time"]),
    )


def email_to_proto(email: Document) -> mail_pb2.Email:
    """The message of a mail document; bodies where it was loaded with them."""
    headers = email["headers"]
    body = email.get("body") or {"text": "", "html": ""}
    return mail_pb2.Email(
        **{"from": headers["from"]},
        id=email["_id"],
        direction=DIRECTIONS[email["direction"]],
        state=STATES[email["state"]],
        mailbox_id=email["mailbox"],
        thread_id=email["thread"],
        to=headers["to"],
        cc=headers["cc"],
        subject=headers["subject"],
        body=body["text"],
        html_body=body["html"],
        snippet=email["snippet"],
        attachments=[
            mail_pb2.Attachment(filename=a["filename"], content_type=a["content_type"], size_bytes=a["size"])
            for a in email["attachments"]
        ],
        message_id=headers["message_id"],
        in_reply_to=headers["in_reply_to"],
        time=timestamp(email["at"]),
        settle_time=timestamp(email["settle_time"]),
        agent=email["agent"],
        oversight_mode=MODE_VALUES[email["mode"]],
        recipients=[_recipient_to_proto(each) for each in email["recipients"]],
        read_at=timestamp(email["read_at"]),
        replied_at=timestamp(email["replied_at"]),
        defects=email["defects"],
        untrusted=email["direction"] == "inbound",
        truncated=email["truncated"],
    )


def _recipient_to_proto(recipient: Document) -> mail_pb2.Recipient:
    return mail_pb2.Recipient(
        address=recipient["address"],
        contact_id=recipient["contact"],
        state=_RECIPIENT_STATES[recipient["state"]],
        response=recipient["response"],
        update_time=timestamp(recipient["at"]),
    )


def thread_to_proto(thread: Document) -> mail_pb2.Thread:
    """The message of a thread document."""
    return mail_pb2.Thread(
        id=thread["_id"],
        subject=thread["subject"],
        contact_ids=[each for each in thread["people"] if each.startswith("contact_")],
        mailbox_ids=thread["mailboxes"],
        email_count=thread["email_count"],
        latest_email_id=thread["latest_email"],
        latest_direction=DIRECTIONS[thread["latest_direction"]],
        create_time=timestamp(thread["create_time"]),
        update_time=timestamp(thread["latest_at"]),
    )


def notification_to_proto(notification: Document) -> mail_pb2.Notification:
    """The message of a notification document."""
    state = notification.get("state")
    return mail_pb2.Notification(
        seq=notification["seq"],
        type=_NOTIFICATION_TYPES[notification["type"]],
        time=timestamp(notification["at"]),
        agent=notification["actor"]["agent"],
        key_id=notification["actor"]["key"],
        contact_id=notification.get("contact", ""),
        mailbox_id=notification.get("mailbox", ""),
        email_id=notification.get("email", ""),
        thread_id=notification.get("thread", ""),
        email_state=STATES[state] if state else mail_pb2.EMAIL_STATE_UNSPECIFIED,
    )
