"""Messages as JSON: the proto's own names, plain words for enum values, numbers as numbers.

What cannot be absent is always there, empty or not; what can be (messages, `optional` fields, members of a oneof, enum
values that say nothing) is left out while it is.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from multimail._json import from_struct, from_value
from multimail._words import word

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

    Show = Callable[[Any], Any]

# Beyond, numbers lose their last digits in most readers of JSON.
MAX_WHOLE = 2**53
_REASONS = "multimail.v1.ErrorReason"
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def json_bytes(value: Any) -> bytes:
    """Plain data as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def shown(message: Message) -> Any:
    """A message as plain data."""
    return _of_message(message.DESCRIPTOR)(message)


def shown_field(message: Message, name: str) -> Any:
    """One field of a message as plain data; null when it is absent."""
    field = message.DESCRIPTOR.fields_by_name[name]
    absent = field.has_presence and not message.HasField(name)
    return None if absent else _of_field(field)(getattr(message, name))


@cache
def words_of(enum: EnumDescriptor) -> dict[int, str]:
    """The plain word of each value; of reasons the word that errors bear."""
    words = {number: word(EnumTypeWrapper(enum), number) for number in enum.values_by_number}
    return {number: each.upper() for number, each in words.items()} if enum.full_name == _REASONS else words


def says_nothing(enum: EnumDescriptor) -> bool:
    """Whether the enum's zero stands for no value at all."""
    return enum.values_by_number[0].name.endswith("UNSPECIFIED") if 0 in enum.values_by_number else False


@cache
def _of_message(descriptor: Descriptor) -> Show:
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    if descriptor.full_name in WRAPPERS:
        inner = _of_field(descriptor.fields_by_name["value"])
        return lambda message: inner(message.value)
    parts: list[tuple[str, bool, bool, Show]] | None = None

    def show(message: Any) -> dict[str, Any]:
        nonlocal parts
        if parts is None:  # only now: a message may hold itself
            fields = descriptor.fields_by_name.values()
            parts = [(field.name, field.has_presence, _is_silent(field), _of_field(field)) for field in fields]
        result = {}
        for name, has_presence, silent, shows in parts:
            if has_presence and not message.HasField(name):
                continue
            value = getattr(message, name)
            if not (silent and value == 0):
                result[name] = shows(value)
        return result

    return show


def _is_silent(field: FieldDescriptor) -> bool:
    """Whether the field is left out while it is zero."""
    return field.enum_type is not None and not field.is_repeated and says_nothing(field.enum_type)


def _of_field(field: Any) -> Show:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        value = _of_single(entry.fields_by_name["value"])
        # A map of messages makes what is asked for and is not there, so it is read by its items.
        return lambda items: {_key(key): value(items[key]) for key in items}
    one = _of_single(field)
    return (lambda values: [one(each) for each in values]) if field.is_repeated else one


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _of_single(field: FieldDescriptor) -> Show:
    if field.message_type is not None:
        return _of_message(field.message_type)
    if field.enum_type is not None:
        words = words_of(field.enum_type)
        return lambda number: words.get(number, f"unknown_{number}")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return lambda value: value if abs(value) <= MAX_WHOLE else str(value)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _number
    return _same


def _same(value: Any) -> Any:
    return value


def _number(value: float) -> Any:
    """A double; what is no number in JSON as protobuf's words for it."""
    if value != value:  # noqa: PLR0124  the only number that is not itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _of_any(message: Any) -> Any:
    """What an Any holds, beside its type, in protobuf's own form; undecoded when the type is not known here."""
    try:
        return json_format.MessageToDict(message, preserving_proto_field_name=True)
    except TypeError:
        return {"@type": message.type_url, "value": base64.b64encode(message.value).decode()}


_WELL_KNOWN: dict[str, Show] = {
    "google.protobuf.Timestamp": lambda message: message.ToJsonString(),
    "google.protobuf.Duration": lambda message: message.ToJsonString(),
    "google.protobuf.FieldMask": lambda message: ",".join(message.paths),
    "google.protobuf.Struct": from_struct,
    "google.protobuf.Value": from_value,
    "google.protobuf.ListValue": lambda message: [from_value(each) for each in message.values],
    "google.protobuf.Any": _of_any,
}
