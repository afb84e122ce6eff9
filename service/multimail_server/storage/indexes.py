"""Every collection and every index, each with the query it serves."""

from __future__ import annotations

from dataclasses import dataclass

COLLECTIONS = (
    "accounts",
    "addresses",
    "api_keys",
    "contacts",
    "emails",
    "erasures",
    "jobs",
    "mailboxes",
    "notifications",
    "processes",
    "secrets",
    "suppressions",
    "threads",
    "turns",
)


@dataclass(frozen=True, slots=True)
class Index:
    """One index.

    Attributes:
        collection: Where it lives.
        keys: Field and direction, in order.
        serves: The query that needs it, in words.
        unique: Whether two documents may not share the key.
    """

    collection: str
    keys: tuple[tuple[str, int], ...]
    serves: str
    unique: bool = False

    @property
    def name(self) -> str:
        """The index's name in the database."""
        return "_".join(field for field, _ in self.keys)


def _up(*fields: str) -> tuple[tuple[str, int], ...]:
    return tuple((field, 1) for field in fields)


# Unique keys lead with `account`, so that a sharded cluster can hold them. None is partial: where a unique field may
# be absent, it holds the document's own id.
INDEXES = (
    Index("api_keys", _up("hash"), "the key a call came with", unique=True),
    Index("api_keys", _up("account"), "keys list"),
    Index("contacts", _up("account", "email_keys"), "contacts by address; one contact per address", unique=True),
    Index("contacts", _up("facets", "_id"), "search by any facet, in order of id"),
    Index("contacts", _up("account", "_id"), "search without a condition"),
    Index("contacts", _up("account", "last_contacted_at", "_id"), "search by recency alone"),
    Index("contacts", _up("account", "last_inbound_at", "_id"), "search by the last inbound mail alone"),
    Index("contacts", _up("account", "awaiting_since", "_id"), "search by who owes us an answer"),
    Index("contacts", _up("account", "open_until", "_id"), "search by whether a conversation is open"),
    Index("contacts", _up("account", "create_time", "_id"), "search by creation time alone"),
    Index("contacts", _up("account", "update_time", "_id"), "search by update time alone"),
    Index("emails", _up("account", "request_id"), "a mail accepted or taken in before", unique=True),
    Index("emails", _up("account", "linked"), "the thread a mail belongs to, by its Message-IDs"),
    Index("emails", _up("account", "people", "at", "_id"), "a contact's log"),
    Index("emails", _up("account", "people", "state"), "mail that an erasure has to stop"),
    Index("emails", _up("account", "named", "at"), "mail that names an erased person"),
    Index("emails", _up("account", "mailbox", "at", "_id"), "an inbox"),
    Index("emails", _up("account", "thread", "at", "_id"), "a conversation"),
    Index("emails", _up("account", "at", "_id"), "all mail, newest first"),
    Index("emails", _up("account", "state", "at", "_id"), "mail that waits for a person, oldest first"),
    Index("emails", _up("account", "dedupe"), "mail that bore a dedupe_key"),
    Index("emails", _up("state", "due_at"), "mail to send, leases that ran out, and mail whose wait is over"),
    Index("jobs", _up("due_at"), "jobs to do"),
    Index("mailboxes", _up("account", "_id"), "ListMailboxes"),
    Index("mailboxes", _up("account", "email_key"), "mailboxes by address; a deleted one's key is its id", unique=True),
    Index("notifications", _up("account", "seq"), "the account's history by number", unique=True),
    Index("notifications", _up("account", "request_id"), "a change made before", unique=True),
    Index("suppressions", _up("account", "_id"), "ListSuppressions"),
    Index("threads", _up("account", "_id"), "ListThreads"),
    Index("threads", _up("account", "awaiting_since"), "who has not answered since"),
    Index("threads", _up("account", "unanswered_since"), "who waits for our answer"),
    Index("threads", _up("account", "people", "_id"), "a contact's threads"),
    Index("threads", _up("account", "mailboxes", "_id"), "a mailbox's threads"),
)
