"""The protos' own words for the HTTP reference: their comments, and enum values as JSON writes them."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from multimail.v1 import contact_pb2, error_reason_pb2, mail_pb2, mail_service_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor

_FILES = (contact_pb2, mail_pb2, mail_service_pb2)


@cache
def _comments() -> dict[str, str]:
    text = (files("multimail.v1") / "comments.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def comment(descriptor: Any) -> str:
    """What the proto says of a service, method, message, field, oneof or enum, with enum values as JSON has them."""
    return _in_json(_comments()[descriptor.full_name])


def comment_of_value(value: EnumValueDescriptor) -> str:
    """The same of an enum value."""
    return _in_json(_comments()[f"{value.type.full_name}.{value.name}"])


def summary(text: str) -> str:
    """The first sentence of a comment, up to its first stop."""
    return re.split(r"(?<=[^.])[.:;](?=\s|$)", " ".join(text.split()), maxsplit=1)[0]


def word(value: EnumValueDescriptor) -> str:
    """The plain word of an enum value: `OVERSIGHT_MODE_MONITORED` is `monitored`."""
    return _short(value).lower()


def words(enum: EnumDescriptor) -> list[str]:
    """The plain words of an enum, without the one for nothing said."""
    return [word(value) for value in enum.values if value.number]


def _short(value: EnumValueDescriptor) -> str:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", value.type.name).upper() + "_"
    return value.name.removeprefix(prefix)


@cache
def _capitals() -> re.Pattern[str]:
    """Enum values as comments write them; reasons and codes of errors are not among them, and stay as they are."""
    reasons = {_short(value) for value in error_reason_pb2.ErrorReason.DESCRIPTOR.values}
    enums = [enum for file in _FILES for enum in file.DESCRIPTOR.enum_types_by_name.values()]
    names = {_short(value) for enum in enums for value in enum.values if value.number} - reasons
    return re.compile(rf"(?<![\w`])({'|'.join(sorted(names))})(?![\w`])")


def _in_json(text: str) -> str:
    return _capitals().sub(lambda found: f"`{found[0].lower()}`", text)
