"""What is worth knowing of a person before an act, as text for a prompt: within a budget, outside words marked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multimail_server.contacts.contact import NEVER, metadata_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

Document = dict[str, Any]

_MAX_NAME = 100
_CLOSING = 40  # characters kept for the line that says that something was left out
_LEFT_OUT = "(more is left out for its length)"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a person.

    Attributes:
        contact: The contact.
        suppression: Why their address must not be written to; None when it may.
        emails: The newest mails, newest first.
        threads: Conversations that are open, the latest first.
        pending: Mail to them that waits, oldest first.
    """

    contact: Document
    suppression: Document | None
    emails: Sequence[Document]
    threads: Sequence[Document]
    pending: Sequence[Document]


@dataclass(slots=True)
class Context:
    """A text that grows by whole pieces up to a budget.

    Attributes:
        budget: How many characters it may have.
        mark: What no text from outside can know, to tell where such text ends.
        pieces: What it holds.
        is_full: Whether a piece did not fit, so that no further one is added.
        truncated: Whether something was left out, be it within a piece.
        shown: How many of the mails it shows.
    """

    budget: int
    mark: str
    pieces: list[str] = field(default_factory=list)
    is_full: bool = False
    truncated: bool = False
    shown: int = 0

    @property
    def text(self) -> str:
        """The text as far as it goes."""
        return "\n".join([*self.pieces, *([_LEFT_OUT] if self.truncated else [])])

    def add(self, piece: str) -> bool:
        """Adds a piece if it fits, and nothing was left out before it."""
        if self.is_full or len("\n".join([*self.pieces, piece])) > self.budget - _CLOSING:
            self.is_full = self.truncated = True
            return False
        self.pieces.append(piece)
        return True

    def add_cut(self, head: str, text: str) -> None:
        """Adds a text, or what of it fits into half of the budget."""
        room = self.budget // 2
        if len(text) > room:
            self.truncated = True
            text = text[: room - 1] + "…"
        self.add(head + text)

    def untrusted(self, text: str) -> str:
        """A block of words from outside."""
        return f"<<<untrusted {self.mark}\n{text}\n{self.mark}>>>"


def context_of(known: Known, *, budget: int, mark: str) -> Context:
    """The text about a person.

    Args:
        known: What is known.
        budget: How many characters the text may have.
        mark: See Context.
    """
    context = Context(budget, mark)
    context.add(_person(known.contact))
    context.add(_history(known.contact))
    if known.suppression is not None:
        context.add(f"Must not be written to: the address is suppressed ({known.suppression['reason']}).")
    metadata = metadata_of(known.contact)
    if metadata:
        context.add_cut("Metadata: ", json.dumps(metadata, ensure_ascii=False))
    for email in known.pending:
        context.add(f"Waits ({email['state']}): {_mail(context, email)}")
    for thread in known.threads:
        context.add(_thread(context, thread))
    for email in known.emails:
        if not context.add(_email(context, email)):
            break
        context.shown += 1
    return context


def _person(contact: Mapping[str, Any]) -> str:
    return f"Contact {contact['_id']}: {contact['name'][:_MAX_NAME] or '(no name)'} <{contact['email']}>"


def _history(contact: Mapping[str, Any]) -> str:
    lines = [
        f"Last written to: {_day(contact['last_contacted_at'])}. Last heard from: {_day(contact['last_inbound_at'])}.",
        f"Mails: {contact['interaction_count']}, conversations: {contact['thread_count']}.",
    ]
    if contact["awaiting_since"] != NEVER:
        lines.append(f"They have not answered our mail of {_day(contact['awaiting_since'])}.")
    return "\n".join(lines)


def _mail(context: Context, email: Mapping[str, Any]) -> str:
    who = f" by {email['agent']}" if email["agent"] else ""
    return f"{email['_id']} of {_day(email['at'])}{who}: {_subject(context, email)}"


def _subject(context: Context, email: Mapping[str, Any]) -> str:
    """The subject of a mail of ours; an answer's comes from what it answers."""
    subject = str(email["headers"]["subject"])
    return f"\n{context.untrusted(subject)}" if email["headers"]["in_reply_to"] else subject


def _thread(context: Context, thread: Mapping[str, Any]) -> str:
    state = "open"
    if thread["unanswered_since"] is not None:
        state = f"waits for our answer since {_day(thread['unanswered_since'])}"
    elif thread["awaiting_since"] is not None:
        state = f"waits for their answer since {_day(thread['awaiting_since'])}"
    head = f"Conversation {thread['_id']}, {thread['email_count']} mails, {state}:"
    return f"{head}\n{context.untrusted(thread['subject'])}"


def _email(context: Context, email: Mapping[str, Any]) -> str:
    if email["direction"] == "outbound":
        return f"We wrote ({email['state']}) {_mail(context, email)}\n{email['snippet']}".rstrip()
    said = f"{email['headers']['subject']}\n{email['snippet']}".strip()
    return f"They wrote {email['_id']} of {_day(email['at'])}:\n{context.untrusted(said)}"


def _day(moment: datetime) -> str:
    return "never" if moment == NEVER else moment.strftime("%Y-%m-%d %H:%M UTC")
