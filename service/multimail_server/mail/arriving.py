"""Taking a mail in: one operation that keeps it, joins its thread, and applies what it says about mail of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail_server.contacts import contact as contact_rules
from multimail_server.contacts.store import adoption_id, need_adoption
from multimail_server.mail import email as email_rules
from multimail_server.mail import oversight, reporting, thread
from multimail_server.mail.accepting import enter, ids_of, living_mailbox
from multimail_server.mail.events import Event
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from multimail_server.mail.mime import ParsedMail
    from multimail_server.mail.tags import Tag
    from multimail_server.storage.documents import Document, Draft

_EVENTS = {"failed": "bounced", "delayed": "bounced", "delivered": "delivered"}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A mail that arrived for one mailbox.

    Attributes:
        mailbox: The need for the mailbox.
        mail: What could be read of it.
        raw: Its bytes as they came.
        envelope_from: The envelope's sender; may be empty.
        digest: What tells a second delivery of the same mail.
        tag: What the address it came to says, if it was one of those we seal.
        trusted: Ids of the mail servers whose Authentication-Results are believed.
        open_for: How long a thread counts as open after its newest mail.
    """

    mailbox: Need
    mail: ParsedMail
    raw: bytes
    envelope_from: str
    digest: str
    tag: Tag | None
    trusted: frozenset[str]
    open_for: timedelta

    @property
    def author_key(self) -> str:
        """The author's address key; empty when the mail names nobody."""
        author = self.mail.from_address or self.envelope_from
        return email_rules.key_of(author) if author else ""

    @property
    def links(self) -> tuple[str, ...]:
        """The Message-IDs that tie it to other mail: its own, those it refers to, and the one it reports on."""
        ids = (self.mail.message_id, self.mail.in_reply_to, *self.mail.references, self.mail.reported_id)
        return tuple(each for each in dict.fromkeys(ids) if each)

    @property
    def kind(self) -> str:
        """What kind of mail it is.

        Only machines write to the envelope's sender: RFC 3834 sends automatic answers there, and people answer to From.
        """
        if self.tag is None:
            return self.mail.kind
        if self.tag.kind == "unsubscribe":
            return "unsubscribe"
        return "auto_reply" if self.mail.kind == "personal" else self.mail.kind

    @property
    def authentication(self) -> Document | None:
        """What the first server we trust found out about the author."""
        for found in self.mail.authentications:
            if found.authserv_id in self.trusted:
                return {name: getattr(found, name) for name in ("authserv_id", "spf", "dkim", "dmarc")}
        return None

    def needs(self, account: str) -> list[Need]:
        """The documents that decide."""
        needs = [self.mailbox, Need("emails", "request_id", (self.digest,)), Need("emails", "linked", self.links)]
        if self.author_key:
            needs += [Need("contacts", "email_keys", (self.author_key,)), need_adoption(account, self.author_key)]
        if self.tag is not None:
            needs.append(Need("emails", "_id", (self.tag.email,)))
        return needs


def take_in(draft: Draft, arrival: Arrival) -> tuple[Document, bool]:
    """Keeps a mail that arrived; returns its document, and whether it had been taken in before."""
    mailbox = living_mailbox(draft, arrival.mailbox)
    if (before := draft.one("emails", "request_id", arrival.digest)) is not None:
        draft.outcome = {"email": before["_id"]}
        return before, True
    mail = arrival.mail
    linked = [email for each in arrival.links for email in draft.all("emails", "linked", each)]
    parent = thread.parent_of(linked, mail.in_reply_to, mail.references)
    key = arrival.author_key
    contact = draft.one("contacts", "email_keys", key) if key else None
    addresses = (mail.from_address or arrival.envelope_from, *mail.reply_to, *mail.to, *mail.cc)
    held = oversight.holds_inbound(mailbox["mode"])
    joined = thread.thread_of(linked, parent)
    conversation = joined or draft.new_id("thread")
    email = email_rules.inbound(
        draft.new_id("email"),
        mailbox=mailbox,
        thread=conversation,
        mail=mail,
        raw=arrival.raw,
        person=contact["_id"] if contact else key,
        named=[each for each in dict.fromkeys(map(email_rules.key_of, addresses)) if each],
        request_id=arrival.digest,
        envelope_from=arrival.envelope_from,
        kind=arrival.kind,
        parent=parent["_id"] if parent else "",
        authentication=arrival.authentication,
        held=held,
        now=draft.now,
    )
    draft.outcome = {"email": email["_id"]}
    if held:
        draft.put("emails", email)
        draft.notify("email_held", email=email["_id"], mailbox=email["mailbox"])
        _apply(draft, arrival)  # a report moves mail of ours at once; its words wait, whoever wrote them
        return email, False
    if not joined:
        draft.put("threads", thread.new(conversation, draft.account, mail.subject))
    let_in(draft, email, contact, arrival.open_for)
    _apply(draft, arrival)
    return email, False


