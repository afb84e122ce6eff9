"""JSON as messages and back: our form both ways, everything wrong said with its path, no way to crash it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway import library

from multimail_server.errors import MAX_VIOLATIONS, DomainError
from multimail_server.gateway.failures import refusal
from multimail_server.gateway.given import json_of, message_of
from multimail_server.gateway.query import add_path, add_query, parameters_of
from multimail_server.gateway.shown import json_bytes, shown

BOOK = library.kind("Book").DESCRIPTOR


def back(fields: dict[str, Any]) -> dict[str, Any]:
    """What a book of this JSON shows of these fields."""
    found = shown(message_of(BOOK, fields))
    return {name: found[name] for name in fields}


def test_what_goes_in_comes_out() -> None:
    """Every kind of field has one form in JSON, the same both ways."""
    book = {
        "name": "Ünïcode", "author": {"name": "x", "born": -5, "rank": "very_high"}, "tags": ["a", ""], "pages": 0,
        "copies": 2**53, "price": 2.5, "cover": "AP/+", "rank": "low", "ranks": ["low", "very_high"], "sold": True,
        "rating": 4.5, "note": "", "printed": "2026-03-20T09:30:00Z", "loan": "90s",
        "extra": {"n": 2, "d": 2.5, "l": [1, None, {"x": True}]}, "any": [1, "a"], "ids": [1, 2],
        "mask": "a,b", "inner": {"name": "y", "inner": {}}, "shelves": {"s": {"name": "z", "born": 1, "rank": "low"}},
        "counts": {"a.b": 3},
    }  # fmt: skip
    found = back(book)
    inner = found.pop("inner")
    assert {name: value for name, value in book.items() if name != "inner"} == found
    assert ("y", "") == (inner["name"], inner["inner"]["name"])


def test_what_is_absent_and_what_is_empty() -> None:
    """What cannot be absent is there though it is empty; what can be is left out until it is set."""
    found = shown(message_of(BOOK, {}))
    assert {
        "name": "", "tags": [], "copies": 0, "price": 0.0, "cover": "", "ranks": [], "sold": False, "ids": [],
        "shelves": {}, "counts": {}, "seq": 0, "row": 0,
    } == found  # fmt: skip
    assert {"pages": 0, "note": ""} == back({"pages": 0, "note": ""})


@pytest.mark.parametrize(
    ("field", "given_as", "shown_as"),
    [
        ("rank", "RANK_VERY_HIGH", "very_high"), ("rank", 2, "very_high"), ("rank", 7, "unknown_7"),
        ("copies", "12", 12), ("copies", 12.0, 12), ("copies", 2**63 - 1, str(2**63 - 1)), ("cover", "-_8", "+/8="),
        ("printed", "2026-03-20", "2026-03-20T00:00:00Z"),
        ("printed", "2026-03-20T10:00:00+02:00", "2026-03-20T08:00:00Z"),
        ("loan", "7d", "604800s"), ("loan", "1.5h", "5400s"),
        ("loan", "0.1s", "0.100s"), ("loan", "3652500d", "315576000000s"),
        ("price", 3, 3.0), ("any", None, None),
        ("extra", {"whole": 2.0}, {"whole": 2}),
    ],
)  # fmt: skip
def test_other_spellings_are_understood(field: str, given_as: Any, shown_as: Any) -> None:
    """Full names and numbers of enum values, whole numbers as texts, days, and spans in larger units are taken."""
    assert {field: shown_as} == back({field: given_as})


def test_null_stands_for_nothing() -> None:
    """A null is as if the field were not there, except where null is a value."""
    assert shown(message_of(BOOK, {})) == shown(message_of(BOOK, {"name": None, "author": None, "tags": None}))


def refused(fields: Any) -> dict[str, str]:
    """What is wrong with a book of this JSON, by path."""
    with pytest.raises(DomainError) as error:
        message_of(BOOK, fields)
    return {each.field: each.description for each in error.value.violations}


def test_everything_wrong_is_said_at_once() -> None:
    """Each bad field stands with its path, in objects, lists and maps, and an unknown one with the nearest."""
    found = refused(
        {
            "nmae": "x", "author": {"born": "x", "rank": "highest"}, "tags": ["a", 1], "copies": 1.5, "ids": [-1],
            "price": "1", "cover": "?", "ranks": [True], "sold": "yes", "rating": [], "printed": 0, "loan": "3652501d",
            "extra": {"a": {"b": 2**60}}, "inner": {"inner": {"name": 3}}, "shelves": {"s": 1}, "counts": [], "mask": 3,
            "name": "\ud800", "pages": 2**40, "note": {},
        }
    )  # fmt: skip
    assert {
        "nmae", "author.born", "author.rank", "tags[1]", "copies", "ids[0]", "price", "cover", "ranks[0]", "sold",
        "rating", "printed", "loan", "extra.a.b", "inner.inner.name", 'shelves["s"]', "counts", "mask", "name",
        "pages", "note",
    } == set(found)  # fmt: skip
    assert "did you mean name?" in found["nmae"]
    assert "low, very_high" in found["author.rank"]


@pytest.mark.parametrize("whole", [[], "x", 3, None, True])
def test_a_request_is_an_object(whole: Any) -> None:
    """Whatever else JSON knows is refused as a request."""
    assert {"the body"} == set(refused(whole))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1, "a": 2}', "'a' stands in one object twice"),
        (b'{"x": {"b": NaN}}', "NaN is no JSON"),
        (b"[1, Infinity]", "Infinity is no JSON"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a"', "line 1, column 5"),
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 10_000, "Exceeds the limit"),
        (b"", "line 1"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, said: str) -> None:
    """Double keys, NaN, other encodings, half documents, depth and monstrous numbers are refused with their reason."""
    with pytest.raises(DomainError, match=said) as error:
        json_of(text)
    assert "MALFORMED_REQUEST" == error.value.reason


def test_a_key_that_stands_twice_is_found_in_one_pass() -> None:
    """An object of many keys, the last of them twice, is refused in about the time in which one without is read."""

    def lasts(last: str) -> float:
        text = json.dumps(dict.fromkeys(map(str, range(8_000)), 0))[:-1] + f', "{last}": 0}}'
        took = []
        for _ in range(3):
            began = time.perf_counter()
            with suppress(DomainError):
                json_of(text)
            took.append(time.perf_counter() - began)
        return min(took)

    assert lasts("7999") < 20 * lasts("8000")


@pytest.mark.parametrize(
    "fields",
    [{"ids": ["x"] * 9_000}, {f"x{n}": 0 for n in range(9_000)},
     {"counts": dict.fromkeys("x" * n for n in range(300))},
     {"author": {f"x{n}": 0 for n in range(30)}, "inner": {"tags": [0] * 30}, "tags": [0] * 30}]
)  # fmt: skip
def test_what_is_wrong_all_over_is_said_of_the_first_only(fields: dict[str, Any]) -> None:
    """However much is wrong, and however long the names are, a refusal names fifty fields, in a few kilobytes."""
    with pytest.raises(DomainError) as error:
        message_of(BOOK, fields)
    assert MAX_VIOLATIONS == len(error.value.violations)
    assert len(json_bytes(refusal(error.value).body)) < 40_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from([field.name for field in BOOK.fields])


@given(st.dictionaries(_FIELDS | st.text(max_size=3), _JSON, max_size=4))
def test_any_json_is_a_message_or_a_refusal(fields: dict[str, Any]) -> None:
    """Nothing but a refusal comes out of reading, and what was read is shown as JSON that reads as the same message."""
    try:
        message = message_of(BOOK, fields)
    except DomainError as error:
        assert error.violations
        return
    assert message == message_of(BOOK, json.loads(json_bytes(shown(message))))


def asked(query: bytes, **given_already: Any) -> dict[str, Any]:
    """The request of a query."""
    request: dict[str, Any] = dict(given_already)
    add_query(request, BOOK, parameters_of(query), frozenset(given_already))
    return request


def test_a_query_becomes_parts_of_the_request() -> None:
    """Dots lead into objects and maps, repeats make lists, and each value is read as its field's kind."""
    found = asked(
        b"name=a%2Bb+c&author.name=x&author.born=-3&tags=a&tags=b&rank=low&ranks=1&ranks=very_high&sold=true&copies=5"
        b"&price=2.5&printed=2026-03-20&loan=7d&rating=3&note=&extra=%7B%22a%22%3A1%7D&any=text&counts.a.b=4"
        b"&inner.inner.name=deep&&mask=a,b&"
    )
    assert {
        "name": "a+b c", "author": {"name": "x", "born": -3}, "tags": ["a", "b"], "rank": "low",
        "ranks": [1, "very_high"], "sold": True, "copies": 5, "price": 2.5, "printed": "2026-03-20",
        "loan": "7d", "rating": 3, "note": "",
        "extra": {"a": 1}, "any": "text", "counts": {"a.b": 4}, "inner": {"inner": {"name": "deep"}}, "mask": "a,b",
    } == found  # fmt: skip
    message_of(BOOK, found)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (b"nmae=x", "did you mean name?"), (b"name=a&name=b", "given twice"), (b"author=x", "give its fields"),
        (b"author.nmae=x", "is no field"), (b"tags.x=1", "has no fields"), (b"name.x=1", "has no fields"),
        (b"sold=1", "true or false"), (b"copies=many", "must be a number"), (b"copies=true", "must be a number"),
        (b"extra=%7B", "must be JSON"), (b"name", "name=value"), (b"name=%FF", "UTF-8"), (b"%zz=%", "is no field"),
        (b"&".join([b"tags=a"] * 201), "at most 200"), (b"name=x&author.name=y&author=z", "give its fields"),
    ],
)  # fmt: skip
def test_a_query_that_fits_nowhere_is_refused(query: bytes, said: str) -> None:
    """Unknown, doubled, half and shapeless parameters are each refused with what to do."""
    with pytest.raises(DomainError, match=said.replace("?", r"\?")):
        asked(query)


