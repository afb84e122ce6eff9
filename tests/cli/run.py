"""The command line as a test uses it: in this process for most, as a program where that is what matters."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.testing
from typer.testing import CliRunner

from multimail.cli.app import app

if TYPE_CHECKING:
    from tests.conftest import Account

# The tree of commands takes longer to make than most commands to run: it is made once for all tests.
typer.testing._get_command = functools.cache(typer.testing._get_command)
PROGRAM = str(Path(sys.executable).parent / "multimail")


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


class Cli:
    """The command line of somebody who has this key, with folders of their own."""

    def __init__(self, account: Account, key: str, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "MULTIMAIL_TARGET": f"127.0.0.1:{account.running.grpc_port}",
            "MULTIMAIL_API_KEY": key,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "COLUMNS": "80",
        }

    async def run(self, *args: object, stdin: str | bytes | None = None, **env: str | None) -> Done:
        """Runs a command."""
        runner = CliRunner(env=self.env | env)
        result = await asyncio.to_thread(runner.invoke, app, [str(each) for each in args], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    async def say(self, *args: object, code: int = 0, stdin: str | bytes | None = None) -> str:
        """Runs a command that ends with this code, and returns what it printed."""
        done = await self.run(*args, stdin=stdin)
        assert done.code == code, done
        return done.out

    async def json(self, *args: object, code: int = 0) -> Any:
        """The same for one that answers in JSON."""
        return json.loads(await self.say(*args, "--json", code=code))

    async def lines(self, *args: object) -> list[Any]:
        """The same for one that answers in JSON Lines."""
        return [json.loads(line) for line in (await self.say(*args)).splitlines()]

    def file(self, name: str, content: str | bytes) -> Path:
        """A file of that content."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
