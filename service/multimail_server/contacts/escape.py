"""Metadata keys at the store's edge: what MongoDB reads as syntax is written in a way that reads back the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def _key_to_stored(key: str) -> str:
    if "%" in key or "." in key:
        key = key.replace("%", "%25").replace(".", "%2E")
    return "%24" + key[1:] if key.startswith("$") else key


def _key_from_stored(key: str) -> str:
    if "%" not in key:
        return key
    return key.replace("%24", "$").replace("%2E", ".").replace("%25", "%")


def to_stored(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with every key, at any depth, free of dots and leading dollars."""
    return {_key_to_stored(key): _walk(item, to_stored) for key, item in value.items()}


def from_stored(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it was before `to_stored`."""
    return {_key_from_stored(key): _walk(item, from_stored) for key, item in value.items()}


def _walk(value: Any, convert: Any) -> Any:
    if isinstance(value, dict):
        return convert(value)
    if isinstance(value, list):
        return [_walk(item, convert) for item in value]
    return value
