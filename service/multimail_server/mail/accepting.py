"""Accepting a mail, out or in: one operation that writes the mail, its thread, and the log of the people in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.contacts import contact as contact_rules
from multimail_server.contacts.store import adoption_id, made, need_adoption
from multimail_server.errors import DomainError, Reason
from multimail_server.mail import email as email_rules
from multimail_server.mail import oversight, thread
from multimail_server.mail.compose import compose
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multimail_server.aip.address import Address
    from multimail_server.mail.mime import ParsedMail
    from multimail_server.storage.documents import Document, Draft


@dataclass(frozen=True, slots=True)
class Sending:
    """A mail somebody wants to send.

    Attributes:
        mailbox: The need for the mailbox it leaves from.
        to: The recipients.
        subject: The subject, checked.
        text: The text.
        mode: The mode asked for; may be empty.
        answers: The id of the mail it answers; may be empty.
    """

    mailbox: Need
    to: Sequence[Address]
    subject: str
    text: str
    mode: str = ""
    answers: str = ""

    def needs(self, account: str) -> list[Need]:
        """The documents that decide."""
        keys = tuple(address.key for address in self.to)
        adoptions = Need("jobs", "_id", tuple(adoption_id(account, key) for key in keys))
        parent = [Need("emails", "_id", (self.answers,))] if self.answers else []
        return [self.mailbox, Need("contacts", "email_keys", keys), adoptions, *parent]


def send(draft: Draft, sending: Sending) -> Document:
    """Accepts a mail for sending and returns its document, or refuses and changes nothing."""
    mailbox = living_mailbox(draft, sending.mailbox)
    mode = oversight.stricter(mailbox["mode"], sending.mode)
    oversight.require_sending(mode)
    parent = None
    if sending.answers:
        parent = draft.get("emails", sending.answers)
        if parent is None:
            raise errors.not_found("email")
        _require_nobody_erased(draft, parent)
    people = [_person(draft, address) for address in sending.to]
    recipients = [
        email_rules.recipient(address.display, address.key, person["_id"])
        for address, person in zip(sending.to, people, strict=True)
    ]
    conversation = _thread(draft, parent["thread"] if parent else "", sending.subject)
    email = email_rules.outbound(
        draft.new_id("email"),
        mailbox=mailbox,
        thread=conversation["_id"],
        recipients=recipients,
        subject=sending.subject,
        text=sending.text,
        parent=parent,
        mode=mode,
        actor={"key": draft.actor.key_id, "agent": draft.actor.agent},
        now=draft.now,
    )
    compose(email_rules.outgoing(email))  # what cannot be written must not be accepted
    _enter(draft, email, conversation, people)
    draft.notify("email_queued", shown=oversight.is_shown(mode), **_ids(email, people))
    draft.outcome = {"email": email["_id"]}
    return email


@dataclass(frozen=True, slots=True)
class Arrival:
    """A mail that arrived for one mailbox.

    Attributes:
        mailbox: The need for the mailbox.
        mail: What could be read of it.
        raw: Its bytes as they came.
        envelope_from: The envelope's sender; may be empty.
        digest: What tells a second delivery of the same mail.
    """

    mailbox: Need
    mail: ParsedMail
    raw: bytes
    envelope_from: str
    digest: str

    @property
    def author_key(self) -> str:
        """The author's address key; empty when the mail names nobody."""
        author = self.mail.from_address or self.envelope_from
        return email_rules.key_of(author) if author else ""

    @property
    def links(self) -> tuple[str, ...]:
        """The Message-IDs that tie it to other mail: its own and those it refers to."""
        ids = (self.mail.message_id, self.mail.in_reply_to, *self.mail.references)
        return tuple(each for each in dict.fromkeys(ids) if each)

    def needs(self, account: str) -> list[Need]:
        """The documents that decide."""
        needs = [self.mailbox, Need("emails", "request_id", (self.digest,)), Need("emails", "linked", self.links)]
        if self.author_key:
            needs += [Need("contacts", "email_keys", (self.author_key,)), need_adoption(account, self.author_key)]
        return needs


