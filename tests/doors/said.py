"""What a door said, in one form whichever door it was, and when two of them said the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

import multimail

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)s|P[T\d].*")
_MARKS = re.compile(r"(?<=^<<<untrusted )\w+$|^\w+(?=>>>$)", re.MULTILINE)  # drawn anew for every answer
_ISO_LENGTH = TypeAdapter(timedelta)

# The status of a call, and how HTTP, the library and the command line tell it.
MEANINGS: dict[str, tuple[int, type[multimail.MultimailError], int]] = {
    "INVALID_ARGUMENT": (400, multimail.InvalidArgumentError, 2),
    "NOT_FOUND": (404, multimail.NotFoundError, 3),
    "ALREADY_EXISTS": (409, multimail.AlreadyExistsError, 1),
    "PERMISSION_DENIED": (403, multimail.PermissionDeniedError, 4),
    "FAILED_PRECONDITION": (400, multimail.FailedPreconditionError, 1),
    "ABORTED": (409, multimail.AbortedError, 1),
    "UNAUTHENTICATED": (401, multimail.UnauthenticatedError, 4),
}


@dataclass(frozen=True)
class Refused:
    """A refusal.

    Attributes:
        reason: Why, as one word.
        metadata: The facts beside it.
        fields: The bad fields, sorted.
        message: The sentence; None where the door has its own words.
        retry_s: When to come back.
        meaning: The status, as this door tells it; None where it tells none.
    """

    reason: str
    metadata: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    message: str | None = None
    retry_s: float | None = None
    meaning: Any = None


def bare(value: Any) -> Any:
    """Plain data without what says nothing, its times and lengths of time as such."""
    if isinstance(value, dict):
        kept = {name: bare(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in (None, "", [], {}, False, 0)}
    if isinstance(value, list | tuple):
        return [bare(each) for each in value]
    if isinstance(value, str) and _TIME.fullmatch(value):
        return datetime.fromisoformat(value)
    if isinstance(value, str) and (found := _LENGTH.fullmatch(value)):
        return timedelta(seconds=float(found[1])) if found[1] else _ISO_LENGTH.validate_python(value)
    return _MARKS.sub("X", value) if isinstance(value, str) else value


def differences(first: Any, other: Any, hidden: frozenset[str], added: frozenset[str], path: str = "") -> list[str]:
    """Where two answers differ.

    Args:
        first: What gRPC answered, bare.
        other: What the other door answered, bare.
        hidden: Fields that the other door may leave out.
        added: Fields that it says of its own.
        path: Where they stand.
    """
    if isinstance(first, dict) and isinstance(other, dict):
        missing = [f"{path}.{name} is missing" for name in first.keys() - other.keys() - hidden]
        extra = [f"{path}.{name} is new: {other[name]!r}" for name in other.keys() - first.keys() - added]
        both = [name for name in first.keys() & other.keys() if name not in added]
        return [
            *missing, *extra,
            *(each for name in both for each in differences(first[name], other[name], hidden, added, f"{path}.{name}")),
        ]  # fmt: skip
    if isinstance(first, list) and isinstance(other, list) and len(first) == len(other):
        pairs = enumerate(zip(first, other, strict=True))
        return [each for at, (a, b) in pairs for each in differences(a, b, hidden, added, f"{path}[{at}]")]
    return [] if first == other else [f"{path}: {first!r}, but {other!r}"]
