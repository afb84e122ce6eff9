"""Accepting a mail for sending: one operation that checks, reserves, and writes mail, thread and everyone's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.contacts import contact as contact_rules
from multimail_server.contacts.store import adoption_id, made
from multimail_server.errors import DomainError, Reason
from multimail_server.mail import email as email_rules
from multimail_server.mail import guard as guard_rules
from multimail_server.mail import oversight, thread
from multimail_server.mail.compose import compose
from multimail_server.mail.suppressions import need_suppressions, suppression_of
from multimail_server.mail.tags import fits
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from multimail_server.aip.address import Address
    from multimail_server.mail.bounds import Bounds
    from multimail_server.mail.email import Letter
    from multimail_server.mail.guard import Guard
    from multimail_server.storage.documents import Document, Draft


MAX_RECIPIENTS = 50
# What a notification about a refused send names, where no rule of the guard refused it.
_RULES = {Reason.SUPPRESSED: "suppressed", Reason.CONVERSATION_TOO_FAST: "rate", Reason.MODE_FORBIDS: "mode"}


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient of a mail: `kind` is `to`, `cc` or `bcc`, `field` their place in the request."""

    address: Address
    kind: str
    field: str


@dataclass(frozen=True, slots=True)
class Sending:
    """A mail somebody wants to send.

    Attributes:
        mailbox: The need for the mailbox it leaves from.
        targets: Everyone it goes to, at least one in To.
        letter: What it says.
        guard: What must be true of the one recipient in To.
        bounds: Bounds on conversations.
        mode: The mode asked for; may be empty.
        answers: The id of the mail it answers; may be empty.
        email_id: Its own id where something was kept under it already; may be empty.
    """

    mailbox: Need
    targets: Sequence[Target]
    letter: Letter
    guard: Guard
    bounds: Bounds
    mode: str = ""
    answers: str = ""
    email_id: str = ""

    def needs(self, account: str) -> list[Need]:
        """The documents that decide."""
        keys = tuple(target.address.key for target in self.targets)
        adoptions = Need("jobs", "_id", tuple(adoption_id(account, key) for key in keys))
        needs = [self.mailbox, Need("contacts", "email_keys", keys), adoptions, need_suppressions(account, keys)]
        if self.answers:
            needs.append(Need("emails", "_id", (self.answers,)))
        if self.letter.dedupe:
            needs.append(Need("emails", "dedupe", (self.letter.dedupe,)))
        return needs


def send(draft: Draft, sending: Sending) -> Document:
    """Accepts a mail for sending and returns its document, or refuses and changes nothing but the history."""
    mailbox = living_mailbox(draft, sending.mailbox)
    mode = oversight.stricter(mailbox["mode"], sending.mode)
    if sending.letter.list_unsubscribe and not fits(mailbox["email"]):
        raise errors.invalid_field("list_unsubscribe", "needs a mailbox whose name is at most 21 bytes long")
    parent = _parent(draft, sending.answers)
    known = [draft.one("contacts", "email_keys", target.address.key) for target in sending.targets]
    conversation = draft.get("threads", parent["thread"]) if parent else None
    refused = oversight.forbids_sending(mode) or _why_not(draft, sending, mailbox, known, conversation)
    if refused is not None:
        draft.note_refusal(
            "send_refused",
            shown=oversight.is_shown(mode),
            mailbox=mailbox["_id"],
            rule=refused.metadata.get("rule") or _RULES[refused.reason],
            **({"email": refused.metadata["email_id"]} if "email_id" in refused.metadata else {}),
            **({"contact": known[0]["_id"]} if len(known) == 1 and known[0] else {}),
        )
        raise refused
    hold = _hold(sending, mailbox, known)
    people = [
        contact if contact is not None else made(draft, target.address)
        for contact, target in zip(known, sending.targets, strict=True)
    ]
    conversation = conversation or thread.new(draft.new_id("thread"), draft.account, sending.letter.subject)
    email = email_rules.outbound(
        sending.email_id or draft.new_id("email"),
        mailbox=mailbox,
        thread=conversation["_id"],
        recipients=[
            email_rules.recipient(target.address, target.kind, person["_id"])
            for target, person in zip(sending.targets, people, strict=True)
        ],
        letter=sending.letter,
        parent=parent,
        mode=mode,
        hold=hold,
        actor={"key": draft.actor.key_id, "agent": draft.actor.agent},
        now=draft.now,
    )
    compose(email_rules.outgoing(email))  # what cannot be written must not be accepted
    enter(draft, email, conversation, people)
    if email["state"] == "queued":
        leave(draft, email, sending.bounds)
    else:
        _wait(draft, email)
    draft.notify(f"email_{email['state']}", shown=oversight.is_shown(mode), **ids_of(email))
    draft.outcome = {"email": email["_id"]}
    return email


def _why_not(
    draft: Draft,
    sending: Sending,
    mailbox: Document,
    known: Sequence[Document | None],
    conversation: Document | None,
) -> DomainError | None:
    """Why this mail must not be accepted now; None when it may."""
    for target in sending.targets:
        if (found := suppression_of(draft, target.address.key)) is not None:
            return suppressed(target.field, found["reason"])
    marked = draft.all("emails", "dedupe", sending.letter.dedupe) if sending.letter.dedupe else []
    refused = guard_rules.refusal(sending.guard, known[0], marked, account=draft.account, now=draft.now)
    if refused is not None:
        return refused
    contacts = [contact for contact in known if contact is not None]
    if (sending.letter.send_at or _hold(sending, mailbox, known)) and (many := guard_rules.too_many_wait(contacts)):
        return many
    return guard_rules.too_fast(contacts, conversation, mailbox["_id"], sending.bounds, draft.now)


