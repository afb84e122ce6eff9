"""What a run was told on its command line: which service, as whom, and in which form it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

import multimail
from multimail.cli import profiles


@dataclass(slots=True)
class Session:
    """The options before the command.

    Attributes:
        config: The file of profiles.
        profile: The profile that was named; None for the one in use.
        values: Target, key and certificates from options and the environment, None where neither gives one.
        named: Which of these came as an option.
        timeout: Seconds for each call.
        json: Whether the command answers in JSON.
    """

    config: Path
    profile: str | None
    values: dict[str, Any]
    named: set[str]
    timeout: float
    json: bool = False
    _open: list[multimail.Client] = field(default_factory=list)

    def endpoint(self) -> dict[str, Any]:
        """The arguments of a client.

        Options come first, then the profile if one was named, then the environment, then the profile in use.
        """
        known = profiles.Profiles(self.config)
        profile = known.get(self.profile)
        key_file = known.beside(profile.api_key_file) if profile.api_key_file else None
        kept: dict[str, Any] = {
            "target": profile.target,
            "api_key": profile.api_key,
            "tls": profile.tls,
            "ca": known.beside(profile.tls_ca) if profile.tls_ca else None,
        }

        def chosen(name: str) -> Any:
            given, stored = self.values[name], kept[name]
            order = (stored, given) if self.profile and name not in self.named else (given, stored)
            return next((each for each in order if each is not None), None)

        if key_file and kept["api_key"] is None and ("api_key" not in self.named):
            profiles.warn_if_open(key_file)
            kept["api_key"] = key_file.read_text(encoding="utf-8").strip()
        return {name: chosen(name) for name in kept} | {"timeout": self.timeout}

    def client(self) -> multimail.Client:
        """A client that lives as long as the command."""
        made = multimail.Client(**self.endpoint())
        self._open.append(made)
        return made

    def close(self) -> None:
        """Closes what the command opened."""
        while self._open:
            self._open.pop().close()


def session(ctx: typer.Context) -> Session:
    """The session of a command."""
    found: Session = ctx.find_object(Session) or _missing()
    return found


def _missing() -> Session:
    raise RuntimeError("a command runs below the root, which makes the session")


def client(ctx: typer.Context) -> multimail.Client:
    """The client of a command."""
    return session(ctx).client()


def _answers_in_json(ctx: typer.Context, value: bool) -> bool:  # noqa: FBT001  Typer hands it over so
    if value:
        session(ctx).json = True
    return value


Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.", callback=_answers_in_json)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
RequestId = Annotated[
    str | None,
    typer.Option("--request-id", metavar="ID", help="Makes the call repeatable: with the same id it happens once."),
]


def some(found: multimail.Results[Any], limit: int) -> tuple[list[Any], bool]:
    """The results up to a limit, and whether there are more; `found` was asked for one beyond it."""
    results = list(found)
    return results[:limit], len(results) > limit


def agreed(question: str, *, yes: bool) -> None:
    """Asks, and ends the command unless the answer is yes."""
    if yes:
        return
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
