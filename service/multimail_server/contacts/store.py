"""Contacts in the database: each change as one operation, each read as one query. The account comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from multimail_server import errors
from multimail_server.aip.etag import etag_of
from multimail_server.contacts import contact as rules
from multimail_server.contacts import metadata as metadata_rules
from multimail_server.errors import DomainError, Reason
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from multimail_server.aip.address import Address
    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Draft
    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.operation import Request
    from multimail_server.storage.reads import Reader

# What an answer shows of a contact, or is decided by. Named one by one: a time costs as much to read as four texts.
PROJECTION = dict.fromkeys(
    (
        *("account", "email_keys", "email", "name", "metadata", "revision", "create_time", "update_time", "erase_time"),
        *("last_contacted_at", "last_inbound_at", "interaction_count", "thread_count", "latest_thread_id"),
        *("awaiting_since", "unanswered", "held"),  # of who is about to write
    ),
    1,
)

Changed = tuple["Document", str]  # the contact, and created, updated or unchanged


class Payload(NamedTuple):
    """What a contact is to be made of, or merged with.

    Attributes:
        address: The person's address.
        name: The name; None leaves a known one.
        metadata: What to merge.
        last_contacted: When somebody wrote to them elsewhere; None for nothing known.
    """

    address: Address
    name: str | None
    metadata: Document
    last_contacted: datetime | None


class ContactStore:
    """Reads and changes contacts.

    Every method sees every change answered before it began; a change is atomic. An erased person is not there.
    """

    def __init__(self, database: Database, reader: Reader, committer: Committer) -> None:
        self._database = database
        self._reader = reader
        self._committer = committer

    async def get(self, account: str, need: Need) -> Document:
        """The contact with this id or address key, or CONTACT_NOT_FOUND."""
        return _living(await self._reader.one(account, need.collection, need.field, need.values[0]))

    async def known(self, account: str, people: Sequence[str], *, limit: int) -> list[Document]:
        """Of these contact ids and address keys the contacts that are there, at most `limit`."""
        found = await asyncio.gather(
            *(
                self._reader.one(account, "contacts", "_id" if each.startswith("contact_") else "email_keys", each)
                for each in list(people)[:limit]
            )
        )
        return [contact for contact in found if contact is not None and not rules.is_erased(contact)]

    async def whole(self, account: str, ids: Sequence[str]) -> dict[str, Document]:
        """The contacts with these ids, by id, with everything a condition can ask about."""
        found = await self._database.find(
            "contacts", {"_id": {"$in": list(ids)}, "account": account}, projection={"interactions": 0}
        )
        return {contact["_id"]: contact for contact in found}

    async def begin(self, request: Request) -> None:
        """Notes what a batch's request_id stands for; see Committer.begin."""
        await self._committer.begin(request)

    async def upsert(self, request: Request, payload: Payload, *, merge: bool) -> Changed:
        """Makes the contact or, with `merge`, merges into the one that has the address; else CONTACT_EXISTS."""
        address, name, metadata = payload.address, payload.name, payload.metadata
        last_contacted = payload.last_contacted

        def merged(before: dict[str, Any]) -> dict[str, Any]:
            return metadata_rules.merge(before, metadata)

        def rule(draft: Draft) -> Changed:
            if last_contacted is not None and last_contacted > draft.now:
                raise errors.invalid_field("last_contacted", "lies in the future")
            known = draft.one("contacts", "email_keys", address.key)
            if known is None:
                return made(
                    draft, address, name=name or "", metadata=metadata, last_contacted=last_contacted
                ), "created"
            if not merge:
                raise DomainError(
                    Reason.CONTACT_EXISTS,
                    "A contact has this address already; set upsert to merge into it.",
                    metadata={"contact_id": known["_id"]},
                )
            return _change(draft, known, name=name, change=merged, last_contacted=last_contacted)

        needs = [Need("contacts", "email_keys", (address.key,)), need_adoption(request.account, address.key)]
        answer: Changed = await self._committer.run(request.operation(needs, _noting(rule), _again))
        return answer

    async def update(
        self,
        request: Request,
        need: Need,
        *,
        name: str | None,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        etag: str,
    ) -> Changed:
        """Changes a known contact: `change` maps its metadata to the new ones, or refuses."""

        def rule(draft: Draft) -> Changed:
            known = found(draft, need, etag)
            return _change(draft, known, name=name, change=change, last_contacted=None)

        answer: Changed = await self._committer.run(request.operation([need], _noting(rule), _again))
        return answer


def _living(contact: Document | None) -> Document:
    if contact is None or rules.is_erased(contact):
        raise errors.not_found("contact")
    return contact


def found(draft: Draft, need: Need, etag: str) -> Document:
    """The one contact a change is about; CONTACT_NOT_FOUND, or ETAG_MISMATCH when an etag is given and outdated."""
    known = _living(draft.one(need.collection, need.field, need.values[0]))
    current = etag_of(known["_id"], known["revision"])
    if etag and etag != current:
        raise errors.etag_mismatch("contact", current)
    return known


def need_adoption(account: str, key: str) -> Need:
    """The need for the note that mail of an address without a contact is waiting to be adopted."""
    return Need("jobs", "_id", (adoption_id(account, key),))


def adoption_id(account: str, key: str) -> str:
    """The id of that note."""
    return f"adopt/{account}/{key}"


def made(
    draft: Draft,
    address: Address,
    *,
    name: str = "",
    metadata: Mapping[str, Any] | None = None,
    last_contacted: datetime | None = None,
) -> Document:
    """Makes a contact in the draft, and wakes the job that adopts earlier mail of its address if there is some.

    The metadata are a request's, which was refused if they alone pass the limits.
    """
    clean = metadata_rules.merge({}, metadata or {})
    contact = rules.new(draft.new_id("contact"), draft.account, address, name=name, metadata=clean, now=draft.now)
    if last_contacted is not None:
        contact = rules.contacted_elsewhere(contact, last_contacted)
    draft.put("contacts", contact)
    draft.notify("contact_created", contact=contact["_id"])
    if (waiting := draft.get("jobs", adoption_id(draft.account, address.key))) is not None:
        draft.put("jobs", waiting | {"contact": contact["_id"], "due_at": draft.now})
    return contact


def _change(
    draft: Draft,
    known: Document,
    *,
    name: str | None,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    last_contacted: datetime | None,
) -> Changed:
    contact = known
    before = rules.metadata_of(known)
    metadata = change(before)
    if not metadata_rules.json_equal(before, metadata) or (name is not None and name != known["name"]):
        metadata_rules.check_limits(metadata)
        name = known["name"] if name is None else name
        contact = rules.described(known, name=name, metadata=metadata, now=draft.now)
    if last_contacted is not None:
        contact = rules.contacted_elsewhere(contact, last_contacted)
    if contact is known:
        return known, "unchanged"
    draft.put("contacts", contact)
    draft.notify("contact_updated", contact=contact["_id"])
    return contact, "updated"


def _noting(rule: Callable[[Draft], Changed]) -> Callable[[Draft], Changed]:
    """The rule, noting what a repetition needs to give the same answer."""

    def noted(draft: Draft) -> Changed:
        contact, outcome = rule(draft)
        draft.outcome = {"contact": contact["_id"], "outcome": outcome}
        return contact, outcome

    return noted


def _again(draft: Draft, outcome: Document) -> Changed:
    """The answer to a repeated request: the contact as it is now, and what the first one did."""
    return _living(draft.get("contacts", outcome["contact"])), outcome["outcome"]
