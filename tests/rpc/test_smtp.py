"""SMTP at its edges: the listener's bounds against rude peers, and the relay's replies read right, step by step."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from multimail_server.mail.listener import Listener
from multimail_server.mail.smtp import Folder, Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Kept:
    """What a listener took in; may be told to fail."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, bytes]] = []
        self.fails = False

    async def accepts(self, address: str) -> bool:
        """Everybody at ours.test."""
        if address.startswith("error"):
            raise RuntimeError("look-up failed")
        return address.endswith("@ours.test")

    async def take_in(self, recipient: str, sender: str, raw: bytes) -> None:
        """Keeps it."""
        if self.fails:
            raise RuntimeError("disk full")
        self.mails.append((recipient, sender, raw))


@asynccontextmanager
async def listening(**bounds: int) -> AsyncIterator[tuple[Kept, int]]:
    """A listener on a port."""
    kept = Kept()
    listener = Listener(accepts=kept.accepts, take_in=kept.take_in, hostname="ours.test", **bounds)
    port = await listener.start("127.0.0.1", 0)
    try:
        yield kept, port
    finally:
        await listener.stop()


async def talk(port: int, *lines: bytes) -> list[bytes]:
    """Says the lines one after the other, each after an answer; returns the last line of every answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    try:
        for line in (b"", *lines):
            writer.write(line + b"\r\n" if line else b"")
            await writer.drain()
            while answer := await asyncio.wait_for(reader.readline(), 10):
                if answer[3:4] != b"-":
                    break
            answers.append(answer.strip())
            if not answer:
                break
    except ConnectionError:
        answers.append(b"")
    writer.close()
    return answers


START = (b"EHLO peer.test", b"MAIL FROM:<a@out.test>", b"RCPT TO:<b@ours.test>", b"DATA")


async def test_mail_is_kept_byte_by_byte() -> None:
    """Eight-bit, long and odd lines arrive as they were sent, dots unstuffed, for every recipient."""
    body = b"Subject: x\r\n\r\n\xff\xfe\x00 odd\r\n" + b"y" * 5_000 + b"\r\n.starts\r\n"
    async with listening() as (kept, port):
        data = body.replace(b"\r\n.", b"\r\n..") + b"."
        answers = await talk(port, *START[:3], b"RCPT TO:<c@ours.test>", b"DATA", data, b"QUIT")
        assert b"250" == answers[-2][:3]
        assert [("b@ours.test", "a@out.test", body), ("c@ours.test", "a@out.test", body)] == kept.mails


async def test_who_is_amid_a_mail_hears_how_it_ended() -> None:
    """A listener that stops lets a mail under way come to its answer, then cuts everybody."""
    kept = Kept()
    listener = Listener(accepts=kept.accepts, take_in=kept.take_in, hostname="ours.test")
    reader, writer = await asyncio.open_connection("127.0.0.1", await listener.start("127.0.0.1", 0))
    for line in START:
        await reader.readline()
        writer.write(line + b"\r\n")
    while not (await asyncio.wait_for(reader.readline(), 10)).startswith(b"354"):
        pass
    stopping = asyncio.create_task(listener.stop())
    await asyncio.sleep(0.1)
    writer.write(b"Subject: x\r\n\r\ny\r\n.\r\n")
    assert b"250 2.0.0 kept\r\n" == await asyncio.wait_for(reader.read(), 10)
    await stopping
    assert 1 == len(kept.mails)
    writer.close()


async def test_refusals() -> None:
    """Strangers get 550, failures 451 so that the peer comes again, too large 552, too many recipients 452."""
    async with listening(max_bytes=1_000) as (kept, port):
        answers = await talk(port, *START[:2], b"RCPT TO:<x@elsewhere.test>", b"RCPT TO:<error@ours.test>", b"DATA")
        assert [b"550", b"451", b"503"] == [answer[:3] for answer in answers[-3:]]
        assert b"552" == (await talk(port, *START, b"x" * 2_000 + b"\r\n."))[-1][:3]
        kept.fails = True
        assert b"451" == (await talk(port, *START, b"Subject: x\r\n\r\ny\r\n."))[-1][:3]
        many = [b"RCPT TO:<n%d@ours.test>" % n for n in range(51)]
        assert [b"250", b"452"] == [answer[:3] for answer in (await talk(port, *START[:2], *many))[-2:]]
        assert [] == kept.mails


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\xfe", b"A" * 100_000, b"MAIL FROM:<a@b\r\nRCPT TO:<>", b"DATA", b"EHLO " + b"\xff"]
)
async def test_garbage_ends_nothing(garbage: bytes) -> None:
    """After any rubbish on one connection, the next one is served as if nothing had been."""
    async with listening() as (kept, port):
        await talk(port, garbage, garbage)
        assert b"250" == (await talk(port, *START, b"Subject: x\r\n\r\ny\r\n."))[-1][:3]
        assert 1 == len(kept.mails)


async def test_connections_are_bounded() -> None:
    """Past the bound a peer hears 421, and when one leaves there is room again."""
    async with listening(max_connections=3) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, _ in held:
            assert b"220" == (await reader.readline())[:3]
        assert b"421" == (await talk(port))[0][:3]
        held[0][1].close()
        for _ in range(100):
            if (await talk(port))[0][:3] == b"220":
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("no room again")
        for _, writer in held[1:]:
            writer.close()


@asynccontextmanager
async def scripted(script: dict[bytes, bytes | None]) -> AsyncIterator[tuple[list[bytes], str]]:
    """A peer that answers each command by its first word; None hangs up. Yields what it heard, and its URL."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(script.get(b"220", b"220 hi\r\n") or b"")
        content = False
        while line := await reader.readline():
            heard.append(line.strip())
            word = b"." if content and line == b".\r\n" else line.strip().split(b" ")[0].upper()
            if content and word != b".":
                continue
            answer = script.get(word, {b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}.get(word, b"250 ok\r\n"))
            content = word == b"DATA" and (answer or b"")[:3] == b"354"
            if answer is None:
                break
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield heard, f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("script", "state", "marked"),
    [
        ({}, "accepted", True),
        ({b"220": b"421 busy\r\n"}, "retry", False),
        ({b"220": b"554 go away\r\n"}, "retry", False),
        ({b"MAIL": b"451 later\r\n"}, "retry", False),
        ({b"MAIL": b"550 no\r\n"}, "failed", False),
        ({b"RCPT": b"550 nobody\r\n"}, "failed", False),
        ({b"RCPT": b"452 full\r\n"}, "retry", False),
        ({b"RCPT": b"421 closing\r\n"}, "retry", False),
        ({b"RCPT": None}, "retry", False),
        ({b"DATA": b"554 no\r\n"}, "failed", True),
        ({b"DATA": b"451 later\r\n"}, "retry", True),
        ({b".": b"554 spam\r\n"}, "failed", True),
        ({b".": b"451 later\r\n"}, "retry", True),
        ({b".": None}, "in_doubt", True),
        ({b"QUIT": None}, "accepted", True),
    ],
)
async def test_replies_are_read_right(script: dict[bytes, bytes | None], state: str, *, marked: bool) -> None:
    """What the peer says at each step decides; only a silence after the content leaves a doubt."""
    marks = []

    async def mark() -> bool:
        marks.append(True)
        return True

    async with scripted(script) as (_, url):
        outcome = await Relay(url, "us.test").deliver(
            sender="a@x.test",
            recipient="b@y.test",
            message=b"Subject: x\r\n\r\n.dot\r\n",
            smtputf8=False,
            before_dot=mark,
        )
    assert (state, marked) == (outcome.state, bool(marks))