def test_what_stands_in_the_path_stands_nowhere_else() -> None:
    """A body may repeat what the path says, but not contradict it, and a query may do neither."""
    request = {"name": "a", "author": {"born": 3}}
    add_path(request, BOOK, {"name": "a", "author.born": "3", "author.name": "x"})
    assert {"name": "a", "author": {"born": 3, "name": "x"}} == request
    nulls = {"name": None, "author": None}  # as typed clients write what they leave out
    add_path(nulls, BOOK, {"name": "a", "author.name": "x"})
    assert {"name": "a", "author": {"name": "x"}} == nulls
    with pytest.raises(DomainError, match="name: is given twice"):
        add_path({"name": "b"}, BOOK, {"name": "a"})
    with pytest.raises(DomainError, match=r"author\.name: cannot stand beside author"):
        add_path({"author": 3}, BOOK, {"author.name": "a"})
    with pytest.raises(DomainError, match="in the path or the body"):
        asked(b"name=a", name="a")


@given(st.lists(st.tuples(_FIELDS | st.text(max_size=4), st.text(max_size=6)), max_size=4))
def test_any_query_is_a_request_or_a_refusal(parameters: list[tuple[str, str]]) -> None:
    """Nothing but a refusal comes out of reading a query."""
    request: dict[str, Any] = {}
    try:
        add_query(request, BOOK, parameters, frozenset())
        message_of(BOOK, request)
    except DomainError as error:
        assert error.violations


def test_an_any_says_its_type() -> None:
    """What an Any holds is shown beside its type; what nobody knows stays as its bytes."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason="R"))
    assert {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R"} == shown(packed)
    assert {"@type": "x/no.Such", "value": "AQ=="} == shown(any_pb2.Any(type_url="x/no.Such", value=b"\x01"))
