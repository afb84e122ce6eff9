"""Both transports: they speak the protocol, keep to it, and let nobody in without a key."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest
from tests.mcp.talk import Talk, environment, program, talking, url

import multimail
from multimail.mcp import http, stdio
from multimail.mcp.server import server_for

if TYPE_CHECKING:
    from tests.conftest import Account

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
HEADERS = {"accept": b"application/json, text/event-stream", "content-type": b"application/json"}


# The protocol of today, and the handshake of those before it, which over standard input the next test but one speaks.
@pytest.mark.parametrize(
    ("transport", "era"), [("http", "auto"), ("http", "legacy"), ("stdio", "auto"), ("command", "auto")]
)
async def test_a_mail_goes_out_over_every_transport(account: Account, transport: str, era: str) -> None:
    """The official client, of today and of before, lists the tools, sends a mail and reads it, whatever carries it."""
    async with talking(account, transport=transport, era=era) as talk:
        tools = await talk.tools()
        assert {"manage_contacts", "send_email", "check_inbox", "manage_mailboxes"} <= set(tools)
        assert "untrusted" in talk.client.instructions
        box = account.mailbox()
        await talk.facts("manage_mailboxes", action="create", mailbox=box)
        sent = await talk.facts("send_email", from_mailbox=box, to=[box], subject="Grüße", body="Hallo\n")
        read = await talk.facts("read_email", email_id=sent["email"]["id"])
        assert ("Grüße", "Hallo\n") == (read["email"]["subject"], read["email"]["body"])
        with pytest.raises(MCPError, match="no tool of this name"):
            await talk.client.call_tool("rm_rf", {})


async def test_every_tool_says_what_it_is(account: Account) -> None:
    """Every tool has a title, an example, described arguments, a schema of its answer, and hints."""
    async with talking(account) as agent, talking(account, "oversight", "read") as overseer:
        for tool in ((await agent.tools()) | (await overseer.tools())).values():
            assert tool.title
            example = json.loads(tool.description.partition("Example: ")[2])
            properties = tool.input_schema["properties"]
            assert set(example) <= set(properties)
            assert all("description" in each or "$ref" in each for each in properties.values()), tool.name
            assert tool.input_schema["additionalProperties"] is False
            assert "object" == tool.output_schema["type"]
            hints = tool.annotations
            assert hints.open_world_hint is not None
            assert hints.read_only_hint or None not in (hints.destructive_hint, hints.idempotent_hint)


def _speak(key: str, port: int, lines: list[bytes]) -> subprocess.CompletedProcess[bytes]:
    """What the program does with these lines for its whole input."""
    return subprocess.run(
        program(),
        input=b"\n".join(lines) + b"\n",
        env=environment(key, port) | {"PYTHONDEVMODE": "1"},  # says what was never closed
        capture_output=True,
        timeout=30,
        check=False,
    )


async def test_a_body_that_does_not_come_is_not_waited_for(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a key, promises a body and sends none, is answered that it came too slowly."""
    monkeypatch.setattr(http, "_BODY_WITHIN_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", account.running.http_port)
    head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
    accept = "accept: application/json, text/event-stream\r\n"
    writer.write(f"{head}{accept}authorization: Bearer {await account.key()}\r\n\r\n".encode())
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"too slowly" in said


