"""Laws of search: facets sort as their values do, and a compiled filter finds what plain Python would."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact, facets, filters, terms
from multimail_server.contacts.filters import Search, compile_search
from multimail_server.contacts.metadata import format_path, json_equal, normalise
from multimail_server.errors import DomainError
from multimail_server.storage.indexes import INDEXES

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CREATED = NOW - timedelta(days=40)
KEYS = st.sampled_from(["a", "b", "a.b", "\x1f", "e"])
SCALARS = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 2.5, "1", "", "pro", "prox", "\x1f", "x" * 300, "2027-01-02"]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=6
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=3)
PATHS = st.lists(KEYS, min_size=1, max_size=2)
COMPARABLE = st.sampled_from([0, 1, 2, -1, 2.5, "1", "", "pro", "2027"])
CONDITIONS = st.one_of(
    SCALARS,
    st.builds(lambda op, value: {op: value}, st.sampled_from(["gt", "gte", "lt", "lte"]), COMPARABLE),
    st.builds(lambda low, high: {"gte": low, "lt": high}, st.sampled_from([0, 1]), st.sampled_from([2, 3])),
    st.builds(lambda value: {"ne": value}, SCALARS),
    st.builds(lambda values: {"in": values}, st.lists(SCALARS, min_size=1, max_size=3)),
    st.builds(lambda value: {"exists": value}, st.booleans()),
    st.builds(lambda value: {"prefix": value}, st.sampled_from(["", "p", "pro", "2027-"])),
)


def at(value: Any, path: list[str]) -> list[Any]:
    """Everything at a path; arrays are looked into at every step, and stand there themselves too."""
    if isinstance(value, list):
        return [found for item in value for found in at(item, path)] + ([value] if not path else [])
    if not path:
        return [value]
    return at(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []


def holds(found: list[Any], condition: Any) -> bool:
    """Whether a condition holds for what is at its path, in plain Python."""
    scalars = [item for item in found if not isinstance(item, dict | list)]
    if not isinstance(condition, dict):
        return any(json_equal(item, condition) for item in scalars)
    if "exists" in condition:
        return bool(found) == condition["exists"]
    if "ne" in condition:
        return not holds(found, condition["ne"])
    if "in" in condition:
        return any(holds(found, value) for value in condition["in"])
    short = [item for item in scalars if not isinstance(item, str) or len(item.encode()) <= facets.MAX_TEXT_BYTES]
    if "prefix" in condition:
        return any(isinstance(item, str) and item.startswith(condition["prefix"]) for item in short)
    return any(all(compares(item, op, value) for op, value in condition.items()) for item in short)


def compares(item: Any, operator: str, value: Any) -> bool:
    """One comparison; kinds never mix."""
    kinds = [str if isinstance(each, str) else float for each in (item, value)]
    if isinstance(item, bool) or item is None or kinds[0] is not kinds[1]:
        return False
    return {"gt": item > value, "gte": item >= value, "lt": item < value, "lte": item <= value}[operator]


def matches(document: dict[str, Any], where: dict[str, Any]) -> bool:
    """The part of MongoDB's language that searches compile to."""
    return all(clause_matches(document, name, wanted) for name, wanted in where.items())


def clause_matches(document: dict[str, Any], name: str, wanted: Any) -> bool:
    """One clause: a junction, or what a field must be."""
    if name.startswith("$"):
        each = [matches(document, clause) for clause in wanted]
        assert each, "the database refuses an empty junction"
        return {"$and": all(each), "$or": any(each), "$nor": not any(each)}[name]
    value = document[name]
    values = value if isinstance(value, list) else [value]
    operators = wanted.items() if isinstance(wanted, dict) else [("$in", [wanted])]
    return all(field_matches(values, operator, operand) for operator, operand in operators)


