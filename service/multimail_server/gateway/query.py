"""What stands in a URL, as the JSON it stands for: path variables and query parameters become parts of the request."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from google.protobuf.descriptor import FieldDescriptor

from multimail_server.errors import DomainError, Violations, invalid_field
from multimail_server.gateway.given import json_of, unknown
from multimail_server.gateway.shown import WRAPPERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from google.protobuf.descriptor import Descriptor

T = TypeVar("T")

_MAX_PARAMETERS = 200
_NUMBERS = frozenset(
    {
        *(FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32),
        *(FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT),
    }
)
_AS_JSON = frozenset({"google.protobuf.Struct", "google.protobuf.ListValue"})
_AS_TEXT = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"})
_ANYTHING = "google.protobuf.Value"
# Parameters that are no field go into this map, where a request has it.
_CONDITIONS = "filters"


def parameters_of(query: bytes) -> list[tuple[str, str]]:
    """The query's parameters, in order; INVALID_FIELD when they are not UTF-8 or too many."""
    try:
        pieces = [each for each in query.decode("ascii").split("&") if each]  # forms leave a & at the end
        return parse_qsl(
            "&".join(pieces),
            keep_blank_values=True,
            strict_parsing=bool(pieces),
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:  # also what is no UTF-8
        raise invalid_field(
            "the query", f"must be at most {_MAX_PARAMETERS} parameters, name=value, UTF-8 in percent-encoding"
        ) from None


def add_path(request: dict[str, Any], descriptor: Descriptor, values: Mapping[str, str]) -> None:
    """Adds a path's variables to a request; INVALID_FIELD for one that says something else than the body."""
    problems = Violations()
    for path, text in values.items():
        with problems.collected():
            _put(request, descriptor, path, text, beside_body=True)
    problems.raise_if_any()


def add_query(
    request: dict[str, Any], descriptor: Descriptor, parameters: Iterable[tuple[str, str]], taken: frozenset[str]
) -> None:
    """Adds query parameters to a request; INVALID_FIELD naming every one that is unknown, or fits nowhere.

    Args:
        request: The request as plain data.
        descriptor: What message it is.
        parameters: Names, dotted where fields have fields, and values.
        taken: Paths of fields that stand elsewhere, in the path or the body; their siblings may stand in the query.
    """
    problems = Violations()
    for path, text in parameters:
        with problems.collected():
            if any(path == each or path.startswith(each + ".") for each in taken):
                raise invalid_field(path[:200], "stands in the path or the body, not in the query")
            _put(request, descriptor, path, text)
    problems.raise_if_any()


def _put(request: dict[str, Any], descriptor: Descriptor, path: str, text: str, *, beside_body: bool = False) -> None:
    target, message, rest = request, descriptor, path
    while True:
        name, dot, behind = rest.partition(".")
        field = message.fields_by_name.get(name)
        if field is None:
            _put_unknown(request, descriptor, path, text)
            return
        if not dot:
            break
        target = _object_at(target, name, path)
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            _put_once(target, behind, _plain(inner.fields_by_name["value"], text, path), path)
            return
        if inner is None or field.is_repeated:
            raise invalid_field(path[:200], f"cannot be: {name} has no fields")
        message, rest = inner, behind
    value = _plain(field, text, path)
    if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
        _list_at(target, name, path).append(value)
    elif not (beside_body and target.get(name) == value):
        _put_once(target, name, value, path)


def _put_unknown(request: dict[str, Any], descriptor: Descriptor, path: str, text: str) -> None:
    """A parameter that is no field: a condition, where conditions are taken and it does not look like a slip."""
    conditions = descriptor.fields_by_name.get(_CONDITIONS)
    if conditions is None or difflib.get_close_matches(path, list(descriptor.fields_by_name), 1, 0.8):
        raise unknown(descriptor, path, path)
    _put_once(_object_at(request, _CONDITIONS, path), path, _json_or_text(text), path)


def _object_at(target: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    return _inner_at(target, name, path, dict)


def _list_at(target: dict[str, Any], name: str, path: str) -> list[Any]:
    return _inner_at(target, name, path, list)


def _inner_at(target: dict[str, Any], name: str, path: str, kind: Callable[[], T]) -> T:
    if target.get(name) is None:  # null is as if it were left out
        target[name] = kind()
    inner: T = target[name]
    if type(inner) is not kind:
        raise invalid_field(path[:200], f"cannot stand beside {name}")
    return inner


def _put_once(target: dict[str, Any], name: str, value: Any, path: str) -> None:
    if target.get(name) is not None:
        raise invalid_field(path[:200], "is given twice, and not the same")
    target[name] = value


def _plain(field: FieldDescriptor, text: str, path: str) -> Any:
    """The plain data of a text that stands for one value of the field."""
    message = field.message_type
    if message is None:
        return _scalar(field, text, path)
    name = message.full_name
    if name in WRAPPERS:
        return _scalar(message.fields_by_name["value"], text, path)
    if name in _AS_TEXT:
        return text
    if name == _ANYTHING:
        return _json_or_text(text)
    if name in _AS_JSON or message.GetOptions().map_entry:
        try:
            return json_of(text)
        except DomainError:
            raise invalid_field(path[:200], "must be JSON") from None
    raise invalid_field(path[:200], f"is an object; give its fields, such as {path}.{message.fields[0].name}")


def _scalar(field: FieldDescriptor, text: str, path: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in ("true", "false"):
            raise invalid_field(path[:200], "must be true or false")
        return text == "true"
    if field.cpp_type in _NUMBERS or (field.enum_type is not None and text.lstrip("-").isdecimal()):
        try:
            value = json_of(text)
        except DomainError:
            value = None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid_field(path[:200], "must be a number")
        return value
    return text


def _json_or_text(text: str) -> Any:
    try:
        return json_of(text)
    except DomainError:
        return text
