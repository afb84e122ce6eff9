"""kill -9 of the service and of the engine, and two services at once: nothing lost, nothing doubled, fsck clean."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from contextlib import asynccontextmanager
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient
from tests.conftest import binaries, engine_on

import multimail
from multimail_server.storage.embedded import find_running, is_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def free_port() -> int:
    """A port nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`multimail-server serve` as a process of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port, self.smtp_port, self.http_port = free_port(), free_port(), free_port()
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("MULTIMAIL_", "MONGODB_"))} | {
            "MULTIMAIL_DATA": str(folder / "data"),
            "MULTIMAIL_PORT": str(self.port),
            "MULTIMAIL_SMTP_PORT": str(self.smtp_port),
            "MULTIMAIL_HTTP_PORT": str(self.http_port),
            "MULTIMAIL_ENGINE": binaries()["py"],
            "MULTIMAIL_LOG_LEVEL": "WARNING",
            **environment,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Runs another command of `multimail-server` beside it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "multimail_server", *arguments, env=self._environment, cwd=self.folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def start(self, *arguments: str) -> str:
        """Starts it and returns what it said when it was ready."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "multimail_server", "serve", *arguments, env=self._environment, cwd=self.folder,
            stdout=asyncio.subprocess.PIPE, stderr=(self.folder / "errors.log").open("ab"),
        )  # fmt: skip
        assert self.process.stdout is not None
        said = b""
        while b"Try it:" not in said:
            line = await asyncio.wait_for(self.process.stdout.readline(), 40)
            assert line, (said.decode(), (self.folder / "errors.log").read_text())
            said += line
        return said.decode()

    async def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Ctrl-C, which must end it within ten seconds and some patience for a busy machine."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        await asyncio.wait_for(self.process.wait(), 15)

    def client(self) -> multimail.AsyncClient:
        """A client with the key it keeps."""
        key = (self.folder / "data" / "api-key").read_text().strip()
        return multimail.AsyncClient(api_key=key, target=f"127.0.0.1:{self.port}")

    def engine_pid(self) -> int:
        """The engine's process."""
        return int(json.loads((self.folder / "data" / "engine.json").read_text())["pid"])


@asynccontextmanager
async def serving(folder: Path, **environment: str) -> AsyncIterator[Server]:
    """A server that is stopped in the end, engine included."""
    server = Server(folder, **environment)
    await server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.returncode is None:
            await server.stop()


async def test_scrubbing_survives_a_kill(tmp_path: Path) -> None:
    """An erasure whose mail was not scrubbed yet when the service was killed is finished by the next start."""
    async with serving(tmp_path) as server:
        async with server.client() as client:
            await client.mailboxes.create(email="box@kill.test")
            sent = await client.send_email(
                from_mailbox="box@kill.test", to="gone@out.test", subject="s", body="private"
            )
            await client.contacts.delete(email="gone@out.test")
        await server.kill()
        await server.start()
        async with server.client() as client:
            for _ in range(100):
                mail = await client.get_email(sent.id)
                if not mail.body:
                    break
                await asyncio.sleep(0.1)
            assert ("", "", []) == (mail.body, mail.subject, mail.to)
            assert "gone" not in repr(mail)


async def test_life_of_a_service(tmp_path: Path) -> None:
    """It prints a ready key, keeps it over kill -9, finds engine and data again, refuses a second, leaves nothing."""
    server = Server(tmp_path)
    said = await server.start()
    key_file = tmp_path / "data" / "api-key"
    assert key_file.read_text().strip() in said
    assert key_file.stat().st_mode & 0o777 == 0o600
    async with server.client() as client:
        await client.contacts.upsert(email="kept@acme.test", metadata={"n": 1})
    second = Server(tmp_path)
    code, output = await second.command("serve")
    assert code != 0
    assert "already running" in output
    engine = server.engine_pid()
    await server.kill()
    assert is_alive(engine)
    assert key_file.read_text().strip() in await server.start()
    assert engine == server.engine_pid()
    async with server.client() as client:
        assert (await client.contacts.get(email="kept@acme.test")).metadata == {"n": 1}
        await client.contacts.upsert(email="kept@acme.test", metadata={"n": 2})
    code, output = await server.command("keys", "create", "--agent", "bot", "--scopes", "read")
    assert (code, output.startswith("mm_live_")) == (0, True)
    key_id = output.split("This is ")[1].split(" ")[0]
    reader = multimail.AsyncClient(api_key=output.split("\n")[0], target=f"127.0.0.1:{server.port}")
    assert (await reader.contacts.get(email="kept@acme.test")).metadata["n"] == 2
    with pytest.raises(multimail.PermissionDeniedError):
        await reader.contacts.upsert(email="x@acme.test")
    code, output = await server.command("keys", "list")
    assert (code, key_id in output) == (0, True)
    assert ((await server.command("keys", "revoke", key_id))[0], True) == (0, True)
    await asyncio.sleep(5.5)
    with pytest.raises(multimail.UnauthenticatedError):
        await reader.contacts.get(email="kept@acme.test")
    await reader.close()
    await server.stop()
    assert not is_alive(engine)
    assert not (tmp_path / "data" / "engine.json").exists()


class Sink:
    """A relay that counts what it took, by Message-ID."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Takes a mail."""
        self.taken.append(str(message_from_bytes(envelope.content)["Message-ID"]))
        return "250 taken"


def between_mark_and_outcome(server: Server) -> set[str]:
    """Message-IDs of mails that a dead service left with a dot mark and no outcome."""
    uri = find_running(server.folder / "data")
    assert uri is not None
    with MongoClient(uri) as mongo:
        found = mongo["multimail"]["emails"].find({"recipients": {"$elemMatch": {"dot": True, "state": "pending"}}})
        return {email["headers"]["message_id"] for email in found}


async def send_many(server: Server, accepted: dict[str, str], count: int, killer: Any) -> None:
    """Sends, several at a time, over what happens meanwhile; remembers what was accepted. `killer` runs halfway."""
    numbers = iter(range(count))
    async with server.client() as client:

        async def one() -> None:
            for number in numbers:
                if number == count // 2:
                    await killer()
                for _ in range(100):
                    try:
                        mail = await client.send_email(
                            from_mailbox="box@kill.test", to=f"p{number % 20}@out.test", subject=f"{number}",
                            body="x", request_id=f"send-{number}",
                        )  # fmt: skip
                    except (multimail.UnavailableError, multimail.DeadlineExceededError):
                        await asyncio.sleep(0.1)
                        continue
                    accepted[mail.id] = mail.message_id
                    break

        await asyncio.gather(*(one() for _ in range(8)))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["service", "engine"])
