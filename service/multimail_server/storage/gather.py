"""How callers that come together find each other: a lone one never waits for a clock."""

from __future__ import annotations

from asyncio import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sized

_QUIET_S = 0.002
_MOST_STEPS = 15
_ENOUGH = 256


async def gathered(queue: Sized, answered: int = 0) -> None:
    """Waits while callers keep coming, so that they share one round trip.

    A lone caller waits for one turn of the loop, some microseconds. Where several wait already, more are likely on
    their way, as are those answered just now: then each two milliseconds that bring somebody are followed by two more,
    30 in all at the most. Where several shared before, it is enough when as many are there again.

    Args:
        queue: Who waits; more join while this waits.
        answered: How many shared the round trip that has just ended; 0 at the first.
    """
    known = len(queue) + answered
    enough = min(known, _ENOUGH) if answered > 1 else _ENOUGH
    await sleep(0)
    for _ in range(_MOST_STEPS):
        before = len(queue)
        if max(before, known) <= 1 or before >= enough:
            return
        await sleep(_QUIET_S)
        if before and len(queue) == before:
            return
