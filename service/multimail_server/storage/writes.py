"""Turns what a commit group changed into the fewest writes: only fields that differ, fenced where it matters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bson

if TYPE_CHECKING:
    from multimail_server.storage.documents import Document, Documents, Draft

MAX_DOCUMENT_BYTES = 15 << 20
KEPT_INTERACTIONS = 50
_LARGE_REQUEST_BYTES = 1 << 20
_MISSING = object()


@dataclass(slots=True)
class Writes:
    """One collection's share of a group, as the parts of the engine's commands."""

    inserts: list[Document] = field(default_factory=list)
    updates: list[Document] = field(default_factory=list)
    deletes: list[Document] = field(default_factory=list)


def account_pin(documents: Documents, read_seq: int) -> Document:
    """The write every commit of an account makes first: it succeeds only if no other commit came between."""
    return {
        "q": {"_id": documents.account, "seq": read_seq},
        "u": {"$set": {"seq": documents.seq, "group": documents.group, "time": documents.now}},
    }


def writes_of(documents: Documents) -> dict[str, Writes]:
    """Everything the group changed but the account and the notifications, by collection."""
    collections: dict[str, Writes] = defaultdict(Writes)
    for (collection, identifier), document in documents.current.items():
        if collection == "notifications":
            continue
        before = documents.read.get((collection, identifier))
        pushes = documents.pushes.get((collection, identifier), {})
        if document is None:
            if before is not None:
                collections[collection].deletes.append({"_id": identifier})
        elif before is None:
            collections[collection].inserts.append(document | {n: _newest(e) for n, e in pushes.items()})
        elif document is not before or pushes:
            update = _difference(before, document, pushes)
            if update:
                collections[collection].updates.append({"q": _pinned(before), "u": update})
    return collections


def _newest(entries: list[Any]) -> list[Any]:
    return sorted(entries, key=lambda entry: entry["at"])[-KEPT_INTERACTIONS:]


def _pinned(before: Document) -> Document:
    """The filter of an update: a document with a fence is written only if the fence is as it was read."""
    where = {"_id": before["_id"]}
    if "fence" in before:
        where["fence"] = before["fence"]
    return where


def _difference(before: Document, after: Document, pushes: dict[str, list[Any]]) -> Document:
    """The update that makes one document of the other, by top-level fields."""
    changed = {
        name: value
        for name, value in after.items()
        if (old := before.get(name, _MISSING)) is not value and not same(old, value)
    }
    gone = {name: "" for name in before if name not in after}
    update: Document = {}
    if changed:
        update["$set"] = changed
    if gone:
        update["$unset"] = gone
    if pushes:
        update["$push"] = {
            name: {"$each": entries, "$sort": {"at": 1}, "$slice": -KEPT_INTERACTIONS}
            for name, entries in pushes.items()
        }
    if update and "fence" in before and "fence" not in changed:
        update["$inc"] = {"fence": 1}
    return update


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in the database; unlike Python's `==`, True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def oversized(draft: Draft, request_bytes: int) -> bool:
    """Whether a document of a large request would pass 15 MiB; small requests cannot make one."""
    if request_bytes < _LARGE_REQUEST_BYTES:
        return False
    return any(
        document is not None and len(bson.encode(document)) > MAX_DOCUMENT_BYTES for document in draft.changed.values()
    )