def field_matches(values: list[Any], operator: str, operand: Any) -> bool:
    """One operator on a field; a plain range on an array may be met by different elements."""
    if operator == "$elemMatch":
        return any(all(field_matches([value], op, edge) for op, edge in operand.items()) for value in values)
    tests = {
        "$in": lambda value: value in operand,
        "$gte": lambda value: value >= operand,
        "$lt": lambda value: value < operand,
    }
    return any(tests[operator](value) for value in values)


def finds(search: Search, document: dict[str, Any]) -> bool:
    """Whether the database finds the contact; however the search is led, it is the same."""
    bson.encode({"leads": search.leads, "rest": search.rest})  # the database can be told
    met = matches(document, search.rest)
    led = any(matches(document, lead) for lead in search.leads)
    assert led or not met, "the leads let through too many, never too few"
    for facet in search.candidates:
        other = search.led_by(facet)
        assert met == (matches(document, other.leads[0]) and matches(document, other.rest))
    assert 1 <= len(search.leads) <= filters.MAX_LEADS
    assert search.is_led == (search.leads != ({"account": "acct"},) or not search.rest)
    assert set(search.indexes) <= {index.name for index in INDEXES if index.collection == "contacts"}
    return met


def person(metadata: dict[str, Any], **moved: Any) -> dict[str, Any]:
    """The document of a contact with this metadata."""
    address = parse_address("a@b.test", "email")
    made = contact.new("contact_1", "acct", address, name="Ána O'Neil", metadata=metadata, now=CREATED)
    return made | moved


@settings(max_examples=600, deadline=None)
@given(METADATA, PATHS, CONDITIONS)
def test_compiled_search_finds_what_python_finds(metadata: dict[str, Any], path: list[str], condition: Any) -> None:
    """Both halves of a compiled search together hold exactly where the condition does."""
    clean = normalise(metadata, "m")
    document = person(clean)
    search = compile_search("acct", filters={f"metadata.{format_path(path)}": condition}, now=NOW)
    assert holds(at(clean, path), condition) == finds(search, document) == filters.holds(search, document)


# Filters as text, each with what it means in plain Python: of metadata and of the times of a document.
Meaning = Callable[[dict[str, Any], dict[str, Any]], bool]
EDGES = [None, True, False, 0, 1, 2, 2.5, -1, -2.5, 1e300, "", "1", "2", "true", "pro", "prox", "pro\0", "x" * 257]
QUOTED = st.sampled_from(["pro", "prox", "1", "", "2027-01-02", "\x1f", "x" * 300, "a*", "\U0010ffff", "\"\\'"])
SIGNS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
INSTANTS = st.sampled_from(
    [NOW - timedelta(days=days, microseconds=us) for days in (0, 1, 30) for us in (0, 1, 999, 1_000)] + [contact.NEVER]
)
STORED = {"last_contacted": "last_contacted_at", "last_inbound": "last_inbound_at", "create_time": "create_time"}


def quote(text: str) -> str:
    """The text as a string of the filter language."""
    return '"' + "".join("\\" + each if each in "\\\"'*" else each for each in text) + '"'


def path_text(path: list[str]) -> str:
    """The path as the filter language has it."""
    return ".".join(["metadata", *map(quote, path)])


def asks(sign: str, path: list[str], value: Any) -> tuple[str, Meaning]:
    """A comparison with a value."""
    text = quote(value) if isinstance(value, str) else json.dumps(value)
    condition = {SIGNS[sign]: value} if sign in SIGNS else {"ne": value} if sign == "!=" else value
    return f"{path_text(path)} {sign} {text}", lambda metadata, _: holds(at(metadata, path), condition)


def asks_any(path: list[str], values: list[Any]) -> tuple[str, Meaning]:
    """Equality with one of several values."""
    choices = " OR ".join(quote(each) if isinstance(each, str) else json.dumps(each) for each in values)
    return f"{path_text(path)} = ({choices})", lambda metadata, _: holds(at(metadata, path), {"in": values})


