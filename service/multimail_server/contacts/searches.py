"""Runs searches: which index leads, how much is looked at, in what order, and no crawling where none serves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from multimail_server.aip.ordering import BY_ID
from multimail_server.contacts.store import PROJECTION
from multimail_server.errors import DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from multimail_server.aip.ordering import SortKey
    from multimail_server.contacts.filters import Clause, Search
    from multimail_server.storage.mongo import Database, Document

# More contacts are not looked at one by one for a condition that no index serves, or put in an order none has.
SCAN_CAP = 20_000
_BATCH = 500
_REMEMBERED_S = 60.0
_REMEMBERED_CLAUSES = 10_000
# Times whose index holds them in order, with the id behind.
_IN_ORDER = frozenset({"create_time", "update_time", "last_contacted_at", "last_inbound_at"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search is done.

    Attributes:
        indexes: The indexes that lead.
        indexed: Whether one serves a condition.
        examined: How many contacts they lead to, counted up to one more than SCAN_CAP.
    """

    indexes: tuple[str, ...]
    indexed: bool
    examined: int


class Searches:
    """Finds and counts an account's contacts. What is found is as it is after every change answered before."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: dict[str, tuple[float, int]] = {}

    async def find(
        self,
        account: str,
        search: Search,
        *,
        order: Sequence[SortKey] = BY_ID,
        after: Sequence[Any] | None = None,
        limit: int,
    ) -> list[Document]:
        """The contacts that match, in an order that ends with the id.

        Args:
            account: Whose.
            search: What is looked for.
            order: The order.
            after: The values of the order's fields in the last contact before; None for the beginning.
            limit: At most so many.

        Raises:
            DomainError: FILTER_TOO_BROAD when more contacts than SCAN_CAP would have to be looked at.
        """
        search = await self._planned(account, search, order)
        found: dict[str, Document] = {}
        runs = (self._led(account, search, lead, order, after, limit) for lead in search.leads)
        for run in await asyncio.gather(*runs):
            found.update((each["_id"], each) for each in run)
        contacts = list(found.values())
        for field, direction in reversed(order):
            contacts.sort(key=itemgetter(field), reverse=direction < 0)
        return contacts[:limit]

    async def all(self, account: str, search: Search, *, after_id: str) -> AsyncIterator[Document]:
        """Every contact that matches, in order of id, those behind an id; see `find`."""
        after = [after_id] if after_id else None
        while found := await self.find(account, search, after=after, limit=_BATCH):
            for contact in found:
                yield contact
            after = [found[-1]["_id"]]

    async def count(self, account: str, search: Search) -> int:
        """How many contacts match; see `find`."""
        search = await self._planned(account, search, BY_ID)
        found = [[{"$match": lead}, {"$match": _rest(account, search, lead)}] for lead in search.leads]
        if len(found) == 1:
            counted = await self._database.aggregate("contacts", [*found[0], {"$count": "n"}])
            return int(counted[0]["n"]) if counted else 0
        runs = [self._database.aggregate("contacts", [*each, {"$project": {"_id": 1}}]) for each in found]
        return len({each["_id"] for run in await asyncio.gather(*runs) for each in run})

    async def plan(self, account: str, search: Search, order: Sequence[SortKey] = BY_ID) -> Plan:
        """How the search is done, counted now."""
        search = await self._planned(account, search, order)
        counts = await asyncio.gather(*(self._count_now(lead) for lead in search.leads))
        return Plan(search.indexes, search.is_led, min(sum(counts), SCAN_CAP + 1))

    async def _planned(self, account: str, search: Search, order: Sequence[SortKey]) -> Search:
        """The search with the leads that are cheapest now; refuses one that would have to look at too many."""
        if len(search.candidates) > 1:
            counts = {facet: await self._count({"facets": facet}) for facet in search.candidates}
            search = search.led_by(min(counts, key=counts.__getitem__))
        if order != BY_ID:
            if not _is_in_order(search, order):
                await self._refuse_many(search)
        elif not search.is_led:
            await self._refuse_many(search)
        elif any(map(_is_range, search.leads)) and await self._examined(search) > SCAN_CAP:
            return replace(search, leads=({"account": account},), indexes=("account__id",))  # most are hits
        return search

    async def _refuse_many(self, search: Search) -> None:
        if await self._examined(search) > SCAN_CAP:
            raise DomainError(
                Reason.FILTER_TOO_BROAD,
                f"More than {SCAN_CAP} contacts would have to be looked at, for no index serves these conditions, or "
                "this order of them. Add a condition that few contacts meet: an address, a domain, a value of a "
                "metadata key, or a time; explain=true says what leads a search.",
                metadata={"cap": str(SCAN_CAP)},
            )

    async def _examined(self, search: Search) -> int:
        return sum([await self._count(lead) for lead in search.leads])

    async def _count(self, clause: Clause) -> int:
        """How many contacts a lead leads to, counted within the last minute: to choose by, a guess is enough."""
        now = asyncio.get_running_loop().time()
        key = repr(clause)
        counted, count = self._counted.get(key, (-_REMEMBERED_S, 0))
        if now - counted >= _REMEMBERED_S:
            if len(self._counted) > _REMEMBERED_CLAUSES:
                self._counted.clear()
            count = await self._count_now(clause)
            self._counted[key] = now, count
        return count

    async def _count_now(self, clause: Clause) -> int:
        found = await self._database.aggregate(
            "contacts", [{"$match": clause}, {"$limit": SCAN_CAP + 1}, {"$count": "n"}]
        )
        return int(found[0]["n"]) if found else 0

    async def _led(
        self,
        account: str,
        search: Search,
        lead: Clause,
        order: Sequence[SortKey],
        after: Sequence[Any] | None,
        limit: int,
    ) -> list[Document]:
        """Those that one lead finds, behind a position."""
        rest = _rest(account, search, lead)
        if after is not None:
            if order == BY_ID and _goes_on_with_id(lead):
                lead = lead | {"_id": {"$gt": after[0]}}
            else:
                rest = {"$and": [rest, _behind(order, after)]}
        return await self._database.aggregate(
            "contacts",
            [
                {"$match": lead},
                {"$match": rest},
                {"$sort": dict(order)},
                {"$limit": limit},
                {"$project": PROJECTION},
            ],
        )


def _rest(account: str, search: Search, lead: Clause) -> Clause:
    """What must hold of those that a lead finds; what the lead itself says need not be asked of each again."""
    others = [clause for clause in search.rest.get("$and", [search.rest]) if clause not in (lead, {})]
    return ({"$and": others} if others else {}) | {"account": account, "erase_time": None}


def _is_range(lead: Clause) -> bool:
    """Whether a lead looks for more than one value, so that nobody knows how many contacts it leads to."""
    return not all(isinstance(value, str) for value in lead.values())


def _goes_on_with_id(lead: Clause) -> bool:
    """Whether the index of a lead holds what it finds in order of id: it looks for one value, and the id is next."""
    return len(lead) == 1 and isinstance(next(iter(lead.values())), str)


def _is_in_order(search: Search, order: Sequence[SortKey]) -> bool:
    """Whether an index holds what the search leads to in this order already."""
    (field, _), *others = order
    return field in _IN_ORDER and len(others) == 1 and not search.rest and search.leads[0].keys() == {"account"}


def _behind(order: Sequence[SortKey], position: Sequence[Any]) -> Clause:
    """What comes after a position in an order: the first field that differs decides."""
    clauses = []
    for number, (field, direction) in enumerate(order):
        same = {name: value for (name, _), value in zip(order[:number], position, strict=False)}
        clauses.append(same | {field: {"$gt" if direction > 0 else "$lt": position[number]}})
    return {"$or": clauses}
