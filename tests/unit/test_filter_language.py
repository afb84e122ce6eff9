"""The filter language: how text is read, and what is said when it cannot be."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.filters import refusal

from multimail_server.aip import filtering
from multimail_server.aip.filtering import (
    Call,
    Comparison,
    Conjunction,
    Disjunction,
    Literal,
    Member,
    Negation,
    Node,
    parse,
)
from multimail_server.contacts import filter_text
from multimail_server.errors import DomainError, Reason


def shown(node: Node) -> str:  # noqa: PLR0911  one for each kind
    """A syntax tree in brackets: quoted texts in quotes, a wildcard as `%`."""
    match node:
        case Conjunction(parts):
            return f"and({' '.join(map(shown, parts))})"
        case Disjunction(parts):
            return f"or({' '.join(map(shown, parts))})"
        case Negation(part):
            return f"not({shown(part)})"
        case Comparison(subject, comparator, argument):
            return f"[{shown(subject)} {comparator} {shown(argument)}]"
        case Call(name, arguments):
            return f"{name}({' '.join(map(shown, arguments))})"
        case Member(keys):
            return "/".join(map(shown, keys))
        case Literal(text, _, is_quoted, stars):
            text = "".join("%" if number in stars else each for number, each in enumerate(text))
            return f"'{text}'" if is_quoted else text


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", "and()"),
        (" \t\n", "and()"),
        ("a", "a"),
        ("a AND b OR c", "and(a or(b c))"),
        ("a OR b AND c OR d", "and(or(a b) or(c d))"),
        ("New York Giants OR Yankees", "and(New York or(Giants Yankees))"),
        ("a b AND c AND d", "and(a b c d)"),
        ("(a b) AND c", "and(and(a b) c)"),
        ("(a AND b) OR c", "or(and(a b) c)"),
        ("((a))", "a"),
        ("-a b", "and(not(a) b)"),
        ("NOT a OR b", "or(not(a) b)"),
        ("NOT(a OR b)", "not(or(a b))"),
        ("NOT (NOT a)", "not(not(a))"),
        ("-a.b = c", "not([a/b = c])"),
        ("-30", "not(30)"),
        ("a OR(b)AND(c)", "and(or(a b) c)"),
        ("NOTE ANDy ORacle", "and(NOTE ANDy ORacle)"),
        ("a<1 b<=1 c>1 d>=1 e=1 f!=1 g:1", "and([a < 1] [b <= 1] [c > 1] [d >= 1] [e = 1] [f != 1] [g : 1])"),
        ("a = -3.5e2", "[a = -3.5e2]"),
        ("a = acme.com", "[a = acme.com]"),
        ("a = x@acme.com", "[a = x@acme.com]"),
        ("a > 2012-04-21T11:30:00-04:00", "[a > 2012-04-21T11:30:00-04:00]"),
        ("a.b-c.d", "a/b-c/d"),
        ("a.NOT.AND.2", "a/NOT/AND/2"),
        ('a."b.c".\'d\' = "x"', "[a/'b.c'/'d' = 'x']"),
        ("a:*", "[a : %]"),
        (r"a = pro\**", "[a = pro*%]"),
        (r'a = "\"\\\'\*"', "[a = '\"\\'*']"),
        ("a = 'x\ny'", "[a = 'x\ny']"),
        ("O'Neil", "O'Neil"),
        ("a = (b OR c)", "[a = or(b c)]"),
        ("a = (-3 OR -x NOT 'y' (z AND w))", "[a = and(or(-3 not(x)) not('y') and(z w))]"),
        ("a:(b c) d", "and([a : and(b c)] d)"),
        ("f() g(1, 'b', c.d) h", "and(f() g(1 'b' c.d) h)"),
        ("f() = 1 a = f(2)", "and([f() = 1] [a = f(2)])"),
        ("f (a)", "and(f a)"),
        ("math.mem('30mb') a.b", "and(math.mem('30mb') a/b)"),
    ],
)
def test_reads_as_aip_160_says(text: str, tree: str) -> None:
    """OR binds tighter than AND, side by side is AND, a minus is NOT, and values stand where values may."""
    assert tree == shown(parse(text))


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("a =", 4, "found the end, where a value must stand"),
        ("a = AND", 5, "found 'AND', where a value must stand"),
        ("a AND", 6, "a condition must stand"),
        ("AND a", 1, "found 'AND', where a condition must stand"),
        ("a OR OR b", 6, "found 'OR'"),
        ("NOT", 4, "a condition must stand"),
        ("NOT NOT a", 5, "a condition must stand"),
        ("(a", 3, "a ) is missing"),
        ("a = (b", 7, "a ) is missing"),
        ("f(a", 4, "a ) is missing"),
        ("a)", 2, "no ( belongs to it"),
        ("()", 2, "nothing stands between"),
        ("a = ()", 6, "nothing stands between"),
        ("a == b", 4, "the comparators are"),
        ("a => 3", 4, "the comparators are"),
        ("a <> b", 4, "the comparators are"),
        ("!a", 1, "write NOT"),
        ("a - b", 3, "a minus stands right before"),
        ("a = -pro", 5, "a text that begins with one is quoted"),
        ("a .b", 3, "no white space stands around a dot"),
        ("a..b", 3, "a key must stand"),
        ("a.", 2, "no white space"),
        ("x = b=c", 6, "quote what holds signs"),
        ("a,b", 2, "quote what holds signs"),
        ('"a', 1, "this quote does not end"),
        ('x = "a', 5, "this quote does not end"),
        ('a"b"', 2, "put white space before a quote"),
        (r"a = b\n", 6, "a backslash stands before"),
        (r"a = '\x'", 6, "a backslash stands before"),
        ("f(a OR b)", 5, "a comma or )"),
        ("x" * 4_097, 4_097, "at most 4096"),
        ("NOT (" * 33 + "a" + ")" * 33, 161, "nested deeper than 32"),
        ("a = (" + "-(" * 800 + "b" + ")" * 801, 68, "nested deeper than 32"),
    ],
)
def test_wrong_text_is_named_by_column(text: str, column: int, said: str) -> None:
    """What is no filter is refused with the column where it stops being one, what is there, and what to write."""
    violation = refusal(text)
    assert violation.description.startswith(f"column {column}: ")
    assert said in violation.description


def test_bounds_are_reached_exactly() -> None:
    """4,096 characters and 32 levels are read; brackets that hold one thing are no level."""
    assert "x" * 4_096 == shown(parse("x" * 4_096))
    assert "not(" * 31 + "a" + ")" * 31 == shown(parse("NOT (" * 31 + "a" + ")" * 31))
    assert "a" == shown(parse("(" * 2_000 + "a" + ")" * 2_000))


SIGNS = [
    "AND",
    "OR",
    "NOT",
    "-",
    "(",
    ")",
    ".",
    ",",
    ":",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    "*",
    "\\",
    '"',
    "'",
    " ",
    " ",
    "f(",
]
NAMES = [
    "a",
    "metadata",
    "last_contacted",
    "name",
    "email",
    "never_contacted",
    "x@y.test",
    "acme.com",
    "é",
    "true",
    "null",
]
ODD = ["2026-03-20", "-30d", "-3", "1e999", '"q"', "'q'", "\0", "\x1f", "\ud800", "\U0010ffff", "9" * 400]
TOKENS = st.sampled_from([*SIGNS, *NAMES, *ODD])


@settings(max_examples=1_500, deadline=None)
@given(st.text(max_size=60) | st.lists(TOKENS, max_size=25).map("".join) | st.lists(TOKENS, max_size=15).map(" ".join))
def test_nothing_but_its_own_error(text: str) -> None:
    """Whatever the text, it is understood, or refused as a filter at a column within it: no other error comes out."""
    try:
        filter_text.condition_of(text, datetime(2026, 6, 1, tzinfo=UTC))
    except DomainError as error:
        assert Reason.INVALID_FILTER == error.reason
        for violation in error.violations:
            column = re.match(r"column (\d+): ", violation.description)
            assert "filter" == violation.field
            assert column is not None
            assert 1 <= int(column[1]) <= len(text) + 1


PLAIN = st.from_regex(r"[a-z_][a-z0-9_-]{0,5}", fullmatch=True)
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="%") | st.sampled_from("\"'\\*.:()-= "), max_size=6)


def quoted(text: str, chosen: list[int]) -> Literal:
    """A quoted text, of whose stars those chosen are wildcards."""
    return Literal(text, 0, is_quoted=True, stars=tuple(n for n in chosen if n < len(text) and text[n] == "*"))


LITERALS = st.builds(Literal, PLAIN, st.just(0)) | st.builds(quoted, ANY_TEXT, st.sets(st.integers(0, 5)).map(sorted))
KEYS = st.builds(Literal, PLAIN, st.just(0)) | st.builds(Literal, ANY_TEXT, st.just(0), st.just(True))
MEMBERS = st.builds(lambda keys: Member(tuple(keys), 0), st.lists(KEYS, min_size=1, max_size=3))
CALLS = st.builds(
    lambda name, given: Call(name, tuple(given), 0), st.sampled_from(["f", "g_2"]), st.lists(LITERALS, max_size=2)
)


def joined(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Leaves joined by AND, OR and NOT, as the parser makes trees: nothing joined stands in its like unbracketed."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(lambda parts: Conjunction(tuple(parts), 0), st.lists(inner, min_size=2, max_size=3))
            | st.builds(lambda parts: Disjunction(tuple(parts), 0), st.lists(inner, min_size=2, max_size=3))
            | st.builds(lambda part: Negation(part, 0), inner)
        ),
        max_leaves=6,
    )


TREES = joined(
    MEMBERS
    | CALLS
    | st.builds(
        Comparison,
        MEMBERS | CALLS,
        st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"]),
        joined(LITERALS) | CALLS,
        st.just(0),
    )
)


def written(node: Node, *, inside: bool = False) -> str:  # noqa: PLR0911  one for each kind
    """A tree as text that means it."""
    match node:
        case Conjunction(parts) | Disjunction(parts):
            sign = " AND " if isinstance(node, Conjunction) else " OR "
            text = sign.join(written(part, inside=True) for part in parts)
            return f"({text})" if inside else text
        case Negation(part):
            return "NOT " + (f"({written(part)})" if isinstance(part, Negation) else written(part, inside=True))
        case Comparison(subject, comparator, argument):
            behind = written(argument)
            return f"{written(subject)} {comparator} " + (
                behind if isinstance(argument, Literal | Call) else f"({behind})"
            )
        case Call(name, arguments):
            return f"{name}({', '.join(map(written, arguments))})"
        case Member(keys):
            return ".".join(map(written, keys))
        case Literal(text, _, is_quoted, stars):
            if not is_quoted:
                return text
            escaped = [
                each if number in stars or each not in "\\\"'*" else "\\" + each for number, each in enumerate(text)
            ]
            return '"' + "".join(escaped) + '"'


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_a_tree_survives_being_written(tree: Node) -> None:
    """Whatever tree there is, its text is read as that tree."""
    assert shown(tree) == shown(parse(written(tree)))


def leaves(node: Node) -> list[Literal]:
    """Every literal of a tree, from left to right."""
    match node:
        case Conjunction(parts) | Disjunction(parts):
            return [leaf for part in parts for leaf in leaves(part)]
        case Negation(part):
            return leaves(part)
        case Comparison(subject, _, argument):
            return leaves(subject) + leaves(argument)
        case Call(_, arguments):
            return list(arguments)
        case Member(keys):
            return list(keys)
        case Literal():
            return [node]


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_every_literal_knows_its_place(tree: Node) -> None:
    """Each literal's offset is where its text begins, its quote if it has one."""
    text = written(tree)
    for literal in leaves(parse(text)):
        assert text[literal.at] == '"' if literal.is_quoted else text.startswith(literal.text, literal.at)


def test_the_grammar_is_shipped() -> None:
    """The grammar lies beside the module that reads it, and is named as part of the package."""
    from pathlib import Path

    root = Path(filtering.__file__).parents[3]
    assert Path(filtering.__file__).with_name("filter.lark").is_file()
    assert '"*.lark"' in (root / "pyproject.toml").read_text()
