"""What any request must hold, read off its descriptor once: required fields, known enum values, sane texts."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from google.api import field_behavior_pb2

from multimail_server.errors import Violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
    from google.protobuf.message import Message

    Check = Callable[[Any, Violations], None]

_MAX_REQUEST_ID = 128
_MAX_ID = 64
_LONGEST = {
    "request_id": _MAX_REQUEST_ID,
    "page_token": 8192,  # what the longest position, by name and address, comes to
    "message_id": 998,
}
_REQUEST_ID = re.compile(rf"[\x21-\x7e]{{0,{_MAX_REQUEST_ID}}}")
# The only oneof that may be left out: every other one names what the call is about.
_FREE_ONEOFS = frozenset(
    {
        *("ListEmailsRequest", "ListHeldEmailsRequest", "ListThreadsRequest"),
        *("ListNotificationsRequest", "WatchNotificationsRequest"),
    }
)


def validate(request: Message) -> None:
    """Raises INVALID_FIELD naming every bad field."""
    problems = Violations()
    for check in _checks_of(request.DESCRIPTOR):
        check(request, problems)
    problems.raise_if_any()


def is_required(field: FieldDescriptor) -> bool:
    """Whether the field must be given, and not be empty."""
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def longest(field: FieldDescriptor) -> int | None:
    """How many characters a field of this name may hold, where names tell."""
    if field.name in _LONGEST:
        return _LONGEST[field.name]
    return _MAX_ID if field.name in {"etag", "id"} or field.name.endswith("_id") else None


def is_count(field: FieldDescriptor) -> bool:
    """Whether the field must not be negative."""
    return field.name in {"page_size", "after_seq", "row", "max_characters"}


def choices_of(descriptor: Descriptor) -> list[tuple[OneofDescriptor, bool]]:
    """The message's oneofs, and whether one of each must be given."""
    return [(each, descriptor.name not in _FREE_ONEOFS) for each in descriptor.oneofs if not each.name.startswith("_")]


@cache
def _checks_of(descriptor: Descriptor) -> tuple[Check, ...]:
    checks: list[Check] = []
    for field in descriptor.fields:
        checks += _checks_of_field(field)
    checks += [_needs_one_of(oneof.name) for oneof, needed in choices_of(descriptor) if needed]
    return tuple(checks)


def _checks_of_field(field: FieldDescriptor) -> list[Check]:
    name, most = field.name, longest(field)
    checks: list[Check] = []
    if is_required(field):
        checks.append(_is_set(name) if field.message_type is not None and not field.is_repeated else _is_there(name))
    if name == "request_id":
        checks.append(_has_form(name, _REQUEST_ID, f"must be at most {_MAX_REQUEST_ID} printable ASCII characters"))
    elif most is not None:
        checks.append(_is_short(name, most))
    elif is_count(field):
        checks.append(_is_not_negative(name))
    elif field.enum_type is not None:
        checks.append(_is_known(field, field.enum_type))
    return checks


def _is_set(name: str) -> Check:
    def check(request: Any, problems: Violations) -> None:
        if not request.HasField(name):
            problems.add(name, "is required")

    return check


def _is_there(name: str) -> Check:
    def check(request: Any, problems: Violations) -> None:
        if not getattr(request, name):
            problems.add(name, "is required")

    return check


def _needs_one_of(oneof: str) -> Check:
    def check(request: Any, problems: Violations) -> None:
        chosen = request.WhichOneof(oneof)
        if chosen is None:
            members = [field.name for field in request.DESCRIPTOR.oneofs_by_name[oneof].fields]
            problems.add(members[0], "is required, or else " + " or ".join(members[1:]))
        elif not getattr(request, chosen):
            problems.add(chosen, "is empty")

    return check


def _has_form(name: str, form: re.Pattern[str], words: str) -> Check:
    def check(request: Any, problems: Violations) -> None:
        value = getattr(request, name)
        if value and not form.fullmatch(value):
            problems.add(name, words)

    return check


def _is_short(name: str, most: int) -> Check:
    def check(request: Any, problems: Violations) -> None:
        value = getattr(request, name)
        if len(value) > most:
            problems.add(name, f"is longer than {most} characters")
        elif "\0" in value:
            problems.add(name, "holds a NUL character")

    return check


def _is_not_negative(name: str) -> Check:
    def check(request: Any, problems: Violations) -> None:
        if getattr(request, name) < 0:
            problems.add(name, "is negative")

    return check


def _is_known(field: FieldDescriptor, enum: EnumDescriptor) -> Check:
    known, name, many = enum.values_by_number, field.name, field.is_repeated

    def check(request: Any, problems: Violations) -> None:
        given = getattr(request, name)
        for value in given if many else (given,):
            if value not in known:
                problems.add(name, f"holds {value}, which is no value of {enum.name}")

    return check
