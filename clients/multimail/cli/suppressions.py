"""`multimail suppressions`."""

from __future__ import annotations

from typing import Annotated

import typer

import multimail
from multimail.cli import show
from multimail.cli.session import Json, Limit, RequestId, client, some

app = typer.Typer(no_args_is_help=True, help="Suppressions: addresses that no mailbox writes to.")

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address, bare.")]


@app.command("list")
def list_all(
    ctx: typer.Context,
    address: Annotated[str, typer.Option(metavar="ADDRESS", help="Only this one, if it is suppressed.")] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the suppressed addresses."""
    found, more = some(client(ctx).suppressions.list(address=address, limit=limit + 1), limit)
    if as_json:
        show.as_json({"suppressions": found})
    else:
        show.table(
            ("ADDRESS", "REASON", "SINCE", "EMAIL"), [(s.address, s.reason, s.create_time, s.email_id) for s in found]
        )
    if not found:
        show.note("There are none." if not address else "It is not suppressed.")
    elif more:
        show.note(f"There are more than {limit}; see more with --limit.")


@app.command()
def add(ctx: typer.Context, address: Address, request_id: RequestId = None, as_json: Json = False) -> None:
    """Suppress an address: sends to it are refused.

    $ multimail suppressions add bo@person.example
    """
    _shown(client(ctx).suppressions.add(address, request_id=request_id), as_json=as_json)


@app.command()
def remove(ctx: typer.Context, address: Address, request_id: RequestId = None, as_json: Json = False) -> None:
    """Lift a suppression, whatever its reason."""
    _shown(client(ctx).suppressions.remove(address, request_id=request_id), as_json=as_json)


def _shown(found: multimail.Suppression, *, as_json: bool) -> None:
    if as_json:
        show.as_json(found)
    else:
        show.facts([("address", found.address), ("reason", found.reason), ("since", found.create_time)])
