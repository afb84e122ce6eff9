"""`multimail watch`: what happens, as it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimail.cli import show, values
from multimail.cli.contacts import Filter, Where
from multimail.cli.reading import Box
from multimail.cli.session import Json, client

if TYPE_CHECKING:
    import multimail


def watch(
    ctx: typer.Context,
    types: Annotated[
        list[str] | None, typer.Option("--type", "-t", metavar="TYPE", help="Only email_held, …; may be repeated.")
    ] = None,
    mailbox: Box = None,
    contacts: Annotated[bool, typer.Option("--contacts", help="Contacts as they change, instead.")] = False,
    where: Where = None,
    filter_: Filter = "",
    after_seq: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="Begin behind this number; 0 for the oldest kept.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="End after so many.")] = None,
    as_json: Json = False,
) -> None:
    """Follow what happens until Ctrl-C, from now on, in order and without a gap; with --json one JSON line for each.

    $ multimail watch --type email_held

    $ multimail watch --contacts --where metadata.plan=pro --json
    """
    if not contacts and (where or filter_):
        raise typer.BadParameter("--where and --filter are for --contacts.")
    if contacts and (types or mailbox):
        raise typer.BadParameter("--type and --mailbox are not for --contacts.")
    service = client(ctx)
    service.mailboxes.list(limit=1)  # tells at once of a service that is away, for which a watch waits minutes
    begin: dict[str, Any] = {"only_new": True} if after_seq is None else {"after_seq": after_seq}
    stream: multimail.Watch[Any] = (
        service.contacts.watch(filters=values.conditions(where or ()), filter=filter_, **begin)
        if contacts
        else service.notifications.watch(types=types or (), mailbox=mailbox, **begin)  # type: ignore[arg-type]
    )
    note_end = not as_json and show.console().is_terminal
    seen = 0
    with stream:
        if note_end:
            show.note("Watching; Ctrl-C ends it.")
        try:
            for each in stream:
                show.as_json(each) if as_json else _line(_change(each) if contacts else _notification(each))
                seen += 1
                if seen == limit:
                    return
        finally:
            if note_end:
                show.note(f"Go on from here with --after-seq {stream.seq}")


def _line(parts: list[Any]) -> None:
    show.say("  ".join(filter(None, map(show.cell, parts))))
    sys.stdout.flush()


def _notification(each: multimail.Notification) -> list[Any]:
    about = [each.email_state, each.rule, each.event, each.email_id or each.contact_id or each.mailbox_id]
    return [each.seq, each.time, each.type, *about, each.agent and f"by {each.agent}"]


def _change(each: multimail.ContactChange) -> list[Any]:
    if each.contact is None:
        return [each.seq, "erased", each.contact_id]
    return [each.seq, "matches" if each.matches else "does not match", each.contact.email, each.contact.metadata or ""]


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Oversight")(watch)
