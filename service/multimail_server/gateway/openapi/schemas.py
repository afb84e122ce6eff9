"""JSON Schemas of the protos' messages, fields and enums, as the JSON of the HTTP port is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor

from multimail_server.gateway.openapi.limits import limits_of
from multimail_server.gateway.openapi.words import comment, comment_of_value, words
from multimail_server.rpc.validation import choices_of, is_required

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, OneofDescriptor

Schema = dict[str, Any]

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64"},
}
# Behind it, in the comment of an error reason, stands a sample of the error.
_SAMPLE = "\n\n"
# Well-known types have a JSON of their own.
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^\d{1,12}(\.\d{1,9})?s$", "examples": ["86400s"]},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
}


def is_well_known(message: Descriptor) -> bool:
    """Whether the message has a JSON of its own, and so no fields to name."""
    return message.full_name in _WELL_KNOWN


def value_of_map(field: FieldDescriptor) -> FieldDescriptor | None:
    """What the values of a map are; None when the field is no map."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def reachable(messages: Collection[Descriptor]) -> list[Descriptor]:
    """These messages and all that they hold, those with a JSON of their own left out."""
    found: dict[str, Descriptor] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name not in found and not is_well_known(message):
            found[message.full_name] = message
            waiting += [held for field in message.fields for held in held_by(field)]
    return [found[name] for name in sorted(found)]


def enums_of(messages: Collection[Descriptor]) -> list[EnumDescriptor]:
    """The enums that these messages hold."""
    found = {field.enum_type.name: field.enum_type for each in messages for field in each.fields if field.enum_type}
    return [found[name] for name in sorted(found)]


def held_by(field: FieldDescriptor) -> Iterator[Descriptor]:
    """The message that a field, or a value of its map, holds; none when it holds none."""
    value = value_of_map(field)
    if value is not None:
        yield from held_by(value)
    elif field.message_type is not None:
        yield field.message_type


def of_message(message: Descriptor, *, given: bool, without: Collection[str] = ()) -> Schema:
    """The schema of a message.

    Args:
        message: The message.
        given: Whether callers write it: then bounds hold, and what is required must be there.
        without: Fields that are given elsewhere, in the path.
    """
    fields = [field for field in message.fields if field.name not in without]
    schema: Schema = {
        "type": "object",
        "description": comment(message),
        "properties": {field.name: of_field(field, given=given) for field in fields},
    }
    needed = [field.name for field in fields if (is_required(field) if given else _is_always_there(field))]
    if needed:
        schema["required"] = needed
    if given:
        schema["additionalProperties"] = False
    choices = [_choice(oneof, needed=needed) for oneof, needed in choices_of(message) if not _names(oneof) & {*without}]
    return schema | (choices[0] if len(choices) == 1 else {"allOf": choices} if choices else {})


def _is_always_there(field: FieldDescriptor) -> bool:
    """Whether an answer holds the field even when there is nothing to say."""
    return not field.has_presence and (field.enum_type is None or field.is_repeated)


def _choice(oneof: OneofDescriptor, *, needed: bool) -> Schema:
    names = [field.name for field in oneof.fields]
    if needed:
        return {"oneOf": [{"required": [name]} for name in names]}
    return {"not": {"required": names}}


def _names(oneof: OneofDescriptor) -> set[str]:
    return {field.name for field in oneof.fields}


def of_field(field: FieldDescriptor, *, given: bool) -> Schema:
    """The schema of a field, with its description."""
    schema = _of_many(field) | {"description": describe(field)}
    if given:
        return schema | limits_of(field)
    if field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
        schema["readOnly"] = True
    return schema


def describe(field: FieldDescriptor) -> str:
    """What a field means; of one that excludes others that too."""
    text, oneof = comment(field), field.containing_oneof
    if oneof is None or oneof.name.startswith("_"):
        return text
    return f"{comment(oneof)} {text}"


def _of_many(field: FieldDescriptor) -> Schema:
    value = value_of_map(field)
    if value is not None:
        return {"type": "object", "additionalProperties": _of_one(value)}
    return {"type": "array", "items": _of_one(field)} if field.is_repeated else _of_one(field)


def _of_one(field: FieldDescriptor) -> Schema:
    held = field.enum_type or field.message_type
    if held is None:
        return dict(_SCALARS[field.type])
    return dict(_WELL_KNOWN[held.full_name]) if held.full_name in _WELL_KNOWN else ref(held.name)


def of_enum(enum: EnumDescriptor) -> Schema:
    """The schema of an enum: its words, and what each means."""
    known = words(enum)
    values = [(word, comment_of_value(enum.values_by_number[number])) for number, word in known.items()]
    meanings = [f"- `{word}`: {' '.join(text.partition(_SAMPLE)[0].split())}" for word, text in values]
    return {"type": "string", "enum": list(known.values()), "description": "\n".join([comment(enum), "", *meanings])}


def ref(name: str) -> Schema:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}