async def test_kill_in_the_middle_of_sends(tmp_path: Path, victim: str) -> None:
    """After kill -9 in the middle of 100 sends every accepted mail goes out, logs are whole and fsck is clean."""
    from aiosmtpd.smtp import SMTP

    sink = Sink()
    relay = await asyncio.get_running_loop().create_server(lambda: SMTP(sink), "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    async with serving(tmp_path, MULTIMAIL_SMTP_URL=f"smtp://127.0.0.1:{port}") as server:
        async with server.client() as client:
            await client.mailboxes.create(email="box@kill.test")

        async def kill() -> None:
            if victim == "engine":
                os.kill(server.engine_pid(), signal.SIGKILL)
            else:
                await server.kill()
                in_gap.update(between_mark_and_outcome(server))
                await server.start()

        in_gap: set[str] = set()
        accepted: dict[str, str] = {}
        await send_many(server, accepted, 100, kill)
        assert len(accepted) == 100
        async with server.client() as client:
            for _ in range(600):
                states = [mail.state async for mail in await client.list_emails()]
                if set(states) == {"sent"}:
                    break
                await asyncio.sleep(0.1)
            assert states == ["sent"] * 100
            logs = [
                entry.email_id
                for n in range(20)
                async for entry in await client.contacts.interactions(email=f"p{n}@out.test")
            ]
            assert sorted(accepted) == sorted(logs)
        assert set(accepted.values()) == set(sink.taken)
        # Only what was between dot mark and outcome when the service died may have gone out twice; a service that
        # outlives its engine still knows every outcome.
        assert {each for each in sink.taken if sink.taken.count(each) > 1} <= in_gap
        code, output = await server.command("fsck")
        assert (code, "0 problems" in output) == (0, True), output
    relay.close()


@pytest.mark.timeout(240)
async def test_two_services_on_one_engine(tmp_path: Path) -> None:
    """Two services, 16 callers each, 2,000 mixed changes of the same account: nothing lost, fsck clean."""
    async with (
        engine_on(tmp_path / "engine", binaries()["py"]) as uri,
        serving(tmp_path, MONGODB_URI=uri) as one,
        serving(tmp_path, MONGODB_URI=uri) as two,
    ):
        clients = [one.client(), two.client()]
        await clients[0].mailboxes.create(email="box@two.test")
        seed = random.randrange(1 << 30)
        print(f"seed {seed}")
        dice = random.Random(seed)
        work = iter([(n, dice.randrange(10), dice.randrange(25)) for n in range(2_000)])
        done = {"merge": 0, "count": 0, "send": 0}

        async def caller(client: multimail.AsyncClient) -> None:
            for number, kind, person in work:
                email = f"p{person}@two.test"
                if kind < 5:
                    await client.contacts.upsert(email=email, metadata={f"k{number % 400}": 1})
                    done["merge"] += 1
                elif kind < 9:
                    await client.contacts.upsert(email=email)
                    await client.contacts.update(email=email, increment={"sum": 1})
                    done["count"] += 1
                else:
                    await client.send_email(from_mailbox="box@two.test", to=email, subject=str(number))
                    done["send"] += 1

        await asyncio.gather(*(caller(clients[n % 2]) for n in range(32)))
        found = [contact async for contact in await clients[1].contacts.search(domain="two.test")]
        assert done["count"] == sum(contact.metadata.get("sum", 0) for contact in found)
        assert done["send"] == sum(contact.interaction_count for contact in found)
        for client in clients:
            await client.close()
        code, output = await one.command("fsck")
        assert (code, "0 problems" in output) == (0, True), output
