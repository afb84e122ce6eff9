"""The `filter` text of a search, checked against what a contact has and made into conditions."""

from __future__ import annotations

import difflib
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from multimail_server.aip import filtering
from multimail_server.aip.filtering import Call, Comparison, Conjunction, Disjunction, Literal, Member, Negation
from multimail_server.contacts import conditions, facets, terms
from multimail_server.contacts.conditions import Condition, all_of, any_of, complement
from multimail_server.errors import Reason, Violations, invalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from multimail_server.aip.filtering import Node
    from multimail_server.errors import DomainError

MAX_CONDITIONS = 100
_SHOWN = 80
_MOST_NAMED = 16  # an error has to fit into the trailers of a reply
_TIMES = {name: name for name in terms.TIMES} | {"create_time": "created", "update_time": "updated"}
_FIELDS = ("email", "domain", "name", *_TIMES, *terms.FLAGS)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def condition_of(text: str, now: datetime) -> Condition:
    """What the filter asks for.

    Args:
        text: A filter as SearchContactsRequest.filter documents it.
        now: What relative times are relative to.

    Raises:
        DomainError: INVALID_FILTER, naming with its column every condition that cannot be understood.
    """
    tree = filtering.parse(text)
    problems = Violations()
    found = _joined(tree, partial(_condition, now=now), problems)
    if problems.found:
        raise invalid(problems.found[:_MOST_NAMED], Reason.INVALID_FILTER)
    if (count := conditions.size(found)) > MAX_CONDITIONS:
        raise filtering.refused(0, f"the filter has {count} conditions; at most {MAX_CONDITIONS} are allowed")
    return found


def _joined(node: Node, leaf: Callable[[Node], Condition], problems: Violations) -> Condition:
    """The condition of a node, all its leaves checked by `leaf`; what they refuse is collected."""
    match node:
        case Conjunction(parts):
            return all_of([_joined(part, leaf, problems) for part in parts])
        case Disjunction(parts):
            return any_of([_joined(part, leaf, problems) for part in parts])
        case Negation(part):
            return complement(_joined(part, leaf, problems))
    with problems.collected():
        return leaf(node)
    return all_of([])  # stands for what was refused


def _condition(node: Node, now: datetime) -> Condition:
    match node:
        case Call(name, arguments, at):
            if name in terms.FLAGS and not arguments:
                return terms.flag(name, now)
            raise filtering.refused(
                at, f"there is no such function; there are {', '.join(terms.FLAGS)}, without arguments"
            )
        case Member():
            return _alone(node, now)
        case Comparison(subject, comparator, argument):
            if comparator == "!=":
                return complement(_compared(subject, "=", argument, now))
            return _compared(subject, comparator, argument, now)
    raise AssertionError(node)  # the grammar lets literals stand behind comparators only


def _alone(member: Member, now: datetime) -> Condition:
    """A flag, or words as in `query`."""
    text = ".".join(key.text for key in member.keys)
    refuse = partial(filtering.refused, member.at)
    if any(star < len(key.text) - 1 for key in member.keys for star in key.stars):
        raise refuse(r"a * may stand only at the end; for the character write \*")
    if member.keys[0].is_quoted:
        return terms.query(text, refuse)
    if text in terms.FLAGS:
        return terms.flag(text, now)
    if text in _FIELDS or member.keys[0].text == "metadata":
        raise refuse("is a field and compared with nothing; compare it, or quote it to look for the word")
    if text in ("and", "or", "not"):
        raise refuse(f"write {text.upper()} in capitals, or quote it to look for the word")
    if "_" in text and (close := difflib.get_close_matches(text, _FIELDS, 1, 0.75)):
        raise refuse(f"did you mean {close[0]}? Quote it to look for the word")
    return terms.query(text, refuse)


def _compared(subject: Member | Call, comparator: str, argument: Node, now: datetime) -> Condition:
    """A comparison; one with several values holds as each of them alone would, joined as they are."""
    if isinstance(subject, Call):
        raise filtering.refused(subject.at, "a function is not compared; write it alone, or NOT before it")
    compare = _comparing(subject, now)
    problems = Violations()
    found = _joined(argument, lambda each: compare(comparator, _literal(each)), problems)
    problems.raise_if_any(Reason.INVALID_FILTER)
    return found


def _literal(node: Node) -> Literal:
    if isinstance(node, Literal):
        return node
    raise filtering.refused(node.at, "no function gives a value; a time before now is written -30d")