async def test_no_mark_no_content() -> None:
    """When the mark is refused, the content never leaves."""

    async def refuse() -> bool:
        return False

    async with scripted({}) as (heard, url):
        outcome = await Relay(url, "us.test").deliver(
            sender="a@x.test", recipient="b@y.test", message=b"secret", smtputf8=False, before_dot=refuse
        )
    assert "retry" == outcome.state
    assert b"DATA" not in heard
    assert b"secret" not in heard


async def test_nobody_listens() -> None:
    """A relay that is not there means: later."""

    async def mark() -> bool:
        raise AssertionError("nothing was accepted")

    outcome = await Relay("smtp://127.0.0.1:1", "us.test").deliver(
        sender="a@x.test", recipient="b@y.test", message=b"x", smtputf8=False, before_dot=mark
    )
    assert "retry" == outcome.state


async def test_same_mail_is_one_file(tmp_path: Path) -> None:
    """The outbox folder holds one file per mail and recipient, also when it is written twice."""

    async def mark() -> bool:
        return True

    folder = Folder(tmp_path / "outbox")
    message = b"Message-ID: <email_1@x.test>\r\n\r\nhello\r\n"
    for recipient in ("a@y.test", "a@y.test", "b@y.test"):
        await folder.deliver(sender="s@x.test", recipient=recipient, message=message, smtputf8=False, before_dot=mark)
    assert 2 == len(list((tmp_path / "outbox").iterdir()))
