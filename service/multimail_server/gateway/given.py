"""JSON as messages: read strictly, everything that is wrong said at once, each with its path."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from multimail._json import to_number, to_struct, to_value
from multimail.errors import InvalidArgumentError
from multimail_server.errors import DomainError, Reason, Violation, Violations, invalid, invalid_field
from multimail_server.gateway.shown import WRAPPERS, words_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

    Read = Callable[[Any, str], Any]

MAX_DEPTH = 32
_CPP = FieldDescriptor
_INTEGERS = {
    _CPP.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _CPP.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _CPP.CPPTYPE_UINT32: (0, 2**32 - 1),
    _CPP.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])")
_LONGEST_S = 315_576_000_000  # 10,000 years, which is protobuf's own bound
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def json_of(text: bytes | str) -> Any:
    """The JSON value of a text in UTF-8; MALFORMED_REQUEST for what is none, or could be read in two ways."""
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        _malformed(f"it is not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        _malformed(f"{error.msg} in line {error.lineno}, column {error.colno}")
    except RecursionError:
        _malformed("it is nested too deep")
    except ValueError as error:
        _malformed(str(error))


def _malformed(why: str) -> NoReturn:
    raise DomainError(Reason.MALFORMED_REQUEST, f"The body is no JSON that can be used: {why}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key {name[:64]!r} stands in one object twice")
        made[name] = value
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def message_of(descriptor: Descriptor, given: Any, path: str = "") -> Message:
    """The message of plain data; INVALID_FIELD naming everything in it that is wrong.

    Args:
        descriptor: What message it is.
        given: As `shown` would show it.
        path: Where it stands in the request; empty for the request itself.
    """
    made: Message = _of_message(descriptor)(given, path)
    return made


def unknown(descriptor: Descriptor, name: str, where: str) -> DomainError:
    """The refusal of a field that a message does not have."""
    names = list(descriptor.fields_by_name)
    close = difflib.get_close_matches(name[:64], names, 1)
    hint = f"did you mean {close[0]}?" if close else "there are " + (", ".join(names) or "none")
    return invalid_field(where[:200], f"is no field of {descriptor.name}; {hint}")


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@cache
def _of_message(descriptor: Descriptor) -> Read:
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    made: Any = message_factory.GetMessageClass(descriptor)
    if descriptor.full_name in WRAPPERS:
        inner = _of_single(descriptor.fields_by_name["value"])
        return lambda given, path: made(value=inner(given, path))
    if descriptor.full_name.startswith("google.protobuf."):
        return lambda given, path: _by_library(made(), given, path)
    readers: dict[str, Read] = {}

    def read(given: Any, path: str) -> Any:
        if not isinstance(given, dict):
            raise invalid_field(path or "the body", "must be an object")
        if path.count(".") > MAX_DEPTH:
            raise invalid_field(path[:200], "is nested too deep")
        problems = Violations()
        values: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for name, value in problems.until_full(given.items()):
            with problems.collected():
                where = _below(path, name)
                field = descriptor.fields_by_name.get(name)
                if field is None:
                    raise unknown(descriptor, name, where)
                if value is None and not _knows_null(field):
                    continue  # as if it were left out
                oneof = field.containing_oneof
                if oneof is not None and (other := chosen.setdefault(oneof.name, name)) != name:
                    raise invalid_field(where, f"cannot stand beside {other}: give only one of them")
                if name not in readers:
                    readers[name] = _of_field(field)
                values[name] = readers[name](value, where)
        problems.raise_if_any()
        return made(**values)

    return read


def _knows_null(field: FieldDescriptor) -> bool:
    """Whether null is a value of the field, and not the lack of one."""
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def _of_field(field: FieldDescriptor) -> Read:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return _of_map(_of_key(entry.fields_by_name["key"]), _of_single(entry.fields_by_name["value"]))
    one = _of_single(field)
    return _of_list(one) if field.is_repeated else one


def _of_map(key_of: Read, value_of: Read) -> Read:
    def read(given: Any, path: str) -> Any:
        if not isinstance(given, dict):
            raise invalid_field(path, "must be an object")
        problems, made = Violations(), {}
        for key, value in problems.until_full(given.items()):
            where = f'{path}["{key[:200]}"]'
            with problems.collected():
                made[key_of(key, where)] = value_of(value, where)
        problems.raise_if_any()
        return made

    return read


def _of_list(one: Read) -> Read:
    def read(given: Any, path: str) -> Any:
        if not isinstance(given, list):
            raise invalid_field(path, "must be a list")
        problems, made = Violations(), []
        for number, value in problems.until_full(enumerate(given)):
            with problems.collected():
                made.append(one(value, f"{path}[{number}]"))
        problems.raise_if_any()
        return made

    return read


def _of_key(field: FieldDescriptor) -> Read:
    """A map's keys, which are texts in JSON whatever they are in the message."""
    if field.cpp_type != _CPP.CPPTYPE_BOOL:
        return _of_single(field)
    truths = {"true": True, "false": False}

    def read(given: Any, path: str) -> Any:
        if given not in truths:
            raise invalid_field(path, "must be true or false")
        return truths[given]

    return read