def _comparing(subject: Member, now: datetime) -> Callable[[str, Literal], Condition]:
    """What compares the contact's field with a value."""
    name, *keys = (key.text for key in subject.keys)
    if name == "metadata":
        return partial(_metadata, keys)
    if keys or name not in _FIELDS:
        raise _unknown(".".join((name, *keys))[:_SHOWN], subject.at)
    if name in _TIMES:
        return partial(_time, _TIMES[name], now)
    if name in terms.FLAGS:
        return partial(_flag, name, now)
    return _WHOLE[name]


def _unknown(path: str, at: int) -> DomainError:
    close = difflib.get_close_matches(path, _FIELDS, 1, 0.75)
    known = ", ".join(_FIELDS)
    hint = f"did you mean {close[0]}?" if close else f"for metadata write metadata.{path}; else one of {known}"
    return filtering.refused(at, f"there is no field {path!r}; {hint}")


def _metadata(keys: list[str], comparator: str, value: Literal) -> Condition:
    refuse = partial(filtering.refused, value.at)
    is_star = value.text == "*" and value.stars == (0,)
    if not keys:
        if comparator == ":" and not value.stars:
            return terms.present(facets.metadata_path((value.text,)))
        raise refuse("metadata is asked for a key: metadata:plan, or compared by a path: metadata.plan = pro")
    if not value.is_quoted and terms.AGO.fullmatch(value.text):
        raise refuse("only the service's own times are compared with times before now; write the value, or quote it")
    path = facets.metadata_path(tuple(keys))
    if comparator == ":" and is_star:
        return terms.present(path)
    if comparator in ("=", ":"):
        if not value.stars:
            return terms.equal(path, _meant(value), refuse)
        beginning = _before_star(value)
        terms.comparable(beginning, refuse)
        return terms.beginning(path, beginning)
    kind, text = terms.comparable(_meant(_plain(value)), refuse)
    return terms.between(path, kind, [(comparator, text)])


def _meant(value: Literal) -> Any:
    """The JSON value that was written: outside quotes, numbers, true, false and null are themselves."""
    if value.is_quoted:
        return value.text
    if _NUMBER.fullmatch(value.text):
        return float(value.text)
    return _WORDS.get(value.text, value.text)


def _before_star(value: Literal) -> str:
    if value.stars != (len(value.text) - 1,):
        raise filtering.refused(value.at, r"a * may stand only at the end; for the character write \*")
    return value.text[:-1]


def _plain(value: Literal) -> Literal:
    if value.stars:
        raise filtering.refused(value.at, r"a * cannot stand here; for the character write \*")
    return value


def _time(name: str, now: datetime, comparator: str, value: Literal) -> Condition:
    refuse = partial(filtering.refused, value.at)
    if comparator == ":" and value.text == "*":
        return terms.ever(name)
    if comparator in ("=", ":"):
        raise refuse("a time is compared with < <= > >=; no two are likely to be equal")
    return terms.timed(name, comparator, terms.moment_of(_plain(value).text, now, refuse))


def _flag(name: str, now: datetime, comparator: str, value: Literal) -> Condition:
    if comparator not in ("=", ":") or value.text not in ("true", "false"):
        raise filtering.refused(value.at, f"write {name} alone, or = true or = false")
    flag = terms.flag(name, now)
    return flag if value.text == "true" else complement(flag)


def _email(comparator: str, value: Literal) -> Condition:
    return terms.address(_plain(_matched(comparator, value)).text, partial(filtering.refused, value.at))


def _domain(comparator: str, value: Literal) -> Condition:
    refuse = partial(filtering.refused, value.at)
    if not _matched(comparator, value).stars:
        return terms.domain(value.text, refuse)
    beginning = _before_star(value).lower()
    if not beginning.isascii():
        raise refuse("the beginning of a domain is ASCII, as it stands in A-labels")
    terms.comparable(beginning, refuse)
    return terms.beginning(facets.DOMAIN, beginning)


def _name(comparator: str, value: Literal) -> Condition:
    _matched(comparator, value)
    if value.stars:
        _before_star(value)  # words are matched from their beginning as it is
    return terms.words(value.text, partial(filtering.refused, value.at))


def _matched(comparator: str, value: Literal) -> Literal:
    if comparator not in ("=", ":"):
        raise filtering.refused(value.at, "this field is compared with = != or : only")
    return value


_WHOLE = {"email": _email, "domain": _domain, "name": _name}