def let_in(draft: Draft, email: Document, contact: Document | None, open_for: timedelta) -> None:
    """Makes an inbound mail part of its thread and of its author's log, and the answered mail answered."""
    people = [contact] if contact else []
    enter(draft, email, _thread(draft, email), people)
    written, waits = email["kind"] == "personal", False
    if written:
        heard = thread.with_heard(_thread(draft, email), email["_id"], email["author"], email["at"])
        draft.put("threads", heard)
        waits = heard["unanswered_since"] is not None
        _answer(draft, email)
    for person in people:
        known = draft.get("contacts", person["_id"]) or person
        heard_from = contact_rules.with_heard(
            known,
            thread=email["thread"],
            email=email["_id"],
            at=email["at"],
            counts=written,
            open_for=open_for,
            waits=waits,
        )
        draft.put("contacts", heard_from)
    if contact is None and email["author"]:
        _wait_for_adoption(draft, email["author"])
    draft.notify("email_received", shown=oversight.is_shown(email["mode"]), **ids_of(email))


def _thread(draft: Draft, email: Document) -> Document:
    found = draft.get("threads", email["thread"])
    return found if found is not None else thread.new(email["thread"], draft.account, email["headers"]["subject"])


def _answer(draft: Draft, email: Document) -> None:
    """Marks the mail of ours that this one answers."""
    parent = draft.get("emails", email["parent"]) if email["parent"] else None
    if parent is not None and parent["direction"] == "outbound" and parent["replied_at"] is None:
        draft.put("emails", {**parent, "replied_at": email["at"]})


def _apply(draft: Draft, arrival: Arrival) -> None:
    """Does what the mail says about mail of ours: a report moves recipients, an unsubscribing suppresses one."""
    tag = arrival.tag
    ours = draft.get("emails", tag.email) if tag is not None else None
    if ours is None and arrival.mail.reported_id:
        ours = reporting.sent_as(draft, arrival.mail.reported_id)
    if ours is None:
        return
    if tag is not None and tag.kind == "unsubscribe":
        reporting.unsubscribe(draft, ours, tag.index)
        return
    for report in arrival.mail.reports:
        index = _reported(ours, report.addresses, tag)
        if index is not None and report.action in _EVENTS:
            kind, permanent = _EVENTS[report.action], report.permanent
            event = Event(kind, draft.now, permanent, report.detail, timed=False)
            ours = reporting.apply(draft, ours, index, event)


def _reported(email: Document, addresses: Sequence[str], tag: Tag | None) -> int | None:
    """Which recipient a report is about: by their address, else by the sealed address the report came to."""
    for key in map(email_rules.key_of, addresses):
        for index, each in enumerate(email["recipients"]):
            if each["key"] and each["key"] == key:
                return index
    if tag is not None and tag.index < len(email["recipients"]):
        return tag.index
    return None


def adopt(draft: Draft, key: str, contact_id: str, ids: Sequence[str], open_for: timedelta) -> None:
    """Makes mails that came before their author was a contact part of the contact's log."""
    contact = draft.get("contacts", contact_id)
    if contact is None or contact_rules.is_erased(contact):
        return
    adopted = 0
    for identifier in ids:
        email = draft.get("emails", identifier)
        if email is None or key not in email["people"]:
            continue
        people = [contact_id if each == key else each for each in email["people"]]
        email = email | {"people": people, "author": contact_id}
        conversation = _thread(draft, email)
        joins = contact_id not in conversation["people"]
        draft.put("emails", email)
        draft.put("threads", thread.with_person(conversation, key, contact_id))
        entry = email_rules.entry_of(email)
        contact = contact_rules.with_interaction(contact, entry, joins_thread=joins)
        waits = conversation["unanswered_since"] is not None and conversation["last_heard"]["email"] == identifier
        contact = contact_rules.with_heard(
            contact,
            thread=email["thread"],
            email=identifier,
            at=email["at"],
            counts=email["kind"] == "personal",
            open_for=open_for,
            waits=waits,
        )
        draft.push("contacts", contact_id, "interactions", [entry])
        adopted += 1
    if adopted:
        draft.put("contacts", contact)
        draft.notify("emails_adopted", shown=False, contact=contact_id)


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
