"""The edges of the HTTP port: bounds, slow and hostile peers, browsers, TLS, health, a taken port, a stop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from starlette.responses import Response
from tests.conftest import Account, settings_for
from tests.gateway.web import lines, reason_of, web
from tests.rpc.relays import certificate, serving

from multimail_server.app import Service
from multimail_server.gateway import body, door, large
from multimail_server.gateway.door import Door
from multimail_server.gateway.gateway import private_target
from multimail_server.gateway.parts import app_of
from multimail_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HEAD = "POST /v1/contacts:upsert HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


async def answer_to(account: Account, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Everything that comes back for these bytes, until the other side closes."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", account.running.http_port)) as raw:
        raw.setblocking(False)
        for piece in pieces:
            with suppress(OSError):  # the other side may have had enough
                await loop.sock_sendall(raw, piece)
            await asyncio.sleep(pause_s)
        said = b""
        with suppress(ConnectionResetError):
            while data := await asyncio.wait_for(loop.sock_recv(raw, 1 << 16), 10):
                said += data
        return said


async def test_a_body_that_is_too_large_is_refused(account: Account) -> None:
    """More than 16 MiB is 413: unread when it says so before, else as soon as it is more; the connection ends."""
    async with web(account) as client:
        key = client.headers["authorization"]
        said = await answer_to(account, f"{HEAD}authorization: {key}\r\ncontent-length: 16777217\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in said
        assert b"MALFORMED_REQUEST" in said

        async def much() -> AsyncIterator[bytes]:
            for _ in range(17):
                yield b" " * (1 << 20)

        refused = await client.post("/v1/contacts:upsert", content=much(), headers={"content-type": "application/json"})
        assert 413 == refused.status_code
        large = {"contacts": [{"email": f"p{n}@x.test", "metadata": {"x": "y" * 60_000}} for n in range(100)]}
        made = await client.post("/v1/contacts:batchUpsert", json=large, timeout=60)
        assert {"created"} == {each["upserted"]["outcome"] for each in made.json()["outcomes"]}


async def test_much_is_read_of_those_only_who_may(account: Account) -> None:
    """A body, short or long, is refused before it is sent when the key may not: nothing of a stranger's is parsed."""
    for size in (3, 1_000_000):
        for key, status in (("x", 401), (await account.key("read"), 403)):
            head = f"{HEAD}content-length: {size}\r\nauthorization: Bearer {key}\r\n\r\n"
            assert (await answer_to(account, head.encode())).startswith(f"HTTP/1.1 {status} ".encode())
    chunked = f"{HEAD}transfer-encoding: chunked\r\n\r\n".encode()
    assert (await answer_to(account, chunked)).startswith(b"HTTP/1.1 401 ")


