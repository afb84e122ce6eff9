"""The filter language: how text is read, what it means for a contact, and what is said when it is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from multimail_server.contacts import filter_map, filter_text
from multimail_server.contacts.conditions import And, Not, Or, Since
from multimail_server.contacts.contact import FOREVER, NEVER
from multimail_server.errors import DomainError, Reason, Violation

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
DAY = datetime(2026, 3, 20, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


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


def refusal(text: str, check: Any = parse) -> Violation:
    """The one violation of a filter that is refused."""
    with pytest.raises(DomainError) as refused:
        check(text)
    assert Reason.INVALID_FILTER == refused.value.reason
    (violation,) = refused.value.violations
    assert "filter" == violation.field
    return violation


def checked(text: str) -> Any:
    """The condition a filter asks for."""
    return filter_text.condition_of(text, NOW)


def mapped(filters: dict[str, Any]) -> Any:
    """The condition a map asks for."""
    return filter_map.condition_of(filters, NOW)


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
        filter_text.condition_of(text, NOW)
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


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", {}),
        ("metadata.plan = pro", {"metadata.plan": "pro"}),
        ('metadata.plan:"pro"', {"metadata.plan": "pro"}),
        ("metadata.n = 2", {"metadata.n": 2.0}),
        ('metadata.n = "2"', {"metadata.n": "2"}),
        ("metadata.n = 007", {"metadata.n": "007"}),
        ("metadata.n = -3.5e1", {"metadata.n": -35}),
        ("metadata.on = true", {"metadata.on": True}),
        ("metadata.on = 'true'", {"metadata.on": "true"}),
        ("metadata.on = null", {"metadata.on": None}),
        ("metadata.plan != pro", {"metadata.plan": {"ne": "pro"}}),
        ("NOT metadata.plan = pro", {"metadata.plan": {"ne": "pro"}}),
        ("-metadata.plan:pro", {"metadata.plan": {"ne": "pro"}}),
        ("metadata.n > 2", {"metadata.n": {"gt": 2}}),
        ("metadata.n >= 2", {"metadata.n": {"gte": 2}}),
        ("metadata.day < '2027-01-01'", {"metadata.day": {"lt": "2027-01-01"}}),
        ("metadata.day <= 2027-01-01", {"metadata.day": {"lte": "2027-01-01"}}),
        ("metadata.plan:*", {"metadata.plan": {"exists": True}}),
        ('metadata.plan:"*"', {"metadata.plan": {"exists": True}}),
        ("metadata:plan", {"metadata.plan": {"exists": True}}),
        ('metadata:"a.b"', {'metadata."a.b"': {"exists": True}}),
        ("-metadata.plan:*", {"metadata.plan": {"exists": False}}),
        ('metadata.plan = "pro*"', {"metadata.plan": {"prefix": "pro"}}),
        ("metadata.plan:pro*", {"metadata.plan": {"prefix": "pro"}}),
        ("metadata.plan = *", {"metadata.plan": {"prefix": ""}}),
        (r'metadata.plan = "pro\*"', {"metadata.plan": "pro*"}),
        ("metadata.plan = (pro OR free OR 3)", {"metadata.plan": {"in": ["pro", "free", 3]}}),
        ("metadata.plan = pro OR metadata.plan = free", {"metadata.plan": {"in": ["pro", "free"]}}),
        ("metadata.tags:(a AND b)", {"metadata.tags": "a", "metadata.tags ": "b"}),
        ('metadata."a.b"."$x".c = 1', {'metadata."a.b".$x.c': 1}),
        ("last_contacted < 2026-03-20", {"last_contacted_before": "2026-03-20"}),
        ('last_contacted >= "2026-03-20T09:30:00+02:00"', {"last_contacted_after": "2026-03-20T07:30:00Z"}),
        ("last_inbound < -30d", {"last_inbound_before": "2026-05-02T12:30:00Z"}),
        ("created >= '-90m'", {"created_after": "2026-06-01T11:00:00Z"}),
        ("create_time >= -2h", {"created_after": "-2h"}),
        ("update_time < -1w", {"updated_before": "2026-05-25T12:30:00Z"}),
        ("never_contacted", {"never_contacted": True}),
        ("never_contacted()", {"never_contacted": True}),
        ("never_contacted = false", {"never_contacted": False}),
        ("-awaiting_reply", {"awaiting_reply": False}),
        ("has_open_thread:true", {"has_open_thread": True}),
        ("metadata.a = 1 metadata.b = 2 never_contacted", {"metadata.a": 1, "metadata.b": 2, "never_contacted": True}),
    ],
)
def test_text_and_map_are_one(text: str, filters: dict[str, Any]) -> None:
    """The same condition, written as text or in the map, is the same tree."""
    found = mapped({key.strip(): value for key, value in filters.items()} if "metadata.tags " not in filters else {})
    if "metadata.tags " in filters:
        found = And((mapped({"metadata.tags": "a"}), mapped({"metadata.tags": "b"})))
    assert found == checked(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ana", "name:ana"),
        ("ana lopez", 'name = "ÁNA, López"'),
        ('"ana lopez"', "name:(ana lopez)"),
        ("ana*", "name:ana*"),
        ("acme.com", "domain = ACME.com"),
        ("x@acme.com", "email = ' X@acme.com'"),
        ('"acme.com"', "domain:acme.com"),
        ('"never_contacted"', "name:(never contacted)"),
        ("domain = (a.test OR b.test)", "a.test OR b.test"),
        ("domain != a.test", "NOT a.test"),
        ("last_contacted:*", "NOT never_contacted"),
        ("a (b c)", "a b c"),
        ("NOT (a OR b)", "-(a OR b)"),
    ],
)
def test_words_mean_what_query_means(text: str, same: str) -> None:
    """A word alone is an address, a domain or a word of the name, as in `query`; quoted it is never a field."""
    assert checked(same) == checked(text)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("plan = pro", 1, "write metadata.plan"),
        ("lastcontacted < -30d", 1, "did you mean last_contacted?"),
        ("email.x = 1", 1, "there is no field 'email.x'"),
        ("metadata.plan", 1, "compared with nothing"),
        ("metadata", 1, "compared with nothing"),
        ('"a*b"', 1, "only at the end"),
        ("metadata.day < -30d", 16, "the service's own times"),
        ("a email", 3, "compared with nothing"),
        ("a and b", 3, "write AND in capitals"),
        ("never_contated", 1, "did you mean never_contacted?"),
        ("a *b", 3, "only at the end"),
        ("a && b", 3, "no word"),
        ("metadata = 3", 12, "metadata.plan = pro"),
        ("metadata:*", 10, "metadata:plan"),
        ("metadata.n > true", 14, "must be a text or a number"),
        ("metadata.n > a*", 14, r"write \*"),
        ("metadata.n = a*b", 14, "only at the end"),
        ("metadata.n = 1e999", 14, "not a number"),
        ("metadata.n > '" + "x" * 257 + "'", 14, "longer than 256 bytes"),
        ("last_contacted < yesterday", 18, "must be a time"),
        ("last_contacted < 30d", 18, "-30d for thirty days ago"),
        ("last_contacted < -999999999d", 18, "must be a time"),
        ("last_contacted < 2026-02-30", 18, "must be a time"),
        ("last_contacted < '2026-03-20T09:30:00'", 18, "must be a time"),
        ("last_contacted = 2026-03-20", 18, "compared with < <= > >="),
        ("last_contacted != 2026-03-20", 19, "compared with < <= > >="),
        ("created < now()", 11, "no function gives a value"),
        ("never_contacted > true", 19, "= true or = false"),
        ("never_contacted = 1", 19, "= true or = false"),
        ("never_contacted(1)", 1, "no such function"),
        ("sum(metadata.a)", 1, "no such function"),
        ("metadata.tags(a)", 1, "no such function"),
        ("awaiting_reply() = true", 1, "not compared"),
        ("email = nobody", 9, "is not an e-mail address"),
        ("email = *@acme.com", 9, r"write \*"),
        ("email > a@b.test", 9, "= != or :"),
        ("domain = acme", 10, "is not a domain"),
        ("domain = 'é*'", 10, "ASCII"),
        ("domain = *.com", 10, "only at the end"),
        ("name < a", 8, "= != or :"),
        ("name = '?'", 8, "no word"),
        (" OR ".join(["a"] * 101), 1, "at most 100"),
        ("name = '" + "a " * 33 + "'", 8, "at most 32"),
    ],
)
def test_what_a_contact_does_not_have_is_named(text: str, column: int, said: str) -> None:
    """A filter that can be read but not asked of a contact is refused with its column and what to write instead."""
    violation = refusal(text, checked)
    assert violation.description.startswith(f"column {column}: ")
    assert said in violation.description


def test_all_that_is_wrong_is_said_at_once() -> None:
    """A filter with several wrong conditions is refused once, naming each."""
    with pytest.raises(DomainError) as refused:
        checked("plan = 1 AND (email = x OR NOT created = -1d) metadata.n > (true OR null OR 3)")
    columns = [int(each.description.split(":")[0].split()[1]) for each in refused.value.violations]
    assert [1, 23, 42, 61, 69] == columns
    with pytest.raises(DomainError) as refused:
        checked("a=1 " * 1_000)
    assert 16 == len(refused.value.violations)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("last_contacted < 2026-03-20", Not(Since("last_contacted_at", DAY))),
        ("last_contacted >= 2026-03-20", Since("last_contacted_at", DAY)),
        ("last_contacted > 2026-03-20", Since("last_contacted_at", DAY + MILLISECOND)),
        ("last_contacted <= 2026-03-20", Not(Since("last_contacted_at", DAY + MILLISECOND))),
        ("created > '2026-03-20T00:00:00.0004Z'", Since("create_time", DAY + MILLISECOND)),
        ("created >= '2026-03-20T00:00:00.0004Z'", Since("create_time", DAY + MILLISECOND)),
        ("last_contacted >= 0001-01-01", Since("last_contacted_at", NEVER + MILLISECOND)),
        ("last_contacted > 9999-12-31", Since("last_contacted_at", FOREVER + MILLISECOND)),
        ("last_contacted > 9999-12-31T23:59:59.999999Z", Since("last_contacted_at", FOREVER + MILLISECOND)),
        ("never_contacted", Not(Since("last_contacted_at", NEVER + MILLISECOND))),
        ("awaiting_reply", Since("awaiting_since", NEVER + MILLISECOND)),
        ("has_open_thread", Since("open_until", NOW + MILLISECOND)),
        (
            "created < -1d OR -awaiting_reply",
            Or((Not(Since("create_time", NOW - timedelta(days=1))), Not(Since("awaiting_since", NEVER + MILLISECOND)))),
        ),
    ],
)
def test_times_are_one_bound_each(text: str, expected: Any) -> None:
    """Every condition on a time is one bound in whole milliseconds; "never" is before every time, and after none."""
    assert expected == checked(text)


def test_the_grammar_is_shipped() -> None:
    """The grammar lies beside the module that reads it, and is named as part of the package."""
    from pathlib import Path

    root = Path(filtering.__file__).parents[3]
    assert Path(filtering.__file__).with_name("filter.lark").is_file()
    assert '"*.lark"' in (root / "pyproject.toml").read_text()
