"""The contact document and the rules by which it changes; decides in memory only."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.contacts import escape
from multimail_server.contacts.facets import facets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multimail_server.aip.address import Address

Document = dict[str, Any]

# Stands for "never": a date before all others, so that one range finds "not since then, or never".
NEVER = datetime(1, 1, 1, tzinfo=UTC)
# A thread counts as open while its newest mail is younger than this.
OPEN_FOR = timedelta(days=14)


MAX_NAME = 512


def check_name(name: str, field: str) -> None:
    """Refuses a name that is too long or holds control characters."""
    if len(name) > MAX_NAME:
        raise errors.invalid_field(field, f"is {len(name)} characters long; at most {MAX_NAME} are allowed")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise errors.invalid_field(field, "holds a control character")


def new(
    identifier: str, account: str, address: Address, *, name: str, metadata: Mapping[str, Any], now: datetime
) -> Document:
    """The document of a person nobody has written to yet."""
    contact = {
        "_id": identifier,
        "account": account,
        "email_keys": [address.key],
        "domains": [address.domain],
        "email": address.display,
        "revision": 0,
        "create_time": now,
        "last_contacted_at": NEVER,
        "last_inbound_at": NEVER,
        "latest_at": NEVER,
        "open_until": NEVER,
        "unanswered": [],
        "held": [],
        "latest_thread_id": "",
        "thread_count": 0,
        "interaction_count": 0,
        "interactions": [],
    }
    return described(contact, name=name, metadata=metadata, now=now)


def described(contact: Document, *, name: str, metadata: Mapping[str, Any], now: datetime) -> Document:
    """The contact with this name and metadata: a new revision, with the facets that search finds it by."""
    return contact | {
        "name": name,
        "metadata": escape.to_stored(metadata),
        "facets": facets_of(contact["account"], contact["domains"], name, metadata),
        "revision": contact["revision"] + 1,
        "update_time": now,
    }


def metadata_of(contact: Document) -> dict[str, Any]:
    """The contact's metadata with its keys as the caller gave them."""
    return escape.from_stored(contact["metadata"])


def is_erased(contact: Document) -> bool:
    """Whether only the tombstone of an erased person is left."""
    return "erase_time" in contact


def tombstone(contact: Document, now: datetime) -> Document:
    """What is left of an erased person: the id, so that it never names anybody again."""
    return {
        "_id": contact["_id"],
        "account": contact["account"],
        "email_keys": [contact["_id"]],
        "facets": [],
        "revision": contact["revision"] + 1,
        "erase_time": now,
        "interactions": [],
    }


def contacted_elsewhere(contact: Document, when: datetime) -> Document:
    """The contact after word that somebody wrote to the person at that time; never moves back."""
    if when <= contact["last_contacted_at"]:
        return contact
    return contact | {"last_contacted_at": when}


def with_interaction(contact: Document, entry: Mapping[str, Any], *, joins_thread: bool) -> Document:
    """The contact's summary after one more mail.

    Args:
        contact: The contact.
        entry: The log entry: `at`, `email`, `thread`, `direction`, …
        joins_thread: Whether the person takes part in the entry's thread for the first time.
    """
    at, thread = entry["at"], entry["thread"]
    outbound = entry["direction"] == "outbound"
    unanswered = [other for other in contact["unanswered"] if other != thread]
    moved: Document = {
        "interaction_count": contact["interaction_count"] + 1,
        "thread_count": contact["thread_count"] + joins_thread,
        "open_until": max(contact["open_until"], at + OPEN_FOR),
        "unanswered": unanswered if outbound else [*unanswered, thread],
    }
    if at >= contact["latest_at"]:
        moved |= {"latest_at": at, "latest_thread_id": thread}
    name = "last_contacted_at" if outbound else "last_inbound_at"
    moved[name] = max(contact[name], at)
    return contact | moved
