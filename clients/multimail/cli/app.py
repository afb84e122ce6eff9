"""The command `multimail`: its options, its commands, and how a failure is told."""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import multimail
from multimail import _json
from multimail.cli import (
    config,
    contacts,
    deciding,
    exporting,
    importing,
    mailboxes,
    profiles,
    reading,
    sending,
    show,
    suppressions,
    watching,
)
from multimail.cli.session import Session

_EXIT_CODES: list[tuple[type[multimail.MultimailError], int]] = [
    (multimail.InvalidArgumentError, 2),
    (multimail.NotFoundError, 3),
    (multimail.UnauthenticatedError, 4),
    (multimail.PermissionDeniedError, 4),
    (multimail.UnavailableError, 5),
    (multimail.DeadlineExceededError, 5),
    (multimail.ResourceExhaustedError, 5),
]
_DOUBTFUL = {"OUTCOME_UNKNOWN", "OUT_OF_TIME", "DEADLINE_EXCEEDED"}
_EPILOG = (
    "Exit codes: 0 done; 1 refused or failed; 2 used wrongly; 3 not found; 4 no key, or a key without the scope; "
    "5 unreachable, too busy or out of time, so try again; 130 interrupted. "
    "With --json, answers are JSON on stdout, and errors JSON on stderr."
)


class _Root(TyperGroup):
    """The root command, which tells failures in a sentence or two."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except multimail.MultimailError as error:
            _tell(ctx.obj, sentence(error, getattr(ctx.obj, "again", "")), error)
            raise typer.Exit(exit_code(error)) from None
        except typer.TyperException as error:
            if "\n" in error.message.strip() or not error.format_message():  # a group without a command: its help
                raise
            _tell(ctx.obj, _usage(error, ctx), None)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _tell(ctx.obj, f"{error.filename or 'A file'}: {error.strerror or error}.", None)
            raise typer.Exit(1) from None
        finally:
            if isinstance(ctx.obj, Session):
                ctx.obj.close()


def _usage(error: typer.TyperException, ctx: Any) -> str:
    """What was said wrongly, and where to look how it is said."""
    said = error.message if getattr(error, "param", None) is None and error.message else error.format_message()
    where = getattr(error, "ctx", None) or ctx
    return f"{said.rstrip('.')}. See {where.command_path} --help."


def _tell(session: Any, text: str, error: multimail.MultimailError | None) -> None:
    if not (isinstance(session, Session) and session.json):
        show.note(text, style="red")
        return
    facts: dict[str, Any] = {"message": text}
    if error is not None:
        facts = {
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
            "violations": error.violations,
            "retry_after": error.retry_after,
            "request_id": error.request_id,
        }
    sys.stderr.write(json.dumps({"error": _json.plain(facts)}) + "\n")


def exit_code(error: multimail.MultimailError) -> int:
    """The exit code of a failure."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def sentence(error: multimail.MultimailError, again: str = "") -> str:
    """What went wrong and what to do about it, in the words of the command line.

    Args:
        error: What went wrong.
        again: What the command must be told, besides its request id, to be the same.
    """
    if error.reason == "KEY_MISSING" and not error.log_id:
        return (
            f"{error.message.rstrip('.')}. Keep one with `multimail config set api_key=-`, or set MULTIMAIL_API_KEY; "
            "`make run` prints one, `multimail-server keys create` makes more."
        )
    if error.reason in _DOUBTFUL and error.request_id:
        return (
            f"{error.message.rstrip('.')}. It may have happened: say the same again with "
            f"{again}--request-id {error.request_id}, so that it happens once."
        )
    if isinstance(error, multimail.DeadlineExceededError):
        return f"{error.message.rstrip('.')}. Allow it more time with --timeout."
    said = f"The service cannot be reached. {error.hint}" if error.reason == "CONNECTION" and error.hint else str(error)
    return said.replace("with ca= or", "with --tls-ca or")


app = typer.Typer(
    name="multimail",
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
app.add_typer(contacts.app, name="contacts")
for part in (sending, reading, deciding, watching):
    part.add_to(app)
app.add_typer(mailboxes.app, name="mailboxes")
app.add_typer(suppressions.app, name="suppressions")
app.add_typer(config.app, name="config")
contacts.app.command("import")(importing.import_)
contacts.app.command("export")(exporting.export)


def _version(value: bool) -> None:  # noqa: FBT001  Typer hands it over so
    if value:
        show.say(f"multimail {importlib.metadata.version('multimail')}")
        raise typer.Exit


def _profile_names(ctx: typer.Context) -> list[str]:
    return profiles.Profiles(ctx.params.get("config") or profiles.default_path()).names


@app.callback()
def root(
    ctx: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-p",
            envvar="MULTIMAIL_PROFILE",
            metavar="NAME",
            autocompletion=_profile_names,
            help="The profile to use; see multimail config.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            envvar="MULTIMAIL_TARGET",
            show_envvar=False,
            metavar="HOST:PORT",
            help="Where the service is; else 127.0.0.1:50051.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MULTIMAIL_API_KEY",
            metavar="KEY",
            show_envvar=False,
            help="The key; others on this machine can see options, so better keep it in a profile.",
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="MULTIMAIL_TLS_CA",
            show_envvar=False,
            metavar="FILE",
            help="Certificates to trust instead of the system's.",
        ),
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--plaintext", help="Encrypt; by default to every host but this machine.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long a call may take.")] = 30.0,
    config: Annotated[
        Path | None,
        typer.Option(envvar="MULTIMAIL_CONFIG", metavar="FILE", help="The file of profiles.", show_default=False),
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Contacts, mail and their log from the command line.

    Say multimail COMMAND --help for examples.

    Options win over a profile that is named, that over the environment
    (MULTIMAIL_TARGET, _API_KEY, _TLS_CA), and that over the profile in use.
    A profile's key is for its own target, and its target for its own key.
    """
    values = {"target": target, "api_key": api_key, "ca": tls_ca, "tls": tls}
    options = {"target": "target", "api_key": "api_key", "ca": "tls_ca", "tls": "tls"}
    named = {
        name
        for name, option in options.items()
        if (source := ctx.get_parameter_source(option)) is not None and source.name == "COMMANDLINE"
    }
    ctx.obj = Session(config or profiles.default_path(), profile, values, named, timeout)


@app.command(rich_help_panel="Doors")
def mcp(ctx: typer.Context) -> None:
    """Serve the tools of MCP over stdin and stdout, for a program that runs agents."""
    try:
        stdio = importlib.import_module("multimail.mcp.stdio")  # of another extra
    except ModuleNotFoundError as error:
        if not re.match(r"(multimail\.)?mcp\b", error.name or ""):
            raise
        show.note("The tools for agents need the extra mcp; install it with: pip install 'multimail[mcp]'", style="red")
        raise typer.Exit(1) from None
    stdio.run(multimail.AsyncClient(**ctx.obj.endpoint()))


def run() -> None:
    """Runs the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app()
