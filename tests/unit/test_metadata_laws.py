"""Laws of metadata: merging, escaping, paths, limits; and of addresses and keys."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from multimail_server.accounts import keys
from multimail_server.aip.address import parse_address
from multimail_server.contacts import escape
from multimail_server.contacts.metadata import (
    MAX_BYTES,
    _is_surely_within,
    _size,
    check_limits,
    format_path,
    json_equal,
    merge,
    normalise,
    parse_path,
)
from multimail_server.errors import DomainError

TEXT = st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)


def patched(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), value)
    return result


@given(OBJECTS, OBJECTS)
def test_merge_is_the_standard(current: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merging gives what RFC 7396 gives, and changes neither of its inputs."""
    before = copy.deepcopy((current, patch))
    assert json_equal(patched(current, patch), merge(current, patch))
    assert before == (current, patch)


@given(OBJECTS, OBJECTS)
def test_merging_twice_changes_nothing_more(current: dict[str, Any], patch: dict[str, Any]) -> None:
    """A patch applied a second time changes nothing."""
    once = merge(current, patch)
    assert json_equal(once, merge(once, patch))


@given(OBJECTS)
@example({"%24": {"$": 1, "%": 2, ".": 3, "%2E": 4}})
def test_escaped_keys_come_back(value: dict[str, Any]) -> None:
    """Keys are free of dots and leading dollars when stored, at every depth, and come back as they were."""
    stored = escape.to_stored(value)

    def walk(item: Any) -> None:
        if isinstance(item, dict):
            for key, inner in item.items():
                assert "." not in key
                assert not key.startswith("$")
                walk(inner)
        elif isinstance(item, list):
            for inner in item:
                walk(inner)

    walk(stored)
    assert json_equal(value, escape.from_stored(stored))


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_paths_come_back(path: list[str]) -> None:
    """A path written down reads back as the same keys, whatever they hold."""
    assert tuple(path) == parse_path(format_path(path), "field")


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', '"a"b', 'a"b', " a", '"a".'])
def test_unreadable_paths_are_refused(text: str) -> None:
    """A path that cannot be read is refused under its field."""
    with pytest.raises(DomainError) as refused:
        parse_path(text, "field")
    assert ["field"] == [violation.field for violation in refused.value.violations]


def test_numbers_keep_their_kind() -> None:
    """Whole doubles become ints up to 2**53, others stay; True is not 1; what JSON has no word for is refused."""
    assert ["int", "float", "float", "int"] == [
        type(value).__name__ for value in normalise({"a": [2.0, 2.5, 2.0**60, -0.0]}, "m")["a"]
    ]
    assert not json_equal(True, 1)
    assert not json_equal({"a": "2"}, {"a": 2})
    assert json_equal([1, {"a": 2.0}], [1.0, {"a": 2}])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(DomainError) as refused:
            normalise({"a": {"b": [bad]}}, "metadata")
        assert ["metadata.a.b"] == [violation.field for violation in refused.value.violations]


def test_limits_are_where_they_are_said_to_be() -> None:
    """What just fits is taken, one more is refused."""
    check_limits({f"k{n}": n for n in range(512)})
    check_limits({"a": list(range(512))})
    deep: dict[str, Any] = {}
    for _ in range(15):
        deep = {"d": deep}
    check_limits(deep)
    for over in ({f"k{n}": n for n in range(513)}, {"a": list(range(513))}, {"d": deep}, {"a": "x" * (64 << 10)}):
        with pytest.raises(DomainError):
            check_limits(over)


@given(
    st.from_regex(r"[A-Za-z0-9_+-]{1,20}(\.[A-Za-z0-9_+-]{1,20})?", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{1,20}(\.[A-Za-z]{2,10}){1,2}", fullmatch=True),
)
def test_case_never_makes_two_people(local: str, domain: str) -> None:
    """An address and its upper- and lower-case forms have one key, and the form given is kept."""
    given_form = f"{local}@{domain}"
    try:
        parsed = parse_address(given_form, "email")
    except DomainError:
        assume(False)
    assert given_form == parsed.display
    assert {parsed.key} == {parse_address(form, "email").key for form in (given_form.upper(), given_form.lower())}


def test_keys_of_addresses() -> None:
    """Local parts are lowered, not folded, and in NFC; domains are A-labels; no Gmail magic."""
    expected = {
        "STRAUß@x.test": "strauß@x.test",
        "strauss@x.test": "strauss@x.test",
        "a@BÜCHER.test": "a@xn--bcher-kva.test",
        "e\u0301@x.test": "\u00e9@x.test",
        "a.b+c@gmail.com": "a.b+c@gmail.com",
        "a@faß.de": "a@xn--fa-hia.de",
        "me@box.local": "me@box.local",
        "me@box.internal": "me@box.internal",
    }
    assert expected == {address: parse_address(address, "email").key for address in expected}


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """No text crashes the parser, and what passes can stand in a header and an SMTP command."""
    try:
        parsed = parse_address(text, "email")
    except DomainError as refused:
        assert ["email"] == [violation.field for violation in refused.violations]
    else:
        assert parsed.display.isprintable()
        assert not set(' <>,;"') & set(parsed.display)


def test_api_keys() -> None:
    """Keys have their form, scopes their order, and nobody both sends and oversees."""
    key = keys.key_from(bytes(range(32)))
    assert (True, 51) == (keys.is_well_formed(key), len(key))
    assert ["read", "send"] == keys.parse_scopes(["send", " read", "send"])
    for bad in ([], ["root"], ["send", "oversight"]):
        with pytest.raises(DomainError):
            keys.parse_scopes(bad)


def test_what_is_not_measured_fits() -> None:
    """The most that passes without being measured is within the limits, even if JSON writes each character as six."""
    worst = {f"{number:02}": "\x01" * 98 for number in range(100)}
    assert _is_surely_within(worst)
    assert _size(worst) <= MAX_BYTES
    assert not _is_surely_within(worst | {"00": "\x01" * 99})
    assert not _is_surely_within(worst | {"more": ""})
    assert not _is_surely_within({"nested": {}})
