"""Streams over HTTP: lines and events without a gap, taken up again, ended with a word, and imports of any length."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.gateway.web import LINES, fields_of, lines, reason_of, web
from tests.rpc.relays import serving

from multimail_server.gateway import body, door, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx2
    from tests.conftest import Account

EVENTS = {"accept": "text/event-stream"}


async def told(response: httpx2.Response, count: int) -> list[str]:
    """The next so many lines of an answer that is not empty lines."""
    found: list[str] = []
    async for line in response.aiter_lines():
        found += [line] if line else []
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {found}")


async def upsert(client: httpx2.AsyncClient, *emails: str) -> None:
    """Makes contacts."""
    for email in emails:
        assert 200 == (await client.post("/v1/contacts:upsert", json={"email": email})).status_code


async def test_notifications_are_followed_as_lines(account: Account) -> None:
    """A watch answers at once, tells what happened and what happens, one JSON object a line, in order."""
    async with web(account) as client:
        await upsert(client, "a@x.test")
        async with client.stream("GET", "/v1/notifications:watch") as response:
            assert (200, "application/x-ndjson") == (response.status_code, response.headers["content-type"])
            await upsert(client, "b@x.test", "c@x.test")
            found = [json.loads(line) for line in await told(response, 3)]
        assert [1, 2, 3] == [each["notification"]["seq"] for each in found]
        assert {"contact_created"} == {each["notification"]["type"] for each in found}


async def test_a_browser_takes_a_stream_of_events_up_again(account: Account) -> None:
    """Each event's id is its number; asked the same way again with Last-Event-ID, the stream goes on behind it."""
    async with web(account) as client:
        path = "/v1/notifications:watch?only_new=true"
        async with client.stream("GET", path, headers=EVENTS) as response:
            assert "text/event-stream" == response.headers["content-type"]
            assert ["id: 0", 'data: {"seq":0}'] == await told(response, 2)
        await upsert(client, "a@x.test", "b@x.test")
        async with client.stream("GET", path, headers=EVENTS | {"last-event-id": "1"}) as response:
            mark, data = await told(response, 2)
            assert ("id: 2", "contact_created") == (mark, json.loads(data[6:])["notification"]["type"])
        odd = await client.get(path, headers=EVENTS | {"last-event-id": "x"})
        assert ["Last-Event-ID"] == fields_of(odd)


@pytest.mark.parametrize(("headers", "beat"), [(EVENTS, b":\n\n"), ({}, b"\n")])
async def test_a_quiet_stream_is_heard(
    account: Account, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], beat: bytes
) -> None:
    """While nothing happens a comment, or an empty line, comes now and then, so that nobody takes it for dead."""
    monkeypatch.setattr(streams, "_BEATS_EVERY_S", 0.05)
    async with web(account) as client, client.stream("GET", "/v1/contacts:watch", headers=headers) as response:
        parts = response.aiter_raw()
        assert (beat, beat) == (await anext(parts), await anext(parts))


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
async def test_a_stream_that_cannot_begin_has_a_status(account: Account, accept: str) -> None:
    """A stream that is refused before it told anything is refused as any other call is."""
    async with web(account) as client:
        ahead = await client.get("/v1/notifications:watch?after_seq=99", headers={"accept": accept})
        assert (400, "INVALID_FIELD", ["after_seq"]) == (ahead.status_code, reason_of(ahead), fields_of(ahead))
        unknown = await client.get("/v1/contacts:export?filters.x=1", headers={"accept": accept})
        assert (400, "INVALID_FILTER") == (unknown.status_code, reason_of(unknown))
        nobody = await client.get("/v1/contacts:watch", headers={"accept": accept, "authorization": ""})
        assert (401, "KEY_MISSING") == (nobody.status_code, reason_of(nobody))


async def test_a_stream_that_breaks_says_why(account: Account) -> None:
    """When the key of a stream is revoked its last line, or its last event, is the error."""
    key, row = await account.running.keys.create(account.name, "tester", ("read",))
    headers = {"authorization": f"Bearer {key}"}
    async with (
        web(account) as client,
        client.stream("GET", "/v1/notifications:watch", headers=headers) as plain,
        client.stream("GET", "/v1/notifications:watch", headers=headers | EVENTS) as events,
    ):
        await account.running.keys.revoke(row["_id"])
        (line,) = lines(await _rest(plain))
        assert ("UNAUTHENTICATED", "KEY_INVALID") == (line["error"]["status"], line["error"]["details"][0]["reason"])
        assert "event: error\ndata: {" in await _rest(events)


