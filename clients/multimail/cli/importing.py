"""`multimail contacts import`: a file of people becomes contacts, row by row, and can be taken up where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

import multimail
from multimail import _json
from multimail.cli import columns, files, rows, show, values
from multimail.cli.session import Json, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHOWN = 10
_SAMPLE = 5
_LOOKED_UP = 500
_REMEMBERED_S = 29 * 86_400  # the service remembers rows for 30 days


@dataclass(slots=True)
class _Count:
    """What became of the rows so far.

    Attributes:
        outcomes: How many were created, updated, unchanged or refused.
        refused: The first of the refused: line and why.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, row: rows.Row, why: str) -> None:
        """Counts a refused row."""
        self.outcomes["refused"] += 1
        if len(self.refused) < _SHOWN:
            self.refused.append({"line": row.line, "error": why})


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON Lines or vCards; - reads stdin.")],
    format_: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="csv, jsonl or vcard; else the name tells.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", "-m", metavar="COLUMN=PLACE",
            help="Where a column goes: email, name, first_name, last_name, last_contacted, metadata.key, or - for "
            "nowhere; may be repeated.",
        ),
    ] = None,
    types: Annotated[
        bool, typer.Option("--types", help="Take 12, true and JSON in texts for such values; CSV holds only texts.")
    ] = False,
    delimiter: Annotated[
        str | None, typer.Option(metavar="MARK", help="What stands between values; tab for tabs.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Such as cp1252; else UTF-8, or what the file says.")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", "-e", metavar="FILE", help="Write refused rows there, with why.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would happen.")] = False,
    import_id: Annotated[
        str | None, typer.Option("--import-id", metavar="ID", help="Take up the import of this name.")
    ] = None,
    patience: Annotated[
        timedelta,
        typer.Option(parser=values.duration, metavar="TIME", help="How long to wait for a service that is away."),
    ] = "30s",  # type: ignore[assignment]  # Typer parses it
    as_json: Json = False,
) -> None:  # fmt: skip
    """Make or merge a contact of every row.

    What is not in a row stays as it is, and empty cells are left out. An import that was interrupted goes on when the
    same command is given again; nothing is done twice.

    $ multimail contacts import crm.csv --dry-run

    $ multimail contacts import crm.csv --map "E-Mail=email" --map "Firma=metadata.company" --errors refused.csv
    """
    if errors and errors.exists() and file.exists() and errors.samefile(file):
        raise typer.BadParameter(
            f"{errors} is the file that is imported; write refused rows to another, with --errors."
        )
    source = files.Source(file, encoding)
    with contextlib.closing(source):
        kind = rows.format_of(file, format_)
        given = columns.explicit(map_ or ())
        digest = source.digest() if source.can_be_read_again else ""
        table = rows.opened(source, kind, delimiter)
        mapping = columns.Columns(given, typed=types, named_by_people=table.has_headings)
        if table.has_headings:
            mapping.check(table.names)
        where = session(ctx).endpoint()
        service = session(ctx).client(where)
        if dry_run:
            _preview(service, _read(table, mapping), table, mapping, as_json=as_json)
            return
        counted, place = _Count(), None
        with _refusals(table, errors, counted) as refuse:
            if digest and not import_id:
                how = [digest, kind, str(sorted(given.items())), str(types), str(delimiter)]
                place = _Place([*how, str(where["target"]), service.get_caller().account])
            name = import_id or (place.begun() if place else str(uuid.uuid4()))
            try:
                with _progress(source, counted) as tick:
                    _run(service, _read(table, mapping), name, patience.total_seconds(), counted, refuse, tick)
            except BaseException:
                _interrupted(counted, name, by_itself=place is not None)
                raise
        if place:
            place.end()
    _told(counted, name, errors, as_json=as_json)


def _read(table: rows.Format, mapping: columns.Columns) -> Iterator[tuple[rows.Row, multimail.ContactRow | str]]:
    """Each row with the contact it becomes, or why it becomes none."""
    for row in table.rows():
        if row.problem:
            yield row, row.problem
            continue
        try:
            yield row, mapping.row(row.fields)
        except columns.RowError as error:
            yield row, str(error)
        except RecursionError:
            yield row, "is nested too deep"


def _run(
    service: multimail.Client,
    read: Iterator[tuple[rows.Row, multimail.ContactRow | str]],
    name: str,
    patience: float,
    counted: _Count,
    refuse: Callable[[rows.Row, str], None],
    tick: Callable[[int], None],
) -> None:
    """Imports the rows; refusals are told in the order of the rows."""
    waiting: deque[tuple[rows.Row, str]] = deque()

    def refused_before() -> None:
        while waiting and waiting[0][1]:
            refuse(*waiting[0])
            tick(waiting.popleft()[0].line)

    def sent() -> Iterator[multimail.ContactRow]:
        for row, contact in read:
            waiting.append((row, contact if isinstance(contact, str) else ""))
            refused_before()  # at once, unless rows before it are under way: they would gather here
            if not isinstance(contact, str):
                yield contact

    with service.contacts.import_(sent(), name, patience=patience) as stream:
        for outcome in stream:
            refused_before()
            row, _ = waiting.popleft()
            if outcome.error is not None:
                refuse(row, outcome.error.message)
            else:
                counted.outcomes[outcome.outcome] += 1
            tick(row.line)
    refused_before()


@contextlib.contextmanager
def _refusals(table: rows.Format, path: Path | None, counted: _Count) -> Iterator[Callable[[rows.Row, str], None]]:
    """Counts refused rows, and writes them to a file if one is wanted."""
    if path is None:
        yield counted.refuse
        return
    with files.written(path) as file:
        write = table.writer(file)

        def refuse(row: rows.Row, why: str) -> None:
            counted.refuse(row, why)
            write(row, why)

        yield refuse


