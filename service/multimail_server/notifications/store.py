"""An account's history, read by number without gaps, and trimmed when it is a month old."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.errors import DomainError, Reason
from multimail_server.storage.mongo import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from multimail_server.storage.mongo import Database, Document

KEPT = timedelta(days=30)
_BATCH = 500
_MOST_RUNS = 20
_TRIMMED_AT_ONCE = 1_000
_LARGEST = (1 << 63) - 1


class NotificationStore:
    """Reads notifications; every one that is read has happened, and none before it is missing.

    What is kept is whole: the account's document says up to which number notifications are no longer kept, in
    `trimmed`, before the first of them is removed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # The accounts that a pass has still to see, what each one's `trimmed` is, and before when its history is old.
        self._to_trim: list[tuple[str, int, datetime]] = []

    async def run(self, account: str, after: int) -> list[Document]:
        """Those behind a number, each one's number following the last one's; none while the next is still to show.

        Args:
            account: Whose history.
            after: The number behind which to begin; 0 for the oldest that is kept.

        Raises:
            DomainError: POSITION_TOO_OLD when what comes after `after` is no longer kept; INVALID_FIELD when no such
                number was given out yet.
        """
        behind = after or await self.trimmed(account)
        run = await self._behind(account, behind)
        if run:
            return run
        trimmed, newest = await self._ends(account)
        if newest < behind:
            raise errors.invalid_field("after_seq", f"lies beyond the newest number, {newest}")
        if trimmed > behind and after:
            raise too_old(trimmed + 1)
        if trimmed > behind:  # since a moment ago
            return await self.run(account, 0)
        return await self._behind(account, behind) if newest > behind else []  # it may have come just now

    async def _behind(self, account: str, after: int) -> list[Document]:
        """Those behind a number, up to the first that does not show."""
        found = await self._next(account, after, _BATCH)
        return [each for number, each in enumerate(found, after + 1) if each["seq"] == number]

    async def _next(
        self, account: str, after: int, most: int, projection: Mapping[str, int] | None = None
    ) -> list[Document]:
        """Those that bear the `most` numbers behind one.

        The range is closed, since the embedded engine loads all that a filter finds before it sorts and limits.
        """
        numbers = {"$gt": after, "$lt": min(after + most + 1, _LARGEST)}
        return await self._database.find(
            "notifications", {"account": account, "seq": numbers}, projection=projection, sort=[("seq", 1)]
        )

    async def newest(self, account: str) -> int:
        """The newest number that was given out; 0 when none was."""
        _, newest = await self._ends(account)
        return newest

    async def trimmed(self, account: str) -> int:
        """The number up to which none is kept any more; 0 when all are."""
        trimmed, _ = await self._ends(account)
        return trimmed

    async def _ends(self, account: str) -> tuple[int, int]:
        """Behind which number the history begins, and with which it ends."""
        found = await self._database.find("accounts", {"_id": account}, projection={"trimmed": 1, "seq": 1})
        return (int(found[0].get("trimmed", 0)), int(found[0]["seq"])) if found else (0, 0)

    async def list(
        self, account: str, *, after: int, shows: Callable[[Document], bool], limit: int
    ) -> tuple[list[Document], int]:
        """Those numbered higher than `after` that `shows` picks, oldest first, at most `limit`; see `run`.

        Looks at a bounded number of them: beside them stands up to which number, when more may follow, else 0.
        """
        shown: list[Document] = []
        for _ in range(_MOST_RUNS):
            run = await self.run(account, after)
            if not run:
                return shown, 0
            shown += [notification for notification in run if shows(notification)]
            after = run[-1]["seq"]
            if len(shown) >= limit:
                return shown[:limit], shown[limit - 1]["seq"]
        return shown, after

    async def trim(self) -> bool:
        """Does a step of a pass over all accounts that removes what was kept long enough; returns whether it goes on.

        A step looks at one account. Two processes at the same account do no harm: its mark only moves up, and what is
        up to there is removed by whoever comes next.
        """
        if not self._to_trim:
            before = await self._database.now() - KEPT
            accounts = await self._database.find("accounts", {}, projection={"trimmed": 1})
            self._to_trim = [(each["_id"], each.get("trimmed", 0), before) for each in accounts]
        if self._to_trim:
            account, trimmed, before = self._to_trim.pop()
            with suppress(ConflictError):  # a commit came between: the next pass sees it again
                if moved := await self._trim(account, trimmed, before):
                    self._to_trim.append((account, moved, before))
        return bool(self._to_trim)

    async def _trim(self, account: str, trimmed: int, before: datetime) -> int:
        """Removes what an account's mark says is not kept, then moves the mark on; returns whereto, 0 when it stays."""
        if trimmed:
            await self._database.delete_all("notifications", {"account": account, "seq": {"$lt": trimmed + 1}})
        fields = {"seq": 1, "at": 1}
        first = await self._next(account, trimmed, 1, fields)
        if first and first[0]["at"] >= before:  # so it is with most
            return 0
        found = await self._next(account, trimmed, _TRIMMED_AT_ONCE, fields)
        old = [each["seq"] for each in takewhile(lambda each: each["at"] < before, found)]
        if not old:
            return 0
        await self._database.update_one("accounts", {"_id": account}, {"$max": {"trimmed": old[-1]}})
        return int(old[-1])


def too_old(oldest: int) -> DomainError:
    """The refusal to go on behind a number whose successors are no longer kept; `oldest` is the oldest that is."""
    return DomainError(
        Reason.POSITION_TOO_OLD,
        "What came after this number is no longer kept whole: read what you follow anew, then go on from "
        f"{oldest - 1}.",
        metadata={"oldest_seq": str(oldest)},
    )
