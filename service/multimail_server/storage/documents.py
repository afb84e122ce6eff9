"""What the rules of one commit group see and change: documents loaded, changed and noted, in memory only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

Document = dict[str, Any]
Key = tuple[str, str]  # collection, _id


class Need(NamedTuple):
    """Documents an operation must see: those of `collection` whose `field` holds one of `values`.

    Attributes:
        collection: Where they are.
        field: `_id`, or a field that an index serves; an array holds a value when one element is it.
        values: What to look for.
        also: Further clauses that narrow what is loaded, as `(field, condition)`.
    """

    collection: str
    field: str
    values: tuple[str, ...]
    also: tuple[tuple[str, Any], ...] = ()


class MoreNeededError(Exception):
    """A rule found that it must see more documents; it runs again in the next group, which loads them."""

    def __init__(self, *needs: Need) -> None:
        super().__init__(needs)
        self.needs = needs


class Actor(NamedTuple):
    """Who makes a change: an API key and its agent's name, or nobody when the service itself does."""

    key_id: str = ""
    agent: str = ""


SERVICE = Actor()


def values_of(document: Mapping[str, Any], name: str) -> Iterator[Any]:
    """The values an index on `name` holds for the document: the field's, or each element's of an array."""
    value = document.get(name)
    if isinstance(value, list):
        yield from value
    elif value is not None:
        yield value


class Documents:
    """The documents of one group: as read, as changed by the operations so far, and the notifications so far."""

    def __init__(self, account: str, seq: int, now: datetime, group: str) -> None:
        self.account = account
        self.seq = seq
        self.now = now
        self.group = group
        self.read: dict[Key, Document] = {}
        self.current: dict[Key, Document | None] = {}
        self.pushes: dict[Key, dict[str, list[Any]]] = {}
        self.notifications: list[Document] = []
        self._asked: set[tuple[str, str, str]] = set()
        self._index: dict[tuple[str, str], dict[Any, dict[str, None]]] = {}

    def load(self, need: Need, found: Iterable[Document]) -> None:
        """Takes in what one query found."""
        self._index.setdefault((need.collection, need.field), {})
        self._asked.update((need.collection, need.field, value) for value in need.values)
        for document in found:
            key = need.collection, document["_id"]
            self.read.setdefault(key, document)
            if key not in self.current:
                self._set(key, document)
        # What an earlier query found counts for this field too.
        for (collection, _), known in list(self.current.items()):
            if collection == need.collection and known is not None:
                self._enter(collection, need.field, known)

    def _enter(self, collection: str, name: str, document: Document) -> None:
        index = self._index[collection, name]
        for value in values_of(document, name):
            index.setdefault(value, {})[document["_id"]] = None

    def _set(self, key: Key, document: Document | None) -> None:
        collection, identifier = key
        before = self.current.get(key)
        names = [name for where, name in self._index if where == collection]
        if before is not None:
            for name in names:
                for value in values_of(before, name):
                    self._index[collection, name].get(value, {}).pop(identifier, None)
        self.current[key] = document
        if document is not None:
            for name in names:
                self._enter(collection, name, document)

    def has(self, need: Need) -> bool:
        """Whether everything the need names was asked for, as it says or by more than it says."""
        return all(
            (need.collection, need.field, value) in self._asked
            or (need.field == "_id" and (need.collection, value) in self.current)
            for value in need.values
        )

    def ids(self, collection: str, name: str, value: str) -> list[str]:
        """The ids of the documents whose field holds the value; MoreNeededError when nobody asked for them."""
        if (collection, name, value) not in self._asked:
            raise MoreNeededError(Need(collection, name, (value,)))
        return list(self._index[collection, name].get(value, ()))

    def take(self, draft: Draft) -> None:
        """Makes one operation's effects part of the group."""
        for key, document in draft.changed.items():
            self._set(key, document)
        for key in draft.emptied:
            self.pushes.pop(key, None)
        for key, fields in draft.pushes.items():
            mine = self.pushes.setdefault(key, {})
            for name, entries in fields.items():
                mine.setdefault(name, []).extend(entries)
        self.number(draft.notifications)

    def number(self, notifications: Iterable[Document]) -> None:
        """Gives notifications the account's next numbers."""
        for note in notifications:
            self.seq += 1
            identifier = f"{self.account}/{self.seq}"
            numbered = {"_id": identifier, "seq": self.seq, "group": self.group, **note}
            # No caller's request_id holds a space, so none can take the place of a number to come.
            numbered.setdefault("request_id", f"{self.account} {self.seq}")
            self.notifications.append(numbered)
            self._set(("notifications", identifier), numbered)


