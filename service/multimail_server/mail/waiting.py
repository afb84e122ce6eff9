"""Mail that waits for a person or its time, and its ends: approved, rejected, changed, cancelled, due, resolved."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as contact_rules
from multimail_server.contacts.store import need_adoption
from multimail_server.errors import DomainError, Reason
from multimail_server.mail import email as email_rules
from multimail_server.mail import guard as guard_rules
from multimail_server.mail import oversight, states, thread
from multimail_server.mail.accepting import ids_of, leave, living_mailbox, living_people, suppressed
from multimail_server.mail.arriving import let_in
from multimail_server.mail.compose import compose
from multimail_server.mail.suppressions import need_suppressions, suppression_of
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from multimail_server.mail.bounds import Bounds
    from multimail_server.mail.content import Content
    from multimail_server.storage.documents import Document, Draft


def need(email_id: str) -> Need:
    """The mail itself; what else decides is asked for once it is known."""
    return Need("emails", "_id", (email_id,))


def _seen(draft: Draft, email_id: str) -> Document:
    """The mail, with everything there that decides about it; EMAIL_NOT_FOUND when there is none."""
    email = draft.get("emails", email_id)
    if email is None:
        raise errors.not_found("email")
    needs = [Need("mailboxes", "_id", (email["mailbox"],)), *_of_people(email)]
    keys = [each["key"] for each in email["recipients"] if each["key"]]
    needs.append(need_suppressions(draft.account, keys))
    if email["dedupe"]:
        needs.append(Need("emails", "dedupe", (email["dedupe"],)))
    if email["direction"] == "inbound" and email["state"] == "held":
        key = email_rules.key_of(email["headers"]["from"])
        needs += [Need("contacts", "email_keys", (key,)), Need("emails", "_id", (email["parent"],))]
        needs.append(need_adoption(draft.account, key))
    draft.see(needs)
    return email


def see_people(draft: Draft, email: Document) -> None:
    """Asks for the contacts in a mail and its thread."""
    draft.see(_of_people(email))


def _of_people(email: Document) -> list[Need]:
    return [Need("threads", "_id", (email["thread"],)), Need("contacts", "_id", email_rules.contacts_in(email))]


def _shown(draft: Draft, email_id: str) -> Document:
    """The mail as `_seen` finds it, for who may send: mail that is hidden from them is not there."""
    email = _seen(draft, email_id)
    if email["hidden"]:
        raise errors.not_found("email")
    return email


def approve(draft: Draft, email_id: str, digest: str, reason: str, bounds: Bounds) -> Document:
    """Lets a held mail go, for exactly this content; a refusal leaves it as it is."""
    email = _to_decide(draft, email_id, digest)
    decided = email | {"decision": _decision(draft, email, reason, approved=True)}
    if email["direction"] == "inbound":
        living_mailbox(draft, Need("mailboxes", "_id", (email["mailbox"],)))
        return _let_in(draft, decided, bounds)
    refused = _why_not(draft, email)
    if refused is not None:
        raise refused
    if email["send_at"] is not None and email["send_at"] > draft.now:
        waits = decided | {"state": "scheduled", "due_at": email["send_at"]}
        draft.put("emails", waits)
        draft.notify("email_approved", shown=True, **ids_of(email))
        draft.notify("email_scheduled", shown=oversight.is_shown(email["mode"]), **ids_of(email))
    else:
        draft.notify("email_approved", shown=True, **ids_of(email))
        waits = _release(draft, decided, bounds)
    draft.outcome = {"email": email_id}
    return waits


def reject(draft: Draft, email_id: str, digest: str, reason: str) -> Document:
    """Ends a held mail: it never goes out, or is never shown."""
    email = _to_decide(draft, email_id, digest)
    decided = email | {"decision": _decision(draft, email, reason, approved=False)}
    return _stop(draft, decided, "rejected")


def _to_decide(draft: Draft, email_id: str, digest: str) -> Document:
    email = _seen(draft, email_id)
    if email["state"] != "held":
        raise errors.state_forbids("The mail does not wait for a person any more.", email["state"])
    if email["due_at"] <= draft.now:  # nobody has come yet to say so
        raise errors.state_forbids("The mail waited longer than its mailbox allows.", "expired")
    if email["content_sha256"] != digest:
        raise _changed(email)
    return email


def _changed(email: Document) -> DomainError:
    return DomainError(
        Reason.CONTENT_CHANGED,
        "The mail's content changed since it was read; read it again, then decide again.",
        metadata={"content_sha256": email["content_sha256"]},
    )


def _decision(draft: Draft, email: Document, reason: str, *, approved: bool) -> Document:
    return {
        "approved": approved,
        "reason": reason,
        "agent": draft.actor.agent,
        "key": draft.actor.key_id,
        "at": draft.now,
        "content_sha256": email["content_sha256"],
    }


def _why_not(draft: Draft, email: Document) -> DomainError | None:
    """Why a mail that waited must not go now: its mailbox is gone or read-only, or a suppression or its guard."""
    mailbox = living_mailbox(draft, Need("mailboxes", "_id", (email["mailbox"],)))
    oversight.require_sending(mailbox["mode"])
    for number, each in enumerate(email["recipients"]):
        if each["state"] == "pending" and (found := suppression_of(draft, each["key"])) is not None:
            return suppressed(f"recipients[{number}]", found["reason"])
    guarded = next(each["contact"] for each in email["recipients"] if each["kind"] == "to")
    contact = draft.get("contacts", guarded)
    if email["guard"] is None or contact is None or contact_rules.is_erased(contact):
        return None
    marked = draft.all("emails", "dedupe", email["dedupe"]) if email["dedupe"] else []
    guard = guard_rules.guard_from_doc(email["guard"])
    return guard_rules.refusal(guard, contact, marked, account=draft.account, now=draft.now, own=email["_id"])


def _release(draft: Draft, email: Document, bounds: Bounds) -> Document:
    """Puts a mail that waited into the queue: from now on its people count as written to."""
    queued = states.released(email, draft.now)
    draft.put("emails", queued)
    _forget(draft, email)
    leave(draft, queued, bounds)
    draft.notify("email_queued", shown=oversight.is_shown(email["mode"]), **ids_of(email))
    return queued


def _let_in(draft: Draft, email: Document, bounds: Bounds) -> Document:
    key = email_rules.key_of(email["headers"]["from"])
    contact = draft.one("contacts", "email_keys", key)
    person = contact["_id"] if contact else key
    received = email | {
        "state": "received",
        "hidden": False,
        "author": person,
        "people": [person] if person else [],
        "settle_time": draft.now,
    }
    draft.put("emails", received)
    draft.notify("email_approved", shown=True, **ids_of(received))
    let_in(draft, received, contact, bounds.open_for)
    draft.outcome = {"email": email["_id"]}
    return received


def _forget(draft: Draft, email: Document) -> None:
    """Takes the mail's row away from everyone who was to get it."""
    for contact in living_people(draft, email):
        draft.put("contacts", contact_rules.without_held(contact, email["_id"]))