@contextlib.contextmanager
def _progress(source: files.Source, counted: _Count) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal: how much of the file is done, how many rows, how fast, how long it takes yet."""
    screen = show.console(stderr=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    begun = shown = time.monotonic()
    parts = [BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn(compact=True)]
    with Progress(*(parts if source.line_count else parts[2:3]), console=screen, transient=True) as bar:
        task = bar.add_task("", total=source.line_count, told="")

        def tick(line: int) -> None:
            nonlocal shown
            if (now := time.monotonic()) - shown < 0.1:
                return
            shown, done = now, counted.outcomes.total()
            told = f"{done:,} rows, {done / (now - begun):,.0f}/s"
            bar.update(task, completed=line, told=told)

        yield tick


class _Place:
    """Where the name of an import is kept from its start until it is done, so that the same command takes it up."""

    def __init__(self, parts: list[str]) -> None:
        """The place of the import of this file, in this way, to this account of this service."""
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        self._path = platformdirs.user_state_path("multimail", appauthor=False) / "imports" / key

    def begun(self) -> str:
        """The name of the import that was begun and not finished; else a new one, kept whole or not at all."""
        name = str(uuid.uuid4())
        mine = self._path.with_suffix(f".{name}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.exists() and time.time() - self._path.stat().st_mtime > _REMEMBERED_S:
                self._path.unlink()
            mine.write_text(name, encoding="utf-8")
            try:
                self._path.hardlink_to(mine)  # of two that start at once one is first, and names both
            except FileExistsError:
                name = self._path.read_text(encoding="utf-8")
                show.note("Going on with the import that was interrupted; rows done before are not done again.")
            finally:
                mine.unlink()
        except OSError as error:
            show.note(f"If this is interrupted, go on with --import-id {name} ({self._path}: {error.strerror}).")
        return name

    def end(self) -> None:
        """Forgets the name."""
        self._path.unlink(missing_ok=True)


def _interrupted(counted: _Count, name: str, *, by_itself: bool) -> None:
    if by_itself and not counted.outcomes:
        return
    more = "" if by_itself else f" with --import-id {name}"
    show.note(
        f"Stopped after {counted.outcomes.total():,} rows. The same command{more} goes on; nothing is done twice."
    )


def _told(counted: _Count, name: str, errors: Path | None, *, as_json: bool) -> None:
    """Says what became of the rows; refused ones make the command fail."""
    done = counted.outcomes
    if as_json:
        show.as_json(
            {"import_id": name, "rows": done.total()}
            | {outcome: done[outcome] for outcome in ("created", "updated", "unchanged", "refused")}
            | {"refusals": counted.refused}
        )
    else:
        outcomes = ", ".join(f"{done[each]:,} {each}" for each in ("created", "updated", "unchanged", "refused"))
        show.say(f"{done.total():,} rows: {outcomes}.")
        _list_refused(counted, "they are in " + str(errors) if errors else "--errors FILE keeps them all")
    if done["refused"]:
        raise typer.Exit(1)


def _list_refused(counted: _Count, rest: str) -> None:
    for each in counted.refused:
        show.note(f"line {each['line']}: {each['error']}", style="red")
    if counted.outcomes["refused"] > len(counted.refused):
        show.note(f"… and {counted.outcomes['refused'] - len(counted.refused):,} more; {rest}.")


def _unsendable(contact: multimail.ContactRow) -> str:
    """Why a contact cannot be sent, as far as can be told here."""
    try:
        _json.to_struct(contact.metadata or {}, "metadata")
    except multimail.InvalidArgumentError as error:
        return error.message
    return "" if "@" in contact.email else f"{contact.email[:60]!r} is no e-mail address"


def _preview(
    service: multimail.Client,
    read: Iterator[tuple[rows.Row, multimail.ContactRow | str]],
    table: rows.Format,
    mapping: columns.Columns,
    *,
    as_json: bool,
) -> None:
    """Says what an import would do, as far as can be told: only the service decides what is an address."""
    counted, names = _Count(), dict.fromkeys(table.names)
    samples: list[multimail.ContactRow] = []
    asked: list[str] = []

    def look_up() -> None:
        found = service.contacts.get_many(asked)
        known = sum(each is not None for each in found)
        counted.outcomes.update(known=known, new=len(asked) - known)
        asked.clear()

    for row, contact in read:
        if len(names) < 1000:
            names |= dict.fromkeys(row.fields)
        if isinstance(contact, str):
            counted.refuse(row, contact)
        elif why := _unsendable(contact):
            counted.refuse(row, why)
        else:
            asked.append(contact.email)
            if len(samples) < _SAMPLE:
                samples.append(contact)
        if len(asked) == _LOOKED_UP:
            look_up()
    if asked:
        look_up()
    done = counted.outcomes
    places = mapping.places(tuple(names))
    if as_json:
        show.as_json(
            {"rows": done.total(), "new": done["new"], "known": done["known"], "refused": done["refused"]}
            | {"columns": places, "samples": samples, "refusals": counted.refused}
        )
        return
    show.table(("COLUMN", "BECOMES"), [(name, "left out" if p == columns.IGNORED else p) for name, p in places.items()])
    show.say()
    show.table(("EMAIL", "NAME", "METADATA"), [(each.email, each.name, each.metadata) for each in samples])
    show.say()
    show.say(
        f"{done.total():,} rows: {done['new']:,} with new addresses, {done['known']:,} with known ones, "
        f"{done['refused']:,} would be refused. Nothing was changed."
    )
    _list_refused(counted, "they are all told when it is done")