@dataclass(slots=True)
class Draft:
    """One operation's view of its group, and its own effects, which count only if its rule returns.

    Documents handed out are never changed in place: a rule builds a new one and puts it.
    """

    group: Documents
    actor: Actor
    method: str
    _ids: Callable[[str], str]
    changed: dict[Key, Document | None] = field(default_factory=dict)
    pushes: dict[Key, dict[str, list[Any]]] = field(default_factory=dict)
    emptied: set[Key] = field(default_factory=set)
    notifications: list[Document] = field(default_factory=list)
    refusals: list[Document] = field(default_factory=list)
    outcome: Document = field(default_factory=dict)

    @property
    def account(self) -> str:
        """The account everything here belongs to."""
        return self.group.account

    @property
    def now(self) -> datetime:
        """The group's time: the engine's clock, never before the account's last commit."""
        return self.group.now

    def new_id(self, prefix: str) -> str:
        """A new id, `<prefix>_<ULID>`."""
        return self._ids(prefix)

    def see(self, needs: Iterable[Need]) -> None:
        """Makes sure that these documents are there; else the rule runs again in a group that has them all."""
        missing = [need for need in needs if not self.group.has(need)]
        if missing:
            raise MoreNeededError(*missing)

    def all(self, collection: str, name: str, value: str) -> list[Document]:
        """Every document whose field holds the value, with the changes made so far."""
        found = self.group.ids(collection, name, value)
        if self.changed:
            found = self._with_changes(found, collection, name, value)
        return [document for identifier in found if (document := self._current(collection, identifier)) is not None]

    def _with_changes(self, ids: list[str], collection: str, name: str, value: str) -> list[str]:
        found = dict.fromkeys(ids)
        for (where, identifier), document in self.changed.items():
            if where == collection:
                if document is not None and value in values_of(document, name):
                    found[identifier] = None
                else:
                    found.pop(identifier, None)
        return list(found)

    def one(self, collection: str, name: str, value: str) -> Document | None:
        """The document whose field holds the value, or None."""
        found = self.all(collection, name, value)
        return found[0] if found else None

    def get(self, collection: str, identifier: str) -> Document | None:
        """The document with this id, or None."""
        key = collection, identifier
        if key in self.changed or key in self.group.current:
            return self._current(collection, identifier)
        return self.one(collection, "_id", identifier)

    def _current(self, collection: str, identifier: str) -> Document | None:
        key = collection, identifier
        return self.changed[key] if key in self.changed else self.group.current.get(key)

    def put(self, collection: str, document: Document) -> Document:
        """Makes this the document with its `_id`, new or changed, and returns it."""
        self.changed[collection, document["_id"]] = document
        return document

    def delete(self, collection: str, identifier: str) -> None:
        """Removes a document."""
        self.changed[collection, identifier] = None

    def push(self, collection: str, identifier: str, name: str, entries: Sequence[Any]) -> None:
        """Adds entries to an array that groups do not load; it keeps the newest by `at`."""
        self.pushes.setdefault((collection, identifier), {}).setdefault(name, []).extend(entries)

    def empty(self, collection: str, identifier: str) -> None:
        """Takes back what operations before this one, in the same group, added to the document's arrays."""
        self.emptied.add((collection, identifier))

    def notify(self, kind: str, *, shown: bool = True, **ids: str) -> None:
        """Adds a line to the account's history.

        Args:
            kind: What happened, `contact_created`.
            shown: Whether ListNotifications shows it; autonomous acts are recorded only.
            ids: What it is about: contact, mailbox, email, thread; also state.
        """
        self.notifications.append(self._line(kind, shown=shown, **ids))

    def note_refusal(self, kind: str, *, shown: bool = True, **ids: str) -> None:
        """Adds a line to the account's history that stands even though the rule goes on to refuse."""
        self.refusals.append(self._line(kind, shown=shown, **ids))

    def _line(self, kind: str, *, shown: bool, **ids: str) -> Document:
        return {
            "account": self.account,
            "type": kind,
            "shown": shown,
            "at": self.now,
            "actor": {"key": self.actor.key_id, "agent": self.actor.agent},
            "method": self.method,
            **ids,
        }
