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

        def chosen(name: str, kept: Any) -> Any:
            given = self.values[name]
            order = (kept, given) if self.profile and name not in self.named else (given, kept)
            return next((each for each in order if each is not None), None)

        kept_key = profile.api_key or profile.api_key_file
        key = chosen("api_key", kept_key)
        return {
            "api_key": known.key_of(profile) if kept_key and key == kept_key else key,
            "target": chosen("target", profile.target),
            "tls": chosen("tls", profile.tls),
            "ca": chosen("ca", known.beside(profile.tls_ca) if profile.tls_ca else None),
            "timeout": self.timeout,
        }

    def client(self, where: dict[str, Any]) -> multimail.Client:
        """A client of that endpoint, which lives as long as the command."""
        made = multimail.Client(**where)
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
    found = session(ctx)
    return found.client(found.endpoint())


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
