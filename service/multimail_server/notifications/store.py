"""An account's history, read by number without gaps, and trimmed when it is a month old."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from multimail_server.storage.mongo import Database, Document

KEPT = timedelta(days=30)
_BATCH = 500
_TRIMMED_AT_ONCE = 1_000


class NotificationStore:
    """Reads notifications; every one that is read has happened, and none before it is missing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, account: str, *, after: int, shows: Callable[[Document], bool], limit: int) -> list[Document]:
        """Those numbered higher than `after` that `shows` picks, oldest first, at most `limit`."""
        shown: list[Document] = []
        while len(shown) < limit:
            batch = await self._database.find(
                "notifications", {"account": account, "seq": {"$gt": after}}, sort=[("seq", 1)], limit=_BATCH
            )
            if not batch or await self._is_late(account, after, batch[0]["seq"]):
                break
            whole = [each for number, each in enumerate(batch, batch[0]["seq"]) if each["seq"] == number]
            shown += [notification for notification in whole if shows(notification)]
            if len(whole) < len(batch):  # one shows before one below it does: it waits for the next call
                break
            after = batch[-1]["seq"]
        return shown[:limit]

    async def _is_late(self, account: str, after: int, first: int) -> bool:
        """Whether a number between the two is still to show; else those between are no longer kept."""
        if not after or first == after + 1:
            return False
        before = {"account": account, "seq": {"$lte": after}}
        return bool(await self._database.find("notifications", before, projection={"_id": 1}, limit=1))

    async def trim(self) -> bool:
        """Removes those kept long enough; returns whether more may be left."""
        before = await self._database.now() - KEPT
        old = await self._database.find(
            "notifications", {"at": {"$lt": before}}, projection={"_id": 1}, sort=[("at", 1)], limit=_TRIMMED_AT_ONCE
        )
        if old:
            await self._database.delete_many("notifications", [{"_id": each["_id"]} for each in old])
        return len(old) == _TRIMMED_AT_ONCE
