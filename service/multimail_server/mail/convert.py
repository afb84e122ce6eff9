"""Mail between documents and protobuf messages."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from multimail.v1 import error_reason_pb2, mail_pb2, mail_service_pb2
from multimail_server.aip.etag import etag_of
from multimail_server.mail.email import contacts_in
from multimail_server.mail.events import shown_state
from multimail_server.mail.oversight import MODES

if TYPE_CHECKING:
    from datetime import datetime

    from multimail_server.errors import DomainError
    from multimail_server.storage.mongo import Document

MODE_VALUES = {mode: mail_pb2.OversightMode.Value(f"OVERSIGHT_MODE_{mode.upper()}") for mode in MODES}
MODE_NAMES = {value: mode for mode, value in MODE_VALUES.items()} | {mail_pb2.OVERSIGHT_MODE_UNSPECIFIED: ""}
DIRECTIONS = {"outbound": mail_pb2.DIRECTION_OUTBOUND, "inbound": mail_pb2.DIRECTION_INBOUND}
DIRECTION_NAMES = {value: name for name, value in DIRECTIONS.items()}
POLICIES = {"retry": mail_pb2.IN_DOUBT_POLICY_RETRY, "hold": mail_pb2.IN_DOUBT_POLICY_HOLD}
POLICY_NAMES = {value: name for name, value in POLICIES.items()} | {mail_pb2.IN_DOUBT_POLICY_UNSPECIFIED: None}
EVENTS = {
    name.removeprefix("DELIVERY_EVENT_TYPE_").lower(): value
    for name, value in mail_pb2.DeliveryEventType.items()
    if value
}
EVENT_NAMES = {value: name for name, value in EVENTS.items()}
RESOLUTIONS = {
    mail_service_pb2.RESOLUTION_SENT: "sent",
    mail_service_pb2.RESOLUTION_FAILED: "failed",
    mail_service_pb2.RESOLUTION_SEND_AGAIN: "send_again",
}
STATES = {name.removeprefix("EMAIL_STATE_").lower(): value for name, value in mail_pb2.EmailState.items() if value}
STATE_NAMES = {value: name for name, value in STATES.items()}
_RECIPIENT_STATES = {
    name.removeprefix("RECIPIENT_STATE_").lower(): value for name, value in mail_pb2.RecipientState.items() if value
}
_KINDS = {name.removeprefix("EMAIL_KIND_").lower(): value for name, value in mail_pb2.EmailKind.items() if value}
_RECIPIENT_KINDS = {
    name.removeprefix("RECIPIENT_KIND_").lower(): value for name, value in mail_pb2.RecipientKind.items() if value
}
_SUPPRESSION_REASONS = {
    name.removeprefix("SUPPRESSION_REASON_").lower(): value
    for name, value in mail_pb2.SuppressionReason.items()
    if value
}
NOTIFICATION_TYPES = {
    name.removeprefix("NOTIFICATION_TYPE_").lower(): value for name, value in mail_pb2.NotificationType.items() if value
}
NOTIFICATION_NAMES = {value: name for name, value in NOTIFICATION_TYPES.items()}


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
        hold_first_contact=mailbox["hold_first_contact"],
        allow_list=mailbox["allow_list"],
        approval_ttl=_duration(mailbox["approval_ttl_s"]),
        in_doubt_policy=POLICIES[mailbox["in_doubt_policy"]],
    )


def _duration(seconds: float) -> Duration:
    result = Duration()
    result.FromTimedelta(timedelta(seconds=seconds))
    return result


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
        attachments=[attachment_to_proto(each) for each in email["attachments"]],
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
        content_sha256=email["content_sha256"],
        bcc=headers["bcc"],
        reply_to=headers["reply_to"],
        send_time=timestamp(email["send_at"]),
        hold_reason=email["hold"],
        expire_time=timestamp(email["due_at"]) if email["state"] == "held" else None,
        decision=_decision_to_proto(email["decision"]),
        state_detail=email["detail"],
        kind=_KINDS[email["kind"]],
        authentication=_authentication_to_proto(email.get("authentication")),
        events=[_event_to_proto(email, each) for each in email["events"]],
    )


def _decision_to_proto(decision: Document | None) -> mail_pb2.Decision | None:
    if decision is None:
        return None
    return mail_pb2.Decision(
        approved=decision["approved"],
        reason=decision["reason"],
        agent=decision["agent"],
        key_id=decision["key"],
        time=timestamp(decision["at"]),
        content_sha256=decision["content_sha256"],
    )


def _authentication_to_proto(found: Document | None) -> mail_pb2.AuthenticationResults | None:
    return mail_pb2.AuthenticationResults(**found) if found else None


def _event_to_proto(email: Document, event: Document) -> mail_pb2.DeliveryEvent:
    return mail_pb2.DeliveryEvent(
        type=EVENTS[event["type"]],
        address=email["recipients"][event["recipient"]]["address"],
        time=timestamp(event["at"]),
        permanent=event["permanent"],
        detail=event["detail"],
    )


def _recipient_to_proto(recipient: Document) -> mail_pb2.Recipient:
    return mail_pb2.Recipient(
        address=recipient["address"],
        contact_id=recipient["contact"],
        state=_RECIPIENT_STATES[shown_state(recipient)],
        response=recipient["response"],
        update_time=timestamp(recipient["at"]),
        kind=_RECIPIENT_KINDS[recipient["kind"]],
        open_time=timestamp(recipient["reported"].get("opened")),
    )


def attachment_to_proto(attachment: Document) -> mail_pb2.Attachment:
    """The message of what is known of a file."""
    return mail_pb2.Attachment(
        filename=attachment["filename"], content_type=attachment["content_type"], size_bytes=attachment["size"]
    )


def suppression_to_proto(suppression: Document) -> mail_pb2.Suppression:
    """The message of a suppression document."""
    return mail_pb2.Suppression(
        address=suppression["address"],
        reason=_SUPPRESSION_REASONS[suppression["reason"]],
        email_id=suppression["email"],
        create_time=timestamp(suppression["create_time"]),
    )


def refusal_to_proto(error: DomainError) -> error_reason_pb2.Refusal:
    """The message of why one row of a batch failed."""
    return error_reason_pb2.Refusal(
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason.value}"),
        message=error.message,
        metadata=error.metadata,
    )


def check_to_proto(address: str, answer: str | DomainError) -> mail_service_pb2.SendCheck:
    """The message of what would become of one mail."""
    if isinstance(answer, str):
        return mail_service_pb2.SendCheck(address=address, state=STATES[answer])
    return mail_service_pb2.SendCheck(address=address, refusal=refusal_to_proto(answer))


def decision_to_proto(email_id: str, result: Document | DomainError) -> mail_service_pb2.DecisionOutcome:
    """The message of how one decision ended: with the mail, or with a refusal."""
    if isinstance(result, dict):
        return mail_service_pb2.DecisionOutcome(email_id=email_id, email=email_to_proto(result))
    return mail_service_pb2.DecisionOutcome(email_id=email_id, refusal=refusal_to_proto(result))


def thread_to_proto(thread: Document) -> mail_pb2.Thread:
    """The message of a thread document."""
    return mail_pb2.Thread(
        id=thread["_id"],
        subject=thread["subject"],
        contact_ids=contacts_in(thread),
        mailbox_ids=thread["mailboxes"],
        email_count=thread["email_count"],
        latest_email_id=thread["latest_email"],
        latest_direction=DIRECTIONS[thread["latest_direction"]],
        create_time=timestamp(thread["create_time"]),
        update_time=timestamp(thread["latest_at"]),
        outbound_count=thread["outbound_count"],
        inbound_count=thread["inbound_count"],
        awaiting_reply_since=timestamp(thread["awaiting_since"]),
        unanswered_since=timestamp(thread["unanswered_since"]),
    )


def notification_to_proto(notification: Document) -> mail_pb2.Notification:
    """The message of a notification document."""
    state = notification.get("state")
    return mail_pb2.Notification(
        seq=notification["seq"],
        type=NOTIFICATION_TYPES[notification["type"]],
        time=timestamp(notification["at"]),
        agent=notification["actor"]["agent"],
        key_id=notification["actor"]["key"],
        contact_id=notification.get("contact", ""),
        mailbox_id=notification.get("mailbox", ""),
        email_id=notification.get("email", ""),
        thread_id=notification.get("thread", ""),
        email_state=STATES[state] if state else mail_pb2.EMAIL_STATE_UNSPECIFIED,
        rule=notification.get("rule", ""),
        event=EVENTS.get(notification.get("event", ""), mail_pb2.DELIVERY_EVENT_TYPE_UNSPECIFIED),
    )
