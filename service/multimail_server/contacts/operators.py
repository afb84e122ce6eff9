"""The operators of UpdateContact: set, unset, rename, increment, add to a set, remove from an array."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from multimail_server.contacts.metadata import format_path, json_equal, normal_scalar, parse_path
from multimail_server.errors import Violations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from multimail_server.contacts.metadata import Path

_MISSING = object()
Step = tuple[str, "Path", "Callable[[dict[str, Any], Violations], None]"]


class Operators:
    """Operators in the order they apply; made once from a request, applied to whatever metadata is there then.

    Two that touch the same path, or one inside the other, are refused, for their order would decide.

    Args:
        set: Path → value that replaces what is there.
        unset: Paths to remove.
        rename: Old path → new path.
        increment: Path → number to add.
        add_to_set: Path → value to append unless the array has it.
        remove: Path → value to take out of the array.
    """

    def __init__(
        self,
        *,
        set: Mapping[str, Any],  # noqa: A002  the field's name in the API
        unset: Sequence[str],
        rename: Mapping[str, str],
        increment: Mapping[str, float],
        add_to_set: Mapping[str, Any],
        remove: Mapping[str, Any],
    ) -> None:
        self._problems = Violations()
        self._steps: list[Step] = []
        for path, value in set.items():
            self._add("set", path, value, _set)
        for path in unset:
            self._add("unset", path, None, _unset)
        for path, target in rename.items():
            self._add_rename(path, target)
        for path, amount in increment.items():
            self._add("increment", path, amount, _increment)
        for path, value in add_to_set.items():
            self._add("add_to_set", path, value, _add_to_set)
        for path, value in remove.items():
            self._add("remove", path, value, _remove)
        self._refuse_overlaps()
        self._problems.raise_if_any()

    def apply(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata after all operators; refuses, naming every one that does not fit what is there."""
        if not self._steps:
            return dict(metadata)
        result = copy.deepcopy(dict(metadata))
        problems = Violations()
        for _, _, step in self._steps:
            step(result, problems)
        problems.raise_if_any()
        return result

    def _add(self, name: str, text: str, value: Any, act: Callable[..., None]) -> None:
        field = f'{name}["{text}"]'
        with self._problems.collected():
            path = parse_path(text, field)
            clean = normal_scalar(value, field)
            self._steps.append((field, path, lambda metadata, problems: act(metadata, path, clean, field, problems)))

    def _add_rename(self, text: str, target: str) -> None:
        field = f'rename["{text}"]'
        with self._problems.collected():
            path, new = parse_path(text, field), parse_path(target, field)
            self._steps.append((field, path, lambda metadata, problems: _rename(metadata, path, new, field, problems)))
            self._steps.append((field, new, lambda _metadata, _problems: None))

    def _refuse_overlaps(self) -> None:
        steps = sorted(self._steps, key=lambda step: step[1])
        for (field, path, _), (other, longer, _) in pairwise(steps):
            if longer[: len(path)] == path:
                self._problems.add(other, f"touches {format_path(path)}, as {field} does")


def _parent(metadata: dict[str, Any], path: Path, *, make: bool) -> dict[str, Any] | None:
    """The object that holds the path's last key; None when it is not there, or something else is in its place."""
    here = metadata
    for key in path[:-1]:
        inner = here.get(key)
        if inner is None and make:
            inner = here[key] = {}
        if not isinstance(inner, dict):
            return None
        here = inner
    return here


def _set(metadata: dict[str, Any], path: Path, value: Any, field: str, problems: Violations) -> None:
    if value is None:
        return problems.add(field, "is null; use unset to remove")
    holder = _parent(metadata, path, make=True)
    if holder is None:
        return problems.add(field, "lies inside a value that is no object")
    holder[path[-1]] = value
    return None


def _unset(metadata: dict[str, Any], path: Path, _value: Any, _field: str, _problems: Violations) -> None:
    holder = _parent(metadata, path, make=False)
    if holder is not None:
        holder.pop(path[-1], None)


def _rename(metadata: dict[str, Any], path: Path, new: Path, field: str, problems: Violations) -> None:
    holder = _parent(metadata, path, make=False)
    if holder is None or path[-1] not in holder:
        return problems.add(field, "is not there")
    target = _parent(metadata, new, make=True)
    if target is None or new[-1] in target:
        return problems.add(field, f"cannot become {format_path(new)}: something is there")
    target[new[-1]] = holder.pop(path[-1])
    return None


def _increment(metadata: dict[str, Any], path: Path, amount: Any, field: str, problems: Violations) -> None:
    holder = _parent(metadata, path, make=True)
    before = 0 if holder is None else holder.get(path[-1], 0)
    if holder is None or isinstance(before, bool) or not isinstance(before, int | float):
        return problems.add(field, "is no number")
    total = before + amount
    if isinstance(total, float) and not math.isfinite(total):
        return problems.add(field, "would become larger than a number can be")
    holder[path[-1]] = normal_scalar(float(total), field) if abs(total) >= 2**53 or isinstance(total, float) else total
    return None


def _array(
    metadata: dict[str, Any], path: Path, field: str, problems: Violations, *, make: bool
) -> tuple[dict[str, Any], list[Any]] | None:
    holder = _parent(metadata, path, make=make)
    there = _MISSING if holder is None else holder.get(path[-1], _MISSING)
    if holder is not None and there is _MISSING:
        return holder, []
    if holder is None or not isinstance(there, list):
        if make or there is not _MISSING:
            problems.add(field, "is no array")
        return None
    return holder, there


def _add_to_set(metadata: dict[str, Any], path: Path, value: Any, field: str, problems: Violations) -> None:
    found = _array(metadata, path, field, problems, make=True)
    if found is not None and not any(json_equal(each, value) for each in found[1]):
        found[0][path[-1]] = [*found[1], value]


def _remove(metadata: dict[str, Any], path: Path, value: Any, field: str, problems: Violations) -> None:
    found = _array(metadata, path, field, problems, make=False)
    if found is not None and path[-1] in found[0]:
        found[0][path[-1]] = [each for each in found[1] if not json_equal(each, value)]
