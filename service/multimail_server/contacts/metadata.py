"""Metadata rules: JSON values in, merged or operated on, within limits; every refusal names the path."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.errors import Violations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_BYTES = 64 << 10
MAX_DEPTH = 16
MAX_KEYS = 512
MAX_SCALARS = 512
_MAX_WHOLE = 2**53  # beyond it a double no longer holds every whole number
# So many keys and characters, each of which JSON writes as six bytes at most, cannot pass a limit.
_FEW, _SHORT, _LONGEST_NUMBER = 100, 10_000, 25
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Path = tuple[str, ...]


def normalise(value: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The object with whole numbers as ints; refuses what is not JSON, or cannot be kept.

    Args:
        value: The object, numbers as floats, as protobuf's Struct gives them.
        field: Its path in the request.
    """
    problems = Violations()
    clean: dict[str, Any] = _normal(value, (), field, problems)
    problems.raise_if_any()
    return clean


def normal_scalar(value: Any, field: str) -> Any:
    """One JSON value, as `normalise` treats those inside an object."""
    problems = Violations()
    clean = _normal(value, (), field, problems)
    problems.raise_if_any()
    return clean


def _normal(value: Any, path: Path, field: str, problems: Violations) -> Any:
    if isinstance(value, dict):
        for key in value:
            if not _is_key(key):
                problems.add(_at(field, (*path, key)), "is a key that cannot be kept: it holds NUL or half a character")
        return {key: _normal(item, (*path, key), field, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item, path, field, problems) for item in value]
    if isinstance(value, str) and not _is_text(value):
        problems.add(_at(field, path), "holds half a character (a lone surrogate)")
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.add(_at(field, path), "is not a number JSON knows")
        elif value.is_integer() and abs(value) <= _MAX_WHOLE:
            return int(value)
    return value


def _is_key(key: str) -> bool:
    return "\0" not in key and _is_text(key)


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at(field: str, path: Sequence[str]) -> str:
    return f"{field}.{format_path(path)}" if path else field


def merge(current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The object after a merge patch (RFC 7396): objects merge at every depth, null removes, all else replaces."""
    merged = dict(current)
    for key, item in patch.items():
        if item is None:
            merged.pop(key, None)
        elif isinstance(item, dict):
            before = merged.get(key)
            merged[key] = merge(before if isinstance(before, dict) else {}, item)
        else:
            merged[key] = item
    return merged


def json_equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, but neither true nor "1"."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(json_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(json_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def check_limits(metadata: Mapping[str, Any], field: str = "metadata") -> None:
    """Refuses metadata that is too large, too deep or too many, naming the key where the limit is passed."""
    if _is_surely_within(metadata):
        return
    keys = scalars = 0
    for path, value, depth in _walk(metadata, (), 1):
        keys += bool(path) and not isinstance(value, _Element)
        item = value.item if isinstance(value, _Element) else value
        scalars += not isinstance(item, dict | list)
        if isinstance(item, dict | list) and depth > MAX_DEPTH:
            raise errors.invalid_field(_at(field, path), f"is nested deeper than {MAX_DEPTH} levels")
        if keys > MAX_KEYS:
            raise errors.invalid_field(_at(field, path), f"is one key too many; at most {MAX_KEYS} in all")
        if scalars > MAX_SCALARS:
            raise errors.invalid_field(_at(field, path), f"is one value too many; at most {MAX_SCALARS} in all")
    size = _size(metadata)
    if size > MAX_BYTES:
        largest = max(metadata, key=lambda key: _size({key: metadata[key]}))
        raise errors.invalid_field(
            _at(field, (largest,)), f"makes the metadata {size} bytes of JSON; at most {MAX_BYTES} are allowed"
        )


def _is_surely_within(metadata: Mapping[str, Any]) -> bool:
    """Whether it is flat, and so short that it is within every limit whatever its texts hold: most metadata are."""
    characters = 0
    for key, value in metadata.items():
        if isinstance(value, dict | list):
            return False
        characters += len(key) + (len(value) if isinstance(value, str) else _LONGEST_NUMBER)
    return len(metadata) <= _FEW and characters <= _SHORT


class _Element:
    """An element of an array: counted like a value, but it brings no key."""

    def __init__(self, item: Any) -> None:
        self.item = item


def _walk(value: Any, path: Path, depth: int) -> Iterator[tuple[Path, Any, int]]:
    """Everything in the object, outermost first, as path, value and level."""
    stack: list[tuple[Path, Any, int]] = [(path, value, depth)]
    while stack:
        where, found, level = stack.pop()
        yield where, found, level
        item = found.item if isinstance(found, _Element) else found
        if level > MAX_DEPTH:
            continue
        if isinstance(item, dict):
            stack.extend(((*where, key), inner, level + 1) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            stack.extend((where, _Element(inner), level + 1) for inner in reversed(item))


def _size(value: Any) -> int:
    return len(_compact(value).encode())


def format_path(keys: Sequence[str]) -> str:
    """The keys joined by dots; a key a reader could mistake is written as a JSON string: `"a.b".c`."""
    return ".".join(json.dumps(key, ensure_ascii=False) if _needs_quotes(key) else key for key in keys)


def _needs_quotes(key: str) -> bool:
    return not key or "." in key or '"' in key or key != key.strip()


def parse_path(text: str, field: str) -> Path:
    """The keys of a path as `format_path` writes it; refuses an empty or unreadable one."""
    keys: list[str] = []
    rest = text
    decoder = json.JSONDecoder(strict=False)
    while True:
        if rest.startswith('"'):
            try:
                key, end = decoder.raw_decode(rest)
            except ValueError:
                raise errors.invalid_field(field, f"has a quote that does not end: {rest[:80]}") from None
        else:
            end = rest.find(".") if "." in rest else len(rest)
            key = rest[:end]
            if _needs_quotes(key):
                raise errors.invalid_field(field, f"has an empty or unclear key; quote it as JSON: {text[:80]!r}")
        if not _is_key(key):
            raise errors.invalid_field(field, f"has a key that cannot be kept, with NUL or half a character: {key!r}")
        keys.append(key)
        if end == len(rest):
            return tuple(keys)
        if rest[end] != ".":
            raise errors.invalid_field(field, f"has something between a quote and the next dot: {text[:80]!r}")
        rest = rest[end + 1 :]
