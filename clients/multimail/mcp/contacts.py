"""Tools about people: who they are, what was written, and what is worth knowing before an act."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from multimail.mcp.paging import listed
from multimail.mcp.shown import ShownContact, ShownInteraction, ShownSuppression
from multimail.mcp.told import Outside, Page, Shown, Told, line, outside, room, size
from multimail.mcp.tool import Budgeted, Changing, Object, Paged, action, few, tool

if TYPE_CHECKING:
    from multimail.aio import AsyncClient
    from multimail.contacts import Contact, Interaction
    from multimail.context import ContactContext

_FIND = "query filters filter order_by limit cursor max_tokens"
_ACTIONS = {
    "search": action("read", _FIND),
    "get": action("read", "email id max_tokens"),
    "upsert": action("write", "email name metadata last_contacted idempotency_key max_tokens"),
    "update": action("write", "email id name metadata increment add_to_set remove etag idempotency_key max_tokens"),
    "delete": action("write", "email id etag idempotency_key"),
}
_MARKED = re.compile(r"^<<<untrusted (\S+)\n(.*?)\n\1>>>$", re.DOTALL | re.MULTILINE)


class ManageContacts(Paged, Changing):
    """Arguments of manage_contacts."""

    action: Literal["search", "get", "upsert", "update", "delete"] = Field("search", description="What to do.")
    query: str = Field("", description="search: an address, a domain, or words of the name, each from its beginning.")
    filters: Object | None = Field(
        None,
        description='search: conditions that must all hold, such as {"metadata.plan": "pro", "last_contacted_before": '
        '"2026-03-20", "metadata.open_tickets": {"gte": 2}}; operators gt gte lt lte ne in exists prefix; times '
        "last_contacted, last_inbound, created, updated with _before or _after; never_contacted, awaiting_reply, "
        "has_open_thread.",
    )
    filter: str = Field(
        "", description='search: conditions as text, such as metadata.plan = "pro" AND NOT has_open_thread.'
    )
    order_by: str = Field("", description="search: such as `last_contacted desc, name`.")
    email: str | None = Field(None, description="The person's address; for get, update and delete this or id.")
    id: str | None = Field(None, description="The contact's id.")
    name: str | None = Field(None, description="upsert, update: the name; left out, it stays.")
    metadata: Object | None = Field(
        None,
        description="upsert, update: what to merge into what is known; objects merge at every depth, null removes a "
        "key, keys left out stay.",
    )
    last_contacted: AwareDatetime | None = Field(
        None, description="upsert: when somebody last wrote to them elsewhere, with a time zone."
    )
    increment: Annotated[dict[str, float], BeforeValidator(few)] | None = Field(
        None, description='update: numbers to add, by path: {"open_tickets": 1}.'
    )
    add_to_set: Object | None = Field(None, description='update: values to add to lists, by path: {"tags": "vip"}.')
    remove: Object | None = Field(None, description="update: values to take out of lists, by path.")
    etag: str = Field("", description="update, delete: only while the contact still has this etag.")


class ShownErasure(Shown):
    """The record of an erasure."""

    id: str
    contact_id: str
    state: str
    scrub_by: datetime | None = None


class ContactsTold(Page):
    """Answer of manage_contacts."""

    contacts: list[ShownContact]
    erasure: ShownErasure | None = None


def _shown(found: Contact) -> tuple[ShownContact, list[Outside]]:
    return ShownContact.of(found), []


def _without_metadata(found: Contact, _: int) -> tuple[ShownContact, list[Outside]]:
    return ShownContact.of(found, metadata={}, metadata_left_out=True), []


def _one(found: Contact, given: ManageContacts) -> ContactsTold:
    shown, _ = _shown(found)
    if size([shown]) <= room(given.max_tokens):
        return ContactsTold(contacts=[shown])
    note = "The metadata is longer than max_tokens allows; call get with more."
    return ContactsTold(contacts=[_without_metadata(found, 0)[0]], note=note)


@tool("Contacts", ManageContacts, ContactsTold, actions=_ACTIONS, destructive=True)
async def manage_contacts(client: AsyncClient, given: ManageContacts) -> ContactsTold:
    """Finds, reads, makes, changes or erases contacts, as `action` says.

    Search before you write to somebody; after an act note in the metadata what others should know. delete erases the
    person for good, log and all; do it only when a person of yours asks for it.

    Example:
        {"action": "search", "filters": {"metadata.plan": "pro", "last_contacted_before": "2026-03-20"}, "limit": 10}
    """
    who: dict[str, Any] = {"email": given.email, "id": given.id}
    if given.action == "search":
        found = await client.contacts.search(
            query=given.query, filters=given.filters, filter=given.filter, order_by=given.order_by, limit=0
        )
        page = await listed(found, given, _shown, _without_metadata)
        return ContactsTold(contacts=page.pop("items"), **page)
    if given.action == "get":
        return _one(await client.contacts.get(**who), given)
    if given.action == "upsert":
        changed = await client.contacts.upsert(
            email=given.email or "",
            name=given.name,
            metadata=given.metadata,
            last_contacted=given.last_contacted,
            request_id=given.request_id,
        )
        return _one(changed, given)
    if given.action == "update":
        changed = await client.contacts.update(
            **who,
            name=given.name,
            metadata=given.metadata,
            increment=given.increment,
            add_to_set=given.add_to_set,
            remove=given.remove,
            etag=given.etag,
            request_id=given.request_id,
        )
        return _one(changed, given)
    erasure = await client.contacts.delete(**who, etag=given.etag, request_id=given.request_id)
    note = "The person is erased; their mail is scrubbed by then."
    return ContactsTold(contacts=[], erasure=ShownErasure.of(erasure), note=note)


class GetContactContext(Budgeted):
    """Arguments of get_contact_context."""

    email: str | None = Field(None, description="The person's address; this or id.")
    id: str | None = Field(None, description="The contact's id.")


class ContextTold(Told):
    """Answer of get_contact_context."""

    contact_id: str
    etag: str = Field(description="Give it as guard.contact_etag to send only while nothing changed.")
    text: str = Field(description="What is known; [outside 1] stands for the text of that number in `untrusted`.")
    suppression: ShownSuppression | None = Field(None, description="Why nobody may write to them; absent if one may.")
    truncated: bool = Field(False, description="Something was left out for its length.")


@tool("What is known of a person", GetContactContext, ContextTold, scope="read")
async def get_contact_context(client: AsyncClient, given: GetContactContext) -> ContextTold:
    """Reads what is worth knowing of a person before you write to them, in one call.

    That is who they are, their metadata, the newest mails, open conversations, mail that waits, and whether they may be
    written to at all.

    Example:
        {"email": "elena@acmecorp.com"}
    """
    most = room(given.max_tokens)
    characters = min(most, 100_000)
    while True:
        told = _context(await client.contacts.context(email=given.email, id=given.id, max_characters=characters))
        taken = size([told.model_copy(update={"untrusted": []}), *told.untrusted])
        if taken <= most or characters == 500:
            return told
        characters = max(500, characters * most // taken - 100)


def _context(found: ContactContext) -> ContextTold:
    """The context with its texts from outside taken out of it."""
    outsiders: list[Outside] = []

    def taken_out(match: re.Match[str]) -> str:
        outsiders.extend(outside(str(len(outsiders) + 1), match[2] or "(empty)"))
        return f"[outside {len(outsiders)}]"

    return ContextTold(
        contact_id=found.contact.id,
        etag=found.contact.etag,
        text=_MARKED.sub(taken_out, found.text),
        suppression=ShownSuppression.of(found.suppression) if found.suppression else None,
        truncated=found.truncated,
        untrusted=outsiders,
    )


class ListInteractions(Paged):
    """Arguments of list_interactions."""

    email: str | None = Field(None, description="The person's address; this or id.")
    id: str | None = Field(None, description="The contact's id.")


class InteractionsTold(Page):
    """Answer of list_interactions."""

    interactions: list[ShownInteraction]


@tool("A person's log", ListInteractions, InteractionsTold, scope="read")
async def list_interactions(client: AsyncClient, given: ListInteractions) -> InteractionsTold:
    """Lists every mail to and from a person, newest first: when, by which agent, whether answered.

    Example:
        {"email": "elena@acmecorp.com", "limit": 5}
    """
    found = await client.contacts.interactions(email=given.email, id=given.id, limit=0)
    page = await listed(found, given, _entry)
    return InteractionsTold(interactions=page.pop("items"), **page)


def _entry(found: Interaction) -> tuple[ShownInteraction, list[Outside]]:
    said = f"Subject: {line(found.subject)}" if found.subject else ""
    return ShownInteraction.of(found), outside(found.email_id, said)
