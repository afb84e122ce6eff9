"""The `filters` map of a search or a guard, checked and made into conditions."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Any

from multimail_server.contacts import facets, terms
from multimail_server.contacts.conditions import Condition, all_of, any_of, complement
from multimail_server.contacts.metadata import parse_path
from multimail_server.errors import DomainError, Reason, Violation, Violations, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

MAX_CONDITIONS = 32
MAX_CHOICES = 100
_SIDES = {"before": "<", "after": ">="}
OWN_KEYS = (*(f"{name}_{side}" for name in terms.TIMES for side in _SIDES), *terms.FLAGS)
_COMPARATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = (*_COMPARATORS, "ne", "in", "exists", "prefix")


def condition_of(filters: Mapping[str, Any], now: datetime) -> Condition:
    """What the map asks for: all its conditions.

    Args:
        filters: Conditions as SearchContactsRequest.filters documents them.
        now: What relative times are relative to.

    Raises:
        DomainError: INVALID_FILTER, naming every condition that cannot be understood.
    """
    problems = Violations()
    if len(filters) > MAX_CONDITIONS:
        problems.add("filters", f"has {len(filters)} conditions; at most {MAX_CONDITIONS} are allowed")
        problems.raise_if_any(Reason.INVALID_FILTER)
    conditions = []
    for key, value in filters.items():
        with problems.collected():
            conditions.append(_condition(key, value, now))
    problems.raise_if_any(Reason.INVALID_FILTER)
    return all_of(conditions)


def _refused(where: str, why: str) -> DomainError:
    return invalid([Violation(where, why)], Reason.INVALID_FILTER)


def _condition(key: str, value: Any, now: datetime) -> Condition:
    where = f'filters["{key}"]'
    refuse = partial(_refused, where)
    if key.startswith("metadata."):
        try:
            path = facets.metadata_path(parse_path(key.removeprefix("metadata."), where))
        except DomainError as error:
            raise refuse(error.violations[0].description) from None
        return _metadata(path, value, where)
    if key in terms.FLAGS:
        flag = terms.flag(key, now)
        return flag if _truth(value, where) else complement(flag)
    if key in OWN_KEYS:
        name, _, side = key.rpartition("_")
        return terms.timed(name, _SIDES[side], terms.moment_of(value, now, refuse))
    close = difflib.get_close_matches(key, OWN_KEYS, 1, 0.75)
    own = ", ".join(OWN_KEYS)
    hint = f"did you mean {close[0]}?" if close else f"for metadata write metadata.{key}; else one of {own}"
    raise refuse(f"is no condition; {hint}")


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _refused(where, "must be true or false")
    return value


def _metadata(path: str, value: Any, where: str) -> Condition:
    if not isinstance(value, dict):
        return terms.equal(path, value, partial(_refused, where))
    if not value:
        raise _refused(where, "holds no operator; use one of " + ", ".join(_OPERATORS))
    problems = Violations()
    for name in value:
        if name not in _OPERATORS:
            problems.add(f"{where}.{name}", "is no operator; use one of " + ", ".join(_OPERATORS))
    problems.raise_if_any(Reason.INVALID_FILTER)
    compared = {name: operand for name, operand in value.items() if name in _COMPARATORS}
    conditions = [_compared(path, compared, where)] if compared else []
    for name, operand in value.items():
        if name not in _COMPARATORS:
            conditions.append(_operated(path, name, operand, f"{where}.{name}"))
    return all_of(conditions)


def _compared(path: str, compared: Mapping[str, Any], where: str) -> Condition:
    """All comparisons of one condition: one and the same element must meet them."""
    edges = [
        (_COMPARATORS[name], *terms.comparable(operand, partial(_refused, f"{where}.{name}")))
        for name, operand in compared.items()
    ]
    kinds = {kind for _, kind, _ in edges}
    if len(kinds) > 1:
        raise _refused(where, "compares with a text and with a number; nothing is both")
    return terms.between(path, kinds.pop(), [(comparator, text) for comparator, _, text in edges])


def _operated(path: str, name: str, operand: Any, where: str) -> Condition:
    refuse = partial(_refused, where)
    if name == "ne":
        return complement(terms.equal(path, operand, refuse))
    if name == "in":
        if not isinstance(operand, list) or not operand:
            raise refuse("must be a list of values")
        if len(operand) > MAX_CHOICES:
            raise refuse(f"holds {len(operand)} values; at most {MAX_CHOICES} are allowed")
        return any_of(terms.equal(path, each, refuse) for each in operand)
    if name == "exists":
        there = terms.present(path)
        return there if _truth(operand, where) else complement(there)
    if not isinstance(operand, str):
        raise refuse("must be a text")
    terms.comparable(operand, refuse)
    return terms.beginning(path, operand)