async def test_a_body_that_does_not_come_is_not_waited_for(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who promises a body and sends none, or sends it by drops, gets 408 and is cut."""
    monkeypatch.setattr(body, "_PIECE_S", 0.2)
    monkeypatch.setattr(body, "_WHOLE_S", 0.5)
    promised = f"{HEAD}authorization: Bearer {await account.key()}\r\ncontent-length: 100\r\n\r\n".encode()
    for pieces, pause_s in (((promised,), 0.0), ((promised, *[b" "] * 8), 0.1)):
        said = await answer_to(account, *pieces, pause_s=pause_s)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"OUT_OF_TIME" in said


async def test_a_head_that_does_not_come_is_not_waited_for(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing, or drips a head, before or after a request, is cut; who rests between requests is not."""
    monkeypatch.setattr(door, "_HEAD_WITHIN_S", 0.4)
    assert b"" == await answer_to(account)
    assert b"" == await answer_to(account, *[b"GET / HTTP/1.1\r\nx: y"[n : n + 1] for n in range(12)], pause_s=0.05)
    began = time.monotonic()
    whole = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    said = await answer_to(account, whole, whole, b"GET /heal", pause_s=0.6)
    assert 2 == said.count(b"200 OK")
    assert time.monotonic() - began > 1.2


async def test_an_answer_that_is_not_taken_is_not_kept(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again and again without reading is cut, though he needs no key; who reads slowly gets everything."""
    monkeypatch.setattr(door, "_TAKES_WITHIN_S", 0.3)
    loop = asyncio.get_running_loop()
    async with web(account) as client:
        size = len((await client.get("/docs")).content)
    taken: list[int] = []
    for pause_s, first_s in ((0.0, 1.0), (0.1, 0.0)):
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", account.running.http_port))
            raw.setblocking(False)
            await loop.sock_sendall(raw, b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
            await asyncio.sleep(first_s)
            count = 0
            with suppress(ConnectionResetError):
                while count < 20 * size and (data := await asyncio.wait_for(loop.sock_recv(raw, 1 << 20), 10)):
                    count += len(data)
                    await asyncio.sleep(pause_s if count % (1 << 20) < len(data) else 0)
            taken.append(count)
    cut, slow = taken
    assert cut < 20 * size <= slow


async def test_a_peer_that_vanished_is_noticed(account: Account) -> None:
    """The system asks whether a silent peer is still there, so that a stream that says nothing ends without it."""
    async with web(account) as client:
        await client.get("/healthz")
        (connection, *_) = account.running.door.connections
        accepted = connection.transport.get_extra_info("socket")
        assert 1 == accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert 60 == accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)


async def test_few_large_bodies_are_held_at_once(
    engine_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is no place for another large body it is refused, of REST and of tools; small ones go on."""
    monkeypatch.setattr(large, "_HELD_AT_ONCE", 1)
    monkeypatch.setattr(large, "_WAITS_S", 0.1)
    much = {"contacts": [{"email": "a@x.test", "metadata": {"x": "y" * 60_000}}] * 3}
    async with serving(engine_uri, tmp_path, "large") as account, web(account) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", account.running.http_port)
        key = client.headers["authorization"]
        writer.write(f"{HEAD}authorization: {key}\r\ncontent-length: 200000\r\n\r\n".encode())
        deadline = time.monotonic() + 10
        while 429 != (refused := await client.post("/v1/contacts:batchUpsert", json=much)).status_code:
            assert time.monotonic() < deadline
        assert ("TOO_BUSY", "1") == (reason_of(refused), refused.headers["retry-after"])
        assert 429 == (await client.post("/mcp", json=much)).status_code
        assert 200 == (await client.post("/v1/contacts:upsert", json={"email": "b@x.test"})).status_code
        writer.close()
        while 429 == (taken := await client.post("/v1/contacts:batchUpsert", json=much)).status_code:
            assert time.monotonic() < deadline
        assert 200 == taken.status_code
        del reader


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 40 + b"\r\n\r\n",
        b"GET /" + b"x" * (70 << 10) + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(9000)) + b"\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: a\r\n b\x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(account: Account, sent: bytes) -> None:
    """Garbage, heads without end and ambiguous lengths are refused as errors of ours, and the connection ends."""
    said = await answer_to(account, sent)
    head, _, content = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert ("MALFORMED_REQUEST", 400) == (
        json.loads(content)["error"]["details"][0]["reason"], json.loads(content)["error"]["code"],
    )  # fmt: skip


async def test_a_body_that_breaks_does_no_harm(account: Account) -> None:
    """A body whose chunks are nonsense gets an answer or is cut, and the next connection is answered."""
    await answer_to(account, f"{HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n".encode())
    async with web(account) as client:
        assert 200 == (await client.get("/healthz")).status_code


async def test_nothing_hostile_is_a_fault_of_ours(account: Account) -> None:
    """Whatever a path, a query, a header or a body holds, the answer is never 500."""
    odd = ["%00", "%F0%9F%98%80", "..", "%2e%2e", "a:b", ":", "%3A", "\\", "~", "*", "**", "{id}", "x" * 5000, "%25%30"]
    queries = [
        "",
        "?",
        "?&",
        "?=",
        "?=x",
        "?a",
        "?%00=1",
        "?page_size=1e9",
        "?filters.=1",
        "?filters=%7B%7D",
        "?.=1",
        "?a.=1",
    ]
    values: list[Any] = [None, 0, -1, 2**70, 1e308, "", "\0", [], {}, [[]], {"": 0}, True]
    async with web(account) as client:
        for each in odd:
            for path in (
                f"/{each}",
                f"/v1/{each}",
                f"/v1/contacts/{each}",
                f"/contacts/{each}",
                f"/v1/contacts:{each}",
            ):
                for method in ("GET", "DELETE"):
                    said = await client.request(method, path)
                    assert said.status_code in (400, 403, 404, 405), (method, path, said.text)
        for query in queries:
            for path in ("/contacts", "/v1/emails", "/v1/notifications", "/v1/contacts:count"):
                assert (await client.get(path + query)).status_code in (200, 400), (path, query)
        for value in values:
            for name in ("email", "name", "metadata", "upsert", "last_contacted", "request_id", ""):
                said = await client.post(
                    "/contacts", json={"email": f"{id(value)}@x.test", name: value, "upsert": True}
                )
                assert said.status_code in (200, 400), (name, value, said.text)


async def test_pages_in_browsers(engine_uri: str, tmp_path: Path) -> None:
    """Only pages of the origins that were allowed may call, also where they are refused; answers are safe to show."""
    allowed, other = {"origin": "https://app.example"}, {"origin": "https://evil.example"}
    asks = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,idempotency-key"}
    async with (
        serving(engine_uri, tmp_path, "browsers", cors_origins="https://app.example, http://localhost:3000") as account,
        web(account) as client,
    ):
        preflight = await client.options("/v1/contacts/x", headers=allowed | asks)
        assert (200, "https://app.example") == (
            preflight.status_code, preflight.headers["access-control-allow-origin"],
        )  # fmt: skip
        assert 400 == (await client.options("/v1/contacts/x", headers=other | asks)).status_code
        for path in ("/contacts", "/v1/contacts/nobody"):
            got = await client.get(path, headers=allowed)
            assert "https://app.example" == got.headers["access-control-allow-origin"]
            assert "x-request-id" in got.headers["access-control-expose-headers"]
            assert "access-control-allow-origin" not in (await client.get(path, headers=other)).headers
            assert ("nosniff", "no-store") == (got.headers["x-content-type-options"], got.headers["cache-control"])


async def test_no_page_may_call_unless_it_was_allowed(account: Account) -> None:
    """Without the setting no origin is allowed anything."""
    async with web(account) as client:
        got = await client.get("/contacts", headers={"origin": "https://app.example"})
        assert "access-control-allow-origin" not in got.headers


async def test_health(account: Account) -> None:
    """The process says that it lives and that it serves, without a key."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{account.running.http_port}") as client:
        assert (200, {"status": "alive"}) == ((live := await client.get("/healthz")).status_code, live.json())
        assert (200, {"status": "serving"}) == ((ready := await client.get("/readyz")).status_code, ready.json())


async def test_over_tls(engine_uri: str, tmp_path: Path) -> None:
    """With a certificate HTTP is spoken over TLS only, and what is inside still works."""
    _, path = certificate(tmp_path, "localhost")
    async with serving(engine_uri, tmp_path, "webtls", tls_cert=path, tls_key=path.with_suffix(".key")) as account:
        trust = ssl.create_default_context(cafile=str(path))
        headers = {"authorization": f"Bearer {await account.key()}"}
        url = f"https://localhost:{account.running.http_port}"
        async with httpx2.AsyncClient(base_url=url, verify=trust, headers=headers) as client:
            assert 200 == (await client.get("/contacts")).status_code
        async with web(account) as plain:
            with pytest.raises(httpx2.TransportError):
                await plain.get("/healthz")


async def test_a_taken_port_ends_the_start(engine_uri: str, tmp_path: Path) -> None:
    """A start on a port that somebody has ends with a sentence that says which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made = settings_for(engine_uri, tmp_path, database="taken")
        made = made.model_copy(update={"http_port": taken.getsockname()[1]})
        with pytest.raises(SystemExit, match="MULTIMAIL_HTTP_PORT"):
            await Service(made).__aenter__()


async def test_of_two_that_hold_a_port_one_listens() -> None:
    """Two that reserve a port at once learn so when both open it: the later ends with the same sentence."""
    first = Door(Settings(http_port=0))
    first.reserve()
    second = Door(Settings(http_port=first.port))
    second.reserve()
    app = app_of([], Response("x"))
    await first.open(app)
    try:
        with pytest.raises(SystemExit, match="MULTIMAIL_HTTP_PORT"):
            await second.open(app)
    finally:
        second.release()
        await first.close()


def test_the_private_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its user can enter its folder, which goes with the service; what a killed one left goes a minute later."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        dead, begun, living = (Path(short, f"multimail-grpc-{name}") for name in ("dead", "begun", "living"))
        for folder in (dead, begun, living):
            folder.mkdir()
        for folder in (dead, begun):
            with socket.socket(socket.AF_UNIX) as silent:
                silent.bind(str(folder / "grpc"))
        os.utime(dead / "grpc", (time.time() - 100,) * 2)
        with socket.socket(socket.AF_UNIX) as other, private_target() as target:
            folder = Path(target.removeprefix("unix:")).parent
            assert (0o700, Path(short)) == (folder.stat().st_mode & 0o777, folder.parent)
            assert not dead.exists()
            other.bind(str(living / "grpc"))
            other.listen()
            os.utime(living / "grpc", (time.time() - 100,) * 2)
            with private_target():
                assert {living, begun, folder} < set(Path(short).iterdir())
        assert {living, begun} == set(Path(short).iterdir())


async def test_no_more_connections_than_the_bound(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound a request is refused as busy, in the one form of all errors, until somebody leaves."""
    async with web(account) as client:
        await client.get("/healthz")
        monkeypatch.setattr(account.running.door, "most", len(account.running.door.connections))
        async with web(account) as other:
            refused = await other.get("/healthz")
            assert (429, "TOO_BUSY", "1") == (refused.status_code, reason_of(refused), refused.headers["retry-after"])
            assert "x-request-id" in refused.headers
        deadline = time.monotonic() + 10
        while 429 == (answered := await client.get("/healthz")).status_code:
            assert time.monotonic() < deadline
        assert 200 == answered.status_code


async def test_a_request_that_the_stop_cuts_is_told(engine_uri: str, tmp_path: Path) -> None:
    """Who still sends his body when the service is through with stopping hears that the outcome is unknown."""
    async with Service(settings_for(engine_uri, tmp_path, database="cutting")) as running:
        key, _ = await running.keys.create("a", "t", ("read", "write"))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.http_port)
        writer.write(
            f"{HEAD}authorization: Bearer {key}\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n".encode()
        )
        await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 10)
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"OUTCOME_UNKNOWN" in said
    assert b"Idempotency-Key" in said


async def test_a_stop_lets_requests_end(engine_uri: str, tmp_path: Path) -> None:
    """While the service stops, calls under way are answered, streams end with a word, and nothing new is accepted."""
    service = Service(settings_for(engine_uri, tmp_path, database="stopping"))
    running = await service.__aenter__()
    key, _ = await running.keys.create("a", "t", ("read", "write"))
    base, headers = f"http://127.0.0.1:{running.http_port}", {"authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=20) as client:
        rows = [{"email": f"p{number}@x.test"} for number in range(100)]
        await client.get("/contacts")  # the key is known from now on
        async with client.stream("GET", "/v1/notifications:watch") as watching:
            writing = asyncio.create_task(client.post("/v1/contacts:batchUpsert", json={"contacts": rows}))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            stopping = asyncio.create_task(service.__aexit__(None, None, None))
            told = lines("".join([part async for part in watching.aiter_text()]))
            answered = await writing
            await stopping
        assert time.monotonic() - began < 10
        assert "SHUTTING_DOWN" == told[-1]["error"]["details"][0]["reason"]
        assert 200 == answered.status_code
        assert ["created"] * 100 == [each["upserted"]["outcome"] for each in answered.json()["outcomes"]]
        with pytest.raises(httpx2.ConnectError):
            await client.get("/healthz")
