"""A TCP proxy on loopback that breaks connections when certain bytes pass."""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit


class CuttingProxy:
    """Stands before an engine; `cut_at` arms it.

    Args:
        uri: The engine's URI.
        port: Where to listen; 0 lets the system choose.
    """

    def __init__(self, uri: str, port: int = 0) -> None:
        self._port = port
        self._target = urlsplit(uri).port
        self._marker = b""
        self._times = 0
        self._deliver = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def uri(self) -> str:
        """How to reach the engine through the proxy."""
        assert self._server is not None
        return f"mongodb://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/?directConnection=true"

    def cut_at(self, marker: bytes, *, times: int, deliver: bool) -> None:
        """Breaks the connection the next times a request holds the marker.

        Args:
            marker: What to look for.
            times: How often.
            deliver: Whether the request still reaches the engine, so that only its reply is lost.
        """
        self._marker, self._times, self._deliver = marker, times, deliver

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        replies = asyncio.create_task(_pump(up_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                cut = self._times > 0 and self._marker in data
                if not cut or self._deliver:
                    up_writer.write(data)
                    await up_writer.drain()
                if cut:
                    self._times -= 1
                    replies.cancel()
                    await asyncio.sleep(0.05)
                    break
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            replies.cancel()
            writer.close()
            up_writer.close()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
