"""The paths of google.api.http: their grammar, what they match, and which of several that match is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

T = TypeVar("T")

ANY = "*"
REST = "**"
ANY_METHOD = "*"
_IDENT = r"[A-Za-z_][A-Za-z0-9_]*"
_FIELD_PATH = re.compile(rf"{_IDENT}(?:\.{_IDENT})*")
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,;=@%-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SLASH = re.compile(r"(%2[Ff])")


class MalformedPathError(ValueError):
    """A path holds what is no UTF-8 text in percent-encoding."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a template.

    Attributes:
        field: The field it fills, `address.city`.
        start: The first segment that belongs to it.
        end: One behind its last segment; None when it goes on to the end of the path.
        many: Whether it holds more than one segment, and so keeps `%2F` as it stands.
    """

    field: str
    start: int
    end: int | None
    many: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template.

    Attributes:
        segments: Literals, `*` for any one segment, `**` for any number of them at the end.
        variables: Its variables, in order.
        verb: What stands behind the colon at the end; empty for none.
    """

    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str = ""

    def values(self, segments: Sequence[str]) -> dict[str, str]:
        """What a matching path, in segments without the verb, gives each variable; MalformedPathError."""
        found = {}
        for each in self.variables:
            own = segments[each.start : each.end]
            found[each.field] = "/".join(decoded(one, keep_slash=each.many) for one in own)
        return found


def parse(text: str) -> Template:
    """The template of a text such as `/v1/{name=shelves/*}/books:list`; ValueError says what is wrong with it."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not begin with /")
    path, verb = _without_verb(text)
    segments: list[str] = []
    variables: list[Variable] = []
    for piece in _pieces(path[1:], text):
        if not piece.startswith("{"):
            segments.append(_segment(piece, text))
            continue
        name, has_inside, inside = piece[1:-1].partition("=")
        if not _FIELD_PATH.fullmatch(name) or name in {each.field for each in variables}:
            raise ValueError(f"{text!r} has no good name for a variable in {piece}")
        own = [_segment(each, text) for each in (inside if has_inside else ANY).split("/")]
        start, end = len(segments), len(segments) + len(own)
        open_ended = REST in own
        variables.append(Variable(name, start, None if open_ended else end, many=open_ended or len(own) > 1))
        segments += own
    if REST in segments[:-1]:
        raise ValueError(f"{text!r} has ** before its end")
    return Template(tuple(segments), tuple(variables), verb)


def _without_verb(text: str) -> tuple[str, str]:
    """The template without its verb, and the verb."""
    behind = text.rfind("}") + 1
    colon = text.find(":", max(behind, text.rfind("/")))
    if colon < 0:
        return text, ""
    verb = text[colon + 1 :]
    if not _LITERAL.fullmatch(verb):
        raise ValueError(f"{text!r} has no good verb")
    return text[:colon], verb


def _pieces(path: str, text: str) -> list[str]:
    """The path's segments; a variable is one, whatever stands in it."""
    pieces = re.findall(r"\{[^{}]*\}|[^/{}]+", path)
    if not pieces or "/".join(pieces) != path:
        raise ValueError(f"{text!r} has empty or unclosed segments")
    return pieces


def _segment(piece: str, text: str) -> str:
    if piece in (ANY, REST) or _LITERAL.fullmatch(piece):
        return piece
    raise ValueError(f"{text!r} has the segment {piece!r}")


def decoded(segment: str, *, keep_slash: bool = False) -> str:
    """A segment of a raw path as text.

    Args:
        segment: As it came.
        keep_slash: Leave `%2F` as it stands: where `/` separates segments, it would be another.
    """
    if _BAD_ESCAPE.search(segment):
        raise MalformedPathError("a % in the path is not followed by two hexadecimal digits")
    pieces = _SLASH.split(segment) if keep_slash else [segment]
    try:
        # Every second piece is an encoded slash.
        return "".join(
            piece if number % 2 else unquote_to_bytes(piece).decode("utf-8") for number, piece in enumerate(pieces)
        )
    except UnicodeDecodeError:
        raise MalformedPathError("the path is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a path leads to.

    Attributes:
        target: What was added for it.
        values: The variables' values by field.
    """

    target: T
    values: Mapping[str, str]


@dataclass(slots=True)
class _Node(Generic[T]):
    """A place in the tree of templates: what may follow, and what ends here, by verb and method."""

    literals: dict[str, _Node[T]] = field(default_factory=dict)
    any: _Node[T] | None = None
    rest: _Node[T] | None = None
    ends: dict[str, dict[str, tuple[Template, T]]] = field(default_factory=dict)

    def step(self, segment: str) -> _Node[T]:
        if segment == REST:
            self.rest = self.rest or _Node()
            return self.rest
        if segment == ANY:
            self.any = self.any or _Node()
            return self.any
        return self.literals.setdefault(segment, _Node())


class Table(Generic[T]):
    """Finds what a method and a path lead to; a literal goes before a variable, from left to right."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, method: str, template: Template, target: T) -> None:
        """Adds a template for an HTTP method, or for `*`, any; one that is there already is a ValueError."""
        node = self._root
        for segment in template.segments:
            node = node.step(segment)
        ends = node.ends.setdefault(template.verb, {})
        if method in ends:
            raise ValueError(f"{method} {'/'.join(template.segments)} stands for two things")
        ends[method] = (template, target)

    def find(self, method: str, raw_path: str) -> Found[T] | None:
        """What this leads to; None when nothing. MalformedPathError when the path cannot be read."""
        for segments, ends in self._matches(raw_path):
            hit = ends.get(method) or ends.get(ANY_METHOD)
            if hit is not None:
                template, target = hit
                return Found(target, template.values(segments))
        return None

    def methods(self, raw_path: str) -> list[str]:
        """The HTTP methods by which the path leads to something, in order of their names."""
        return sorted({method for _, ends in self._matches(raw_path) for method in ends})

    def _matches(self, raw_path: str) -> Iterator[tuple[list[str], dict[str, tuple[Template, T]]]]:
        """The path's segments and what ends there, the best first; a verb that is known is no part of a name."""
        if not raw_path.startswith("/"):
            return
        segments = raw_path[1:].split("/")
        last, colon, verb = segments[-1].rpartition(":")
        found = list(self._below(self._root, [*segments[:-1], last], 0, verb)) if colon else []
        yield from found or self._below(self._root, segments, 0, "")

    def _below(
        self, node: _Node[T], segments: list[str], depth: int, verb: str
    ) -> Iterator[tuple[list[str], dict[str, tuple[Template, T]]]]:
        if depth == len(segments):
            if verb in node.ends:
                yield segments, node.ends[verb]
        else:
            segment = segments[depth]
            literal = node.literals.get(segment) or node.literals.get(_plain(segment))
            if literal is not None:
                yield from self._below(literal, segments, depth + 1, verb)
            if node.any is not None and segment:
                yield from self._below(node.any, segments, depth + 1, verb)
        if node.rest is not None and verb in node.rest.ends:
            yield segments, node.rest.ends[verb]


def _plain(segment: str) -> str:
    """A segment with needless percent-encoding undone; as it is where that fails."""
    try:
        return decoded(segment) if "%" in segment else segment
    except MalformedPathError:
        return segment
