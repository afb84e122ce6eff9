"""Pages of documents that have a time, newest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from multimail_server.storage.mongo import up_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multimail_server.storage.mongo import Database, Document

# The embedded engine loads everything the leading fields find before it sorts, so a page is looked for in its last day
# first: busy lists fill it from there, quiet ones are short.
_RECENT = timedelta(days=1)


async def newest_first(
    database: Database,
    collection: str,
    first: Mapping[str, Any],
    rest: Mapping[str, Any],
    before: Sequence[Any] | None,
    limit: int,
    projection: Mapping[str, int],
) -> list[Document]:
    """The documents that match, by `at` and then `_id`, both falling.

    Args:
        database: The database.
        collection: Which documents.
        first: Equality on the leading fields of an index that goes on with `at`.
        rest: All other conditions.
        before: Position of the last document already shown, `[at, _id]`; none for the first page.
        limit: How many.
        projection: What to load.
    """
    until: dict[str, Any] = {}
    behind: dict[str, Any] = {}
    latest = datetime.now(UTC)
    if before:
        latest, identifier = before
        until = up_to(latest)
        behind = {"$or": [{"at": {"$lt": latest}}, {"_id": {"$lt": identifier}}]}
    for since in ({"$gte": latest - _RECENT}, {}):
        at = since | until
        found = await database.aggregate(
            collection,
            [
                # Apart from the rest: only a filter that is just an index's leading fields is led by it everywhere.
                {"$match": {**first, "at": at} if at else first},
                {"$match": {**rest, **behind}},
                {"$sort": {"at": -1, "_id": -1}},
                {"$limit": limit},
                {"$project": projection},
            ],
        )
        if len(found) == limit:
            break
    return found
