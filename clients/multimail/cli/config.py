"""`multimail config`: profiles."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from multimail.cli import show
from multimail.cli.profiles import SETTINGS, Profiles
from multimail.cli.session import Json, session
from multimail.cli.values import pair

app = typer.Typer(no_args_is_help=True, help="Profiles: which service is spoken to, with which key.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The profile.")]


def _profiles(ctx: typer.Context) -> Profiles:
    return Profiles(session(ctx).config)


@app.command("set")
def set_(
    ctx: typer.Context,
    settings: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help=f"Of {', '.join(SETTINGS)}.")],
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="The profile; else the one in use.")
    ] = None,
) -> None:
    """Keep settings in a profile; an empty value takes one out, and api_key=- asks for it, or reads it from stdin.

    $ multimail config set target=mail.you.com:443 api_key=-

    $ multimail config set --profile prod target=mail.you.com:443 api_key_file=~/.secrets/multimail
    """
    profiles = _profiles(ctx)
    values: dict[str, Any] = {}
    for setting, value in map(pair, settings):
        if setting not in SETTINGS:
            raise typer.BadParameter(f"{setting!r} is none of {', '.join(SETTINGS)}.")
        values[setting] = _value(setting, value)
    if values.get("api_key") and values.get("api_key_file"):
        raise typer.BadParameter("Give the key itself, or the file that holds it, not both.")
    for one, other in (("api_key", "api_key_file"), ("api_key_file", "api_key")):
        if values.get(one):
            values[other] = None  # else an old one would go on to hold
    name = profile or session(ctx).profile or profiles.used
    profiles.set(name, values)
    show.note(f"Kept in profile {name} of {profiles.path}.")


def _value(setting: str, given: str) -> Any:
    if setting == "api_key" and given == "-":
        given = typer.prompt("API key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    given = given.strip()
    if setting != "tls" or not given:
        return given or None
    if given not in {"true", "false"}:
        raise typer.BadParameter(f"tls={given} is neither true nor false.")
    return given == "true"


@app.command("list")
def list_all(ctx: typer.Context, as_json: Json = False) -> None:
    """List the profiles; of keys only the end is shown."""
    profiles = _profiles(ctx)
    rows = []
    for name in profiles.names:
        found = profiles.get(name)
        key = f"…{found.api_key[-4:]}" if found.api_key else found.api_key_file
        rows.append({"name": name, "used": name == profiles.used, "target": found.target, "api_key": key,
                     "tls_ca": found.tls_ca, "tls": found.tls})  # fmt: skip
    if as_json:
        show.as_json({"profiles": rows})
        return
    show.table(
        ("PROFILE", "USED", "TARGET", "KEY", "CA"),
        [(row["name"], row["used"], row["target"], row["api_key"], row["tls_ca"]) for row in rows],
    )
    if not rows:
        show.note("There are none; make one with: multimail config set target=host:port api_key=-")


@app.command()
def use(ctx: typer.Context, name: Name) -> None:
    """Make a profile the one that holds when none is named."""
    _profiles(ctx).use(name)


@app.command()
def remove(ctx: typer.Context, name: Name) -> None:
    """Forget a profile."""
    _profiles(ctx).remove(name)


@app.command()
def path(ctx: typer.Context) -> None:
    """Print where the profiles are."""
    show.say(str(session(ctx).config))