def asks_prefix(path: list[str], text: str) -> tuple[str, Meaning]:
    """A beginning."""
    return f'{path_text(path)} = {quote(text)[:-1]}*"', lambda metadata, _: holds(at(metadata, path), {"prefix": text})


def asks_presence(path: list[str]) -> tuple[str, Meaning]:
    """Presence."""
    return f"{path_text(path)}:*", lambda metadata, _: holds(at(metadata, path), {"exists": True})


def asks_time(name: str, sign: str, moment: datetime) -> tuple[str, Meaning]:
    """A bound on a time: "never" is before all."""

    def met(_: dict[str, Any], document: dict[str, Any]) -> bool:
        stored = document[STORED[name]]
        if stored == contact.NEVER:
            return sign in ("<", "<=")
        return {"<": stored < moment, "<=": stored <= moment, ">": stored > moment, ">=": stored >= moment}[sign]

    return f"{name} {sign} '{moment.isoformat()}'", met


WORDS: list[tuple[str, Meaning]] = [
    ("ana", lambda *_: True),
    ("neil", lambda *_: True),
    ("an O'N*", lambda *_: True),
    ("eil", lambda *_: False),
    ("b.test", lambda *_: True),
    ("domain = B.te*", lambda *_: True),
    ("domain != b.test", lambda *_: False),
    ("A@b.test", lambda *_: True),
    ("email != a@c.test", lambda *_: True),
    ("never_contacted", lambda _, document: document["last_contacted_at"] == contact.NEVER),
    ("last_inbound:*", lambda _, document: document["last_inbound_at"] != contact.NEVER),
    ("awaiting_reply = true", lambda _, document: document["awaiting_since"] != contact.NEVER),
    ("has_open_thread", lambda _, document: document["open_until"] > NOW),
]
LEAVES = st.one_of(
    st.sampled_from(WORDS),
    st.builds(asks, st.sampled_from(["=", "!=", ":"]), PATHS, SCALARS),
    st.builds(asks, st.sampled_from(list(SIGNS)), PATHS, COMPARABLE),
    st.builds(asks_any, PATHS, st.lists(SCALARS, min_size=1, max_size=3)),
    st.builds(asks_prefix, PATHS, QUOTED.filter(lambda text: len(text) < 300)),
    st.builds(asks_presence, PATHS),
    st.builds(asks_time, st.sampled_from(list(STORED)), st.sampled_from(list(SIGNS)), INSTANTS),
)


def joined(word: str, parts: list[tuple[str, Meaning]]) -> tuple[str, Meaning]:
    """Filters joined by AND, OR or nothing."""
    combine = any if word == " OR " else all
    text = word.join(f"({text})" for text, _ in parts)
    return text, lambda *facts: combine([means(*facts) for _, means in parts])


FILTERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(joined, st.sampled_from([" AND ", " OR ", " "]), st.lists(inner, min_size=1, max_size=4))
        | st.builds(
            lambda sign, part: (f"{sign}({part[0]})", lambda *facts: not part[1](*facts)),
            st.sampled_from(["NOT ", "-"]),
            inner,
        )
    ),
    max_leaves=12,
)
MOMENTS = st.sampled_from([contact.NEVER, CREATED, NOW - timedelta(days=30), NOW - timedelta(days=1), NOW])
TIMES = st.fixed_dictionaries(
    {"last_contacted_at": MOMENTS, "last_inbound_at": MOMENTS, "awaiting_since": MOMENTS}
    | {"open_until": st.sampled_from([contact.NEVER, NOW, NOW + timedelta(milliseconds=1), contact.FOREVER])}
)


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(METADATA, TIMES, FILTERS)
def test_filter_text_finds_what_python_finds(
    metadata: dict[str, Any], times: dict[str, datetime], written: tuple[str, Meaning]
) -> None:
    """What the database finds, what holds in memory, and what the filter's words mean are the same; NOT turns it."""
    clean = normalise(metadata, "m")
    document = person(clean, **times)
    text, means = written
    search = compile_search("acct", filter=text, now=NOW)
    expected = means(clean, document)
    assert expected == finds(search, document), text
    assert expected == filters.holds(search, document), text
    turned = compile_search("acct", filter=f"NOT ({text})", now=NOW)
    assert expected != finds(turned, document), text
    assert expected != filters.holds(turned, document), text


