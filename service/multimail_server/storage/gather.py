"""How callers that come together find each other: a lone one never waits for a clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sized

_QUIET_S = 0.002
_MOST_STEPS = 15
_ENOUGH = 256


async def gathered(queue: Sized) -> None:
    """Waits while callers keep coming, so that they share one round trip.

    A lone caller waits for one turn of the loop, some microseconds. Where several wait already, more are likely on
    their way: then each two milliseconds that bring somebody are followed by two more, 30 in all at the most.
    """
    await asyncio.sleep(0)
    for _ in range(_MOST_STEPS):
        before = len(queue)
        if not 1 < before < _ENOUGH:
            return
        await asyncio.sleep(_QUIET_S)
        if len(queue) == before:
            return
