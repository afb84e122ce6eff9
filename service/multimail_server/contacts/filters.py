"""Searches: every condition of a request as one tree, and that tree as what the database evaluates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.contacts import conditions, facets, filter_map, filter_text, terms
from multimail_server.contacts.conditions import Address, And, Facet, Not, Or, Since, Span, all_of, any_of
from multimail_server.errors import Reason, Violations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from multimail_server.contacts.conditions import Condition

Clause = dict[str, Any]

MAX_TEXT = 512
MAX_LEADS = 16

# How well a clause leads a query, best first: the fewer contacts it usually leaves, the better.
_ADDRESS, _DOMAIN_IS, _TEXT, _NUMBER, _FLAG, _RANGE, _PRESENCE, _STATE, _TIME = range(9)
_STATES = ("awaiting_since", "open_until")
_RANKS = {"s": _TEXT, "h": _TEXT, "n": _NUMBER, "b": _FLAG, "z": _FLAG, facets.PRESENCE: _PRESENCE}


@dataclass(frozen=True, slots=True)
class Lead:
    """A clause that an index serves by itself.

    Attributes:
        rank: How few contacts it usually leaves; smaller is better.
        index: The name of the index.
        clause: The clause; it may let through too many, never too few.
        facet: The one facet it looks for, if that is what it does.
    """

    rank: int
    index: str
    clause: Clause
    facet: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """A search as the database runs it: every lead by itself, `rest` behind each, the finds merged by id.

    Attributes:
        condition: What was asked for.
        leads: Clauses that together let through everybody who is to be found; each begins a query of its own.
        rest: Everything that must hold; it looks neither at the account nor at whether somebody was erased.
        candidates: Facets of equal rank, any of which could be the one lead.
        indexes: The names of the indexes that serve the leads.
        is_led: Whether an index finds what is asked for; else the whole account is looked at.
    """

    condition: Condition
    leads: tuple[Clause, ...]
    rest: Clause
    candidates: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ("account__id",)
    is_led: bool = True

    def led_by(self, facet: str) -> Search:
        """The same search with another of its candidates as its lead."""
        return replace(self, leads=({"facets": facet},))


def holds(search: Search, contact: Mapping[str, Any]) -> bool:
    """Whether a contact in memory meets the search, just as the database would find it."""
    return conditions.holds(search.condition, contact)


def compile_search(
    account: str,
    *,
    query: str = "",
    email: str = "",
    domain: str = "",
    name: str = "",
    filters: Mapping[str, Any] | None = None,
    filter: str = "",  # noqa: A002  the field's name in the API
    now: datetime,
) -> Search:
    """The search for contacts that meet every condition.

    Args:
        account: Whose contacts.
        query: An address, a domain, or words of the name; empty for none. So are the next three.
        email: The whole address.
        domain: The whole domain.
        name: Words of the name.
        filters: The typed conditions of SearchContactsRequest.filters.
        filter: The same and more as text, AIP-160.
        now: What "now" means to relative times.

    Raises:
        DomainError: INVALID_FIELD or INVALID_FILTER, naming every condition that cannot be understood.
    """
    problems = Violations()
    found: list[Condition] = []
    for where, text, read in (
        ("query", query.strip(), terms.query),
        ("email", email, terms.address),
        ("domain", domain, terms.domain),
        ("name", name, terms.words),
    ):
        with problems.collected():
            if len(text) > MAX_TEXT:
                raise errors.invalid_field(where, f"is {len(text)} characters long; at most {MAX_TEXT} are allowed")
            if text:
                found.append(read(text, partial(errors.invalid_field, where)))
    problems.raise_if_any()
    with problems.collected():
        found.append(filter_map.condition_of(filters or {}, now))
    with problems.collected():
        if filter:
            found.append(filter_text.condition_of(filter, now))
    problems.raise_if_any(Reason.INVALID_FILTER)
    return translate(all_of(found), account)


def translate(condition: Condition, account: str) -> Search:
    """The condition as what the database evaluates, for one account's contacts."""
    pushed = _pushed(condition, wanted=True)
    leads = _leads(pushed, account)
    rest = _clause(pushed, account)
    if not leads:
        return Search(condition, ({"account": account},), rest, is_led=not rest)
    return Search(
        condition,
        tuple(_merged(leads)),
        rest,
        _candidates(pushed, leads, account),
        tuple(dict.fromkeys(lead.index for lead in leads)),
    )


