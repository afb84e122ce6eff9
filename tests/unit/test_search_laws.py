"""Laws of search: facets sort as their values do, and a compiled filter finds what plain Python would."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact, facets
from multimail_server.contacts.filters import compile_search
from multimail_server.contacts.metadata import format_path, json_equal, normalise

NOW = datetime(2026, 6, 1, tzinfo=UTC)
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
    for name, wanted in where.items():
        if name == "$and":
            if not all(matches(document, clause) for clause in wanted):
                return False
            continue
        value = document[name]
        values = value if isinstance(value, list) else [value]
        for operator, operand in wanted.items() if isinstance(wanted, dict) else [("$in", [wanted])]:
            if not field_matches(values, operator, operand):
                return False
    return True


def field_matches(values: list[Any], operator: str, operand: Any) -> bool:
    """One operator on a field; a plain range on an array may be met by different elements."""
    if operator == "$elemMatch":
        return any(all(field_matches([value], op, edge) for op, edge in operand.items()) for value in values)
    tests = {
        "$in": lambda value: value in operand,
        "$gt": lambda value: value > operand,
        "$gte": lambda value: value >= operand,
        "$lt": lambda value: value < operand,
    }
    if operator == "$nin":
        return not any(value in operand for value in values)
    return any(tests[operator](value) for value in values)


@settings(max_examples=600, deadline=None)
@given(METADATA, PATHS, CONDITIONS)
def test_compiled_search_finds_what_python_finds(metadata: dict[str, Any], path: list[str], condition: Any) -> None:
    """Both halves of a compiled search together hold exactly where the condition does."""
    clean = normalise(metadata, "m")
    address = parse_address("a@b.test", "email")
    document = contact.new("contact_1", "acct", address, name="Ána O'Neil", metadata=clean, now=NOW)
    search = compile_search(
        "acct", query="", email="", domain="", name="", filters={f"metadata.{format_path(path)}": condition}
    )
    found = matches(document, search.first) and matches(document, search.rest)
    assert holds(at(clean, path), condition) == found
    assert matches(document, search.first) or not found, "the leading clause lets through too many, never too few"
    for facet in search.candidates:
        led = search.led_by(facet)
        assert found == (matches(document, led.first) and matches(document, led.rest))


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
    assert (one == other) == (facets.metadata_path(one) == facets.metadata_path(other))


def test_long_paths_stay_short() -> None:
    """A path of long keys is kept by its digest, so that facets cannot outgrow their document."""
    path = facets.metadata_path(["k" * 60_000])
    assert len(path) < facets.MAX_TEXT_BYTES
    assert path != facets.metadata_path(["k" * 60_001])


def test_words_of_names() -> None:
    """Names are found by their words, case and accents folded."""
    assert ["ana", "o", "neil", "muller"] == facets.words_of("ÁNA O'Neil-Müller")
