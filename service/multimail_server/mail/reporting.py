"""Reports about the delivery of mail, applied: recipients move, and who must not be written to is suppressed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.aip.address import parse_address
from multimail_server.contacts.contact import is_erased
from multimail_server.errors import DomainError
from multimail_server.mail import oversight
from multimail_server.mail.events import with_event
from multimail_server.mail.states import judged
from multimail_server.mail.suppressions import need_suppressions, suppress
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from datetime import datetime

    from multimail_server.mail.events import Event
    from multimail_server.storage.documents import Document, Draft

_CLOCKS_DIFFER = timedelta(days=1)


def apply(draft: Draft, email: Document, index: int, event: Event) -> Document:
    """Applies a report about one recipient in the draft; one that was reported before changes nothing."""
    person = email["recipients"][index]
    see_recipients(draft, email)
    changed = with_event(email, index, event)
    if changed is email:
        return email
    if changed["state"] in ("queued", "sending", "in_doubt"):
        changed = judged(changed, draft.now)
    draft.put("emails", changed)
    about = {"email": email["_id"], "mailbox": email["mailbox"], "thread": email["thread"]}
    shown = oversight.is_shown(email["mode"])
    draft.notify("email_event", shown=shown, **about, contact=person["contact"], event=event.type)
    if changed["state"] != email["state"]:
        draft.notify("email_settled", shown=shown, **about, state=changed["state"])
    if event.suppresses:
        suppress_recipient(draft, email, index, event.suppresses)
    return changed


def sent_as(draft: Draft, message_id: str) -> Document | None:
    """The mail of ours that bears this Message-ID, of all mail in its conversation; None when there is none."""
    for each in draft.all("emails", "linked", message_id):
        if each["headers"]["message_id"] == message_id and each["direction"] == "outbound":
            return each
    return None


def see_recipients(draft: Draft, email: Document) -> None:
    """Asks for what a report may change besides the mail, for all recipients at once: each look may cost a round."""
    keys = [each["key"] for each in email["recipients"] if each["key"]]
    people = tuple(dict.fromkeys(each["contact"] for each in email["recipients"]))
    draft.see([need_suppressions(draft.account, keys), Need("contacts", "_id", people)])


def suppress_recipient(draft: Draft, email: Document, index: int, reason: str) -> None:
    """Suppresses a recipient's address, without naming it when the person was erased meanwhile."""
    person = email["recipients"][index]
    if not person["key"]:
        return
    contact = draft.get("contacts", person["contact"])
    known = contact is not None and not is_erased(contact)
    suppress(draft, person["address"] if known else "", person["key"], reason, email["_id"])


def unsubscribe(draft: Draft, email: Document, index: int) -> bool:
    """Suppresses a recipient who asks for it; False when the mail did not offer it to them."""
    if index >= len(email["recipients"]) or not email["list_unsubscribe"]:
        return False
    see_recipients(draft, email)
    suppress_recipient(draft, email, index, "unsubscribed")
    return True


def reported(draft: Draft, need: Need, address: str, event: Event, at: datetime | None) -> tuple[Document, bool]:
    """Applies a report that came by itself; returns the mail, and whether it had been reported before.

    Args:
        draft: The operation's view.
        need: The mail, by its id or its Message-ID.
        address: The recipient; may be empty when the mail has one only.
        event: What was reported.
        at: When, as reported; None for now.
    """
    email = sent_as(draft, need.values[0]) if need.field == "linked" else draft.get("emails", need.values[0])
    if email is None or email["direction"] != "outbound":
        raise errors.not_found("email")
    draft.outcome = {"email": email["_id"]}
    index = _index(email, address)
    if at is not None and at > draft.now + _CLOCKS_DIFFER:
        raise errors.invalid_field("time", "lies more than a day in the future")
    changed = apply(draft, email, index, event)
    return changed, changed is email


def _index(email: Document, address: str) -> int:
    recipients = email["recipients"]
    if not address:
        if len(recipients) == 1:
            return 0
        raise errors.invalid_field("address", f"is required: the mail has {len(recipients)} recipients")
    try:
        key = parse_address(address, "address").key
    except DomainError:
        key = ""
    for index, each in enumerate(recipients):
        if key and each["key"] == key:
            return index
    raise errors.invalid_field("address", "is no recipient of this mail")
