"""Search conditions: read and checked all at once, then turned into what the database evaluates."""

from __future__ import annotations

import difflib
import operator
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from multimail_server.aip.address import parse_address, parse_domain
from multimail_server.contacts import facets
from multimail_server.contacts.contact import NEVER
from multimail_server.contacts.metadata import normal_scalar, parse_path
from multimail_server.errors import DomainError, Reason, Violations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Clause = dict[str, Any]

MAX_CONDITIONS = 32
MAX_CHOICES = 100
MAX_TEXT = 512
_TIMES = {
    "last_contacted": "last_contacted_at",
    "last_inbound": "last_inbound_at",
    "created": "create_time",
    "updated": "update_time",
}
_OWN_KEYS = (*(f"{name}_{side}" for name in _TIMES for side in ("before", "after")), "never_contacted")
_COMPARISONS = {"gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte"}
_OPERATORS = (*_COMPARISONS, "ne", "in", "exists", "prefix")
_DOMAIN = re.compile(r"[^\s@.]+(?:\.[^\s@.]+)+")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

# How well a clause leads a query, best first: the fewer contacts it usually leaves, the better.
_ADDRESS, _DOMAIN_IS, _TEXT, _NUMBER, _FLAG, _RANGE, _PRESENCE, _TIME, _ALL = range(9)


@dataclass(frozen=True, slots=True)
class Search:
    """A search as two filters.

    Attributes:
        first: One clause that an index serves; it may let through too many, never too few.
        rest: Everything that must hold.
        candidates: Facets of equal rank that could lead instead of `first`.
    """

    first: Clause
    rest: Clause
    candidates: tuple[str, ...] = ()

    def led_by(self, facet: str) -> Search:
        """The same search with another of its candidates first."""
        return replace(self, first={"facets": facet})


@dataclass(slots=True)
class _Conditions:
    """Clauses gathered so far, and those that could lead."""

    account: str
    clauses: list[Clause] = field(default_factory=list)
    leads: list[tuple[int, Clause]] = field(default_factory=list)

    def add(self, clause: Clause, rank: int | None = None, lead: Clause | None = None) -> None:
        self.clauses.append(clause)
        if rank is not None:
            self.leads.append((rank, lead or clause))

    def compiled(self) -> Search:
        rest = {"$and": self.clauses} if self.clauses else {}
        if not self.leads:
            return Search({"account": self.account}, rest)
        best = min(rank for rank, _ in self.leads)
        leading = [lead for rank, lead in self.leads if rank == best]
        facets_ = tuple(lead["facets"] for lead in leading) if best in (_TEXT, _NUMBER) else ()
        return Search(leading[0], rest, tuple(dict.fromkeys(facets_)))


def holds(search: Search, contact: Mapping[str, Any]) -> bool:
    """Whether a contact in memory meets the search, just as the database would find it."""
    return all(_meets(contact, clause) for clause in search.rest.get("$and", ()))


def _meets(contact: Mapping[str, Any], clause: Clause) -> bool:
    return all(_is(contact[name], condition) for name, condition in clause.items())


def _is(value: Any, condition: Any) -> bool:
    """Whether a field, or one element of an array, is as the condition says."""
    elements = value if isinstance(value, list) else [value]
    if not isinstance(condition, dict):
        return condition in elements
    for name, operand in condition.items():
        if name == "$nin":
            met = not any(each in operand for each in elements)
        elif name == "$in":
            met = any(each in operand for each in elements)
        elif name == "$elemMatch":
            met = any(_is(each, operand) for each in elements)
        else:
            met = any(_COMPARED[name](each, operand) for each in elements)
        if not met:
            return False
    return True


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}