async def test_a_request_asks_once_who_calls(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    """To list the tools costs the key one call of its rate, not two."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {await account.key()}"}) as client:
        caplog.set_level(logging.INFO)
        listed = await client.post(url(account), json=LIST, headers=HEADERS)
    assert listed.json()["result"]["tools"]
    assert 1 == sum("GetCaller" in each.getMessage() for each in caplog.records)


async def test_standard_output_holds_the_protocol_only(account: Account) -> None:
    """Good lines, garbage and unknown methods get JSON-RPC for answers only; the input's end waits for the answers."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "nope"},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "check_inbox", "arguments": {}}},
    ]
    said = [json.dumps(each).encode() for each in lines]
    done = await asyncio.to_thread(
        _speak, await account.key("read"), account.running.grpc_port, [*said[:2], b"{garbage", b"\xff\xfe", *said[2:]]
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert 0 == done.returncode, done.stderr
    assert all(each["jsonrpc"] == "2.0" for each in answers)
    told = {each["id"]: "result" if "result" in each else "error" for each in answers if "id" in each}
    assert {1: "result", 2: "error", 3: "result"}.items() <= told.items()
    assert b"Traceback" not in done.stderr
    assert b"ResourceWarning" not in done.stderr, done.stderr


async def test_the_end_waits_for_what_nobody_cancelled() -> None:
    """A cancellation that names no request settles none, even where true counts as one."""
    unanswered = stdio._Unanswered()
    unanswered.see(SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call")))
    for named in ({"requestId": True}, {"requestId": None}, {"requestId": 2}, {}):
        given_up = JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=named)
        unanswered.see(SessionMessage(given_up))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(unanswered.none(), 0.05)


@pytest.mark.parametrize("asked", [7, "7", "seven"])
@pytest.mark.parametrize("as_text", [False, True])
async def test_the_end_does_not_wait_for_what_was_cancelled(asked: int | str, *, as_text: bool) -> None:
    """A request its client gave up, naming it as number or text, is never answered, so nothing waits for its answer."""
    unanswered = stdio._Unanswered()
    unanswered.see(SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=asked, method="tools/call")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(unanswered.none(), 0.05)
    named = {"requestId": str(asked) if as_text else asked}
    given_up = JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=named)
    unanswered.see(SessionMessage(given_up))
    await asyncio.wait_for(unanswered.none(), 5)


@pytest.mark.parametrize(("key", "said"), [("", "No API key"), ("mm_live_\xe4", "characters no key has")])
def test_without_a_key_it_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch, key: str, said: str) -> None:
    """Without a key, or with what can be none, the program ends at once, with a sentence that says what to do."""
    monkeypatch.setenv("MULTIMAIL_API_KEY", key)
    with pytest.raises(SystemExit, match=f"^multimail mcp: .*{said}"):
        stdio.main()


async def _post(account: Account, body: bytes, **headers: str) -> httpx2.Response:
    given = {name: value.encode("latin-1") for name, value in headers.items()}
    async with httpx2.AsyncClient(verify=False) as http:
        return await http.post(url(account), content=body, headers=HEADERS | given)


async def test_http_lets_nobody_in_without_a_key(account: Account) -> None:
    """Without a key, with a wrong one, or with another scheme HTTP answers 401 and says how to authenticate."""
    body = json.dumps(LIST).encode()
    for given in ("", "Bearer", "Bearer mm_live_" + "x" * 43, "Basic YTpi", "Bearer a b", "Bearer \xe4"):
        answer = await _post(account, body, **({"authorization": given} if given else {}))
        assert (401, True) == (answer.status_code, answer.headers["www-authenticate"].startswith("Bearer")), given
        assert "key" in answer.json()["error"]["message"]
    good = await account.key("read")
    assert 200 == (await _post(account, body, authorization=f"bearer {good}")).status_code


