"""A real service on a real engine for every test: its own account each, ports chosen by the system."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import monitoring
from xdist.scheduler import LoadFileScheduling

import multimail
from multimail_server.app import Running, Service
from multimail_server.settings import Settings
from multimail_server.storage.embedded import EmbeddedEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READ_WRITE = ("read", "write", "send", "admin")
_numbers = itertools.count(1)


class Together(LoadFileScheduling):
    """Where tests run in several processes, those of a file stay together, and all that kill and cut in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/faults" if nodeid.startswith("tests/faults/") else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Deals tests out so."""
    return Together(config, log)


class Commands(monitoring.CommandListener):
    """Remembers the commands the service sent to the engine, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: Any) -> None:
        """Notes a command."""
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: Any) -> None:
        """Nothing to note."""

    def failed(self, event: Any) -> None:
        """Nothing to note."""


@dataclass(frozen=True)
class Account:
    """One test's own account on the running service."""

    name: str
    running: Running
    commands: Commands

    async def client(self, *scopes: str, agent: str = "tester") -> multimail.AsyncClient:
        """A client with a new key of this account."""
        key, _ = await self.running.keys.create(self.name, agent, scopes or READ_WRITE)
        return multimail.AsyncClient(api_key=key, target=f"127.0.0.1:{self.running.grpc_port}")

    async def key(self, *scopes: str) -> str:
        """A new key of this account."""
        key, _ = await self.running.keys.create(self.name, "tester", scopes or READ_WRITE)
        return key

    def mailbox(self, name: str = "box") -> str:
        """An address no other test uses."""
        return f"{name}@{self.name}.test"


def binaries() -> dict[str, str]:
    """The embedded engines at hand: `py` always, `rs` where it was built."""
    found = {"py": str(Path(sys.executable).parent / "secantusd-py")}
    rs = shutil.which(os.environ.get("MULTIMAIL_ENGINE", "secantusd-rs")) or shutil.which(".engine/bin/secantusd-rs")
    return found | ({"rs": rs} if rs else {})


@asynccontextmanager
async def engine_on(folder: Path, binary: str) -> AsyncIterator[str]:
    """An engine of its own in a folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = EmbeddedEngine(folder, binary)
    uri = await engine.start()
    try:
        yield uri
    finally:
        await engine.stop()


def settings_for(uri: str, folder: Path, **more: Any) -> Settings:
    """Settings of a service on that engine, on ports the system chooses."""
    return Settings(mongodb_uri=uri, data=folder, port=0, smtp_port=0, http_port=0, hostname="here.test", **more)


@pytest.fixture(scope="session")
async def engine_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """One engine for the whole run."""
    async with engine_on(tmp_path_factory.mktemp("engine"), binaries()["py"]) as uri:
        yield uri


@pytest.fixture(scope="session")
async def service(engine_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Running, Commands]]:
    """One service for the whole run."""
    commands = Commands()
    async with Service(settings_for(engine_uri, tmp_path_factory.mktemp("data")), listeners=[commands]) as running:
        yield running, commands


@pytest.fixture
def account(service: tuple[Running, Commands]) -> Account:
    """An account nobody else uses."""
    return Account(f"acct{next(_numbers)}", *service)


@pytest.fixture
async def client(account: Account) -> AsyncIterator[multimail.AsyncClient]:
    """A client of the test's account that may do everything an agent may."""
    async with await account.client() as made:
        yield made