def compile_search(
    account: str, *, query: str, email: str, domain: str, name: str, filters: Mapping[str, Any]
) -> Search:
    """The search for contacts that meet every condition.

    Args:
        account: Whose contacts.
        query: An address, a domain, or words of the name; empty for none. So are the next three.
        email: The whole address.
        domain: The whole domain.
        name: Words of the name.
        filters: The typed conditions of SearchContactsRequest.filters.

    Raises:
        DomainError: INVALID_FIELD or INVALID_FILTER, naming every condition that cannot be understood.
    """
    conditions = _Conditions(account)
    problems = Violations()
    for where, text in (("query", query), ("name", name)):
        if len(text) > MAX_TEXT:
            problems.add(where, f"is {len(text)} characters long; at most {MAX_TEXT} are allowed")
    problems.raise_if_any()
    with problems.collected():
        _add_query(conditions, query.strip())
    with problems.collected():
        if email:
            _add_address(conditions, email, "email")
    with problems.collected():
        if domain:
            _add_domain(conditions, domain, "domain")
    with problems.collected():
        if name:
            _add_words(conditions, name, "name")
    problems.raise_if_any()
    if len(filters) > MAX_CONDITIONS:
        problems.add("filters", f"has {len(filters)} conditions; at most {MAX_CONDITIONS} are allowed")
        problems.raise_if_any(Reason.INVALID_FILTER)
    for key, value in filters.items():
        with problems.collected():
            _add_filter(conditions, key, value)
    problems.raise_if_any(Reason.INVALID_FILTER)
    return conditions.compiled()


def _refuse(where: str, why: str) -> DomainError:
    problems = Violations()
    problems.add(where, why)
    try:
        problems.raise_if_any(Reason.INVALID_FILTER)
    except DomainError as error:
        return error
    raise AssertionError


def _add_query(conditions: _Conditions, query: str) -> None:
    if "@" in query:
        _add_address(conditions, query, "query")
    elif _DOMAIN.fullmatch(query):
        _add_domain(conditions, query, "query")
    elif query:
        _add_words(conditions, query, "query")


def _add_address(conditions: _Conditions, text: str, where: str) -> None:
    clause = {"email_keys": parse_address(text, where).key}
    conditions.add(clause, _ADDRESS, {"account": conditions.account, **clause})


def _add_domain(conditions: _Conditions, text: str, where: str) -> None:
    facet = facets.equality(conditions.account, facets.DOMAIN, parse_domain(text, where))
    conditions.add({"facets": facet}, _DOMAIN_IS)


def _add_words(conditions: _Conditions, text: str, where: str) -> None:
    words = facets.words_of(text)
    if not words:
        raise _refuse(where, "holds no word to look for")
    if len(words) > MAX_CONDITIONS:
        raise _refuse(where, f"holds {len(words)} words; at most {MAX_CONDITIONS} are allowed")
    for word in words:
        low = facets.equality(conditions.account, facets.WORD, word)
        _add_span(conditions, low, low + "\U0010ffff")


def _add_span(conditions: _Conditions, low: str, high: str) -> None:
    """A range over facets: per element, and as a plain range, which lets through more, where it has to lead."""
    span = {"$gte": low, "$lt": high}
    conditions.add({"facets": {"$elemMatch": span}}, _RANGE, {"facets": span})


def _add_filter(conditions: _Conditions, key: str, value: Any) -> None:
    where = f'filters["{key}"]'
    if key.startswith("metadata."):
        try:
            path = facets.metadata_path(parse_path(key.removeprefix("metadata."), where))
        except DomainError as error:
            raise _refuse(where, error.violations[0].description) from None
        _add_metadata(conditions, path, value, where)
    elif key == "never_contacted":
        if not isinstance(value, bool):
            raise _refuse(where, "must be true or false")
        conditions.add({"last_contacted_at": NEVER if value else {"$gt": NEVER}})
    elif key in _OWN_KEYS:
        name, _, side = key.rpartition("_")
        clause = {_TIMES[name]: {"$lt" if side == "before" else "$gte": _moment(value, where)}}
        conditions.add(clause, _TIME, {"account": conditions.account, **clause})
    else:
        close = difflib.get_close_matches(key, _OWN_KEYS, 1, 0.75)
        hint = (
            f"did you mean {close[0]}?"
            if close
            else f"for metadata write metadata.{key}; else one of " + ", ".join(_OWN_KEYS)
        )
        raise _refuse(where, f"is no condition; {hint}")


def _moment(value: Any, where: str) -> datetime:
    """An RFC 3339 time, or the start of a day in UTC."""
    problem = _refuse(where, 'must be a time such as "2026-03-20" or "2026-03-20T09:30:00Z"')
    if not isinstance(value, str):
        raise problem
    try:
        if _DAY.fullmatch(value):
            return datetime.combine(date.fromisoformat(value), time(), UTC)
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise problem
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise problem from None


