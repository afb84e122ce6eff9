"""The rows of a file in each format that is imported, and how those that were refused are written back."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import typer

from multimail.cli import show, vcard
from multimail.cli.columns import ERROR, LINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from multimail.cli.files import Source

FORMATS = {"csv": ("csv", "tsv", "txt"), "jsonl": ("jsonl", "ndjson", "json"), "vcard": ("vcf", "vcard")}
_MAX_CELL = 4 << 20
_SEPARATOR = re.compile(r"sep=(.)")  # how Excel says what stands between values


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes:
        line: Where it begins, from 1.
        raw: It as it was read, to be written back.
        fields: Its values by the names of their columns.
        problem: Why it cannot be read; empty when it can.
    """

    line: int
    raw: Any
    fields: dict[str, Any]
    problem: str = ""


class Format(Protocol):
    """How rows stand in a file.

    Attributes:
        names: The columns, where they are the same for all rows; else none.
        has_headings: Whether columns are named by headings.
    """

    names: list[str]
    has_headings: bool

    def rows(self) -> Iterator[Row]:
        """The rows."""

    def writer(self, file: TextIO) -> Callable[[Row, str], object]:
        """Writes rows back, each with why it was refused."""


def format_of(path: Path, named: str | None) -> str:
    """The format that was named, or that the name of the file tells."""
    if named:
        if named not in FORMATS:
            raise typer.BadParameter(f"{named!r} is no format; use {', '.join(FORMATS)}.")
        return named
    ending = path.suffix.lower().removeprefix(".")
    found = next((name for name, endings in FORMATS.items() if ending in endings), None)
    if not found:
        raise typer.BadParameter(f"The name of {path} does not tell its format; say --format {', '.join(FORMATS)}.")
    return found


def opened(source: Source, name: str, delimiter: str | None) -> Format:
    """The rows of a source in that format."""
    if name == "csv":
        if source.can_be_read_again:  # once for nothing: what cannot be read shows before anything is done
            deque(Csv(source, delimiter).rows(), maxlen=0)
            source.rewind()
        return Csv(source, delimiter)
    return JsonLines(source) if name == "jsonl" else VCards(source)


class Csv:
    """Values between delimiters, named by the first row."""

    has_headings = True

    def __init__(self, source: Source, delimiter: str | None) -> None:
        csv.field_size_limit(_MAX_CELL)
        lines = source.lines()
        self._path, self._above, first = source.path, 0, ""
        mark = _delimiter(delimiter)
        for first in lines:
            said = _SEPARATOR.fullmatch(first.strip("\r\n"))
            if first.strip() and not said:
                break
            mark = mark or (said[1] if said else None)
            self._above += 1
        self._delimiter = mark or max(",;\t|", key=first.count)
        # Strict: a quote that is never closed would swallow the rows behind it.
        self._reader = csv.reader(itertools.chain([first], lines), delimiter=self._delimiter, strict=True)
        self.names = [" ".join(name.split()) for name in self._next() or ()]
        if not any(self.names):
            raise typer.BadParameter(f"{source.path} is empty; a CSV file begins with the names of its columns.")
        twice = {name for name in self.names if name and self.names.count(name) > 1}
        if twice:
            raise typer.BadParameter(f"Two columns are called {min(twice)!r}; give each a name of its own.")

    def _next(self) -> list[str] | None:
        """The next row; BadParameter where nobody can tell any more where a row ends."""
        line = self._line
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise typer.BadParameter(
                f"The row at line {line} of {self._path} cannot be read as CSV ({error}). "
                'Write a quote inside quotes twice, as in "the ""best"" one", and close every quote.'
            ) from None

    @property
    def _line(self) -> int:
        """Where the next row begins."""
        return self._above + self._reader.line_num + 1

    def rows(self) -> Iterator[Row]:
        """The rows; empty ones are passed over."""
        width, line = len(self.names), self._line
        while (cells := self._next()) is not None:
            problem = ""
            if any(map(str.strip, cells[width:])):
                problem = f"has {len(cells)} values for {width} columns"
            named = {name: cell for name, cell in zip(self.names, cells, strict=False) if name}
            if any(map(str.strip, cells)):
                yield Row(line, cells, named, problem)
            line = self._line

    def writer(self, file: TextIO) -> Callable[[Row, str], object]:
        """Writes the heading, then whole rows behind one more column: a row with too many values stays one."""
        out = csv.writer(file, delimiter=self._delimiter)
        at = self.names.index(ERROR) if ERROR in self.names else None

        def write(cells: list[str], why: str) -> None:
            out.writerow([why, *(cell for number, cell in enumerate(cells) if number != at)])

        write(self.names, ERROR)
        return lambda row, why: write(row.raw, why)


def _delimiter(given: str | None) -> str | None:
    if given is None:
        return None
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(given, given)
    if len(named) != 1 or named in '"\r\n':
        raise typer.BadParameter(f"{given!r} cannot stand between values; use one character, or tab.")
    return named


class JsonLines:
    """One JSON object a line."""

    has_headings = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names: list[str] = []

    def rows(self) -> Iterator[Row]:
        """The rows; empty lines are passed over."""
        for number, line in enumerate(self._source.lines(), 1):
            bare = line.strip()
            if not bare:
                continue
            if number == 1 and bare.startswith("["):
                raise typer.BadParameter(
                    f"{self._source.path} is one JSON array; make a line of each object, as jq -c '.[]' does."
                )
            try:
                value = json.loads(bare)
            except (ValueError, RecursionError) as error:
                why = "is no JSON" if isinstance(error, RecursionError) else f"is no JSON ({error})"
                yield Row(number, bare, {}, why)
                continue
            if isinstance(value, dict):
                yield Row(number, bare, value)
            else:
                yield Row(number, bare, {}, "is no JSON object")

    def writer(self, file: TextIO) -> Callable[[Row, str], object]:
        """Writes objects with one more key; a line that is none, or nests too deep, stands in a key of its own."""

        def write(row: Row, why: str) -> None:
            text = ""
            if not row.problem:
                with contextlib.suppress(RecursionError):
                    text = show.json_text(row.fields | {ERROR: why})
            file.write((text or show.json_text({LINE: row.raw, ERROR: why})) + "\n")

        return write


class VCards:
    """One vCard after the other."""

    has_headings = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names: list[str] = []

    def rows(self) -> Iterator[Row]:
        """The cards."""
        for card in vcard.cards(self._source.lines()):
            try:
                yield Row(card.line, card, vcard.fields(card))
            except ValueError as error:
                yield Row(card.line, card, {}, str(error))

    def writer(self, file: TextIO) -> Callable[[Row, str], object]:
        """Writes cards with one more property."""
        return lambda row, why: file.write(vcard.with_error(row.raw, why))
