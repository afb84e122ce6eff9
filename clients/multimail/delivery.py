"""What becomes of mail after it left: reports about delivery, and the addresses nobody writes to any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimail import _json
from multimail._wire import Call, minted
from multimail._words import choice, word
from multimail.errors import InvalidArgumentError
from multimail.mail import Email, email_from
from multimail.paging import Page
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from datetime import datetime

    from multimail import words

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that no mailbox of the account writes to.

    Attributes:
        address: The address as it was given; empty once the person was erased, who stays suppressed.
        reason: Why; the gravest reason where there were several.
        email_id: The mail it came of; empty when none.
        create_time: When it was first suppressed, in UTC.
    """

    address: str
    reason: words.SuppressionReason
    email_id: str
    create_time: datetime | None


def suppression_from(message: mail_pb2.Suppression) -> Suppression:
    """The suppression of a message."""
    return Suppression(
        address=message.address,
        reason=word(mail_pb2.SuppressionReason, message.reason),
        email_id=message.email_id,
        create_time=_json.moment(message, "create_time"),
    )


def _email(email_id: str | None, message_id: str | None) -> Any:
    if (email_id is None) == (message_id is None):
        raise InvalidArgumentError("Give either email_id= or message_id=.", reason="INVALID_FIELD")
    return {"email_id": email_id} if email_id is not None else {"message_id": message_id}


def ingest_event(
    event: str,
    email_id: str | None,
    message_id: str | None,
    address: str,
    time: datetime | None,
    detail: str,
    request_id: str | None,
    *,
    permanent: bool,
) -> Call[Email]:
    """IngestEvent."""
    request = _json.message(
        pb.IngestEventRequest,
        **_email(email_id, message_id),
        address=address,
        type=choice(mail_pb2.DeliveryEventType, event, "type"),
        time=_json.to_timestamp(time, "time") if time is not None else None,
        permanent=permanent,
        detail=detail,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "IngestEvent", request, lambda reply: email_from(reply.email, duplicate=reply.duplicate))


def list_suppressions(address: str, token: str, size: int) -> Call[Page[Suppression]]:
    """ListSuppressions, one page."""
    return Call(
        _SERVICE,
        "ListSuppressions",
        _json.message(pb.ListSuppressionsRequest, address=address, page_token=token, page_size=size),
        lambda reply: Page([suppression_from(each) for each in reply.suppressions], reply.next_page_token),
    )


def add_suppression(address: str, request_id: str | None) -> Call[Suppression]:
    """AddSuppression."""
    request = _json.message(pb.AddSuppressionRequest, address=address, request_id=minted(request_id))
    return Call(_SERVICE, "AddSuppression", request, suppression_from)


def remove_suppression(address: str, request_id: str | None) -> Call[Suppression]:
    """RemoveSuppression."""
    request = _json.message(pb.RemoveSuppressionRequest, address=address, request_id=minted(request_id))
    return Call(_SERVICE, "RemoveSuppression", request, lambda reply: suppression_from(reply.suppression))
