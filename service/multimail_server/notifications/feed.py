"""An account's history as it grows: every notification once, in order, without a gap, whatever process wrote it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.notifications.store import too_old

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multimail_server.notifications.store import NotificationStore
    from multimail_server.storage.mongo import Database, Document

# A number may show before one below it does; longer than this it is not late, but gone.
_LATE_S = 0.05
_LATE_AT_MOST = 40


class Feed:
    """Follows accounts' histories.

    Readers wake when this process commits, and when `look` sees that another one did.
    """

    def __init__(self, database: Database, notifications: NotificationStore) -> None:
        self._database = database
        self._notifications = notifications
        self._seen: dict[str, int] = {}
        self._readers: dict[str, set[asyncio.Event]] = defaultdict(set)

    def committed(self, account: str, seq: int) -> None:
        """Wakes the account's readers: its history ends at `seq` now."""
        if account in self._readers:
            self._seen[account] = seq
            for event in self._readers[account]:
                event.set()

    async def look(self) -> bool:
        """Looks once at the numbers of all accounts that are followed here."""
        followed = list(self._readers)
        if followed:
            for row in await self._database.find("accounts", {"_id": {"$in": followed}}, projection={"seq": 1}):
                if row["seq"] > self._seen.get(row["_id"], -1):
                    self.committed(row["_id"], row["seq"])
        return False

    async def start(self, account: str, after_seq: int, *, only_new: bool) -> int:
        """The number behind which a stream begins; refuses two beginnings at once."""
        if only_new and after_seq:
            raise errors.invalid_field("only_new", "cannot stand beside after_seq: each says where to begin")
        return await self._notifications.newest(account) if only_new else after_seq

    async def follow(self, account: str, after: int) -> AsyncIterator[list[Document]]:
        """Runs of notifications, each beginning with the number after the last one's end; it never ends by itself.

        Args:
            account: Whose history.
            after: The number behind which to begin; 0 for the oldest that is kept.

        Raises:
            DomainError: POSITION_TOO_OLD when what comes after `after` is no longer kept whole.
        """
        event = asyncio.Event()
        self._readers[account].add(event)
        try:
            position = after or await self._notifications.trimmed(account)
            late = 0
            while True:
                event.clear()
                run = await self._notifications.run(account, position)
                if run:
                    late, position = 0, run[-1]["seq"]
                    yield run
                elif await self._notifications.newest(account) > position:
                    if late >= _LATE_AT_MOST:
                        raise too_old(await self._notifications.trimmed(account) + 1)
                    late += 1
                    await asyncio.sleep(_LATE_S)
                else:
                    await event.wait()
        finally:
            self._readers[account].discard(event)
            if not self._readers[account]:
                del self._readers[account]
                self._seen.pop(account, None)
