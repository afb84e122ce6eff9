"""The thread document, and which thread a mail belongs to; decides in memory only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Document = dict[str, Any]


def new(identifier: str, account: str, subject: str) -> Document:
    """A thread without mails."""
    return {
        "_id": identifier,
        "account": account,
        "subject": subject,
        "people": [],
        "mailboxes": [],
        "email_count": 0,
        "latest_email": "",
        "latest_direction": "",
        "create_time": None,
        "latest_at": None,
    }


def with_email(thread: Document, email: Mapping[str, Any]) -> Document:
    """The thread after one more mail; times only grow within an account, so it is the newest."""
    return thread | {
        "people": _joined(thread["people"], email["people"]),
        "mailboxes": _joined(thread["mailboxes"], [email["mailbox"]]),
        "email_count": thread["email_count"] + 1,
        "latest_email": email["_id"],
        "latest_direction": email["direction"],
        "create_time": thread["create_time"] or email["at"],
        "latest_at": email["at"],
    }


def with_person(thread: Document, key: str, contact: str) -> Document:
    """The thread after the address `key` became a contact."""
    return thread | {"people": _joined([each for each in thread["people"] if each != key], [contact])}


def without_person(thread: Document, contact: str, keys: Sequence[str]) -> Document:
    """The thread without an erased person; alone in it, they take its subject along."""
    people = [each for each in thread["people"] if each != contact and each not in keys]
    return thread | {"people": people, "subject": thread["subject"] if people else ""}


def parent_of(
    linked: Sequence[Mapping[str, Any]], in_reply_to: str, references: Sequence[str]
) -> Mapping[str, Any] | None:
    """The mail that a new one answers: by In-Reply-To, else by the last of its References that is known.

    Args:
        linked: Mails that share a Message-ID with the new one, by their own or by reference.
        in_reply_to: The new mail's In-Reply-To.
        references: The new mail's References, oldest first.
    """
    by_id = {each["headers"]["message_id"]: each for each in linked if each["headers"]["message_id"]}
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
