"""A mail server on loopback that does at every step what its script says, and remembers what it took."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STEPS = ("banner", "ehlo", "mail", "rcpt", "data", "dot", "rset", "quit")
_GOOD = {
    "banner": b"220 peer.test\r\n",
    "ehlo": b"250-peer.test\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n",
    "mail": b"250 ok\r\n",
    "rcpt": b"250 ok\r\n",
    "data": b"354 go on\r\n",
    "dot": b"250 taken\r\n",
    "rset": b"250 ok\r\n",
    "quit": b"221 bye\r\n",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """One hand-over that the peer took on itself."""

    message_id: str
    recipient: str
    body: str


@dataclass(slots=True)
class Dialogue:
    """One SMTP transaction as the peer sees it."""

    number: int
    recipient: str = ""
    content: bytes = b""
    steps: list[str] = field(default_factory=list)

    @property
    def message_id(self) -> str:
        """The Message-ID, once the content is there."""
        return str(message_from_bytes(self.content)["Message-ID"])


@dataclass(frozen=True, slots=True)
class Act:
    """What the peer does at a step instead of the right thing.

    Attributes:
        reply: The bytes it answers; None for the right ones.
        close: Whether it then breaks the connection.
        takes: At the dot: whether it takes the mail all the same.
        doubt: Whether the client cannot tell whether the mail was taken.
        wait_s: How long it thinks before.
        slowly: Whether it answers byte by byte.
    """

    reply: bytes | None = None
    close: bool = False
    takes: bool = True
    doubt: bool = False
    wait_s: float = 0.0
    slowly: bool = False


GOOD = Act()


async def always_good(step: str, dialogue: Dialogue) -> Act:
    """A peer without fault."""
    return GOOD


class Peer:
    """An SMTP server for tests.

    Args:
        script: Asked at every step what to do; may wait as long as it likes.

    Attributes:
        taken: What it took, in order.
        doubts: How often, by (Message-ID, recipient), the client could not tell whether the mail was taken.
        sessions: How many connections there were.
    """

    def __init__(self, script: Callable[[str, Dialogue], Awaitable[Act]] = always_good) -> None:
        self.script = script
        self.taken: list[Taken] = []
        self.doubts: Counter[tuple[str, str]] = Counter()
        self.sessions = 0
        self.met: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def counts(self) -> Counter[tuple[str, str]]:
        """How often each mail was handed over to each recipient."""
        return Counter((each.message_id, each.recipient) for each in self.taken)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.sessions += 1
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialogue = Dialogue(self.sessions)
        if not await self._act("banner", dialogue, writer):
            return
        while line := await reader.readline():
            words = line.decode("utf-8", "replace").split(":", 1)
            step = words[0].strip().split(" ")[0].lower()
            if step == "mail":
                dialogue = Dialogue(self.sessions, steps=dialogue.steps)
            if step == "rcpt":
                dialogue.recipient = words[1].split("<", 1)[1].split(">", 1)[0]
            if step not in STEPS:
                writer.write(b"502 what?\r\n")
                continue
            if not await self._act(step, dialogue, writer):
                return
            if step == "data" and dialogue.steps[-1] == "data ok":
                content = await reader.readuntil(b"\r\n.\r\n")
                dialogue.content = content[:-3].replace(b"\r\n..", b"\r\n.")
                if not await self._act("dot", dialogue, writer):
                    return

    async def _act(self, step: str, dialogue: Dialogue, writer: asyncio.StreamWriter) -> bool:
        """Does what the script says; returns whether the connection goes on."""
        act = await self.script(step, dialogue)
        dialogue.steps.append(f"{step} {'ok' if act.reply is None and not act.close else 'not'}")
        if step == "dot":
            if act.doubt:
                self.doubts[dialogue.message_id, dialogue.recipient] += 1
            if act.takes:
                body = message_from_bytes(dialogue.content)
                text = body.get_payload(decode=True) if not body.is_multipart() else b""
                self.taken.append(Taken(dialogue.message_id, dialogue.recipient, bytes(text or b"").decode()))
        if act.wait_s:
            await asyncio.sleep(act.wait_s)
        reply = _GOOD[step] if act.reply is None else act.reply
        if act.close and act.reply is None:
            reply = b""
        for piece in [reply[n : n + 1] for n in range(len(reply))] if act.slowly else [reply]:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if act.slowly:
                await asyncio.sleep(0.001)
        return not act.close and step != "quit"


async def slow_dot(step: str, dialogue: Dialogue) -> Act:
    """Takes the mail at once, and thinks before saying so."""
    return Act(wait_s=0.8) if step == "dot" else GOOD
