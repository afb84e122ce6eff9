"""JSON values between Python and protobuf: whole numbers stay whole, and what cannot travel is refused before."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from multimail.errors import InvalidArgumentError, Violation

P = ParamSpec("P")
M = TypeVar("M")

_MAX_WHOLE = 2**53
_HALF = "holds half of a surrogate pair, which is no character"
_MAX_DEPTH = 28  # protobuf refuses what nests much deeper
# Fields of what callers get whose emptiness means that there is none.
_ABSENT_WHEN_EMPTY = {"outcome", "duplicate", "content", "kind", "email_state", "event"}


def _refused(path: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{path}: {why}", reason="INVALID_FIELD", violations=[Violation(path, why)])


def message(kind: Callable[P, M], *args: P.args, **fields: P.kwargs) -> M:
    """The message of these fields; refuses, by its name, one whose value cannot travel."""
    try:
        return kind(*args, **fields)
    except ValueError:
        for name, value in fields.items():
            _check(kind, name, value)
        raise


def _check(kind: Callable[..., Any], name: str, value: object) -> None:
    try:
        kind(**{name: value})
    except UnicodeEncodeError:
        raise _refused(name, _HALF) from None
    except ValueError:
        raise _refused(name, "is a number beyond the range of this field") from None


def to_struct(value: Mapping[str, Any], path: str) -> Struct:
    """The Struct of a mapping; refuses, with the path, what JSON or a double cannot hold."""
    if not isinstance(value, Mapping):
        raise _refused(path, "must be a dict")
    return _struct(value, path, 1)


def to_value(value: Any, path: str) -> Value:
    """The Value of anything JSON knows; see to_struct."""
    return _value(value, path, 1)


def to_values(values: Mapping[str, Any] | None, path: str) -> dict[str, Value]:
    """The Values of a map whose keys are paths of their own."""
    if values is not None and not isinstance(values, Mapping):
        raise _refused(path, "must be a dict")
    return {key: to_value(value, f'{path}["{key}"]') for key, value in (values or {}).items()}


def _struct(value: Mapping[str, Any], path: str, depth: int) -> Struct:
    if depth > _MAX_DEPTH:
        raise _refused(path, "is nested too deep, or holds itself")
    for key in value:
        if not isinstance(key, str):
            raise _refused(path, f"has the key {key!r}, which is no text")
        _text(key, path)
    return Struct(fields={key: _value(item, f"{path}.{key}", depth + 1) for key, item in value.items()})


def _value(value: Any, path: str, depth: int) -> Value:
    if value is None:
        return Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, str):
        return Value(string_value=_text(value, path))
    if isinstance(value, int | float):
        return Value(number_value=to_number(value, path))
    if isinstance(value, Mapping):
        return Value(struct_value=_struct(value, path, depth))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        if depth > _MAX_DEPTH:
            raise _refused(path, "is nested too deep, or holds itself")
        return Value(list_value=ListValue(values=[_value(item, path, depth + 1) for item in value]))
    hint = "; use its isoformat()" if isinstance(value, date) else ""
    raise _refused(path, f"is a {type(value).__name__}, which JSON does not know{hint}")


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(path, _HALF) from None
    return value


def to_number(value: float, path: str) -> float:
    """The double of a number; refuses what is none, or would lose digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(path, f"is a {type(value).__name__}, not a number")
    if isinstance(value, int) and abs(value) > _MAX_WHOLE:
        raise _refused(path, "is beyond 2**53, where whole numbers lose their last digits; send it as a text")
    if not math.isfinite(value):
        raise _refused(path, "is no number JSON knows")
    return float(value)


def from_struct(struct: Struct) -> dict[str, Any]:
    """The plain dict of a Struct; whole numbers come as ints."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_value(value: Value) -> Any:
    """What anything JSON knows is in Python; see from_struct."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= _MAX_WHOLE else number
    return None if kind in ("null_value", None) else getattr(value, kind)


def to_timestamp(moment: datetime, path: str) -> Timestamp:
    """The Timestamp of an aware datetime; a naive one is refused, for nobody knows when it is."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise _refused(path, "must be a datetime with a time zone")
    result = Timestamp()
    try:
        result.FromDatetime(moment.astimezone(UTC))
    except OverflowError:
        raise _refused(path, "is beyond the years 1 to 9999 in UTC") from None
    return result


def to_duration(given: timedelta | None, path: str) -> Duration | None:
    """The Duration of a timedelta; none for none."""
    if given is None:
        return None
    if not isinstance(given, timedelta):
        raise _refused(path, "must be a timedelta")
    result = Duration()
    result.FromTimedelta(given)
    return result


def plain(value: Any) -> Any:
    """What JSON holds of what callers get: the API's names, times as RFC 3339, durations in seconds, bytes in base64.

    What can be absent is left out where it is, as in the service's own JSON.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = ((each.name, getattr(value, each.name)) for each in fields(value))
        return {
            name.rstrip("_"): plain(item)
            for name, item in named
            if item is not None and (item or name not in _ABSENT_WHEN_EMPTY)
        }
    if isinstance(value, datetime):
        return to_timestamp(value, "time").ToJsonString()
    if isinstance(value, timedelta):
        duration = Duration()
        duration.FromTimedelta(value)
        return duration.ToJsonString()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def moment(message: Any, field: str) -> datetime | None:
    """A time of a message as an aware datetime in UTC; None when it is absent."""
    if not message.HasField(field):
        return None
    found: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    return found
