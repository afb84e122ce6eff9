"""The condition tree: what a search asks of a contact, however it was asked, and whether a contact meets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimail_server.contacts import facets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class And:
    """All of these; with no parts everybody."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of these, one at least."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The exact complement: whoever does not meet the part meets this."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Address:
    """The contact has the address with this key."""

    key: str


@dataclass(frozen=True, slots=True)
class Facet:
    """The contact has this facet: a value, or an element of an array, equals a scalar, or something is there.

    Attributes:
        path: As `facets.metadata_path` writes it, or `facets.DOMAIN`.
        kind: Its type, as `facets.encoded` gives it; so too the text.
        text: The value.
    """

    path: str
    kind: str
    text: str = ""

    def facet(self, account: str) -> str:
        """The facet to look for in an account."""
        return facets.facet(account, self.path, self.kind, self.text)


@dataclass(frozen=True, slots=True)
class Span:
    """The contact has a facet in this range: one value, or one element of an array, lies in it.

    Attributes:
        path: As in Facet, or `facets.WORD`.
        kind: The type of all facets in the range.
        low: The text it begins with.
        high: The text it ends before; None for the end of the type.
    """

    path: str
    kind: str
    low: str = ""
    high: str | None = None

    def bounds(self, account: str) -> tuple[str, str]:
        """The facets, in an account, that it begins with and ends before."""
        low = facets.facet(account, self.path, self.kind, self.low)
        if self.high is None:
            return low, facets.behind(facets.facet(account, self.path, self.kind))
        return low, facets.facet(account, self.path, self.kind, self.high)


@dataclass(frozen=True, slots=True)
class Since:
    """A time of the contact's document is this one or later; "never" is earlier than all."""

    field: str
    moment: datetime


Leaf = Address | Facet | Span | Since
Condition = And | Or | Not | Leaf


def all_of(conditions: Iterable[Condition]) -> Condition:
    """All of these as one condition, those that are themselves made of several taken apart."""
    parts = [part for each in conditions for part in (each.parts if isinstance(each, And) else (each,))]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def any_of(conditions: Iterable[Condition]) -> Condition:
    """Any of these, at least one given, as one condition."""
    parts = [part for each in conditions for part in (each.parts if isinstance(each, Or) else (each,))]
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def complement(condition: Condition) -> Condition:
    """Whoever does not meet the condition."""
    return condition.part if isinstance(condition, Not) else Not(condition)


def size(condition: Condition) -> int:
    """How many leaves the tree has."""
    match condition:
        case And(parts) | Or(parts):
            return sum(map(size, parts))
        case Not(part):
            return size(part)
        case _:
            return 1


def holds(condition: Condition, contact: Mapping[str, Any]) -> bool:  # noqa: PLR0911  one for each kind
    """Whether the contact, the whole document of one who is not erased, meets the condition."""
    match condition:
        case And(parts):
            return all(holds(part, contact) for part in parts)
        case Or(parts):
            return any(holds(part, contact) for part in parts)
        case Not(part):
            return not holds(part, contact)
        case Address(key):
            return key in contact["email_keys"]
        case Facet():
            return condition.facet(contact["account"]) in contact["facets"]
        case Span():
            low, high = condition.bounds(contact["account"])
            return any(low <= facet < high for facet in contact["facets"])
        case Since(field, moment):
            return bool(contact[field] >= moment)
