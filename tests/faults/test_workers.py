"""Several workers on one port: calls outlive a restart, mail and streams a killed worker, nothing the supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiosmtplib
import grpc
import httpx2
import pytest
from aiosmtpd.smtp import SMTP
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pymongo import MongoClient
from tests.conftest import engine_on
from tests.faults.test_kill import Server, Sink, between_mark_and_outcome, serving
from tests.faults.world import best_engine

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import contact_service_pb2_grpc, mail_pb2, mail_service_pb2_grpc
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.storage.embedded import DataLock, end_left_behind, find_running, is_alive
from multimail_server.supervisor import pause_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)  # many programs are started
_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


class Line:
    """A connection of its own to the service, whichever worker that leads to; it tries nothing again by itself."""

    def __init__(self, server: Server) -> None:
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._key = [("authorization", f"Bearer {(server.folder / 'data' / 'api-key').read_text().strip()}")]
        self._contacts = contact_service_pb2_grpc.ContactServiceStub(self.channel)
        self._mail = mail_service_pb2_grpc.MailServiceStub(self.channel)

    async def upsert(self, email: str) -> None:
        """Makes a contact."""
        await self._contacts.UpsertContact(contact_pb.UpsertContactRequest(email=email), metadata=self._key, timeout=30)

    async def send(self, number: int) -> mail_pb2.Email:
        """Sends a mail, the same again while nobody can be reached."""
        request = pb.SendEmailRequest(
            from_mailbox_email="box@workers.test", to=[f"p{number % 10}@out.test"], subject=str(number),
            request_id=f"send-{number}",
        )  # fmt: skip
        while True:
            try:
                return (await self._mail.SendEmail(request, metadata=self._key, timeout=30)).email
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN:
                    raise
                await asyncio.sleep(0.1)

    async def follow(self, seen: list[int]) -> None:
        """Adds the number of every notification, over streams that end."""
        while True:
            request = pb.WatchNotificationsRequest(after_seq=seen[-1] if seen else 0)
            try:
                async for response in self._mail.WatchNotifications(request, metadata=self._key):
                    seen += [response.notification.seq] if response.HasField("notification") else []
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN:
                    raise
            await asyncio.sleep(0.1)


class Web:
    """A connection over HTTP that is kept as long as the service lets it."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def of(cls, server: Server) -> AsyncIterator[Web]:
        """One to this server."""
        key = (server.folder / "data" / "api-key").read_text().strip()
        base, headers = f"http://127.0.0.1:{server.http_port}", {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=30) as client:
            yield cls(client)

    async def upsert(self, email: str) -> None:
        """Makes a contact."""
        assert 200 == (await self._client.post("/v1/contacts:upsert", json={"email": email})).status_code


@asynccontextmanager
async def lines(server: Server, count: int) -> AsyncIterator[list[Line]]:
    """So many connections."""
    made = [Line(server) for _ in range(count)]
    try:
        yield made
    finally:
        for line in made:
            await line.channel.close()


@asynccontextmanager
async def following(some: list[Line]) -> AsyncIterator[list[list[int]]]:
    """What each of these sees of the stream meanwhile."""
    seen: list[list[int]] = [[] for _ in some]
    tasks = [asyncio.create_task(line.follow(each)) for line, each in zip(some, seen, strict=True)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def rows(server: Server, collection: str, where: dict[str, Any]) -> list[dict[str, Any]]:
    """Documents as they stand in the engine."""
    with MongoClient(find_running(server.folder / "data")) as mongo:
        return list(mongo["multimail"][collection].find(where))


def workers(server: Server) -> set[int]:
    """The workers that serve, by process."""
    return {row["pid"] for row in rows(server, "processes", {}) if is_alive(row["pid"])}


def shown(server: Server) -> list[int]:
    """The numbers of all notifications that streams show."""
    return sorted(row["seq"] for row in rows(server, "notifications", {"account": "main"}) if row["shown"])


async def until(holds: Callable[[], bool], server: Server, within_s: float = 60.0) -> None:
    """Polls until something holds; when it does not, the service's log tells more."""
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, (server.folder / "errors.log").read_text()[-3000:]
        await asyncio.sleep(0.3)


async def repeated(act: Callable[[int], Awaitable[Any]], stop: asyncio.Event) -> int:
    """Does it with 0, 1, 2 … until told to stop; returns how often."""
    count = 0
    while not stop.is_set():
        await act(count)
        count += 1
        await asyncio.sleep(0.01)
    return count


async def health(server: Server) -> int | None:
    """What the port says of itself; None when nobody is there."""
    async with lines(server, 1) as (line,):
        try:
            request = health_pb2.HealthCheckRequest()
            return int((await health_pb2_grpc.HealthStub(line.channel).Check(request, timeout=10)).status)
        except grpc.aio.AioRpcError:
            return None


async def test_a_restart_loses_no_call(tmp_path: Path) -> None:
    """SIGHUP replaces all workers under calls, HTTP too, and streams: none fails or misses one; SIGTERM ends all."""
    async with serving(tmp_path, MULTIMAIL_WORKERS="2", MULTIMAIL_CONNECTION_AGE_S="1") as server:
        assert server.process is not None
        before = workers(server)
        assert (2, health_pb2.HealthCheckResponse.SERVING) == (len(before), await health(server))
        stop = asyncio.Event()
        async with AsyncExitStack() as web, lines(server, 4) as (*callers, one, two), following([one, two]) as seen:
            calls = [
                asyncio.create_task(repeated(lambda n, line=line, i=i: line.upsert(f"p{n}@c{i}.test"), stop))
                for i, line in enumerate([*callers, await web.enter_async_context(Web.of(server))])
            ]
            server.process.send_signal(signal.SIGHUP)
            await until(lambda: len(workers(server) - before) == 2 and not workers(server) & before, server)
            stop.set()
            counts = await asyncio.gather(*calls)
            assert all(counts)
            assert sum(counts) == len(rows(server, "contacts", {"account": "main"}))
            await until(lambda: [shown(server)] * 2 == seen, server)
        async with server.client() as client:
            await client.mailboxes.create(email="box@workers.test")
            async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.smtp_port, timeout=30) as peer:
                await peer.sendmail("p@out.test", ["box@workers.test"], "Subject: came in\r\n\r\nhello\r\n")
            assert ["came in"] == [mail.subject async for mail in await client.list_emails()]
        code, output = await server.command("doctor")
        assert (code, "answers" in output) == (0, True), output
        engine, last = server.engine_pid(), workers(server)
        server.process.send_signal(signal.SIGTERM)
        assert 0 == await asyncio.wait_for(server.process.wait(), 20)
        assert not any(map(is_alive, last | {engine}))
        assert await health(server) is None


