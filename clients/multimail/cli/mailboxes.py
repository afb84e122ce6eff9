"""`multimail mailboxes`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, get_args

import typer

import multimail
from multimail import words
from multimail.cli import show, values
from multimail.cli.sending import MODES
from multimail.cli.session import Json, Limit, RequestId, Yes, agreed, client, some

app = typer.Typer(no_args_is_help=True, help="Mailboxes: the addresses mail leaves from and arrives at.")

Which = Annotated[str, typer.Argument(metavar="MAILBOX", help="By address or id.")]
DisplayName = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="The name shown in From.")]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help=f"One of {MODES}.")]
First = Annotated[
    bool | None, typer.Option("--hold-first-contact/--no-hold-first-contact", help="Hold the first mail to everybody.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="WHO", help="An address or domain that needs no approval; may be repeated."),
]
Ttl = Annotated[
    timedelta | None,
    typer.Option("--approval-ttl", parser=values.duration, metavar="TIME", help="How long held mail waits: 1d."),
]
InDoubt = Annotated[
    str | None,
    typer.Option("--in-doubt", metavar="POLICY", help=f"One of {', '.join(get_args(words.InDoubtPolicy))}."),
]
Etag = Annotated[str, typer.Option("--etag", metavar="ETAG", help="Only while this is its version.")]


@app.command("list")
def list_all(ctx: typer.Context, limit: Limit = 100, as_json: Json = False) -> None:
    """List the mailboxes that are not deleted."""
    found, more = some(client(ctx).mailboxes.list(limit=limit + 1), limit)
    if as_json:
        show.as_json({"mailboxes": found})
    else:
        show.table(
            ("MAILBOX", "ADDRESS", "MODE", "NAME"), [(m.id, m.email, m.oversight_mode, m.display_name) for m in found]
        )
    if not found:
        show.note("There are none; make one with: multimail mailboxes create you@your-domain.com")
    elif more:
        show.note(f"There are more than {limit}; see more with --limit.")


@app.command()
def create(
    ctx: typer.Context,
    email: Annotated[str, typer.Argument(metavar="ADDRESS", help="Its address.")],
    name: DisplayName = None,
    mode: Mode = None,
    hold_first_contact: First = None,
    allow: Allow = None,
    approval_ttl: Ttl = None,
    in_doubt: InDoubt = None,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Make a mailbox; monitored unless another mode is said.

    $ multimail mailboxes create sales@you.com --name "You, sales" --mode gated_send
    """
    rules = _rules(name, mode, hold_first_contact, approval_ttl, in_doubt)
    made = client(ctx).mailboxes.create(email=email, allow_list=allow or (), request_id=request_id, **rules)
    _shown(made, as_json=as_json)


@app.command()
def update(
    ctx: typer.Context,
    mailbox: Which,
    name: DisplayName = None,
    mode: Mode = None,
    hold_first_contact: First = None,
    allow: Allow = None,
    allow_nobody: Annotated[bool, typer.Option("--allow-nobody", help="Empty the list of --allow.")] = False,
    approval_ttl: Ttl = None,
    in_doubt: InDoubt = None,
    etag: Etag = "",
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Change what is given; --allow gives the whole new list.

    $ multimail mailboxes update sales@you.com --mode monitored
    """
    if allow and allow_nobody:
        raise typer.BadParameter("--allow and --allow-nobody contradict each other.")
    changed = client(ctx).mailboxes.update(
        mailbox, allow_list=[] if allow_nobody else allow, etag=etag, request_id=request_id,
        **_rules(name, mode, hold_first_contact, approval_ttl, in_doubt),
    )  # fmt: skip
    _shown(changed, as_json=as_json)


def _rules(
    name: str | None,
    mode: str | None,
    hold_first_contact: bool | None,  # noqa: FBT001  as Typer hands it over
    approval_ttl: timedelta | None,
    in_doubt: str | None,
) -> dict[str, Any]:
    """What is given of how a mailbox is kept."""
    given = {
        "display_name": name,
        "oversight_mode": mode,
        "hold_first_contact": hold_first_contact,
        "approval_ttl": approval_ttl,
        "in_doubt_policy": in_doubt,
    }
    return {field: value for field, value in given.items() if value is not None}


@app.command()
def delete(
    ctx: typer.Context, mailbox: Which, etag: Etag = "", yes: Yes = False, request_id: RequestId = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Delete a mailbox: its address is free again, mail that waits does not go, log entries stay."""
    mailboxes = client(ctx).mailboxes
    if not yes:
        found = mailboxes.get(mailbox)
        agreed(show.one_line(f"Delete {found.email}? Mail that waits there does not go."), yes=False)
        etag = etag or found.etag
    _shown(mailboxes.delete(mailbox, etag=etag, request_id=request_id), as_json=as_json)


def _shown(mailbox: multimail.Mailbox, *, as_json: bool) -> None:
    if as_json:
        show.as_json(mailbox)
        return
    show.facts(
        [
            ("mailbox", mailbox.id),
            ("address", mailbox.email),
            ("name", mailbox.display_name),
            ("mode", mailbox.oversight_mode),
            ("holds first contact", mailbox.hold_first_contact),
            ("allowed", mailbox.allow_list),
            ("approval within", mailbox.approval_ttl),
            ("in doubt", mailbox.in_doubt_policy),
            ("etag", mailbox.etag),
            ("deleted", mailbox.delete_time),
        ]
    )
