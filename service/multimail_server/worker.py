"""A loop that does what is due, again and again, until it is stopped; no error ends it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from multimail_server.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("multimail.worker")

_GRACE_S = 1.0


class Worker:
    """Calls `step` when woken or when `interval_s` is over; at once again while it returns that there is more.

    Args:
        name: What it is called in the log.
        step: Does what is due; returns whether more may be.
        interval_s: The longest pause between two steps, in seconds.
    """

    def __init__(self, name: str, step: Callable[[], Awaitable[bool]], *, interval_s: float) -> None:
        self._name = name
        self._step = step
        self._interval_s = interval_s
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the loop."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Says that something is due now."""
        self._woken.set()

    async def stop(self) -> None:
        """Ends the loop after the step under way, which has a second for it."""
        self._stopping = True
        self.wake()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=_GRACE_S)
            if late:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            if await self._try():
                continue
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _try(self) -> bool:
        try:
            return await self._step()
        except DomainError as error:
            log.warning("%s: %s; trying again", self._name, error.message)
        except Exception:
            log.exception("%s failed; trying again", self._name)
        return False