def _pushed(condition: Condition, *, wanted: bool) -> Condition:
    """The condition, or with `wanted` false its complement, with NOT at the leaves only."""
    match condition:
        case Not(part):
            return _pushed(part, wanted=not wanted)
        case And(parts) | Or(parts):
            pushed = [_pushed(part, wanted=wanted) for part in parts]
            return all_of(pushed) if isinstance(condition, And) == wanted else any_of(pushed)
        case _:
            return condition if wanted else Not(condition)


def _clause(condition: Condition, account: str) -> Clause:  # noqa: PLR0911  one for each kind
    """A condition with NOT at its leaves, as the database's language says it."""
    match condition:
        case And(parts):
            return {"$and": [_clause(part, account) for part in parts]} if parts else {}
        case Or(parts):
            wanted = [part.facet(account) for part in parts if isinstance(part, Facet)]
            others = [_clause(part, account) for part in parts if not isinstance(part, Facet)]
            clauses = [*([_any_facet(wanted)] if wanted else []), *others]
            return {"$or": clauses} if len(clauses) > 1 else clauses[0]
        case Not(Since(field, moment)):
            return {field: {"$lt": moment}}
        case Not(part):
            return {"$nor": [_clause(part, account)]}
        case Address(key):
            return {"email_keys": key}
        case Facet():
            return {"facets": condition.facet(account)}
        case Span():
            low, high = condition.bounds(account)
            return {"facets": {"$elemMatch": {"$gte": low, "$lt": high}}}
        case Since(field, moment):
            return {field: {"$gte": moment}}


def _leads(condition: Condition, account: str) -> Sequence[Lead]:  # noqa: PLR0911  one for each kind
    """Clauses that together let through everybody who meets the condition, each served by an index; else none."""
    match condition:
        case And(parts):
            choices = [leads for part in parts if (leads := _leads(part, account))]
            return min(choices, key=_cost, default=())
        case Or(parts):
            branches = [_leads(part, account) for part in parts]
            together = [lead for leads in branches for lead in leads]
            return together if all(branches) and len(_merged(together)) <= MAX_LEADS else ()
        case Since() | Not(Since()):
            clause = _clause(condition, account)
            is_state = isinstance(condition, Since) and condition.field in _STATES
            rank = _STATE if is_state else _TIME
            return (Lead(rank, "_".join(("account", *clause, "_id")), {"account": account, **clause}),)
        case Address(key):
            return (Lead(_ADDRESS, "account_email_keys", {"account": account, "email_keys": key}),)
        case Facet(path, kind):
            facet = condition.facet(account)
            rank = _DOMAIN_IS if path == facets.DOMAIN else _RANKS[kind]
            return (Lead(rank, "facets__id", {"facets": facet}, facet),)
        case Span():  # as a plain range, which lets through more than $elemMatch does
            low, high = condition.bounds(account)
            return (Lead(_RANGE, "facets__id", {"facets": {"$gte": low, "$lt": high}}),)
        case Not():
            return ()


def _cost(leads: Sequence[Lead]) -> tuple[int, int]:
    return max(lead.rank for lead in leads), len(leads)


def _merged(leads: Sequence[Lead]) -> list[Clause]:
    """The clauses of the leads, each once, those that look for one facet as one."""
    wanted = list(dict.fromkeys(lead.facet for lead in leads if lead.facet))
    clauses = [_any_facet(wanted)] if wanted else []
    for lead in leads:
        if not lead.facet and lead.clause not in clauses:
            clauses.append(lead.clause)
    return clauses


def _any_facet(wanted: list[str]) -> Clause:
    return {"facets": {"$in": wanted} if len(wanted) > 1 else wanted[0]}


def _candidates(condition: Condition, leads: Sequence[Lead], account: str) -> tuple[str, ...]:
    """The facets that could lead as well as this one lead, itself included."""
    if len(leads) > 1 or leads[0].rank not in (_TEXT, _NUMBER):
        return ()
    parts = condition.parts if isinstance(condition, And) else (condition,)
    rivals = [_leads(part, account) for part in parts]
    return tuple(dict.fromkeys(each[0].facet for each in rivals if each and _cost(each) == _cost(leads)))
