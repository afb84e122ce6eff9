"""Rows of a stream, worked on many at once and answered in their order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from multimail_server.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
    from typing import Any

Row = TypeVar("Row")
Key = TypeVar("Key")
T = TypeVar("T")


def outcome(result: T | BaseException) -> T | DomainError:
    """What one row of a batch came to; an error that is none of ours ends the batch."""
    if isinstance(result, BaseException) and not isinstance(result, DomainError):
        raise result
    return result


async def in_order(
    rows: AsyncIterator[Row], begin: Callable[[Row], tuple[Key, Coroutine[Any, Any, T]]], *, at_once: int
) -> AsyncGenerator[tuple[Key, T | BaseException], None]:
    """Works on rows as they come, and yields each one's key and outcome, in their order.

    Args:
        rows: The rows; while `at_once` are under way or not yet yielded, no further one is taken.
        begin: The key of a row, and the work on it; an error it raises ends everything.
        at_once: How many rows may be under way.
    """
    begun: asyncio.Queue[tuple[Key, asyncio.Task[T]] | Exception | None] = asyncio.Queue(at_once)
    tasks: set[asyncio.Task[T]] = set()

    async def take() -> None:
        end: Exception | None = None
        try:
            async for row in rows:
                key, work = begin(row)
                task = asyncio.create_task(work)
                tasks.add(task)
                await begun.put((key, task))
        except Exception as error:  # noqa: BLE001  whatever it is, it ends the rows where they are yielded
            end = error
        await begun.put(end)

    taking = asyncio.create_task(take())
    try:
        while entry := await begun.get():
            if isinstance(entry, Exception):
                raise entry
            key, task = entry
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            tasks.discard(task)
            yield key, outcome
    finally:
        for each in (taking, *tasks):
            each.cancel()
        await asyncio.gather(taking, *tasks, return_exceptions=True)
