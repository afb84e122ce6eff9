"""The mail document: what is kept of a mail, out or in, and what of it goes over the wire; in memory only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from multimail_server.aip.address import parse_address
from multimail_server.errors import DomainError
from multimail_server.mail.compose import Outgoing, message_id_for
from multimail_server.mail.content import Content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from multimail_server.aip.address import Address
    from multimail_server.mail.content import File
    from multimail_server.mail.mime import ParsedMail

Document = dict[str, Any]

SNIPPET_CHARACTERS = 200
KINDS = ("to", "cc", "bcc")


def recipient(address: Address, kind: str, contact: str) -> Document:
    """One recipient of a mail that is to go out; `kind` is `to`, `cc` or `bcc`."""
    return {
        "address": address.display,
        "key": address.key,
        "contact": contact,
        "kind": kind,
        "state": "pending",
        "response": "",
        "at": None,
        "dot": False,
        "reported": {},
    }


@dataclass(frozen=True, slots=True)
class Letter:
    """What somebody wants to send, apart from who it goes to.

    Attributes:
        subject: The subject, checked.
        content: The bodies.
        reply_to: Addresses for answers; may be empty.
        files: `{filename, content_type, size, sha256, file}` of each file, its bytes kept elsewhere under `file`.
        list_unsubscribe: Whether to offer unsubscribing.
        send_at: When to send it; None for at once.
        guard: The guard it was accepted under, as a document; None without one.
        dedupe: Its dedupe mark; may be empty.
    """

    subject: str
    content: Content
    reply_to: Sequence[str] = ()
    files: Sequence[Document] = ()
    list_unsubscribe: bool = False
    send_at: datetime | None = None
    guard: Document | None = None
    dedupe: str = ""


def expiry(mailbox: Mapping[str, Any], now: datetime) -> datetime:
    """When a mail that waits for a person from now on expires."""
    return now + timedelta(seconds=mailbox["approval_ttl_s"])


def outbound(
    identifier: str,
    *,
    mailbox: Mapping[str, Any],
    thread: str,
    recipients: Sequence[Document],
    letter: Letter,
    parent: Mapping[str, Any] | None,
    mode: str,
    hold: str,
    actor: Mapping[str, str],
    now: datetime,
) -> Document:
    """The document of a mail accepted for sending, in the state it begins with.

    Args:
        identifier: Its id.
        mailbox: The mailbox it leaves from.
        thread: The thread it belongs to.
        recipients: As `recipient` makes them, at least one in To.
        letter: What it says.
        parent: The mail it answers, if any.
        mode: The oversight mode that holds.
        hold: Why it has to wait for a person; empty when it need not.
        actor: `key` and `agent` of who sends.
        now: The group's time.
    """
    answers = parent["headers"]["message_id"] if parent else ""
    references = [*parent["headers"]["references"], answers] if parent and answers else []
    headers = {
        "from": mailbox["email"],
        "from_name": mailbox["display_name"],
        **{kind: [each["address"] for each in recipients if each["kind"] == kind] for kind in KINDS},
        "reply_to": list(letter.reply_to),
        "subject": letter.subject,
        "message_id": message_id_for(identifier, mailbox["domain"]),
        "in_reply_to": answers,
        "references": references[-50:],
    }
    later = letter.send_at is not None and letter.send_at > now
    state = "held" if hold else "scheduled" if later else "queued"
    email = _document(identifier, mailbox, thread, headers, content=letter.content, now=now) | {
        "direction": "outbound",
        "state": state,
        "people": list(dict.fromkeys(each["contact"] for each in recipients)),
        "named": [each["key"] for each in recipients],
        "request_id": identifier,
        "recipients": list(recipients),
        "attachments": list(letter.files),
        "mode": mode,
        "hold": hold,
        "policy": mailbox["in_doubt_policy"],
        "guard": letter.guard,
        "dedupe": letter.dedupe,
        "list_unsubscribe": letter.list_unsubscribe,
        "send_at": letter.send_at if later else None,
        "date": now if state == "queued" else None,
        "released_at": now if state == "queued" else None,
        "due_at": letter.send_at if state == "scheduled" else expiry(mailbox, now) if hold else now,
        "agent": actor["agent"],
        "key": actor["key"],
    }
    return email | {"content_sha256": digest_of(email)}


def digest_of(email: Mapping[str, Any]) -> str:
    """SHA-256 of everything a recipient gets and of who gets it, in hex: what an approval binds to."""
    headers = email["headers"]
    said = {
        "mailbox": email["mailbox"],
        "headers": {
            name: headers[name] for name in ("from", "from_name", *KINDS, "reply_to", "subject", "in_reply_to")
        },
        "recipients": sorted([each["kind"], each["address"]] for each in email["recipients"]),
        "body": email["body_sha256"],
        "files": [[each["filename"], each["content_type"], each["sha256"]] for each in email["attachments"]],
        "list_unsubscribe": email["list_unsubscribe"],
        "send_at": email["send_at"].isoformat() if email["send_at"] else "",
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def with_content(email: Document, subject: str | None, content: Content | None) -> Document:
    """The mail, saying something else; what is None stays."""
    changed = email
    if subject is not None:
        changed = changed | {"headers": changed["headers"] | {"subject": subject}}
    if content is not None:
        changed = changed | _body(content)
    return changed | {"content_sha256": digest_of(changed)}


def inbound(
    identifier: str,
    *,
    mailbox: Mapping[str, Any],
    thread: str,
    mail: ParsedMail,
    raw: bytes,
    person: str,
    named: Sequence[str],
    request_id: str,
    envelope_from: str,
    kind: str,
    parent: str,
    authentication: Document | None,
    held: bool,
    now: datetime,
) -> Document:
    """The document of a mail that arrived.

    Args:
        identifier: Its id.
        mailbox: The mailbox it arrived at.
        thread: The thread it belongs to.
        mail: What could be read of it.
        raw: Its bytes as they came.
        person: The author's contact id, or address key while there is no contact; may be empty.
        named: Address keys of everyone its headers name.
        request_id: What tells a second delivery of the same mail.
        envelope_from: The envelope's sender.
        kind: `personal`, `auto_reply`, `delivery_status` or `unsubscribe`.
        parent: The id of the mail it answers; may be empty.
        authentication: What a mail server we trust found out about its author, if any did.
        held: Whether it waits for a person, hidden from agents.
        now: The group's time.
    """
    headers = {
        "from": mail.from_address or envelope_from,
        "from_name": mail.from_name,
        "to": list(mail.to),
        "cc": list(mail.cc),
        "bcc": [],
        "reply_to": list(mail.reply_to),
        "subject": mail.subject,
        "message_id": mail.message_id,
        "in_reply_to": mail.in_reply_to,
        "references": list(mail.references),
    }
    content = Content(mail.text, mail.html)
    return _document(identifier, mailbox, thread, headers, content=content, now=now) | {
        "direction": "inbound",
        "state": "held" if held else "received",
        "hidden": held,
        "hold": "mode" if held else "",
        "due_at": expiry(mailbox, now) if held else now,
        "content_sha256": hashlib.sha256(raw).hexdigest(),
        "kind": kind,
        "parent": parent,
        "authentication": authentication,
        # Until a person lets it in it belongs to nobody's log.
        "people": [person] if person and not held else [],
        "author": person,
        "named": list(named),
        "request_id": request_id,
        "envelope_from": envelope_from,
        "recipients": [],
        "mode": mailbox["mode"],
        "agent": "",
        "key": "",
        "raw": raw,
        "attachments": [
            {"filename": each.filename, "content_type": each.content_type, "size": each.size_bytes}
            for each in mail.attachments
        ],
        "defects": list(mail.defects),
        "truncated": mail.truncated,
    }


def _document(
    identifier: str,
    mailbox: Mapping[str, Any],
    thread: str,
    headers: Document,
    *,
    content: Content,
    now: datetime,
) -> Document:
    ids = (headers["message_id"], headers["in_reply_to"], *headers["references"])
    return {
        "_id": identifier,
        "account": mailbox["account"],
        "mailbox": mailbox["_id"],
        "thread": thread,
        "headers": headers,
        "linked": [each for each in dict.fromkeys(ids) if each],
        **_body(content),
        "content_sha256": "",
        "attachments": [],
        "defects": [],
        "truncated": False,
        "at": now,
        "due_at": now,
        "fence": 0,
        "attempts": 0,
        "lease": None,
        "events": [],
        "read_at": None,
        "replied_at": None,
        "settle_time": None,
        "kind": "personal",
        "hidden": False,
        "hold": "",
        "decision": None,
        "detail": "",
        "stop": False,
        "send_at": None,
        "released_at": None,
        "dedupe": "",
    }


def _body(content: Content) -> Document:
    text = content.text
    return {
        "body": {"text": text, "html": content.html},
        "body_sha256": content.sha256,
        "snippet": " ".join(text[: SNIPPET_CHARACTERS * 4].split())[:SNIPPET_CHARACTERS],
    }


def outgoing(
    email: Mapping[str, Any], *, files: Sequence[File] = (), unsubscribe: str = "", unsubscribe_link: str = ""
) -> Outgoing:
    """What goes over the wire for an outbound mail; the same every time it is tried.

    Args:
        email: The mail with its body.
        files: Its files.
        unsubscribe: Where this recipient's unsubscribing goes; empty when it is not offered.
        unsubscribe_link: The link for it; empty for none.
    """
    headers = email["headers"]
    return Outgoing(
        from_address=headers["from"],
        from_name=headers["from_name"],
        to=tuple(headers["to"]),
        cc=tuple(headers["cc"]),
        reply_to=tuple(headers["reply_to"]),
        subject=headers["subject"],
        text=email["body"]["text"],
        html=email["body"]["html"],
        files=tuple(files),
        unsubscribe=unsubscribe,
        unsubscribe_link=unsubscribe_link,
        message_id=headers["message_id"],
        date=email["date"] or email["at"],
        in_reply_to=headers["in_reply_to"],
        references=tuple(headers["references"]),
    )


def contacts_in(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The contacts among the people of a mail or a thread; the others are addresses of strangers."""
    return tuple(each for each in row["people"] if each.startswith("contact_"))


