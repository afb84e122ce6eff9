"""Addresses that no mailbox of an account writes to any more, and why."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multimail_server.aip.address import Address
    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Document, Draft
    from multimail_server.storage.mongo import Database
    from multimail_server.storage.operation import Request

# From least to most grave; the gravest is kept.
_REASONS = ("manual", "unsubscribed", "bounced", "complained")


def suppression_id(account: str, key: str) -> str:
    """The id of an address's suppression: a digest, so that an erased person stays suppressed without being named."""
    return f"{account}/{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def need_suppressions(account: str, keys: Sequence[str]) -> Need:
    """The need for the suppressions of these address keys."""
    return Need("suppressions", "_id", tuple(suppression_id(account, key) for key in keys))


def suppression_of(draft: Draft, key: str) -> Document | None:
    """The suppression of an address, if there is one."""
    return draft.get("suppressions", suppression_id(draft.account, key))


def suppress(draft: Draft, address: str, key: str, reason: str, email: str = "") -> Document:
    """Suppresses an address in the draft; for one that is already, the gravest reason stays."""
    known = suppression_of(draft, key)
    if known is not None and _REASONS.index(known["reason"]) >= _REASONS.index(reason):
        return known
    suppression: Document = {
        "_id": suppression_id(draft.account, key),
        "account": draft.account,
        "address": address,
        "reason": reason,
        "email": email,
        "create_time": known["create_time"] if known else draft.now,
    }
    draft.put("suppressions", suppression)
    draft.notify("suppression_added", shown=True, **({"email": email} if email else {}))
    return suppression


class SuppressionStore:
    """Reads and changes suppressions."""

    def __init__(self, database: Database, committer: Committer) -> None:
        self._database = database
        self._committer = committer

    async def list(self, account: str, *, key: str, after: str, limit: int) -> list[Document]:
        """The account's suppressions behind the id `after`, at most `limit`; with `key` that address's only."""
        where = {"_id": suppression_id(account, key)} if key else {"account": account, "_id": {"$gt": after}}
        return await self._database.find("suppressions", where, sort=[("_id", 1)], limit=limit)

    async def suppressed(self, account: str, key: str) -> bool:
        """Whether the address is suppressed now."""
        return bool(await self.list(account, key=key, after="", limit=1))

    async def add(self, request: Request, address: Address) -> Document:
        """Suppresses an address; one that is already stays as it is."""

        def rule(draft: Draft) -> Document:
            return suppress(draft, address.display, address.key, "manual")

        def again(draft: Draft, _: Document) -> Document:
            return suppression_of(draft, address.key) or rule(draft)

        need = need_suppressions(request.account, [address.key])
        return await self._committer.run(request.operation([need], rule, again))

    async def remove(self, request: Request, address: Address) -> Document:
        """Lifts a suppression and returns what it was, or SUPPRESSION_NOT_FOUND."""

        def rule(draft: Draft) -> Document:
            known = suppression_of(draft, address.key)
            if known is None:
                raise errors.not_found("suppression")
            draft.delete("suppressions", known["_id"])
            draft.notify("suppression_removed")
            draft.outcome = {name: known[name] for name in ("reason", "email", "create_time")}
            return known

        def again(_: Draft, outcome: Document) -> Document:
            return {**outcome, "address": address.display}

        need = need_suppressions(request.account, [address.key])
        return await self._committer.run(request.operation([need], rule, again))
