"""`multimail contacts export`: contacts as CSV, JSON Lines or vCards."""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from multimail import _json
from multimail.cli import files, rows, show, values, vcard
from multimail.cli.contacts import Filter, Query, Where
from multimail.cli.session import Json, client, session

if TYPE_CHECKING:
    from collections.abc import Iterable

    import multimail

_FIELDS = (
    "email", "name", "last_contacted", "last_inbound", "interaction_count", "thread_count", "latest_thread_id", "id",
    "etag", "create_time", "update_time",
)  # fmt: skip


def export(
    ctx: typer.Context,
    query: Query = "",
    where: Where = None,
    filter_: Filter = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there, whole or not at all; else stdout."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="csv, jsonl or vcard; else the name tells, or jsonl."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write every contact that meets the conditions. JSON Lines and vCards keep all, CSV makes texts of all.

    With --json it is JSON Lines, whatever the file is called.

    Take care with CSV in a spreadsheet: it takes values that begin with = + - or @ for formulas, whoever wrote them.

    $ multimail contacts export -o everybody.jsonl

    $ multimail contacts export --where metadata.plan=pro --format csv > pro.csv
    """
    if as_json and format_ not in (None, "jsonl"):
        raise typer.BadParameter(f"--json and --format {format_} contradict each other.")
    format_ = "jsonl" if as_json else format_
    kind = rows.format_of(output, format_) if output else rows.format_of(Path("x.jsonl"), format_)
    with client(ctx).contacts.export(
        query=query, filters=values.conditions(where or ()), filter=filter_, patience=session(ctx).timeout
    ) as found:
        writing = files.written(output) if output else files.standard_output()
        with writing as file:
            readable = output is None and sys.stdout.isatty()
            number = _write(kind, _counted(found), file, readable=readable)
    if output:
        show.note(f"{number:,} contacts are in {output}.")


def _counted(found: Iterable[multimail.Contact]) -> Iterable[multimail.Contact]:
    """The contacts, and on a terminal how many there were so far."""
    screen = show.console(stderr=True)
    if not screen.is_terminal or sys.stdout.isatty():
        yield from found
        return
    with screen.status("0 contacts") as status:
        for number, contact in enumerate(found, 1):
            if number % 500 == 0:
                status.update(f"{number:,} contacts")
            yield contact


def _write(kind: str, found: Iterable[multimail.Contact], file: TextIO, *, readable: bool) -> int:
    """Writes contacts and counts them; what a terminal would obey is written out where one reads along."""
    lines = _csv(found) if kind == "csv" else map(vcard.card_of if kind == "vcard" else _json_line, found)
    number = -1 if kind == "csv" else 0
    for number, line in enumerate(lines, number + 1):  # noqa: B007, B020
        file.write(show.visible(line) if readable else line)
    return number


def _json_line(contact: multimail.Contact) -> str:
    return show.json_text(contact) + "\n"


def _csv(found: Iterable[multimail.Contact]) -> Iterable[str]:
    """A heading with every path of the metadata, and the rows; they wait in a file until all paths are known."""
    paths: dict[str, None] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass") as kept:
        for contact in found:
            metadata = dict(values.flat(contact.metadata))
            paths |= dict.fromkeys(metadata)
            told = _json.plain(contact)
            kept.write(json.dumps([[told.get(name) for name in _FIELDS], metadata]) + "\n")
        kept.seek(0)
        row = _Rows()
        ordered = sorted(paths)
        yield row.of([*_FIELDS, *(f"metadata.{path}" for path in ordered)])
        for line in kept:
            fields, metadata = json.loads(line)
            yield row.of([*fields, *(metadata.get(path) for path in ordered)])


class _Rows:
    """Makes lines of CSV."""

    def __init__(self) -> None:
        self._line = ""
        self._writer = csv.writer(self)

    def write(self, text: str) -> None:
        """What the writer writes to."""
        self._line += text

    def of(self, cells: list[Any]) -> str:
        """The line of these values."""
        self._line = ""
        self._writer.writerow(map(_cell, cells))
        return self._line


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