def _stop(draft: Draft, email: Document, state: str, detail: str = "") -> Document:
    """Ends a mail that waited."""
    ended = states.stopped(email, state, draft.now, detail)
    draft.put("emails", ended)
    _forget(draft, email)
    draft.notify("email_settled", shown=oversight.is_shown(email["mode"]), **ids_of(email), state=state)
    draft.outcome = {"email": email["_id"]}
    return ended


def cancel(draft: Draft, email_id: str, bounds: Bounds) -> Document:
    """Stops a mail as far as it can still be stopped; STATE_FORBIDS when it cannot."""
    email = _shown(draft, email_id)
    if email["direction"] != "outbound" or states.is_settled(email):
        raise errors.state_forbids("The mail came to its end already; nothing was stopped.", email["state"])
    if email["state"] in states.WAITING:
        return _stop(draft, email, "cancelled")
    ended = states.cancelled(email, draft.now)
    if ended is email:
        raise errors.state_forbids("The mail is being handed over just now; nothing was stopped.", email["state"])
    draft.put("emails", ended)
    unsend(draft, ended, bounds)
    if states.is_settled(ended):
        draft.notify("email_settled", shown=oversight.is_shown(email["mode"]), **ids_of(email), state=ended["state"])
    else:
        draft.notify("email_updated", shown=oversight.is_shown(email["mode"]), **ids_of(email))
    draft.outcome = {"email": email_id}
    return ended


def unsend(draft: Draft, email: Document, bounds: Bounds) -> None:
    """Takes back that people were written to, for those to whom the mail was stopped."""
    stopped = {each["contact"] for each in email["recipients"] if each["state"] == "cancelled"}
    reached = {each["contact"] for each in email["recipients"] if each["state"] != "cancelled"}
    for contact in living_people(draft, email):
        if contact["_id"] in stopped - reached:
            draft.put("contacts", contact_rules.without_sent(contact, email["_id"], bounds.open_for))
    conversation = draft.get("threads", email["thread"])
    if reached or conversation is None:
        return
    conversation = draft.put("threads", thread.without_sent(conversation, email["_id"]))
    heard = conversation["last_heard"]
    if conversation["unanswered_since"] is None:
        return
    for contact in living_people(draft, email):
        if contact["_id"] == heard["person"]:
            draft.put("contacts", contact_rules.with_unanswered(contact, conversation["_id"], heard["email"]))


