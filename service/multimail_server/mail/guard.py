"""The pre-send guard and the brake on loops: pure functions of contact, thread, earlier mail and clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from multimail_server.aip.etag import etag_of
from multimail_server.contacts.filters import Search, compile_search, holds
from multimail_server.errors import DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multimail_server.mail.bounds import Bounds

Document = dict[str, Any]

MOST_WAITING = 1_000
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Guard:
    """What must be true of the recipient; see `multimail.v1.SendGuard`.

    Attributes:
        not_contacted_within: Nobody has written to them for so long; zero for no such rule.
        no_open_thread: No conversation with them is open.
        contact_etag: The etag the contact must have; may be empty.
        require_contact: They must be a contact already.
        filters: Conditions as in a search.
        filter: A condition as text, as in a search; may be empty.
        dedupe_key: No earlier mail to them bore this key; may be empty.
    """

    not_contacted_within: timedelta = timedelta()
    no_open_thread: bool = False
    contact_etag: str = ""
    require_contact: bool = False
    filters: Mapping[str, Any] | None = None
    filter: str = ""
    dedupe_key: str = ""

    def search(self, account: str, now: datetime) -> Search | None:
        """The compiled conditions; raises INVALID_FILTER when they cannot be understood."""
        if not self.filters and not self.filter:
            return None
        return compile_search(account, filters=self.filters, filter=self.filter, now=now)

    def to_doc(self) -> Document:
        """The guard as a mail that waits keeps it."""
        return {
            "not_contacted_within_s": self.not_contacted_within.total_seconds(),
            "no_open_thread": self.no_open_thread,
            "contact_etag": self.contact_etag,
            "require_contact": self.require_contact,
            "filters": [[key, value] for key, value in (self.filters or {}).items()],
            "filter": self.filter,
            "dedupe_key": self.dedupe_key,
        }


def guard_from_doc(document: Mapping[str, Any]) -> Guard:
    """The guard that a mail keeps."""
    return Guard(
        not_contacted_within=timedelta(seconds=document["not_contacted_within_s"]),
        no_open_thread=document["no_open_thread"],
        contact_etag=document["contact_etag"],
        require_contact=document["require_contact"],
        filters=dict(document["filters"]),
        filter=document.get("filter", ""),  # mail that has waited for long may have none
        dedupe_key=document["dedupe_key"],
    )


def dedupe_mark(address_key: str, dedupe_key: str) -> str:
    """What a mail with a dedupe_key is found by: a digest, so that it names nobody. Empty without a key."""
    return hashlib.sha256(f"{address_key}\0{dedupe_key}".encode()).hexdigest() if dedupe_key else ""


def refusal(
    guard: Guard,
    contact: Mapping[str, Any] | None,
    marked: Sequence[Mapping[str, Any]],
    *,
    account: str,
    now: datetime,
    own: str = "",
) -> DomainError | None:
    """Why the guard refuses a mail to this person; None when it lets it pass.

    Args:
        guard: The guard.
        contact: The person, if they are a contact.
        marked: Earlier mails that bear the dedupe mark and were not stopped.
        account: Whose contact it is.
        now: The group's time.
        own: The id of the mail itself when it was accepted before and is checked again: it does not stand in its own
            way.
    """
    if guard.require_contact and contact is None:
        return _refused("require_contact", "The person is no contact.")
    if guard.contact_etag and (contact is None or etag_of(contact["_id"], contact["revision"]) != guard.contact_etag):
        return _refused("contact_etag", "The contact changed since it was read; read it again, then decide again.")
    search = guard.search(account, now)
    if search is not None and (contact is None or not holds(search, contact)):
        return _refused("filter", "The contact does not meet the filter.")
    for earlier in marked:
        if earlier["_id"] != own:
            return _refused("dedupe_key", "A mail with this dedupe_key was accepted before.", _named(earlier))
    if contact is None:
        return None
    held = [row for row in contact["held"] if row["email"] != own]
    return _too_soon(guard, contact, held, now) or _open(guard, contact, held, now)


def _too_soon(
    guard: Guard, contact: Mapping[str, Any], held: Sequence[Mapping[str, Any]], now: datetime
) -> DomainError | None:
    if not guard.not_contacted_within:
        return None
    if held:
        return _refused("not_contacted_within", "A mail to this person waits already.", held[-1])
    last = contact["last_contacted_at"]
    if now - last >= guard.not_contacted_within:
        return None
    send = next((each for each in reversed(contact["sends"]) if each["at"] == last), None)
    until = last + guard.not_contacted_within
    return _refused("not_contacted_within", "The person was written to too recently.", send, until, now)


def _open(
    guard: Guard, contact: Mapping[str, Any], held: Sequence[Mapping[str, Any]], now: datetime
) -> DomainError | None:
    if not guard.no_open_thread:
        return None
    for rows in (held, contact["unanswered"]):
        if rows:
            words = "A mail to this person waits already." if rows is held else "The person waits for an answer."
            return _refused("no_open_thread", words, rows[-1])
    if contact["young_until"] <= now:
        return None
    send = contact["sends"][-1] if contact["sends"] else {"thread": contact["latest_thread_id"]}
    return _refused("no_open_thread", "A conversation with this person is open.", send, contact["young_until"], now)


def _named(email: Mapping[str, Any]) -> Document:
    return {"email": email["_id"], "thread": email["thread"], "agent": email["agent"]}


def _refused(
    rule: str,
    message: str,
    earlier: Mapping[str, Any] | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> DomainError:
    metadata = {"rule": rule}
    for name, field in (("email_id", "email"), ("thread_id", "thread"), ("agent", "agent")):
        if earlier and earlier.get(field):
            metadata[name] = earlier[field]
    after = None
    if until is not None and now is not None:
        metadata["retry_time"] = until.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        after = max((until - now).total_seconds(), 0.0)
        message += f" Come back at {metadata['retry_time']}."
    return DomainError(Reason.GUARD_REFUSED, f"{message} Nothing was sent.", metadata=metadata, retry_after_s=after)


def too_fast(
    contacts: Sequence[Mapping[str, Any]], thread: Mapping[str, Any] | None, mailbox: str, bounds: Bounds, now: datetime
) -> DomainError | None:
    """Why a conversation goes too fast for one more mail: two agents that answer each other for ever end here."""
    since = now - _HOUR
    if thread is not None:
        times = [each["at"] for each in thread["sends"] if each["at"] > since]
        if len(times) >= bounds.thread_per_hour:
            return _loops("thread", bounds.thread_per_hour, times, now, thread["_id"])
    for contact in contacts:
        rows = [each for each in (*contact["sends"], *contact["held"]) if each["mailbox"] == mailbox]
        times = [each["at"] for each in rows if each["at"] > since]
        if len(times) >= bounds.pair_per_hour:
            return _loops("pair", bounds.pair_per_hour, times, now, contact["latest_thread_id"])
    return None


def too_many_wait(contacts: Sequence[Mapping[str, Any]]) -> DomainError | None:
    """Why one more mail to these people must not wait: each keeps a row for each of its waiting mails."""
    for contact in contacts:
        if len(contact["held"]) >= MOST_WAITING:
            return DomainError(
                Reason.CONVERSATION_TOO_FAST,
                f"{MOST_WAITING} mails to this person wait already; decide about them, or cancel some, first.",
                metadata={"scope": "waiting", "limit": str(MOST_WAITING), "thread_id": contact["latest_thread_id"]},
            )
    return None


def _loops(scope: str, limit: int, times: Sequence[datetime], now: datetime, thread: str) -> DomainError:
    free = sorted(times)[-limit] + _HOUR
    words = "in this thread" if scope == "thread" else "from this mailbox to this person"
    return DomainError(
        Reason.CONVERSATION_TOO_FAST,
        f"{limit} mails went out {words} within an hour: this looks like a loop. Nothing was sent.",
        metadata={"scope": scope, "limit": str(limit), "thread_id": thread},
        retry_after_s=max((free - now).total_seconds(), 1.0),
    )
