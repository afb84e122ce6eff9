"""The rows of a file in each format that is imported, and how those that were refused are written back."""

from __future__ import annotations

import csv
import itertools
import json
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
        return Csv(source, delimiter)
    return JsonLines(source) if name == "jsonl" else VCards(source)


class Csv:
    """Values between delimiters, named by the first row."""

    has_headings = True

    def __init__(self, source: Source, delimiter: str | None) -> None:
        csv.field_size_limit(_MAX_CELL)
        lines = source.lines()
        first = next((line for line in lines if line.strip()), "")
        self._delimiter = _delimiter(delimiter) or max(",;\t|", key=first.count)
        self._reader = csv.reader(itertools.chain([first], lines), delimiter=self._delimiter)
        self.names = [" ".join(name.split()) for name in next(self._reader, [])]
        if not any(self.names):
            raise typer.BadParameter(f"{source.path} is empty; a CSV file begins with the names of its columns.")
        twice = {name for name in self.names if name and self.names.count(name) > 1}
        if twice:
            raise typer.BadParameter(f"Two columns are called {min(twice)!r}; give each a name of its own.")

    def rows(self) -> Iterator[Row]:
        """The rows; empty ones are passed over."""
        reader, width = self._reader, len(self.names)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(line, [], {}, f"cannot be read as CSV ({error})")
                continue
            if not any(map(str.strip, cells)):
                continue
            problem = ""
            if any(map(str.strip, cells[width:])):
                problem = f"has {len(cells)} values for {width} columns"
            named = {name: cell for name, cell in zip(self.names, cells, strict=False) if name}
            yield Row(line, cells, named, problem)

    def writer(self, file: TextIO) -> Callable[[Row, str], object]:
        """Writes the heading, then rows with one more column."""
        out, width = csv.writer(file, delimiter=self._delimiter), len(self.names)
        at = self.names.index(ERROR) if ERROR in self.names else width
        out.writerow([*self.names[:at], ERROR, *self.names[at + 1 :]])

        def write(row: Row, why: str) -> None:
            cells = [*row.raw, *[""] * (width - len(row.raw))]
            out.writerow([*cells[:at], why, *cells[at + 1 :]])

        return write


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
                yield Row(number, value, value)
            else:
                yield Row(number, bare, {}, "is no JSON object")

    def writer(self, file: TextIO) -> Callable[[Row, str], object]:
        """Writes objects with one more key; a line that is none stands in a key of its own."""

        def write(row: Row, why: str) -> None:
            raw = row.raw if isinstance(row.raw, dict) else {LINE: row.raw}
            file.write(show.json_text(raw | {ERROR: why}) + "\n")

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
