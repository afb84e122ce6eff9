"""Grouped reads: concurrent look-ups of the same kind share one query."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from multimail_server.storage.documents import values_of
from multimail_server.storage.gather import FULL, current_asker, gathered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multimail_server.storage.mongo import Database, Document

_Lane = tuple[str, str, str]  # account, collection, field


class _Waiting(NamedTuple):
    """A value that is looked for, where the answer goes, and who asks."""

    value: str
    answer: asyncio.Future[list[Document]]
    asker: object


class Reader:
    """Looks documents up by an indexed field; while one query is under way the next gathers.

    Every answer comes from a query that began after its look-up was asked for, so it holds every change answered
    before. Callers may share a document: it is never changed in place.

    Args:
        database: The database.
        projections: Per collection, what look-ups load or leave out.
    """

    def __init__(self, database: Database, projections: Mapping[str, Mapping[str, int]]) -> None:
        self._database = database
        self._projections = projections
        self._lanes: dict[_Lane, deque[_Waiting]] = {}

    async def all(self, account: str, collection: str, field: str, value: str) -> list[Document]:
        """The account's documents whose field holds the value; raises ENGINE_UNAVAILABLE."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(value, loop.create_future(), current_asker())
        lane = (account, collection, field)
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
            # An empty context: no caller's deadline reaches a shared query.
            loop.create_task(self._drain(lane, queue), context=contextvars.Context()).add_done_callback(_surface)
        queue.append(waiting)
        return await waiting.answer

    async def one(self, account: str, collection: str, field: str, value: str) -> Document | None:
        """The account's document whose field holds the value, or None."""
        found = await self.all(account, collection, field, value)
        return found[0] if found else None

    async def _drain(self, lane: _Lane, queue: deque[_Waiting]) -> None:
        await gathered(queue)
        while queue:
            batch = [queue.popleft() for _ in range(min(len(queue), FULL))]
            batch = [waiting for waiting in batch if not waiting.answer.done()]
            try:
                found = await self._query(lane, list(dict.fromkeys(waiting.value for waiting in batch)))
            except Exception as error:  # noqa: BLE001  every caller of the batch gets it
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
            else:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_result(found.get(waiting.value, []))
            await gathered(queue, answered=batch)
        del self._lanes[lane]

    async def _query(self, lane: _Lane, values: list[str]) -> dict[str, list[Document]]:
        account, collection, field = lane
        if not values:
            return {}
        wanted: Any = {"$in": values} if len(values) > 1 else values[0]
        where = {"_id": wanted, "account": account} if field == "_id" else {"account": account, field: wanted}
        by_value: dict[str, list[Document]] = {}
        for document in await self._database.find(collection, where, projection=self._projections.get(collection)):
            for value in values_of(document, field):
                by_value.setdefault(value, []).append(document)
        return by_value


def _surface(task: asyncio.Task[None]) -> None:
    """Raises what a lane did not expect where the loop reports it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
