"""What options may hold: durations, times, values, paths and conditions, as people type them."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = {"w": 7 * 86_400, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,9})([wdhms]))+")
_PART = re.compile(r"(\d+)([wdhms])")
_CONDITION = re.compile(r'((?:"[^"]*"|[^"<>=!])+?)\s*(>=|<=|!=|=|>|<)\s*(.*)', re.DOTALL)
_OPERATORS = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt", "!=": "ne"}
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"|([^".]+)')


def duration(text: str) -> timedelta:
    """A length of time: `7d`, `12h`, `1d12h`, `90s`."""
    if not _DURATION.fullmatch(text.strip()):
        raise typer.BadParameter(f"{text!r} is no length of time; write 7d, 12h, 30m or 1d12h.")
    try:
        return timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text)))
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is longer than can be counted.") from None


def moment(text: str) -> datetime:
    """A time: `2026-03-20`, `2026-03-20T09:00`, `2026-03-20T09:00Z`, or `+2h` from now; this machine's zone if none."""
    try:
        if text.startswith("+"):
            return datetime.now(UTC) + duration(text[1:])
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time; write 2026-03-20T09:00, with Z for UTC, or +2h.") from None


def past(text: str) -> datetime:
    """A time that was, as files and filters have it: `2026-03-20`, `2026-03-20T09:00+01:00`; UTC without a zone."""
    try:
        found = datetime.fromisoformat(text.strip())
    except (ValueError, AttributeError):
        raise typer.BadParameter(f"{str(text)[:40]!r} is no time; write 2026-03-20 or 2026-03-20T09:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def json_or_text(text: str) -> Any:
    """JSON where it is JSON, else the text itself; NaN and its like are texts."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def pair(text: str) -> tuple[str, str]:
    """Both sides of `left=right`; quotes keep an equals sign on the left."""
    found = re.fullmatch(r'((?:"[^"]*"|[^"=])+)=(.*)', text, re.DOTALL)
    if not found:
        raise typer.BadParameter(f"{text!r} has no equals sign; write name=value.")
    return found[1].strip(), found[2]


def valued(given: Iterable[str]) -> dict[str, Any]:
    """Path → value of `path=value`s."""
    return {path: json_or_text(value) for path, value in map(pair, given)}


def conditions(given: Iterable[str]) -> dict[str, Any]:
    """The typed conditions of `path=value`, `path>=value` and so on; several on one path must all hold."""
    filters: dict[str, Any] = {}
    for text in given:
        found = _CONDITION.fullmatch(text)
        if not found:
            raise typer.BadParameter(f"{text!r} is no condition; write metadata.plan=pro or metadata.open_tickets>=2.")
        path, operator, value = found[1].strip(), found[2], json_or_text(found[3])
        new = {_OPERATORS[operator]: value} if operator in _OPERATORS else value
        known = filters.get(path)
        if path not in filters:
            filters[path] = new
        elif isinstance(known, dict) and isinstance(new, dict) and not known.keys() & new.keys():
            filters[path] = known | new
        else:
            raise typer.BadParameter(f"{path!r} has two conditions that cannot be joined; use --filter with AND.")
    return filters


def keys_of(path: str) -> list[str]:
    """The keys of a path: `a.b` has two, `"a.b"` one."""
    keys, at = [], 0
    while True:
        found = _KEY.match(path, at)
        if not found:
            raise typer.BadParameter(f"{path!r} is no path; join keys with dots, and quote those that hold a dot.")
        keys.append(re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2].strip())
        at = found.end()
        if at == len(path):
            return keys
        if path[at] != ".":
            raise typer.BadParameter(f"{path!r} is no path; join keys with dots, and quote those that hold a dot.")
        at += 1


def path_of(keys: Iterable[str]) -> str:
    """The path of keys, as `keys_of` reads it."""
    return ".".join(map(_quoted, keys))


def _quoted(key: str) -> str:
    plain = key and not re.search(r'[."\\]', key) and key == key.strip()
    return key if plain else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def put(target: dict[str, Any], keys: list[str], value: Any) -> None:
    """Sets a value at a path; BadParameter when something else stands in its way."""
    for key in keys[:-1]:
        inner = target.setdefault(key, {})
        if not isinstance(inner, dict):
            raise typer.BadParameter(f"{path_of(keys)} cannot be set beside a value at {key!r}.")
        target = inner
    if keys[-1] in target:
        raise typer.BadParameter(f"{path_of(keys)} is given twice.")
    target[keys[-1]] = value


def flat(metadata: dict[str, Any], above: tuple[str, ...] = ()) -> Iterable[tuple[str, Any]]:
    """Path and value of everything in it; arrays and empty objects are values."""
    for key, value in metadata.items():
        here = (*above, key)
        if isinstance(value, dict) and value:
            yield from flat(value, here)
        else:
            yield path_of(here), value


def document(text: str | None, name: str) -> dict[str, Any] | None:
    """The JSON object of an option: itself, or `@file` that holds it."""
    if text is None:
        return None
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (ValueError, RecursionError):
        raise typer.BadParameter(f'{name} is not JSON; write {name} \'{{"plan": "pro"}}\' or {name} @file.') from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f'{name} must be a JSON object, as in {name} \'{{"plan": "pro"}}\'.')
    return value