def test_every_comparison_of_every_value() -> None:
    """Whatever scalar is stored, alone or in an array, each comparison with each value is as Python has it."""
    for stored in (each for each in EDGES if each is not None):
        for metadata in ({"k": stored}, {"k": [{"x": 1}, stored]}):
            document = person(metadata)
            for sign, value in itertools.product(["=", "!=", ":", *SIGNS], EDGES):
                if sign in SIGNS and (value is None or isinstance(value, bool) or len(str(value)) > 256):
                    continue
                text, means = asks(sign, ["k"], value)
                search = compile_search("acct", filter=text, now=NOW)
                assert means(metadata, document) == finds(search, document) == filters.holds(search, document), text


@given(st.text(max_size=4), st.text(max_size=4))
def test_a_beginning_is_a_range(text: str, beginning: str) -> None:
    """Exactly the texts that begin with another lie from it to what is behind it, whatever its characters."""
    for prefix in (beginning, beginning + "\U0010ffff", beginning + "\ud7ff", text[:2]):
        for whole in (text, prefix + text):
            document = person({"k": whole})
            search = filters.translate(terms.beginning("metadata.k", prefix), "acct")
            assert whole.startswith(prefix) == finds(search, document) == filters.holds(search, document)


BRANCHES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("metadata.a = 1", {"a": 1}, {}),
    ("metadata.a = 2", {"a": 2}, {}),
    ("metadata.b:*", {"b": {}}, {}),
    ("metadata.c = true", {"c": True}, {}),
    ("metadata.d > 5", {"d": [1, 6]}, {}),
    ('metadata.e = "pro*"', {"e": "prox"}, {}),
    ("x@y.test", {}, {"email_keys": ["x@y.test"]}),
    ("awaiting_reply", {}, {"awaiting_since": NOW}),
    ("has_open_thread", {}, {"open_until": contact.FOREVER}),
    ("last_contacted >= -1d", {}, {"last_contacted_at": NOW}),
]


@pytest.mark.parametrize("wrapped", ["{}", "NOT (NOT ({}))", "({}) AND ana", "({}) created < -1d"])
def test_each_branch_of_an_or_is_led_to(wrapped: str) -> None:
    """A contact that meets any one branch of an OR, and no other, is let through by a lead and found."""
    for some in itertools.chain(itertools.permutations(BRANCHES, 2), [BRANCHES, BRANCHES[::-1]]):
        text = wrapped.format(" OR ".join(branch for branch, _, _ in some))
        search = compile_search("acct", filter=text, now=NOW)
        assert search.is_led
        for _, metadata, moved in some:
            document = person(metadata, **moved)
            assert finds(search, document), text
            assert filters.holds(search, document), text
        assert not finds(search, person({"z": 1})), text


