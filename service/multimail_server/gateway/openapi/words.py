"""The protos' own words for the HTTP reference: their comments, and enum values as JSON writes them."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from multimail.v1 import contact_pb2, error_reason_pb2, mail_pb2, mail_service_pb2
from multimail_server.gateway.shown import words_of

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


def words(enum: EnumDescriptor) -> dict[int, str]:
    """The plain words of an enum's values, without the one that says nothing."""
    return {number: word for number, word in words_of(enum).items() if number}


@cache
def _capitals() -> re.Pattern[str]:
    """Enum values as comments write them; reasons and codes of errors are not among them, and stay as they are."""
    enums = [enum for file in _FILES for enum in file.DESCRIPTOR.enum_types_by_name.values()]
    names = {word.upper() for enum in enums for word in words(enum).values()}
    names -= {word.upper() for word in words(error_reason_pb2.ErrorReason.DESCRIPTOR).values()}
    return re.compile(rf"(?<![\w`])({'|'.join(sorted(names))})(?![\w`])")


def _in_json(text: str) -> str:
    return _capitals().sub(lambda found: f"`{found[0].lower()}`", text)
