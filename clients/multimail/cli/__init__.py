"""The command line `multimail`: what starts it, and what it says when its extra is not installed."""

from __future__ import annotations

import sys

_NEEDS = {"typer", "rich", "platformdirs", "tomlkit"}


def main() -> None:
    """Runs the command line; without the extra it says how to install that."""
    try:
        from multimail.cli.app import run  # noqa: PLC0415  the extra may not be there
    except ModuleNotFoundError as error:
        if error.name not in _NEEDS:
            raise
        sys.exit("The command line needs the extra cli; install it with: pip install 'multimail[cli]'")
    run()