async def _rest(response: httpx2.Response) -> str:
    return "".join([part async for part in response.aiter_text()])


async def test_who_leaves_ends_the_call(engine_uri: str, tmp_path: Path) -> None:
    """A client that hangs up, reading a stream or amid an import, leaves no call behind: its key may hold only one."""
    async with serving(engine_uri, tmp_path, "leavers", max_concurrent=4) as account, web(account) as client:
        for number in range(3):
            async with client.stream("GET", "/v1/notifications:watch", headers=EVENTS if number else {}) as response:
                assert 200 == response.status_code
                busy = await client.get("/v1/notifications:watch")
                assert (429, "TOO_BUSY", "1") == (busy.status_code, reason_of(busy), busy.headers["retry-after"])
            await until_free(client)
        for _ in range(20):  # the look for it may itself hold the place that it needs
            with socket.create_connection(("127.0.0.1", account.running.http_port)) as raw:
                raw.sendall(
                    b"POST /v1/contacts:import?import_id=a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
                )
                raw.sendall(f"authorization: {client.headers['authorization']}\r\n\r\n5\r\n".encode() + b'{"em')
                await asyncio.sleep(0.2)
                began = (await client.get("/v1/contacts:export")).status_code == 429
            await until_free(client)
            if began:
                break
        else:
            raise AssertionError("the import did not begin")


async def until_free(client: httpx2.AsyncClient) -> None:
    """Waits until the key holds no stream any more."""
    deadline = time.monotonic() + 10
    while (await client.get("/v1/contacts:export")).status_code == 429:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_an_export_is_whole(account: Account) -> None:
    """An export streams every contact, and goes on behind the last one that was read."""
    async with web(account) as client:
        rows = [{"email": f"p{number}@x.test"} for number in range(30)]
        await client.post("/v1/contacts:batchUpsert", json={"contacts": rows})
        found = [each["contact"] for each in lines((await client.get("/v1/contacts:export")).text)]
        assert [each["email"] for each in rows] == [each["email"] for each in found]
        rest = lines((await client.get(f"/v1/contacts:export?after_id={found[27]['id']}")).text)
        assert ["p28@x.test", "p29@x.test"] == [each["contact"]["email"] for each in rest]


async def test_an_import_answers_line_by_line(account: Account) -> None:
    """Each line is a row; a row that is refused leaves the others alone; sent again, nothing happens twice."""
    async with web(account) as client:
        content = b"".join(
            json.dumps({"email": email}).encode() + b"\r\n\n" for email in ("a@x.test", "no", "b@x.test")
        )
        path = "/v1/contacts:import?import_id=crm"
        for words in (["created", None, "created"],) * 2:
            found = lines((await client.post(path, content=content, headers=LINES)).text)
            assert [0, 1, 2] == [each["row"] for each in found]
            assert words == [each.get("upserted", {}).get("outcome") for each in found]
            assert "INVALID_FIELD" == found[1]["refusal"]["reason"]
        more = await client.post(f"{path}&row=3", content=b'{"email":"c@x.test"}', headers=LINES)
        assert [3] == [each["row"] for each in lines(more.text)]
        assert 3 == (await client.get("/v1/contacts:count")).json()["count"]