def _add_metadata(conditions: _Conditions, path: str, value: Any, where: str) -> None:
    if not isinstance(value, dict):
        facet = _facet(conditions, path, value, where)
        return conditions.add({"facets": facet}, _rank(value))
    if not value:
        raise _refuse(where, "holds no operator; use one of " + ", ".join(_OPERATORS))
    problems = Violations()
    for name in value:
        if name not in _OPERATORS:
            problems.add(f"{where}.{name}", "is no operator; use one of " + ", ".join(_OPERATORS))
    problems.raise_if_any(Reason.INVALID_FILTER)
    compared = {name: operand for name, operand in value.items() if name in _COMPARISONS}
    if compared:
        _add_comparison(conditions, path, compared, where)
    for name, operand in value.items():
        if name not in _COMPARISONS:
            _OTHERS[name](conditions, path, operand, f"{where}.{name}")
    return None


def _rank(value: Any) -> int:
    if isinstance(value, bool) or value is None:
        return _FLAG
    return _TEXT if isinstance(value, str) else _NUMBER


def _facet(conditions: _Conditions, path: str, value: Any, where: str) -> str:
    if isinstance(value, dict | list):
        raise _refuse(where, "must be a text, a number, true, false or null")
    try:
        return facets.equality(conditions.account, path, normal_scalar(value, where))
    except DomainError as error:
        raise _refuse(where, error.violations[0].description) from None


def _add_comparison(conditions: _Conditions, path: str, compared: Mapping[str, Any], where: str) -> None:
    """All comparisons of one condition: one and the same element must meet them."""
    kinds = {_comparable(operand, f"{where}.{name}") for name, operand in compared.items()}
    if len(kinds) > 1:
        raise _refuse(where, "compares with a text and with a number; nothing is both")
    low, high = facets.bounds(conditions.account, path, kinds.pop())
    for name, operand in compared.items():
        edge = _facet(conditions, path, operand, f"{where}.{name}")
        after = edge + "\0"  # the next string in order
        if name in ("gt", "gte"):
            low = max(low, after if name == "gt" else edge)
        else:
            high = min(high, edge if name == "lt" else after)
    _add_span(conditions, low, high)


def _comparable(operand: Any, where: str) -> str:
    if isinstance(operand, bool) or not isinstance(operand, str | int | float):
        raise _refuse(where, "must be a text or a number")
    kind, _ = facets.encoded(operand)
    if kind == "h":
        raise _refuse(where, f"is longer than {facets.MAX_TEXT_BYTES} bytes; such texts can be found by equality only")
    return kind


def _add_ne(conditions: _Conditions, path: str, operand: Any, where: str) -> None:
    conditions.add({"facets": {"$nin": [_facet(conditions, path, operand, where)]}})


def _add_in(conditions: _Conditions, path: str, operand: Any, where: str) -> None:
    if not isinstance(operand, list) or not operand:
        raise _refuse(where, "must be a list of values")
    if len(operand) > MAX_CHOICES:
        raise _refuse(where, f"holds {len(operand)} values; at most {MAX_CHOICES} are allowed")
    choices = [_facet(conditions, path, each, where) for each in operand]
    conditions.add({"facets": {"$in": choices}}, _PRESENCE, {"facets": {"$in": choices}})


def _add_exists(conditions: _Conditions, path: str, operand: Any, where: str) -> None:
    if not isinstance(operand, bool):
        raise _refuse(where, "must be true or false")
    mark = facets.presence(conditions.account, path)
    if operand:
        conditions.add({"facets": mark}, _PRESENCE)
    else:
        conditions.add({"facets": {"$nin": [mark]}})


def _add_prefix(conditions: _Conditions, path: str, operand: Any, where: str) -> None:
    if not isinstance(operand, str):
        raise _refuse(where, "must be a text")
    if _comparable(operand, where) == "s":
        low = _facet(conditions, path, operand, where)
        _, end = facets.bounds(conditions.account, path, "s")
        _add_span(conditions, low, low + "\U0010ffff" if operand else end)


_OTHERS = {"ne": _add_ne, "in": _add_in, "exists": _add_exists, "prefix": _add_prefix}
