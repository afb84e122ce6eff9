"""How callers that come together find each other: a lone one never waits for a clock."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Iterable, Sized
from contextvars import ContextVar
from typing import Protocol

FULL = 256
"""How many share one round trip."""
_QUIET_S = 0.002
_MOST_STEPS = 15

_ASKER: ContextVar[object] = ContextVar("asker")


class Asked(Protocol):
    """Something that waits for a round trip, and whose it is."""

    @property
    def asker(self) -> object:
        """Who waits for it."""


class Queue(Sized, Iterable[Asked], Protocol):
    """What waits; more joins it meanwhile."""


def set_asker(asker: object) -> None:
    """What the rest of this context asks for is this one asker's, so that the rows of one request wait for nobody.

    Not for streams: their rows come one by one, and are worth waiting for.
    """
    _ASKER.set(asker)


def current_asker() -> object:
    """Who asks: the call under way; where none is set, each time another."""
    return _ASKER.get(None) or object()


async def gathered(queue: Queue, answered: Iterable[Asked] = ()) -> None:
    """Waits while callers keep coming, so that they share one round trip.

    Who is alone waits for one turn of the loop, some microseconds. Where several wait already, more are likely on their
    way, and so are those answered just now: then this goes on in steps of two milliseconds, until one brings nobody
    more to those who are there, until as many are there as shared before, or until a round trip is full; 30 ms at the
    most.

    Args:
        queue: What waits.
        answered: What shared the round trip that has just ended; nothing at the first.
    """
    if len(queue) >= FULL:
        return
    shared = _askers(answered)
    known = len(shared | _askers(queue))
    enough = known if len(shared) > 1 else FULL
    await sleep(0)
    there = 0
    for _ in range(_MOST_STEPS):
        if len(queue) >= FULL:
            return
        earlier, there = there, len(_askers(queue))
        if there >= enough or max(there, known) <= 1 or 0 < there == earlier:
            return
        await sleep(_QUIET_S)


def _askers(waiting: Iterable[Asked]) -> set[object]:
    return {each.asker for each in waiting}
