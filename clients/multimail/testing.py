"""A pytest plugin for your own tests: a real service, with an engine, ports and a folder of its own.

Example:
    # conftest.py
    pytest_plugins = ["multimail.testing"]

    # test_agent.py
    def test_my_agent_knows_elena(multimail_service):
        client = multimail_service.client(account="elena")  # accounts see nothing of each other
        client.contacts.upsert(email="elena@acmecorp.com", metadata={"plan": "pro"})
        assert my_agent.knows(multimail_service.target, multimail_service.key(account="elena"))
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multimail.aio import AsyncClient
from multimail.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SERVER = (sys.executable, "-m", "multimail_server")
_STARTS_WITHIN_S = 60.0
_STOPS_WITHIN_S = 20.0
AGENT_SCOPES = ("read", "write", "send", "admin")


class ServiceError(Exception):
    """The service, or one of its commands, failed; what it said follows."""


@dataclass(frozen=True)
class MultimailService:
    """A service that runs in a process of its own.

    Attributes:
        target: Where gRPC listens, `host:port`.
        http_url: Where HTTP listens, `http://host:port`.
        smtp_port: Where mail comes in, on this machine.
        outbox: The folder to which mail goes whose recipients are no mailboxes here, one `.eml` each.
        api_key: The ready key of account `main`: all an agent may do.
        log: The file the service logs to.
    """

    target: str
    http_url: str
    smtp_port: int
    outbox: Path
    api_key: str
    log: Path
    environment: Mapping[str, str]

    def key(self, account: str = "main", *, agent: str = "tester", scopes: tuple[str, ...] = AGENT_SCOPES) -> str:
        """A new key, which takes a second or two; an account is there as soon as it has a key.

        Args:
            account: Whose key it is.
            agent: The name that shows in the log.
            scopes: What it may do: `("read", "oversight")` is an overseer's.
        """
        command = ("keys", "create", "--account", account, "--agent", agent, "--scopes", ",".join(scopes))
        done = subprocess.run([*_SERVER, *command], env=self.environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ServiceError(done.stderr.strip())
        return done.stdout.split()[0]

    def client(self, account: str = "", *, agent: str = "tester", scopes: tuple[str, ...] = AGENT_SCOPES) -> Client:
        """A client: with the ready key when no account is named, else with a new one."""
        key = self.key(account, agent=agent, scopes=scopes) if account else self.api_key
        return Client(api_key=key, target=self.target)

    def async_client(
        self, account: str = "", *, agent: str = "tester", scopes: tuple[str, ...] = AGENT_SCOPES
    ) -> AsyncClient:
        """The same for asyncio."""
        key = self.key(account, agent=agent, scopes=scopes) if account else self.api_key
        return AsyncClient(api_key=key, target=self.target)


@contextmanager
def running_service(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[MultimailService]:
    """A service on the embedded engine, with its files in the folder; it is stopped when the block ends.

    Args:
        folder: An empty folder.
        settings: Environment variables of the service, such as `MULTIMAIL_APPROVAL_TTL_H`; what is set around the
            tests does not reach it.

    Raises:
        ServiceError: It does not start; the error says why.
    """
    data, log = folder / "data", folder / "service.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MULTIMAIL_", "MONGODB_URI"))}
    ports = dict.fromkeys(("MULTIMAIL_PORT", "MULTIMAIL_HTTP_PORT", "MULTIMAIL_SMTP_PORT"), "0")
    environment = {**own, **ports, "MULTIMAIL_DATA": str(data), **(settings or {})}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*_SERVER, "serve", "--json"], env=environment, stdout=subprocess.PIPE, stderr=file, text=True
        )
    late = threading.Timer(_STARTS_WITHIN_S, process.kill)
    late.start()
    try:
        place = _read_place(process, log)
        late.cancel()
        yield MultimailService(
            target=place["grpc"],
            http_url=place["http"],
            smtp_port=int(place["smtp"].rpartition(":")[2]),
            outbox=Path(place["outbox"]),
            api_key=place["api_key"],
            log=log,
            environment=environment,
        )
    finally:
        late.cancel()
        _end(process)


def _read_place(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    """What the service says of where it is, once it serves."""
    line = process.stdout.readline() if process.stdout else ""
    if line:
        place: dict[str, str] = json.loads(line)
        return place
    process.wait()
    said = log.read_text().strip()
    if "No module named" in said:
        raise ServiceError("The service is not installed beside the client: pip install 'multimail[server,embedded]'.")
    raise ServiceError(f"The service did not start within {_STARTS_WITHIN_S:.0f} seconds. It said:\n{said[-2000:]}")


def _end(process: subprocess.Popen[str]) -> None:
    """Has the service stop, which it does within ten seconds; kills it when it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def multimail_settings() -> dict[str, str]:
    """Environment variables of the service, for you to override; none by default."""
    return {}


@pytest.fixture(scope="session")
def multimail_service(
    tmp_path_factory: pytest.TempPathFactory, multimail_settings: dict[str, str]
) -> Iterator[MultimailService]:
    """A service for the whole run, started when the first test asks for it."""
    with running_service(tmp_path_factory.mktemp("multimail"), multimail_settings) as service:
        yield service