def take_in(draft: Draft, arrival: Arrival) -> tuple[Document, bool]:
    """Keeps a mail that arrived; returns its document, and whether it had been taken in before."""
    mailbox = living_mailbox(draft, arrival.mailbox)
    if (before := draft.one("emails", "request_id", arrival.digest)) is not None:
        return before, True
    mail = arrival.mail
    linked = [email for each in arrival.links for email in draft.all("emails", "linked", each)]
    parent = thread.parent_of(linked, mail.in_reply_to, mail.references)
    conversation = _thread(draft, thread.thread_of(linked, parent), mail.subject)
    key = arrival.author_key
    contact = draft.one("contacts", "email_keys", key) if key else None
    addresses = (mail.from_address or arrival.envelope_from, *mail.reply_to, *mail.to, *mail.cc)
    email = email_rules.inbound(
        draft.new_id("email"),
        mailbox=mailbox,
        thread=conversation["_id"],
        mail=mail,
        raw=arrival.raw,
        person=contact["_id"] if contact else key,
        named=[each for each in dict.fromkeys(map(email_rules.key_of, addresses)) if each],
        request_id=arrival.digest,
        envelope_from=arrival.envelope_from,
        now=draft.now,
    )
    if parent is not None and parent["direction"] == "outbound" and parent["replied_at"] is None:
        draft.put("emails", {**parent, "replied_at": draft.now})
    people = [contact] if contact else []
    _enter(draft, email, conversation, people)
    if contact is None and key:
        _wait_for_adoption(draft, key)
    draft.notify("email_received", shown=oversight.is_shown(mailbox["mode"]), **_ids(email, people))
    return email, False


def adopt(draft: Draft, key: str, contact_id: str, ids: Sequence[str]) -> None:
    """Makes mails that came before their author was a contact part of the contact's log."""
    contact = draft.get("contacts", contact_id)
    if contact is None or contact_rules.is_erased(contact):
        return
    adopted = 0
    for identifier in ids:
        email = draft.get("emails", identifier)
        if email is None or key not in email["people"]:
            continue
        email = email | {"people": [contact_id if each == key else each for each in email["people"]]}
        conversation = _thread(draft, email["thread"], "")
        joins = contact_id not in conversation["people"]
        draft.put("emails", email)
        draft.put("threads", thread.with_person(conversation, key, contact_id))
        entry = email_rules.entry_of(email)
        contact = contact_rules.with_interaction(contact, entry, joins_thread=joins)
        draft.push("contacts", contact_id, "interactions", [entry])
        adopted += 1
    if adopted:
        draft.put("contacts", contact)
        draft.notify("emails_adopted", shown=False, contact=contact_id)


def living_mailbox(draft: Draft, need: Need) -> Document:
    """The mailbox a change is about, or MAILBOX_NOT_FOUND when there is none or it was deleted."""
    mailbox = draft.one(need.collection, need.field, need.values[0])
    if mailbox is None or mailbox["delete_time"] is not None:
        raise errors.not_found("mailbox")
    return mailbox


def _person(draft: Draft, address: Address) -> Document:
    known = draft.one("contacts", "email_keys", address.key)
    return known if known is not None else made(draft, address)


def _thread(draft: Draft, identifier: str, subject: str) -> Document:
    known = draft.get("threads", identifier) if identifier else None
    return known if known is not None else thread.new(draft.new_id("thread"), draft.account, subject)


def _enter(draft: Draft, email: Document, conversation: Document, people: Sequence[Document]) -> None:
    """Writes the mail, its thread, and an entry into the log of everyone in it."""
    draft.put("emails", email)
    draft.put("threads", thread.with_email(conversation, email))
    entry = email_rules.entry_of(email)
    for person in people:
        joins = person["_id"] not in conversation["people"]
        draft.put("contacts", contact_rules.with_interaction(person, entry, joins_thread=joins))
        draft.push("contacts", person["_id"], "interactions", [entry])


def _wait_for_adoption(draft: Draft, key: str) -> None:
    """Notes that mail of this address waits for a contact; making the contact sets the note's time."""
    identifier = adoption_id(draft.account, key)
    if draft.get("jobs", identifier) is None:
        draft.put(
            "jobs",
            {
                "_id": identifier,
                "account": draft.account,
                "type": "adopt",
                "key": key,
                "contact": "",
                "since": draft.now,
                "due_at": None,
            },
        )


def _ids(email: Document, people: Sequence[Document]) -> dict[str, str]:
    ids = {"email": email["_id"], "mailbox": email["mailbox"], "thread": email["thread"]}
    return ids | {"contact": people[0]["_id"]} if len(people) == 1 else ids


def answered_addresses(email: Document) -> list[str]:
    """The addresses an answer to this mail goes to; refuses when there is nobody to answer."""
    headers = email["headers"]
    if email["direction"] == "outbound":
        addresses = [each["address"] for each in email["recipients"]]
    else:
        addresses = headers["reply_to"][:1] or [headers["from"]]
    named = [address for address in addresses if address]
    if not named:
        raise _nobody_to_answer()
    return named


def _require_nobody_erased(draft: Draft, parent: Document) -> None:
    """Refuses to answer a person who was erased: an answer would make them known again, unasked."""
    for each in parent["people"]:
        if each.startswith("contact_"):
            contact = draft.get("contacts", each)
            if contact is None or contact_rules.is_erased(contact):
                raise _nobody_to_answer()


def _nobody_to_answer() -> DomainError:
    return DomainError(
        Reason.STATE_FORBIDS,
        "The mail names nobody to answer, or the person was erased.",
        metadata={"state": "no_author"},
    )
