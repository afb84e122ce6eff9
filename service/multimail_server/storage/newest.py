"""Pages of documents that have a time, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multimail_server.storage.mongo import Database, Document


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
    behind: dict[str, Any] = {}
    if before:
        at, identifier = before
        first = {**first, "at": {"$lte": at}}
        behind = {"$or": [{"at": {"$lt": at}}, {"_id": {"$lt": identifier}}]}
    # By find: the embedded engine takes three times as long for the same as a pipeline.
    return await database.find(
        collection,
        {**first, "$and": [{**rest, **behind}]},
        projection=projection,
        sort=(("at", -1), ("_id", -1)),
        limit=limit,
    )
