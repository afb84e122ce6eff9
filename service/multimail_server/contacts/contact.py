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
# Stands for "until something happens": a date behind all others, so that one range finds what is still so.
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
_KEPT_SENDS = 5
_SENDS_COUNT_FOR = timedelta(hours=1)
_MOST_UNANSWERED = 100

MAX_NAME = 512

# What contacts can be ordered by, in the API's words, and where the document keeps it.
SORT_FIELDS = {
    "email": "email",
    "name": "name",
    "create_time": "create_time",
    "update_time": "update_time",
    "last_contacted": "last_contacted_at",
    "last_inbound": "last_inbound_at",
    "interaction_count": "interaction_count",
    "thread_count": "thread_count",
}


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
        "contacted_elsewhere_at": NEVER,
        "sends": [],
        "sent_before": NEVER,
        "last_inbound_at": NEVER,
        "latest_at": NEVER,
        "awaiting_since": NEVER,
        "young_until": NEVER,
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


def was_written_to(contact: Document) -> bool:
    """Whether a mail to the person was ever queued here; what a caller says of mail elsewhere does not count."""
    return bool(contact["sends"]) or bool(contact["sent_before"] != NEVER)


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
    return contact | {"contacted_elsewhere_at": when, "last_contacted_at": when}


def with_interaction(contact: Document, entry: Mapping[str, Any], *, joins_thread: bool) -> Document:
    """The contact with one more entry in the log.

    Args:
        contact: The contact.
        entry: The log entry: `at`, `email`, `thread`, `direction`, …
        joins_thread: Whether the person takes part in the entry's thread for the first time.
    """
    moved: Document = {
        "interaction_count": contact["interaction_count"] + 1,
        "thread_count": contact["thread_count"] + joins_thread,
    }
    if entry["at"] >= contact["latest_at"]:
        moved |= {"latest_at": entry["at"], "latest_thread_id": entry["thread"]}
    return contact | moved


def with_sent(contact: Document, send: Mapping[str, Any], open_for: timedelta) -> Document:
    """The contact after a mail to the person was queued.

    Args:
        contact: The contact.
        send: `email`, `thread`, `mailbox`, `agent` and `at` of the mail.
        open_for: How long a thread counts as open after its newest mail.
    """
    recent = send["at"] - _SENDS_COUNT_FOR
    sends = [*contact["sends"], dict(send)]
    kept = [each for number, each in enumerate(sends) if each["at"] > recent or number >= len(sends) - _KEPT_SENDS]
    dropped = [each["at"] for each in sends[: len(sends) - len(kept)]]
    moved: Document = {
        "sends": kept,
        "sent_before": max(contact["sent_before"], *dropped, NEVER),
        "awaiting_since": send["at"] if contact["awaiting_since"] == NEVER else contact["awaiting_since"],
        "unanswered": [each for each in contact["unanswered"] if each["thread"] != send["thread"]],
    }
    return _dated(contact | moved, open_for)


def without_sent(contact: Document, email: str, open_for: timedelta) -> Document:
    """The contact after a queued mail was stopped before it left."""
    stopped = [each["at"] for each in contact["sends"] if each["email"] == email]
    moved = contact | {"sends": [each for each in contact["sends"] if each["email"] != email]}
    if contact["awaiting_since"] in stopped:
        moved |= {"awaiting_since": _first_sent(moved, contact["last_inbound_at"])}
    return _dated(moved, open_for)


def with_heard(
    contact: Document,
    *,
    thread: str,
    email: str,
    at: datetime,
    counts: bool,
    open_for: timedelta,
    waits: bool = True,
) -> Document:
    """The contact after mail from the person.

    Args:
        contact: The contact.
        thread: Its thread.
        email: Its id.
        at: When it arrived.
        counts: Whether the person wrote it; an automatic answer moves nothing.
        open_for: How long a thread counts as open after its newest mail.
        waits: Whether it waits for an answer.
    """
    if not counts:
        return contact
    last = max(contact["last_inbound_at"], at)
    heard = contact | {"last_inbound_at": last}
    if contact["awaiting_since"] <= last:  # mail that is adopted late may be older than what it does not answer
        heard |= {"awaiting_since": _first_sent(contact, last)}
    return _dated(with_unanswered(heard, thread, email) if waits else heard, open_for)


def with_unanswered(contact: Document, thread: str, email: str) -> Document:
    """The contact when the person waits for an answer in this thread, since this mail or an earlier one."""
    others = [each for each in contact["unanswered"] if each["thread"] != thread]
    return _opened(contact | {"unanswered": [*others, {"thread": thread, "email": email}][-_MOST_UNANSWERED:]})


def with_held(contact: Document, row: Mapping[str, Any]) -> Document:
    """The contact with a mail to the person that waits: `email`, `thread`, `mailbox`, `agent` and `at` of it."""
    return _opened(contact | {"held": [*contact["held"], dict(row)]})


def without_held(contact: Document, email: str) -> Document:
    """The contact when a mail no longer waits."""
    return _opened(contact | {"held": [each for each in contact["held"] if each["email"] != email]})


def _first_sent(contact: Document, after: datetime) -> datetime:
    """When the first mail left after this time, of those remembered."""
    return min(
        (at for at in (contact["sent_before"], *(each["at"] for each in contact["sends"])) if at > after), default=NEVER
    )


def _dated(contact: Document, open_for: timedelta) -> Document:
    """The contact with the times that follow from what was sent and heard."""
    sent = max((each["at"] for each in contact["sends"]), default=contact["sent_before"])
    newest = max(sent, contact["last_inbound_at"])
    dated = contact | {
        "last_contacted_at": max(sent, contact["contacted_elsewhere_at"]),
        "young_until": newest if newest == NEVER else newest + open_for,
    }
    return _opened(dated)


def _opened(contact: Document) -> Document:
    """The contact with the time until which a conversation is open: its newest mail's age, or something must happen."""
    is_waiting = contact["unanswered"] or contact["held"]
    return contact | {"open_until": FOREVER if is_waiting else contact["young_until"]}
