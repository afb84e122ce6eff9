"""How things are shown: tables and facts for people, tab-separated lines in pipes, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multimail import _json
from multimail.cli.values import flat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a terminal obeys, or what changes how the text beside it looks.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_IDS = re.compile(r"(contact|email|mbx|thread|erasure)_[0-9A-Z]{26}")
_NARROW = 60
_SLIMMEST = 5
_GAP = 2
_HEADING = "bold"


def visible(text: str) -> str:
    r"""The text with every character that a terminal would obey written out: `\\x1b`."""
    return _HIDDEN.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65_536 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """The same on one line."""
    return visible(" ".join(text.split("\n")).replace("\t", " "))


def console(*, stderr: bool = False) -> Console:
    """A console that takes nothing in a text for markup."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def as_json(value: Any) -> None:
    """One JSON document on a line of its own."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    sys.stdout.write(json_text(value, ascii_only="utf" not in encoding) + "\n")
    sys.stdout.flush()


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """A value as JSON on one line, with every character that a terminal would obey escaped."""
    text = json.dumps(_json.plain(value), ensure_ascii=ascii_only)
    return _HIDDEN.sub(_json_escaped, text)


def _json_escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def note(text: str, *, style: str = "") -> None:
    """A sentence beside the answer: on stderr."""
    console(stderr=True).print(Text(visible(text), style), soft_wrap=True)


def say(text: str = "", *, style: str = "") -> None:
    """Text of the answer."""
    console().print(Text(visible(text), style), soft_wrap=True)


def cell(value: Any) -> str:
    """A value in full, on one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, dict | list):
        return one_line(json.dumps(value, ensure_ascii=False))
    return one_line(str(value))


def span(given: timedelta) -> str:
    """A length of time as options take it: `1d12h`."""
    left, parts = int(given.total_seconds()), ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts += f"{count}{unit}" if count else ""
    return parts or "0s"


def _short(value: Any, now: datetime) -> str:
    """The same for a narrow column: times as `ls` has them, in this machine's zone."""
    if not isinstance(value, datetime):
        return cell(value)
    here = value.astimezone()
    if here.date() == now.date():
        return f"{here:%H:%M}"
    return f"{here:%d %b}" if abs(now - here) < timedelta(days=180) else f"{here:%Y-%m-%d}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows under their headings; in a pipe separated by tabs and uncut, on a narrow terminal one fact a line."""
    screen = console()
    if not screen.is_terminal:
        for row in (columns, *rows):
            sys.stdout.write("\t".join(map(cell, row)) + "\n")
        return
    if screen.width < _NARROW:
        for row in rows:
            facts(zip(columns, row, strict=True))
            say()
        return
    now = datetime.now(UTC).astimezone()
    cells = [[_short(value, now) for value in row] for row in rows]
    shown = Table(box=None, pad_edge=False, header_style=_HEADING, padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, _widths(columns, cells, screen.width), strict=True):
        shown.add_column(column, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        shown.add_row(*map(Text, row))
    screen.print(shown)


def _widths(columns: Sequence[str], cells: list[list[str]], room: int) -> list[int]:
    """How wide the columns are: the widest give way until all fit, ids never."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    whole = [any(map(_IDS.fullmatch, column)) for column in zip(columns, *cells, strict=True)]
    while sum(widths) + _GAP * (len(widths) - 1) > room:
        width, widest = max((0 if whole[at] else width, at) for at, width in enumerate(widths))
        if width <= _SLIMMEST:
            break
        widths[widest] -= 1
    return widths


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; what is empty is left out."""
    told = [(name, _long(value)) for name, value in pairs if value not in (None, "", [], {}, False)]
    width = max((len(name) for name, _ in told), default=0)
    screen = console()
    for name, value in told:
        screen.print(Text.assemble((f"{visible(name):<{width}}  ", _HEADING), value), soft_wrap=True)


def _long(value: Any) -> str:
    if isinstance(value, datetime) and console().is_terminal:
        return f"{value.astimezone():%Y-%m-%d %H:%M %Z}"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return one_line(", ".join(value))
    return cell(value)


def metadata_facts(metadata: dict[str, Any]) -> list[tuple[str, Any]]:
    """Its paths and values, as facts and conditions name them."""
    return [
        (f"metadata.{path}", json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
        for path, value in sorted(flat(metadata))
    ]


def body(text: str) -> None:
    """A text as it is, line for line; what a terminal would obey is written out."""
    say(text.rstrip())
