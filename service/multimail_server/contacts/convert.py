"""Contacts between documents, Python values and protobuf messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from multimail.v1 import contact_pb2, contact_service_pb2
from multimail_server import errors
from multimail_server.aip.etag import etag_of
from multimail_server.contacts import contact as rules
from multimail_server.contacts import metadata as metadata_rules
from multimail_server.contacts.operators import Operators
from multimail_server.mail.convert import DIRECTIONS, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.struct_pb2 import Struct, Value

    from multimail.v1.contact_service_pb2 import UpdateContactRequest
    from multimail_server.contacts.searches import Plan
    from multimail_server.storage.mongo import Document

Answer = TypeVar(
    "Answer",
    contact_service_pb2.CreateContactResponse,
    contact_service_pb2.UpsertContactResponse,
    contact_service_pb2.UpdateContactResponse,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

OUTCOMES = {
    "created": contact_pb2.UPSERT_OUTCOME_CREATED,
    "updated": contact_pb2.UPSERT_OUTCOME_UPDATED,
    "unchanged": contact_pb2.UPSERT_OUTCOME_UNCHANGED,
}


def struct_to_json(struct: Struct) -> dict[str, Any]:
    """The object a Struct holds; numbers are floats, as they came."""
    return {key: value_to_json(value) for key, value in struct.fields.items()}


def value_to_json(value: Value) -> Any:
    """What a Value holds; one that holds nothing counts as null."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return struct_to_json(value.struct_value)
    if kind == "list_value":
        return [value_to_json(item) for item in value.list_value.values]
    return None if kind in ("null_value", None) else getattr(value, kind)


def fill_struct(struct: Struct, value: Mapping[str, Any]) -> None:
    """Writes an object into an empty Struct; made apart and copied in, each value would cost several times as much."""
    struct.SetInParent()  # an empty object is there too
    fields = struct.fields
    for key, item in value.items():
        _fill(fields[key], item)


def _fill(field: Value, item: Any) -> None:
    if isinstance(item, str):
        field.string_value = item
    elif isinstance(item, bool):
        field.bool_value = item
    elif isinstance(item, int | float):
        field.number_value = item
    elif isinstance(item, dict):
        fill_struct(field.struct_value, item)
    elif isinstance(item, list):
        field.list_value.SetInParent()
        for each in item:
            _fill(field.list_value.values.add(), each)
    else:
        field.null_value = 0  # type: ignore[assignment]


def timestamp(moment: datetime | None) -> Timestamp | None:
    """The Timestamp of a moment; None for none and for never."""
    if moment is None or moment == rules.NEVER:
        return None
    stamp = Timestamp()
    _fill_timestamp(stamp, moment)
    return stamp


def _fill_timestamp(stamp: Timestamp, moment: datetime) -> None:
    since = moment - _EPOCH  # FromDatetime takes three times as long
    stamp.seconds = since.days * 86_400 + since.seconds
    stamp.nanos = since.microseconds * 1000


def contact_to_proto(contact: Document) -> contact_pb2.Contact:
    """The message of a contact document."""
    message = contact_pb2.Contact()
    _fill_contact(message, contact)
    return message


def told(answer: Answer, contact: Document, outcome: str) -> Answer:
    """The answer to a change of one contact, from an empty one."""
    answer.outcome = OUTCOMES[outcome]
    _fill_contact(answer.contact, contact)
    return answer


def _fill_contact(message: contact_pb2.Contact, contact: Document) -> None:
    """Makes an empty message that of a contact document: in place, for a copy costs half as much again."""
    message.id = contact["_id"]
    message.email = contact["email"]
    message.name = contact["name"]
    message.etag = etag_of(contact["_id"], contact["revision"])
    message.interaction_count = contact["interaction_count"]
    message.thread_count = contact["thread_count"]
    message.latest_thread_id = contact["latest_thread_id"]
    _fill_timestamp(message.create_time, contact["create_time"])
    _fill_timestamp(message.update_time, contact["update_time"])
    if contact["last_contacted_at"] != rules.NEVER:
        _fill_timestamp(message.last_contacted, contact["last_contacted_at"])
    if contact["last_inbound_at"] != rules.NEVER:
        _fill_timestamp(message.last_inbound, contact["last_inbound_at"])
    fill_struct(message.metadata, rules.metadata_of(contact))


def upserted_to_proto(contact: Document, outcome: str) -> contact_service_pb2.UpsertedContact:
    """The message of a row that was written."""
    return contact_service_pb2.UpsertedContact(
        contact_id=contact["_id"], outcome=OUTCOMES[outcome], etag=etag_of(contact["_id"], contact["revision"])
    )


def moment(value: Timestamp, field: str) -> datetime:
    """The moment of a Timestamp, to the millisecond, as the database keeps it; refuses one that is no time."""
    try:
        whole: datetime = value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise errors.invalid_field(field, "is no time between the years 1 and 9999") from None
    return whole.replace(microsecond=whole.microsecond // 1000 * 1000)


def change_of(request: UpdateContactRequest) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What a request does to metadata: merge or replace, then the operators."""
    given = metadata_rules.normalise(struct_to_json(request.metadata), "metadata")
    operators = Operators(
        set={path: value_to_json(value) for path, value in request.set.items()},
        unset=list(request.unset),
        rename=dict(request.rename),
        increment=dict(request.increment),
        add_to_set={path: value_to_json(value) for path, value in request.add_to_set.items()},
        remove={path: value_to_json(value) for path, value in request.remove.items()},
    )

    def change(metadata: dict[str, Any]) -> dict[str, Any]:
        start = {} if request.replace_metadata else metadata
        return operators.apply(metadata_rules.merge(start, given))

    return change


def erasure_to_proto(erasure: Document) -> contact_pb2.Erasure:
    """The message of an erasure document."""
    return contact_pb2.Erasure(
        id=erasure["_id"],
        contact_id=erasure["contact"],
        state=contact_pb2.ERASURE_STATE_DONE if erasure["done"] else contact_pb2.ERASURE_STATE_SCRUBBING,
        create_time=timestamp(erasure["create_time"]),
        scrub_by=timestamp(erasure["scrub_by"]),
    )


def plan_to_proto(plan: Plan, *, returned: int) -> contact_service_pb2.SearchPlan:
    """The message of how a search was done."""
    return contact_service_pb2.SearchPlan(
        indexes=plan.indexes, indexed=plan.indexed, examined=plan.examined, returned=returned
    )


def interaction_to_proto(email: Document) -> contact_pb2.Interaction:
    """The log entry of a mail, as `Interactions.list` returns it."""
    return contact_pb2.Interaction(
        email_id=email["_id"],
        direction=DIRECTIONS[email["direction"]],
        time=timestamp(email["at"]),
        mailbox_id=email["mailbox"],
        mailbox_deleted=email["mailbox_deleted"],
        thread_id=email["thread"],
        subject=email["headers"]["subject"],
        agent=email["agent"],
        state=STATES[email["state"]],
        replied_at=timestamp(email["replied_at"]),
        read_at=timestamp(email["read_at"]),
    )
