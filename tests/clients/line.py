"""A line to a service that breaks, or goes silent, when a test says so."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator


class Line:
    """A TCP proxy before a service, whose connections end when they are cut or have carried enough.

    Attributes:
        target: The service's port.
        port: Its own port.
        cuts: How many connections it broke.
        dead: Whether it swallows what it should carry, as a line does whose other end is gone.
        asks: How many bytes of requests each connection carries, before it holds them back; None for all.
        mute: Whether it swallows answers only.
    """

    def __init__(self, target: int, carries: random.Random | None = None, asks: int | None = None) -> None:
        self.target, self.port, self.cuts, self.dead, self.mute = target, 0, 0, False, False
        self._carries, self.asks = carries, asks
        self._connections: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Line]:
        """Listens on a port of this machine."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()

    async def cut(self) -> None:
        """Breaks every connection there is."""
        for task in list(self._connections):
            task.cancel()
            await asyncio.wait([task])

    def silence(self) -> None:
        """Has every connection there is, but none that comes later, swallow what it should carry."""
        self._silent |= self._connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        above_writer: asyncio.StreamWriter | None = None
        try:
            above_reader, above_writer = await asyncio.open_connection("127.0.0.1", self.target)
            async with asyncio.TaskGroup() as pumps:
                asks = pumps.create_task(self._pump(task, reader, above_writer, self.asks))
                carries = self._carries.randint(400, 2500) if self._carries else None
                await self._pump(task, above_reader, writer, carries, answers=True)
                asks.cancel()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.cuts += 1
            self._connections.discard(task)
            for each in (writer, above_writer):
                if each is not None:
                    each.transport.abort()

    async def _pump(
        self,
        of: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        left: int | None = None,
        *,
        answers: bool = False,
    ) -> None:
        """Carries bytes over, at most so many: the last of them may be a part of a message."""
        try:
            while (left is None or left > 0) and (data := await reader.read(1 << 16 if left is None else left)):
                if not self.dead and of not in self._silent and not (self.mute and answers):
                    writer.write(data)
                await writer.drain()
                left = None if left is None else left - len(data)
        except ConnectionError:
            return
