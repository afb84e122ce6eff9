"""How callers that come together find each other: a lone one never waits for a clock."""

from __future__ import annotations

from asyncio import sleep
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET_S = 0.002
_MOST_STEPS = 15
_ENOUGH = 256

_ASKER: ContextVar[object] = ContextVar("asker")


def set_asker(asker: object) -> None:
    """What the rest of this context asks for is of this one asker: a call with many rows waits for itself as one."""
    _ASKER.set(asker)


def current_asker() -> object:
    """Who asks: the call under way; where there is none, each time another."""
    return _ASKER.get(None) or object()


async def gathered(askers: Callable[[], set[object]], answered: set[object] | frozenset[object] = frozenset()) -> None:
    """Waits while callers keep coming, so that they share one round trip.

    Who is alone waits for one turn of the loop, some microseconds. Where several wait already, more are likely on their
    way, and so are those answered just now: then this goes on in steps of two milliseconds, until one brings nobody
    more to those who are there, or until as many are there as shared before; 30 ms at the most.

    Args:
        askers: Who waits; more join while this waits.
        answered: Who shared the round trip that has just ended; nobody at the first.
    """
    known = len(askers() | answered)
    enough = min(known, _ENOUGH) if len(answered) > 1 else _ENOUGH
    await sleep(0)
    for _ in range(_MOST_STEPS):
        before = len(askers())
        if max(before, known) <= 1 or before >= enough:
            return
        await sleep(_QUIET_S)
        if before and len(askers()) == before:
            return
