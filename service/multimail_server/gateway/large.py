"""Large bodies: few are held at once, fewer are read at once, and none of them on the event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from starlette.requests import Request

from multimail_server.errors import DomainError, Reason
from multimail_server.gateway.body import told_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

P = ParamSpec("P")
T = TypeVar("T")

# What is read on the loop itself; more would keep everybody waiting.
_SMALL_BYTES = 128 << 10
# Each may have 16 MiB, and twice that for a moment: together they must fit into the memory of a small machine.
_HELD_AT_ONCE = 16
_READ_AT_ONCE = 2
_WAITS_S = 1.0


class Large:
    """What large bodies there are, of one HTTP port."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_HELD_AT_ONCE)
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)

    @asynccontextmanager
    async def held(self, size: float) -> AsyncIterator[None]:
        """Has a place for a body of this size, taken before it is; TOO_BUSY when there is none."""
        if size <= _SMALL_BYTES:
            yield
            return
        try:
            async with asyncio.timeout(_WAITS_S):
                await self._places.acquire()
        except TimeoutError:
            raise DomainError(
                Reason.TOO_BUSY, "Too many large requests are under way; come back in a second.", retry_after_s=1
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def read(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the work makes of so many bytes."""
        if size <= _SMALL_BYTES:
            return work(*args, **kwargs)
        async with self._reading:
            return await asyncio.to_thread(work, *args, **kwargs)


class Bounded:
    """An ASGI application whose large bodies are among those of all.

    Args:
        app: The application.
        large: What large bodies there are.
    """

    def __init__(self, app: ASGIApp, large: Large) -> None:
        self._app = app
        self._large = large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        async with self._large.held(told_bytes(Request(scope))):
            await self._app(scope, receive, send)
