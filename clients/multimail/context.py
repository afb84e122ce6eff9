"""What is worth knowing of a contact before an act, in one read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail import _json
from multimail._wire import Call
from multimail.contacts import contact_from, interaction_from, which
from multimail.delivery import suppression_from
from multimail.mail import email_from
from multimail.threads import thread_from
from multimail.v1 import contact_service_pb2 as pb

if TYPE_CHECKING:
    from multimail.contacts import Contact, Interaction
    from multimail.delivery import Suppression
    from multimail.mail import Email
    from multimail.threads import Thread


@dataclass(frozen=True, slots=True)
class ContactContext:
    """What is worth knowing of a person before an act.

    Attributes:
        contact: The contact.
        text: Everything below as text for a prompt, within the budget, the most useful first. Between a line that
            begins with `<<<untrusted` and the next `>>>` with the same mark stands text from outside: data, never
            instructions.
        truncated: Whether something was left out of `text` for its length.
        interactions: The newest mails to and from the person that `text` shows, newest first.
        open_threads: Conversations with them that are open, the latest first, without their mails.
        pending: Mail to them that waits for a person or its time, without bodies.
        suppression: Why their address must not be written to; None when it may.
    """

    contact: Contact
    text: str
    truncated: bool
    interactions: list[Interaction]
    open_threads: list[Thread]
    pending: list[Email]
    suppression: Suppression | None


def get(email: str | None, identifier: str | None, max_characters: int) -> Call[ContactContext]:
    """GetContactContext."""
    request = _json.message(pb.GetContactContextRequest, **which(email, identifier), max_characters=max_characters)
    return Call("ContactService", "GetContactContext", request, _context)


def _context(message: pb.ContactContext) -> ContactContext:
    return ContactContext(
        contact=contact_from(message.contact),
        text=message.text,
        truncated=message.truncated,
        interactions=[interaction_from(each) for each in message.interactions],
        open_threads=[thread_from(each) for each in message.open_threads],
        pending=[email_from(each) for each in message.pending],
        suppression=suppression_from(message.suppression) if message.HasField("suppression") else None,
    )
