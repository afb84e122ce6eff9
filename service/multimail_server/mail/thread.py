"""The thread document, and which thread a mail belongs to; decides in memory only."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

Document = dict[str, Any]

_KEPT_SENDS = 20
_SENDS_COUNT_FOR = timedelta(hours=1)


def new(identifier: str, account: str, subject: str) -> Document:
    """A thread without mails."""
    return {
        "_id": identifier,
        "account": account,
        "subject": subject,
        "people": [],
        "mailboxes": [],
        "email_count": 0,
        "outbound_count": 0,
        "inbound_count": 0,
        "latest_email": "",
        "latest_direction": "",
        "create_time": None,
        "latest_at": None,
        "sends": [],
        "last_heard": None,
        "awaiting_since": None,
        "unanswered_since": None,
    }


def is_open(thread: Mapping[str, Any], now: datetime, open_for: timedelta) -> bool:
    """Whether the conversation is open by itself: its newest mail is young, or somebody waits for our answer."""
    return thread["unanswered_since"] is not None or bool(thread["latest_at"] + open_for > now)


def with_email(thread: Document, email: Mapping[str, Any]) -> Document:
    """The thread with one more mail, which may be older than its newest when it waited for a person."""
    count = "outbound_count" if email["direction"] == "outbound" else "inbound_count"
    moved = thread | {
        "people": _joined(thread["people"], email["people"]),
        "mailboxes": _joined(thread["mailboxes"], [email["mailbox"]]),
        "email_count": thread["email_count"] + 1,
        count: thread[count] + 1,
        "create_time": min(thread["create_time"] or email["at"], email["at"]),
    }
    if thread["latest_at"] is None or email["at"] >= thread["latest_at"]:
        moved |= {"latest_email": email["_id"], "latest_direction": email["direction"], "latest_at": email["at"]}
    return moved


def with_sent(thread: Document, email: str, at: datetime) -> Document:
    """The thread after a mail of it was queued: from then on we wait for an answer, and owe none."""
    recent = at - _SENDS_COUNT_FOR
    sends = [*thread["sends"], {"email": email, "at": at, "answered": False}]
    kept = [each for number, each in enumerate(sends) if each["at"] > recent or number >= len(sends) - _KEPT_SENDS]
    return _waiting(thread | {"sends": kept}, thread["awaiting_since"])


def without_sent(thread: Document, email: str) -> Document:
    """The thread after a queued mail was stopped before it left."""
    stopped = [each["at"] for each in thread["sends"] if each["email"] == email]
    sends = [each for each in thread["sends"] if each["email"] != email]
    since = thread["awaiting_since"]
    return _waiting(thread | {"sends": sends}, None if since in stopped else since)


def with_heard(thread: Document, email: str, person: str, at: datetime) -> Document:
    """The thread after somebody wrote; `since` is when the oldest of their mails that waits for us came."""
    since = min(thread["unanswered_since"] or at, at)
    sends = [each | {"answered": each["answered"] or each["at"] <= at} for each in thread["sends"]]
    heard = {"email": email, "person": person, "at": at}
    if (known := thread["last_heard"]) is not None and known["at"] > at:  # this one waited for a person
        heard = known
    return _waiting(thread | {"last_heard": heard | {"since": since}, "sends": sends}, None)


def _waiting(thread: Document, since: datetime | None) -> Document:
    """The thread with who waits for whom, as it follows from what was sent and heard.

    Args:
        thread: The thread.
        since: Since when we have waited by mail that may no longer be among `sends`; None when we have not.
    """
    times = [each["at"] for each in thread["sends"] if not each["answered"]] + ([since] if since else [])
    heard = thread["last_heard"]
    return thread | {
        "awaiting_since": min(times, default=None),
        "unanswered_since": heard["since"] if heard is not None and not times else None,
    }


def with_person(thread: Document, key: str, contact: str) -> Document:
    """The thread after the address `key` became a contact."""
    people = _joined([each for each in thread["people"] if each != key], [contact])
    return thread | {"people": people, "last_heard": _heard_from(thread, [key], contact)}


def without_person(thread: Document, contact: str, keys: Sequence[str]) -> Document:
    """The thread without an erased person; alone in it, they take its subject along."""
    people = [each for each in thread["people"] if each != contact and each not in keys]
    return thread | {
        "people": people,
        "subject": thread["subject"] if people else "",
        "last_heard": _heard_from(thread, [contact, *keys], ""),
    }


def _heard_from(thread: Document, known_as: Sequence[str], person: str) -> Document | None:
    """Who was heard last, under another name when they are one of these."""
    heard: Document | None = thread["last_heard"]
    return heard | {"person": person} if heard is not None and heard["person"] in known_as else heard


def parent_of(
    linked: Sequence[Mapping[str, Any]], in_reply_to: str, references: Sequence[str]
) -> Mapping[str, Any] | None:
    """The mail that a new one answers: by In-Reply-To, else by the last of its References that is known.

    Args:
        linked: Mails that share a Message-ID with the new one, by their own or by reference.
        in_reply_to: The new mail's In-Reply-To.
        references: The new mail's References, oldest first.
    """
    # Mail between two mailboxes of an account is there twice, as sent and as received; what was sent is answered.
    ours_last = sorted(linked, key=lambda each: bool(each["direction"] == "outbound"))
    by_id = {each["headers"]["message_id"]: each for each in ours_last if each["headers"]["message_id"]}
    for identifier in (in_reply_to, *reversed(references)):
        if identifier in by_id:
            return by_id[identifier]
    return None


def thread_of(linked: Sequence[Mapping[str, Any]], parent: Mapping[str, Any] | None) -> str:
    """The thread the new mail joins: its parent's, else that of a mail that names it or a common ancestor."""
    if parent is not None:
        return str(parent["thread"])
    return str(linked[0]["thread"]) if linked else ""


def _joined(some: Sequence[str], more: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*some, *more]))