@pytest.mark.parametrize(
    ("text", "indexes", "leads"),
    [
        ("", ["account__id"], 1),
        ("metadata.a = 1", ["facets__id"], 1),
        ("metadata.a = 1 OR metadata.b = 2", ["facets__id"], 1),
        ("metadata.a:* OR metadata.b = 2 OR domain = x.test", ["facets__id"], 1),
        ("metadata.a = 1 OR x@y.test", ["facets__id", "account_email_keys"], 2),
        ("metadata.a = 1 OR last_contacted < -30d", ["facets__id", "account_last_contacted_at__id"], 2),
        ("metadata.a < 1 OR metadata.a > 5 OR never_contacted", ["facets__id", "account_last_contacted_at__id"], 3),
        ("x@y.test (metadata.a = 1 OR NOT metadata.b = 1)", ["account_email_keys"], 1),
        ("metadata.a = (1 OR 2) metadata.b > 3", ["facets__id"], 1),
        ("(metadata.a = 1 OR ana) never_contacted", ["facets__id"], 2),
        ("NOT (metadata.a != 1 AND NOT ana)", ["facets__id"], 2),
        ("awaiting_reply", ["account_awaiting_since__id"], 1),
        ("has_open_thread created > -1d", ["account_open_until__id"], 1),
        ("NOT has_open_thread", ["account_open_until__id"], 1),
        ("update_time > -1d OR last_inbound > -1d", ["account_update_time__id", "account_last_inbound_at__id"], 2),
        (" OR ".join(f"w{n}" for n in range(16)), ["facets__id"], 16),
    ],
)
def test_an_index_serves(text: str, indexes: list[str], leads: int) -> None:
    """A filter some of whose conditions an index can find by themselves is led by these, an OR by every branch's."""
    search = compile_search("acct", filter=text, now=NOW)
    assert search.is_led
    assert sorted(indexes) == sorted(search.indexes)
    assert leads == len(search.leads)


@pytest.mark.parametrize(
    "text",
    [
        "metadata.a != 1",
        "-ana",
        "NOT x@y.test",
        "metadata.a = 1 OR metadata.b != 1",
        "NOT (metadata.a = 1 AND ana)",
        " OR ".join(f"w{n}" for n in range(17)),
    ],
)
def test_no_index_serves(text: str) -> None:
    """A filter that no index can find says so: the account is looked through."""
    search = compile_search("acct", filter=text, now=NOW)
    assert (False, ("account__id",), ({"account": "acct"},)) == (search.is_led, search.indexes, search.leads)


def test_everything_a_request_asks_must_hold() -> None:
    """Query, address, domain, name, map and text are joined; what is wrong in map and text is said at once."""
    search = compile_search(
        "acct",
        query="ana",
        email="a@b.test",
        domain="b.test",
        name="neil",
        filters={"metadata.a": 1},
        filter="-x",
        now=NOW,
    )
    assert filters.holds(search, person({"a": 1}))
    assert not filters.holds(search, person({"a": 2}))
    assert ("account_email_keys",) == search.indexes
    with pytest.raises(DomainError) as refused:
        compile_search("acct", filters={"plan": 1}, filter="plan = 1", now=NOW)
    assert ['filters["plan"]', "filter"] == [each.field for each in refused.value.violations]


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53), min_size=2, max_size=20)
)
def test_number_facets_sort_as_numbers(numbers: list[float]) -> None:
    """The facets of numbers stand in the order of the numbers, and equal numbers have one facet."""
    encoded = [facets.equality("acct", "p", number) for number in sorted(numbers)]
    assert sorted(encoded) == encoded
    assert len(set(map(float, numbers))) == len(set(encoded))


@given(st.lists(st.text(max_size=5), min_size=1, max_size=3), st.lists(st.text(max_size=5), min_size=1, max_size=3))
def test_no_two_paths_share_a_facet(one: list[str], other: list[str]) -> None:
    """Different paths have different facets, whatever their keys hold."""
    assert (one == other) == (facets.metadata_path(tuple(one)) == facets.metadata_path(tuple(other)))


def test_long_paths_stay_short() -> None:
    """A path of long keys is kept by its digest, so that facets cannot outgrow their document."""
    path = facets.metadata_path(("k" * 60_000,))
    assert len(path) < facets.MAX_TEXT_BYTES
    assert path != facets.metadata_path(("k" * 60_001,))


def test_words_of_names() -> None:
    """Names are found by their words, case and accents folded."""
    assert ("ana", "o", "neil", "muller") == facets.words_of("ÁNA O'Neil-Müller")