async def test_an_import_is_answered_while_it_comes(account: Account) -> None:
    """The first row's outcome can be read before the second row is sent."""
    async with web(account) as client:
        key = client.headers["authorization"]
        reader, writer = await asyncio.open_connection("127.0.0.1", account.running.http_port)
        head = f"POST /v1/contacts:import?import_id=i HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n"
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for number in range(3):
            line = json.dumps({"email": f"p{number}@x.test"}).encode() + b"\n"
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            await asyncio.wait_for(reader.readuntil(b'{"row":%d,' % number), 10)
        writer.write(b"0\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)).endswith(b"0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize(
    ("line", "reason", "said"),
    [
        (b'{"emial": "x"}', "INVALID_FIELD", "Line 3: contact.emial"),
        (b'{"email"', "MALFORMED_REQUEST", "Line 3 is no JSON"),
        (b"\xff", "MALFORMED_REQUEST", "Line 3 is no JSON"),
        (b'"' + b"x" * (2 << 20), "MALFORMED_REQUEST", "longer than 1 MiB"),
    ],
)
async def test_an_import_stops_at_a_line_that_is_no_row(account: Account, line: bytes, reason: str, said: str) -> None:
    """What stood before a line that cannot be read is done and answered; the last line says which it was."""
    async with web(account) as client:
        content = b'{"email":"a@x.test"}\n{"email":"b@x.test"}\n' + line + b'\n{"email":"c@x.test"}\n'
        response = await client.post("/v1/contacts:import?import_id=i", content=content, headers=LINES)
        *done, error = lines(response.text)
        assert [0, 1] == [each["row"] for each in done]
        assert (reason, True) == (error["error"]["details"][0]["reason"], said in error["error"]["message"])
        assert 2 == (await client.get("/v1/contacts:count")).json()["count"]


async def test_an_import_larger_than_any_body(account: Account) -> None:
    """An import has no end it must come to: 20 MiB of rows are all answered."""
    async with web(account) as client:

        async def content() -> AsyncIterator[bytes]:
            for number in range(400):
                yield json.dumps({"email": f"p{number % 4}@x.test", "metadata": {"x": "y" * 52_000}}).encode() + b"\n"

        response = await client.post("/v1/contacts:import?import_id=big", content=content(), headers=LINES, timeout=60)
        assert list(range(400)) == [each["row"] for each in lines(response.text)]


async def test_an_import_whose_answers_are_not_read_is_cut(
    engine_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends rows and takes no outcome is held back, nothing is kept for him, and at last he is cut off."""
    monkeypatch.setattr(door, "_TAKES_WITHIN_S", 0.4)
    row = b'{"email":"a@x.test","metadata":{"' + b"x" * 20_000 + b'\\u0000":1}}\n'  # its refusal is as long
    loop = asyncio.get_running_loop()
    async with serving(engine_uri, tmp_path, "unread", max_concurrent=4) as account, web(account) as client:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", account.running.http_port))
            raw.setblocking(False)
            head = f"POST /v1/contacts:import?import_id=a HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 30}\r\n"
            await loop.sock_sendall(raw, f"{head}authorization: {client.headers['authorization']}\r\n\r\n".encode())
            async with asyncio.timeout(30):
                with pytest.raises(OSError, match=r"reset|[Bb]roken"):
                    while True:
                        await loop.sock_sendall(raw, row * 10)
        await until_free(client)


async def test_a_line_that_comes_in_drops_costs_no_more_than_many_lines() -> None:
    """Each byte of a line is touched once, however small the pieces are in which it comes."""

    async def lasts(piece: bytes) -> float:
        pieces = iter([piece] * 8_000)

        async def receive() -> Any:
            content = next(pieces, None)
            return {"type": "http.request", "body": content or b"", "more_body": content is not None}

        began = time.perf_counter()
        assert 400_000 == sum([len(line.strip()) + piece.endswith(b"\n") async for line in body.lines(receive)])
        return time.perf_counter() - began

    assert await lasts(b"x" * 50) < 4 * await lasts(b"x" * 49 + b"\n")


@pytest.mark.parametrize(
    ("query", "headers", "status", "bad"),
    [
        ("", LINES, 400, ["import_id"]),
        ("import_id=a&row=x", LINES, 400, ["row"]),
        ("import_id=a&row=-1", LINES, 400, ["row"]),
        ("import_id=a&contact=x", LINES, 400, ["contact"]),
        ("import_id=a&nothing=x", LINES, 400, ["nothing"]),
        ("import_id=a", {"content-type": "application/json"}, 415, []),
    ],
)
async def test_a_bad_import_is_refused(account: Account, query: str, headers: Any, status: int, bad: list[str]) -> None:
    """An import that cannot begin is refused with a status of its own, and no row of it happens."""
    async with web(account) as client:
        response = await client.post(f"/v1/contacts:import?{query}", content=b'{"email":"a@x.test"}', headers=headers)
        assert status == response.status_code
        reason_of(response)
        assert bad == fields_of(response)
        assert 0 == (await client.get("/v1/contacts:count")).json()["count"]