def edit(draft: Draft, email_id: str, *, subject: str | None, content: Content | None, digest: str) -> Document:
    """Changes what a waiting mail says; an approval of what it said before no longer counts."""
    email = _shown(draft, email_id)
    if email["direction"] != "outbound" or email["state"] not in states.WAITING:
        raise errors.state_forbids("Only a held or scheduled mail can be changed.", email["state"])
    if digest and digest != email["content_sha256"]:
        raise _changed(email)
    draft.outcome = {"email": email_id}
    changed = email_rules.with_content(email, subject, content)
    if changed["content_sha256"] == email["content_sha256"]:
        return email
    # What cannot be written must not be accepted; a body that stays as it was is not loaded, and not tried again.
    compose(email_rules.outgoing({"body": {"text": "", "html": ""}} | changed))
    if email["hold"]:  # whoever had to be asked has to be asked again
        mailbox = living_mailbox(draft, Need("mailboxes", "_id", (email["mailbox"],)))
        changed |= {"state": "held", "decision": None, "due_at": email_rules.expiry(mailbox, draft.now)}
    draft.put("emails", changed)
    draft.notify("email_updated", shown=oversight.is_shown(email["mode"]), **ids_of(email))
    if changed["state"] != email["state"]:
        draft.notify("email_held", shown=oversight.is_shown(email["mode"]), **ids_of(email))
    return changed


def resolve(draft: Draft, email_id: str, resolution: str, bounds: Bounds) -> Document:
    """Ends the doubt about a mail."""
    email = _seen(draft, email_id)
    if email["state"] != "in_doubt":
        raise errors.state_forbids("There is no doubt about this mail.", email["state"])
    people = {each["contact"] for each in email["recipients"]}
    if resolution == "send_again":
        oversight.require_sending(living_mailbox(draft, Need("mailboxes", "_id", (email["mailbox"],)))["mode"])
        people = {contact["_id"] for contact in living_people(draft, email)}
        if not any(each["state"] == "in_doubt" and each["contact"] in people for each in email["recipients"]):
            raise errors.state_forbids("Everybody in doubt was erased since; nobody is left to send it to.", "erased")
    moved = states.resolved(email, resolution, draft.now, people)
    draft.put("emails", moved)
    if not states.is_settled(moved):  # it goes out once more: its people are written to now
        leave(draft, moved, bounds)
    kind = "email_settled" if states.is_settled(moved) else "email_queued"
    told = {"state": moved["state"]} if states.is_settled(moved) else {}
    draft.notify(kind, shown=oversight.is_shown(email["mode"]), **ids_of(email), **told)
    draft.outcome = {"email": email_id}
    return moved


def come_due(draft: Draft, email_id: str, bounds: Bounds) -> None:
    """Does what a waiting mail's time says: a held one expires, a scheduled one goes out if it still may."""
    email = _seen(draft, email_id)
    if email["state"] not in states.WAITING or email["due_at"] > draft.now:
        return
    if email["state"] == "held":
        _stop(draft, email, "expired", "nobody decided in time")
        return
    try:
        refused = _why_not(draft, email)
    except DomainError as error:  # the mailbox is gone, or may not send any more
        refused = error
    if refused is not None:
        rule = refused.metadata.get("rule", "")
        _stop(draft, email, "cancelled", f"guard: {rule}" if rule else refused.reason.value.lower())
        return
    mailbox = living_mailbox(draft, Need("mailboxes", "_id", (email["mailbox"],)))
    to = [parse_address(each["address"], "recipients") for each in email["recipients"] if each["address"]]
    stricter = oversight.hold_reason(mailbox, "", to, first_contact=False)
    if not email["hold"] and stricter:  # the mailbox became stricter meanwhile
        held = email | {"state": "held", "hold": "mode", "due_at": email_rules.expiry(mailbox, draft.now)}
        draft.put("emails", held)
        draft.notify("email_held", shown=True, **ids_of(email))
        return
    if (fast := _too_fast(draft, email, bounds)) is not None:
        draft.put("emails", email | {"due_at": draft.now + timedelta(seconds=fast.retry_after_s or 0)})
        draft.notify("email_tried", shown=False, email=email_id)
        return
    _release(draft, email, bounds)


def _too_fast(draft: Draft, email: Document, bounds: Bounds) -> DomainError | None:
    """Why a mail whose time has come has to wait longer: many may have been put off to the same moment."""
    contacts = [contact_rules.without_held(contact, email["_id"]) for contact in living_people(draft, email)]
    conversation = draft.get("threads", email["thread"])
    return guard_rules.too_fast(contacts, conversation, email["mailbox"], bounds, draft.now)