async def test_http_refuses_what_it_is_not_for(account: Account) -> None:
    """Pages of foreign origins, other methods, too large bodies and what is no JSON are refused, each by its status."""
    key = f"Bearer {await account.key('read')}"
    body = json.dumps(LIST).encode()
    for origin, status in (
        ("https://evil.test", 403), ("http://localhost.evil.test", 403), ("null", 403),
        ("http://localhost:5173", 200), ("http://127.0.0.1", 200),
    ):  # fmt: skip
        assert status == (await _post(account, body, authorization=key, origin=origin)).status_code, origin
    for host, status in (
        ("evil.test", 421), ("localhost.evil.test:80", 421), ("[", 421), ("", 421),
        ("localhost:8080", 200), ("[::1]:8080", 200), ("LOCALHOST", 200),
    ):  # fmt: skip
        assert status == (await _post(account, body, authorization=key, host=host)).status_code, host
    async with httpx2.AsyncClient(verify=False, headers={"authorization": key}) as http:
        for method in ("GET", "DELETE", "PUT"):
            answer = await http.request(method, url(account))
            assert (405, "POST") == (answer.status_code, answer.headers["allow"])
    reader, writer = await asyncio.open_connection("127.0.0.1", account.running.http_port)
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\nContent-Length: {(16 << 20) + 1}\r\n\r\n"
    writer.write(head.encode())
    assert b" 413 " in await reader.readline()
    writer.close()
    deep = b'{"a": ' * 5000 + b"1" + b"}" * 5000
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "check_inbox", "arguments": '
    for bad in (call + deep + b"}}", b"{", b"[]", b"", b"\xff", b'{"jsonrpc": "2.0"}', b"[" * 100_000):
        assert 400 == (await _post(account, bad, authorization=key)).status_code, bad[:20]


async def test_a_request_has_its_own_key_only(account: Account) -> None:
    """Requests with one session id and different keys see their own account each: no session can be taken over."""
    async with talking(account, era="legacy") as talk:
        await talk.facts("manage_contacts", action="upsert", email="mine@secret.test")
    other, _ = await account.running.keys.create(f"{account.name}x", "spy", ("read",))
    call = {"name": "manage_contacts", "arguments": {"query": "mine@secret.test"}}
    asked = json.dumps(LIST | {"method": "tools/call", "params": call}).encode()
    session = {"mcp-session-id": "0" * 32, "mcp-protocol-version": "2025-06-18"}
    for key, found in ((await account.key("read"), True), (other, False)):
        answer = await _post(account, asked, authorization=f"Bearer {key}", **session)
        assert found == ("mine@secret.test" in answer.text.replace(asked.decode(), ""))


async def test_many_callers_at_once_keep_apart(account: Account) -> None:
    """Of forty concurrent requests with the keys of eight accounts, each is answered from its own account."""
    keys = []
    for number in range(8):
        key, _ = await account.running.keys.create(f"{account.name}n{number}", "agent", ("read", "write"))
        keys.append(key)

    async def ask(number: int, arguments: dict[str, Any]) -> str:
        body = json.dumps(
            LIST | {"method": "tools/call", "params": {"name": "manage_contacts", "arguments": arguments}}
        )
        return (await _post(account, body.encode(), authorization=f"Bearer {keys[number]}")).text

    await asyncio.gather(*(ask(n, {"action": "upsert", "email": f"who{n}@apart.test"}) for n in range(8)))
    told = await asyncio.gather(*(ask(n % 8, {"action": "search"}) for n in range(40)))
    for number, text in enumerate(told):
        assert {f"who{number % 8}@apart.test"} == {f"who{n}@apart.test" for n in range(8) if f"who{n}@apart" in text}


async def test_the_services_log_is_left_alone(account: Account) -> None:
    """The door changes neither the handlers nor the level of the process's log."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    async with talking(account, "read") as talk:
        await talk.facts("check_inbox")
    assert before == (root.level, list(root.handlers))


async def test_a_service_that_is_away_is_told() -> None:
    """Where nobody answers, listing and calling say what to start, and a change by which key to repeat it."""
    async with (
        multimail.AsyncClient("mm_live_x", "127.0.0.1:1", timeout=1) as nobody,
        Client(server_for(lambda _: nobody)) as client,
    ):
        talk = Talk(client)
        with pytest.raises(MCPError, match="make run"):
            await talk.tools()
        reason, told, _ = await talk.refused("manage_contacts", action="upsert", email="a@b.test")
        assert ("CONNECTION", True, True) == (reason, "make run" in told, 'idempotency_key="' in told)
        _, told, _ = await talk.refused("check_inbox")
        assert "idempotency_key" not in told