def _hold(sending: Sending, mailbox: Mapping[str, object], known: Sequence[Document | None]) -> str:
    strangers = any(each is None or not contact_rules.was_written_to(each) for each in known)
    to = [target.address for target in sending.targets]
    return oversight.hold_reason(mailbox, sending.mode, to, first_contact=strangers)


def check(draft: Draft, need: Need, mode: str, sendings: Sequence[Sending]) -> list[str | DomainError]:
    """For each of these mails from one mailbox what would become of it: `queued`, `held`, or why it is refused."""
    mailbox = living_mailbox(draft, need)
    oversight.require_sending(oversight.stricter(mailbox["mode"], mode))
    answers: list[str | DomainError] = []
    for sending in sendings:
        known = [draft.one("contacts", "email_keys", target.address.key) for target in sending.targets]
        refused = _why_not(draft, sending, mailbox, known, None)
        answers.append(refused or ("held" if _hold(sending, mailbox, known) else "queued"))
    return answers


def living_people(draft: Draft, email: Document) -> Iterator[Document]:
    """The contacts in the mail, without those erased."""
    for person in email["people"]:
        contact = draft.get("contacts", person)
        if contact is not None and not contact_rules.is_erased(contact):
            yield contact


def _wait(draft: Draft, email: Document) -> None:
    """Notes with everyone concerned that a mail to them waits."""
    for contact in living_people(draft, email):
        draft.put("contacts", contact_rules.with_held(contact, email_rules.send_of(email, draft.now)))


def leave(draft: Draft, email: Document, bounds: Bounds) -> None:
    """Notes with everyone concerned that the mail was queued: from now on they count as written to."""
    for contact in living_people(draft, email):
        row = email_rules.send_of(email, draft.now)
        draft.put("contacts", contact_rules.with_sent(contact, row, bounds.open_for))
    conversation = draft.get("threads", email["thread"])
    if conversation is not None:
        draft.put("threads", thread.with_sent(conversation, email["_id"], draft.now))


def enter(draft: Draft, email: Document, conversation: Document, people: Sequence[Document]) -> None:
    """Writes the mail, its thread, and an entry into the log of everyone in it."""
    draft.put("emails", email)
    entry = email_rules.entry_of(email)
    for person in {each["_id"]: each for each in people}.values():
        joins = person["_id"] not in conversation["people"]
        draft.put("contacts", contact_rules.with_interaction(person, entry, joins_thread=joins))
        draft.push("contacts", person["_id"], "interactions", [entry])
    draft.put("threads", thread.with_email(conversation, email))


def ids_of(email: Document) -> dict[str, str]:
    """What a notification about the mail names; never a stranger's address, for nothing would take it out again."""
    ids = {"email": email["_id"], "mailbox": email["mailbox"], "thread": email["thread"]}
    contacts = email_rules.contacts_in(email)
    return ids | {"contact": contacts[0]} if len(contacts) == 1 == len(email["people"]) else ids


def living_mailbox(draft: Draft, need: Need) -> Document:
    """The mailbox a change is about, or MAILBOX_NOT_FOUND when there is none or it was deleted."""
    mailbox = draft.one(need.collection, need.field, need.values[0])
    if mailbox is None or mailbox["delete_time"] is not None:
        raise errors.not_found("mailbox")
    return mailbox


def _parent(draft: Draft, identifier: str) -> Document | None:
    """The mail that is answered; refuses when a person in it was erased: an answer would make them known again."""
    if not identifier:
        return None
    parent = draft.get("emails", identifier)
    if parent is None or parent["hidden"]:
        raise errors.not_found("email")
    people = email_rules.contacts_in(parent)
    draft.see([Need("contacts", "_id", people)])
    for each in people:
        contact = draft.get("contacts", each)
        if contact is None or contact_rules.is_erased(contact):
            raise _nobody_to_answer()
    return parent


def answered_addresses(email: Document, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Address and kind of everyone an answer to this mail goes to; refuses when there is nobody to answer.

    Args:
        email: The mail.
        kinds: Which of its recipients are answered besides its author: any of `to`, `cc`.
    """
    headers = email["headers"]
    if email["direction"] == "outbound":
        first = [(each["address"], "to") for each in email["recipients"] if each["kind"] == "to"]
    else:
        first = [(address, "to") for address in headers["reply_to"][:1] or [headers["from"]]]
    others = [(address, "cc") for kind in kinds for address in headers[kind]]
    named = [(address, kind) for address, kind in [*first, *others] if address]
    if not any(address for address, _ in first):
        raise _nobody_to_answer()
    return named


def _nobody_to_answer() -> DomainError:
    return errors.state_forbids("The mail names nobody to answer, or the person was erased.", "no_author")


def suppressed(field: str, reason: str) -> DomainError:
    """The refusal of a mail to a suppressed address; `field` is its place in the request or the mail."""
    return DomainError(
        Reason.SUPPRESSED,
        f"The address in {field} is suppressed ({reason}); nothing was sent. An admin can lift it: RemoveSuppression.",
        metadata={"field": field, "suppression": reason},
    )
