"""The command line of an agent, and of the person who watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli.run import Cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Account


@pytest.fixture
async def cli(account: Account, tmp_path: Path) -> Cli:
    """Somebody who may do what an agent may."""
    return Cli(account, await account.key(), tmp_path)


@pytest.fixture
async def overseer(account: Account, tmp_path: Path) -> Cli:
    """Somebody who decides about mail that waits."""
    return Cli(account, await account.key("read", "admin", "oversight"), tmp_path)