def entry_of(email: Mapping[str, Any]) -> Document:
    """The log entry of a mail: what of it never changes."""
    return {
        "at": email["at"],
        "email": email["_id"],
        "thread": email["thread"],
        "mailbox": email["mailbox"],
        "direction": email["direction"],
        "subject": email["headers"]["subject"],
        "agent": email["agent"],
    }


def send_of(email: Mapping[str, Any], at: datetime) -> Document:
    """What contacts keep of a mail to them that was queued, or that waits."""
    return {name: email[name] for name in ("thread", "mailbox", "agent")} | {"email": email["_id"], "at": at}


def scrubbed(email: Document, contact: str, keys: Sequence[str]) -> Document:
    """The mail without a person: their address and name everywhere, and unless others share it all its content."""
    headers = email["headers"]
    outbound = email["direction"] == "outbound"
    mine = (
        all(each["contact"] in (contact, "") for each in email["recipients"])
        if outbound
        else email["author"] in (contact, *keys)
    )
    left: Document = {
        "people": [each for each in email["people"] if each != contact and each not in keys],
        "named": [each for each in email["named"] if each not in keys],
        "recipients": [
            each | {"address": "", "key": "", "contact": "", "response": ""} if each["contact"] == contact else each
            for each in email["recipients"]
        ],
        "raw": None,
        "events": [
            each | {"detail": ""} if mine or email["recipients"][each["recipient"]]["contact"] == contact else each
            for each in email["events"]
        ],
        "decision": email["decision"] and email["decision"] | {"reason": ""},
    }
    if outbound and any(each["contact"] == contact and each["kind"] == "to" for each in email["recipients"]):
        left |= {"guard": None, "dedupe": ""}  # about this person, the one in To
    if mine:
        left["headers"] = {name: [] if isinstance(value, list) else "" for name, value in headers.items()}
        if email["direction"] == "outbound":
            left["headers"] |= {"from": headers["from"], "from_name": headers["from_name"]}
        left |= {"linked": [], "body": {"text": "", "html": ""}, "snippet": "", "attachments": [], "defects": []}
        left |= {"content_sha256": "", "envelope_from": "", "author": "", "guard": None, "dedupe": ""}
        if email["state"] == "held":
            left |= {"state": "cancelled"}
        return email | left
    left["headers"] = headers | {
        name: [address for address in headers[name] if key_of(address) not in keys] for name in (*KINDS, "reply_to")
    }
    return _rebound(email | left, email["content_sha256"]) if outbound else email | left


def _rebound(email: Document, before: str) -> Document:
    """The mail with the digest of what it says now; an approval of what it said before goes along."""
    digest, decision = digest_of(email), email["decision"]
    if decision and decision["content_sha256"] == before:
        decision = decision | {"content_sha256": digest}
    return email | {"content_sha256": digest, "decision": decision}


def key_of(address: str) -> str:
    """The key of an address in a header; of one that is no good, its text in lower case."""
    try:
        return parse_address(address, "address").key
    except DomainError:
        return address.strip().lower()