async def test_a_killed_worker_is_followed_by_another(tmp_path: Path) -> None:
    """After kill -9 of a worker under sends all accepted mail goes out once, streams are whole, two serve again."""
    sink = Sink()
    relay = await asyncio.get_running_loop().create_server(lambda: SMTP(sink), "127.0.0.1", 0)
    url = f"smtp://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    server = Server(tmp_path, MULTIMAIL_WORKERS="2", MULTIMAIL_PORT="0", MULTIMAIL_SMTP_URL=url)
    try:
        said = await server.start()
        server.port = int(re.findall(r"gRPC +127\.0\.0\.1:(\d+)", said)[0])
        async with server.client() as client:
            await client.mailboxes.create(email="box@workers.test")
        before = workers(server)
        numbers, accepted, in_gap = iter(range(48)), {}, set()

        async def sender(line: Line) -> None:
            for number in numbers:
                if number == 24:
                    os.kill(min(before), signal.SIGKILL)
                    in_gap.update(between_mark_and_outcome(server))
                mail = await line.send(number)
                accepted[mail.id] = mail.message_id

        async with lines(server, 6) as made, following(made[:3]) as seen:
            await asyncio.gather(*map(sender, made))
            assert 48 == len(accepted)
            await until(lambda: {"sent"} == {row["state"] for row in rows(server, "emails", {})}, server)
            await until(lambda: [shown(server)] * 3 == seen, server)
            await until(lambda: len(workers(server)) == 2 and min(before) not in workers(server), server)
        assert set(accepted.values()) == set(sink.taken)
        assert {each for each in sink.taken if sink.taken.count(each) > 1} <= in_gap
        code, output = await server.command("fsck")
        assert (code, "0 problems" in output) == (0, True), output
    finally:
        await server.stop()
        relay.close()


async def test_nothing_outlives_the_supervisor(tmp_path: Path) -> None:
    """A killed supervisor's workers and engine end, and a start on the same ports at once finds the data."""
    server = Server(tmp_path)
    await server.start("--workers", "2")
    orphans = workers(server) | {server.engine_pid()}
    async with lines(server, 1) as (line,):
        await line.upsert("kept@workers.test")
    await server.kill()
    await server.start("--workers", "2")
    try:
        assert not any(map(is_alive, orphans))
        async with server.client() as client:
            assert "kept@workers.test" == (await client.contacts.get(email="kept@workers.test")).email
        assert 3 == len(orphans)
    finally:
        await server.stop()


@pytest.mark.parametrize("held_s", [0.4, 60.0])
async def test_who_ends_what_was_left_waits_for_the_dying(tmp_path: Path, held_s: float) -> None:
    """An engine whose service is still dying is ended once that is dead; one that another service took over is not."""
    async with engine_on(tmp_path, best_engine()) as uri:
        engine = int(json.loads((tmp_path / "engine.json").read_text())["pid"])
        holder = DataLock(tmp_path)
        holder.acquire()
        asyncio.get_running_loop().call_later(held_s, holder.release)
        await end_left_behind(tmp_path, uri)
        assert (held_s > 1) == is_alive(engine)


def test_pauses_grow() -> None:
    """A worker that lived is followed at once, one that died young after a pause that doubles up to half a minute."""
    pauses = [0.0]
    for _ in range(8):
        pauses.append(pause_after(1.0, pauses[-1]))
    assert [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == pauses
    assert 0.0 == pause_after(60.0, 30.0)
