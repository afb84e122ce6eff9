"""API keys and accounts in the database, and the short memory that spares a query per call."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from multimail_server.accounts import keys
from multimail_server.accounts.caller import Caller
from multimail_server.errors import DomainError
from multimail_server.storage.mongo import DuplicateKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multimail_server.storage.mongo import Database, Document

log = logging.getLogger("multimail.accounts")

REMEMBERED_S = 5.0  # a revoked key stops working within this time, in every process
_REMEMBERED_KEYS = 10_000
_USED_EVERY_S = 60.0


class KeyStore:
    """Makes, lists, revokes and recognises API keys.

    Args:
        database: The database.
        new_id: Makes an id with the given prefix.
        randomness: Returns that many random bytes.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        database: Database,
        *,
        new_id: Callable[[str], str],
        randomness: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._new_id = new_id
        self._randomness = randomness
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, Caller | None]] = OrderedDict()
        self._used: dict[str, float] = {}
        self._touching: set[asyncio.Task[None]] = set()

    async def create(self, account: str, agent: str, scopes: Sequence[str]) -> tuple[str, Document]:
        """Makes a key, and the account if it is new; returns the key, which is nowhere stored, and its row."""
        keys.check_account(account)
        keys.check_agent(agent)
        granted = keys.parse_scopes(scopes)
        now = await self._database.now()
        try:
            await self._database.insert_one(
                "accounts", {"_id": account, "seq": 0, "group": "", "time": now, "settings": {}}
            )
        except DuplicateKeyError:
            log.debug("the account is there already")
        key = keys.key_from(self._randomness(keys.SECRET_BYTES))
        row: Document = {
            "_id": self._new_id("key"),
            "account": account,
            "agent": agent,
            "scopes": granted,
            "hash": keys.key_hash(key),
            "hint": key[-4:],
            "create_time": now,
            "revoke_time": None,
            "last_used_at": None,
        }
        await self._database.insert_one("api_keys", row)
        return key, row

    async def list(self, account: str = "") -> list[Document]:
        """The keys of one account, or all, oldest first."""
        return await self._database.find("api_keys", {"account": account} if account else {}, sort=[("_id", 1)])

    async def revoke(self, key_id: str) -> bool:
        """Revokes a key; returns whether there is such a key. It stops working within five seconds everywhere."""
        now = await self._database.now()
        self._remembered.clear()
        return await self._database.update_one("api_keys", {"_id": key_id}, {"$set": {"revoke_time": now}}) == 1

    async def is_known(self, key: str) -> bool:
        """Whether the database has ever had this key, revoked or not."""
        return bool(await self._database.find("api_keys", {"hash": keys.key_hash(key)}))

    async def find(self, key: str) -> Caller | None:
        """Whose key this is; None when it is unknown, revoked or not well formed."""
        if not keys.is_well_formed(key):
            return None
        digest = keys.key_hash(key)
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[0] > self._clock():
            return remembered[1]
        rows = await self._database.find("api_keys", {"hash": digest})
        row = rows[0] if rows and rows[0]["revoke_time"] is None else None
        caller = None
        if row is not None:
            caller = Caller(row["account"], row["_id"], row["agent"], frozenset(row["scopes"]))
            self._note_use(row["_id"])
        self._remembered[digest] = self._clock() + REMEMBERED_S, caller
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _REMEMBERED_KEYS:
            self._remembered.popitem(last=False)
        return caller

    def _note_use(self, key_id: str) -> None:
        """Records when the key was last used, at most once a minute, behind the call."""
        if self._clock() - self._used.get(key_id, -_USED_EVERY_S) >= _USED_EVERY_S:
            self._used[key_id] = self._clock()
            task = asyncio.get_running_loop().create_task(self._touch(key_id))
            self._touching.add(task)
            task.add_done_callback(self._touching.discard)

    async def _touch(self, key_id: str) -> None:
        try:
            await self._database.update_one("api_keys", {"_id": key_id}, {"$currentDate": {"last_used_at": True}})
        except DomainError:
            log.warning("could not note when a key was last used")
