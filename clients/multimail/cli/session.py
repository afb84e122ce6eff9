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
        again: What the command must be told, besides its request id, to be the same when it is repeated.
    """

    config: Path
    profile: str | None
    values: dict[str, Any]
    named: set[str]
    timeout: float
    json: bool = False
    again: str = ""
    _open: list[multimail.Client] = field(default_factory=list)

    def endpoint(self) -> dict[str, Any]:
        """The arguments of a client.

        Options come first, then the profile if one was named, then the environment, then the profile in use. What
        decides about the target decides about the key: that of a profile is for its own service, and goes nowhere else.
        """
        known = profiles.Profiles(self.config)
        profile = known.get(self.profile)
        optional = {name: self.values[name] if name in self.named else None for name in self.values}
        around = {name: None if name in self.named else value for name, value in self.values.items()}
        order = (profile.target, around["target"]) if self.profile else (around["target"], profile.target)
        target = next((each for each in (optional["target"], *order) if each is not None), None)
        if target and profile.target and target != profile.target:
            profile = profiles.Profile()
        leads = self.profile or (profile.target and not optional["target"] and not around["target"])
        key = optional["api_key"]
        if key is None and (profile.api_key or profile.api_key_file) and (leads or not around["api_key"]):
            key = known.key_of(profile)
        key = key or around["api_key"]
        if not key:
            raise multimail.UnauthenticatedError(
                f"No API key for {target}." if target else "No API key.", reason="KEY_MISSING"
            )
        ca = known.beside(profile.tls_ca) if profile.tls_ca else None
        return {
            "api_key": key,
            "target": target,
            "tls": optional["tls"] if optional["tls"] is not None else profile.tls,
            "ca": optional["ca"] or ca or around["ca"],
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