def _of_single(field: FieldDescriptor) -> Read:
    if field.message_type is not None:
        return _of_message(field.message_type)
    if field.enum_type is not None:
        return _of_enum(field.enum_type)
    if field.cpp_type in _INTEGERS:
        return _of_integer(*_INTEGERS[field.cpp_type])
    if field.type == _CPP.TYPE_BYTES:
        return _bytes
    return {_CPP.CPPTYPE_BOOL: _truth, _CPP.CPPTYPE_STRING: _text}.get(field.cpp_type, _double)


def _of_enum(enum: EnumDescriptor) -> Read:
    words = words_of(enum)
    numbers = {word: number for number, word in words.items()}
    numbers |= {value.name: value.number for value in enum.values}
    choices = ", ".join(word for number, word in words.items() if number)

    def read(given: Any, path: str) -> Any:
        if isinstance(given, str) and given in numbers:
            return numbers[given]
        if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 2**31:
            return given
        raise invalid_field(path, f"must be one of {choices}")

    return read


def _of_integer(least: int, most: int) -> Read:
    def read(given: Any, path: str) -> Any:
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        if isinstance(given, str) and re.fullmatch(r"-?[0-9]{1,20}", given):
            given = int(given)
        if isinstance(given, bool) or not isinstance(given, int):
            raise invalid_field(path, "must be a whole number")
        if not least <= given <= most:
            raise invalid_field(path, f"must be from {least} to {most}")
        return given

    return read


def _double(given: Any, path: str) -> Any:
    return _plainly(to_number, given, path)


def _truth(given: Any, path: str) -> Any:
    if not isinstance(given, bool):
        raise invalid_field(path, "must be true or false")
    return given


def _text(given: Any, path: str) -> Any:
    if not isinstance(given, str):
        raise invalid_field(path, "must be a text")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise invalid_field(path, "holds half of a surrogate pair, which is no character") from None
    return given


def _bytes(given: Any, path: str) -> Any:
    if isinstance(given, str):
        try:
            plain = given.replace("-", "+").replace("_", "/").rstrip("=")
            return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise invalid_field(path, "must be bytes in base64")


def _timestamp(given: Any, path: str) -> Any:
    made = Timestamp()
    if isinstance(given, str) and len(given) <= 64:
        try:
            made.FromJsonString(given + "T00:00:00Z" if _DAY.fullmatch(given) else given)
        except (ValueError, OverflowError):
            pass
        else:
            return made
    raise invalid_field(path, 'must be a time such as "2026-03-20T09:30:00Z", or a day such as "2026-03-20" in UTC')


def _duration(given: Any, path: str) -> Any:
    made = Duration()
    found = _SPAN.fullmatch(given) if isinstance(given, str) else None
    if found is not None:
        seconds = Decimal(found[1]) * _SECONDS[found[2]]
        if seconds <= _LONGEST_S:
            made.FromNanoseconds(int(seconds * 1_000_000_000))
            return made
    raise invalid_field(path, 'must be a span of time such as "90s", "15m", "36h" or "7d"')


def _plainly(reads: Callable[[Any, str], Any], given: Any, path: str) -> Any:
    """What the client's own reader makes of it, whose refusals are ours."""
    try:
        return reads(given, path)
    except InvalidArgumentError as error:
        raise invalid(Violation(each.field[:200], each.description) for each in error.violations) from None


def _by_library(made: Message, given: Any, path: str) -> Any:
    """A message whose form in JSON is protobuf's own, such as a FieldMask."""
    try:
        return json_format.ParseDict(given, made)
    except (json_format.ParseError, ValueError, TypeError, AttributeError):
        raise invalid_field(path, f"is no {made.DESCRIPTOR.name} in JSON") from None


_WELL_KNOWN: dict[str, Read] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": lambda given, path: _plainly(to_struct, given, path),
    "google.protobuf.Value": lambda given, path: _plainly(to_value, given, path),
}
