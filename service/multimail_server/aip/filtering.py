"""Filters as text: read as AIP-160 says into a syntax tree, every node with its place; nothing here knows contacts.

The grammar is in `filter.lark`. A `*` that is not escaped is a wildcard, so a literal keeps where such stars stand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args

from multimail_server.errors import DomainError, Reason, Violation, invalid

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_LENGTH = 4_096
MAX_DEPTH = 32
_PIECES = re.compile(r"\\.?|\*|[^\\*]+", re.DOTALL)
_ESCAPED = ("\\", '"', "'", "*")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Literal:
    """A text as it is meant, without quotes and escapes.

    Attributes:
        text: The text.
        at: Where it begins in the filter, as an offset in characters; so it is with every other node.
        is_quoted: Whether quotes stood around it.
        stars: Which of its characters are wildcards.
    """

    text: str
    at: int
    is_quoted: bool = False
    stars: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A path such as `metadata."a.b".c`; alone, without a comparator, a word to look for."""

    keys: tuple[Literal, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function and what it is given."""

    name: str
    arguments: tuple[Literal, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A path or function, one of `= != < <= > >= :`, and a value, a function, or values joined by AND, OR and NOT."""

    subject: Member | Call
    comparator: str
    argument: Node
    at: int


@dataclass(frozen=True, slots=True)
class Conjunction:
    """All of these; none at all is the empty filter."""

    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Disjunction:
    """Any of these."""

    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Negation:
    """Not this."""

    part: Node
    at: int


Node = Conjunction | Disjunction | Negation | Comparison | Call | Member | Literal


def refused(at: int, why: str) -> DomainError:
    """The refusal of a filter because of what stands at an offset."""
    return invalid([Violation("filter", f"column {at + 1}: {why}")], Reason.INVALID_FILTER)


def parse(text: str) -> Node:
    """Reads a filter.

    Args:
        text: The filter; an empty one has no conditions.

    Raises:
        DomainError: INVALID_FILTER, saying where it stops being a filter and what could be meant. Nothing else.
    """
    if len(text) > MAX_LENGTH:
        raise refused(MAX_LENGTH, f"the filter is {len(text)} characters long; at most {MAX_LENGTH} are allowed")
    try:
        tree: Node = _PARSER.parse(text)  # type: ignore[assignment]  # what _Builder makes of it
    except UnexpectedInput as error:
        raise _unexpected(text, error) from None
    _check_depth(tree)
    return tree


def _check_depth(tree: Node) -> None:
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [part for node in level for part in _parts(node)]
    if level:
        raise refused(level[0].at, f"is nested deeper than {MAX_DEPTH} levels")


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case Conjunction(parts) | Disjunction(parts):
            return parts
        case Negation(part):
            return (part,)
        case Comparison(argument=argument):
            return (argument,)
        case _:
            return ()


@v_args(inline=True)
class _Builder(Transformer[Token, Node]):
    """Makes the syntax tree, each node as soon as the parser has its parts: however deep, nothing recurses."""

    def start(self, condition: Node | None) -> Node:
        return condition or Conjunction((), 0)

    def condition(self, *parts: Node) -> Node:
        return Conjunction(parts, parts[0].at) if len(parts) > 1 else parts[0]

    def factor(self, *parts: Node) -> Node:
        return Disjunction(parts, parts[0].at) if len(parts) > 1 else parts[0]

    def negation(self, sign: Token, part: Node) -> Node:
        return Negation(part, _place(sign))

    def comparison(self, subject: Member | Call, comparator: Token, argument: Node) -> Node:
        return Comparison(subject, str(comparator), argument, subject.at)

    def call(self, name: Token, *arguments: Literal | None) -> Node:
        return Call(str(name), tuple(each for each in arguments if each), _place(name))

    def member(self, *keys: Token) -> Node:
        return Member(tuple(map(_literal, keys)), _place(keys[0]))

    def literal(self, token: Token) -> Node:
        return _literal(token)


def _place(token: Token) -> int:
    return token.start_pos or 0


def _literal(token: Token) -> Literal:
    is_quoted = token[0] in "\"'"
    found, stars, length = [], [], 0
    for piece in _PIECES.finditer(token[1:-1] if is_quoted else token):
        part = piece.group()
        if part == "*":
            stars.append(length)
        elif part[0] == "\\":
            part = part[1:]
            if part not in _ESCAPED:
                at = _place(token) + is_quoted + piece.start()
                raise refused(at, "a backslash stands before one of \\ \" ' * only; for a backslash write two")
        found.append(part)
        length += len(part)
    return Literal("".join(found), _place(token), is_quoted, tuple(stars))


def _unexpected(text: str, error: UnexpectedInput) -> DomainError:
    expected: Collection[str] = ()
    at = error.pos_in_stream or 0
    if isinstance(error, UnexpectedToken):
        expected, at = error.expected, len(text) if error.token.type == "$END" else at
    elif isinstance(error, UnexpectedCharacters):
        expected = error.allowed
    rest = text[at:].split(maxsplit=1)
    found = repr(rest[0][:_SHOWN]) if rest else "the end"
    return refused(at, f"found {found}, where {_wanted(expected)}; {_hint(text, at, expected)}")


def _wanted(expected: Collection[str]) -> str:
    if "VALUE" in expected:
        return "a value must stand"
    if "KEY" in expected:
        return "a key must stand"
    if "COMMA" in expected:
        return "a comma or ) must stand"
    if "_AND" in expected:
        return "AND, OR or another condition may follow"
    return "a ) must stand" if "RPAR" in expected and len(expected) == 1 else "a condition must stand"


def _hint(text: str, at: int, expected: Collection[str]) -> str:  # noqa: PLR0911  a table of what people mistype
    here, before = text[at : at + 1], text[at - 1 : at]
    if not here:
        return "a ) is missing" if "RPAR" in expected else "something is missing"
    if here in "\"'":
        opened = text[at:].count(here) == 1
        return "this quote does not end" if opened else "put white space before a quote, and a backslash inside one"
    if here in "=<>" and before in ("=", "<", ">", "!"):
        return "the comparators are = != < <= > >= :"
    if here == "!":
        return "write NOT, or != between a field and a value"
    if here == "-":
        return "a minus stands right before what it negates; a text that begins with one is quoted"
    if here == ".":
        return "no white space stands around a dot"
    if here == ")" and "RPAR" not in expected:
        return "no ( belongs to it, or nothing stands between the two"
    return 'join conditions with AND or OR, and quote what holds signs: "a=b"'


# Built once, about 0.1 s.
_PARSER = Lark.open("filter.lark", rel_to=__file__, parser="lalr", transformer=_Builder())
