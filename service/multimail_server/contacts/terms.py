"""What may be asked of a contact, one condition each, from checked values; filters as a map and as text share it.

Where a value does not fit, what is wrong with it goes to the caller's `refuse`, who knows where the value stands.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from multimail_server.aip.address import parse_address, parse_domain
from multimail_server.contacts import facets
from multimail_server.contacts.conditions import Address, Condition, Facet, Not, Since, Span, all_of
from multimail_server.contacts.contact import FOREVER, NEVER
from multimail_server.contacts.metadata import normal_scalar
from multimail_server.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Refuse = Callable[[str], DomainError]

MAX_WORDS = 32
TIMES = {
    "last_contacted": "last_contacted_at",
    "last_inbound": "last_inbound_at",
    "created": "create_time",
    "updated": "update_time",
}
AGO = re.compile(r"-(\d{1,9})([smhdw])", re.ASCII)
FLAGS = ("never_contacted", "awaiting_reply", "has_open_thread")

_MILLISECOND = timedelta(milliseconds=1)
_NEXT = timedelta(microseconds=1)
_EVER = NEVER + _MILLISECOND
_DOMAIN = re.compile(r"[^\s@.]+(?:\.[^\s@.]+)+")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def query(text: str, refuse: Refuse) -> Condition:
    """With an `@` an address, shaped like a domain a domain, else words of the name."""
    if "@" in text:
        return address(text, refuse)
    return domain(text, refuse) if _DOMAIN.fullmatch(text) else words(text, refuse)


def address(text: str, refuse: Refuse) -> Condition:
    """The whole address."""
    with _reworded(refuse):
        return Address(parse_address(text, "").key)


def domain(text: str, refuse: Refuse) -> Condition:
    """The whole domain."""
    with _reworded(refuse):
        return Facet(facets.DOMAIN, *facets.encoded(parse_domain(text, "")))


def words(text: str, refuse: Refuse) -> Condition:
    """Words of the name in any order, each from its beginning, case and accents ignored."""
    found = facets.words_of(text)
    if not found:
        raise refuse("holds no word to look for")
    if len(found) > MAX_WORDS:
        raise refuse(f"holds {len(found)} words; at most {MAX_WORDS} are allowed")
    return all_of(beginning(facets.WORD, word) for word in found)


def equal(path: str, value: Any, refuse: Refuse) -> Condition:
    """The value at the path, or an element of an array there, is this scalar."""
    if isinstance(value, dict | list):
        raise refuse("must be a text, a number, true, false or null")
    with _reworded(refuse):
        return Facet(path, *facets.encoded(normal_scalar(value, "")))


def present(path: str) -> Condition:
    """Anything at all is at the path."""
    return Facet(path, facets.PRESENCE)


def comparable(value: Any, refuse: Refuse) -> tuple[str, str]:
    """Type and text of a scalar that has an order, as facets keep them."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse("must be a text or a number")
    with _reworded(refuse):
        kind, text = facets.encoded(normal_scalar(value, ""))
    if kind == "h":
        raise refuse(f"is longer than {facets.MAX_TEXT_BYTES} bytes; such texts can be found by equality only")
    return kind, text


def between(path: str, kind: str, bounds: Iterable[tuple[str, str]]) -> Condition:
    """One value at the path lies within all bounds: `< <= > >=`, each with a text of that type."""
    low, high = "", None
    for comparator, edge in bounds:
        text = edge + "\0" if comparator in (">", "<=") else edge  # the next text in order
        if comparator in (">", ">="):
            low = max(low, text)
        else:
            high = text if high is None else min(high, text)
    return Span(path, kind, low, high)


def beginning(path: str, text: str) -> Condition:
    """A text at the path begins with this one, which `comparable` accepted."""
    is_last = not text.rstrip("\U0010ffff")  # nothing behind it but the end of all texts
    return Span(path, "s", text, None if is_last else facets.behind(text))


def timed(name: str, comparator: str, moment: datetime) -> Condition:
    """One of the service's own times is `< <= > >=` a moment; "never" is before every moment.

    The times are whole milliseconds, so all four come down to one: from the first millisecond on that is late enough.
    """
    moment = min(moment, FOREVER)
    first = _whole(moment) if comparator in (">=", "<") else _whole(moment + _NEXT)
    since = Since(TIMES[name], max(first, _EVER))
    return since if comparator in (">", ">=") else Not(since)


def _whole(moment: datetime) -> datetime:
    """The moment, or the next whole millisecond."""
    return NEVER - (NEVER - moment) // _MILLISECOND * _MILLISECOND


def ever(name: str) -> Condition:
    """One of the service's own times is there."""
    return Since(TIMES[name], _EVER)


def flag(name: str, now: datetime) -> Condition:
    """One of `FLAGS`, as it is now."""
    if name == "never_contacted":
        return Not(ever("last_contacted"))
    if name == "awaiting_reply":
        return Since("awaiting_since", _EVER)
    return Since("open_until", _whole(now + _NEXT))


def moment_of(value: Any, now: datetime, refuse: Refuse) -> datetime:
    """An RFC 3339 time, the start of a day in UTC, or so long before now: `-30d`."""
    found = _moment(value, now) if isinstance(value, str) else None
    if found is None:
        raise refuse('must be a time: "2026-03-20", "2026-03-20T09:30:00Z", or -30d for thirty days ago (s m h d w)')
    return found


def _moment(text: str, now: datetime) -> datetime | None:
    """The moment a text names; None when it is none."""
    try:
        if ago := AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if _DAY.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


@contextmanager
def _reworded(refuse: Refuse) -> Iterator[None]:
    """Hands what a rule says of one value to whoever knows where the value stands."""
    try:
        yield
    except DomainError as error:
        raise refuse(error.violations[0].description) from None
