"""The mail document, its states, and the rules by which it moves; decides in memory only."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from multimail_server.aip.address import parse_address
from multimail_server.errors import DomainError
from multimail_server.mail.compose import Outgoing, message_id_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from multimail_server.mail.mime import ParsedMail

Document = dict[str, Any]

EXPIRES_AFTER = timedelta(hours=48)
SNIPPET_CHARACTERS = 200
_BACKOFF = (
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
)
# What a hand-over says about a recipient; anything else leaves it pending for another try.
_SETTLING = frozenset({"accepted", "failed"})


def recipient(display: str, key: str, contact: str) -> Document:
    """One recipient of a mail that is to go out."""
    return {
        "address": display,
        "key": key,
        "contact": contact,
        "kind": "to",
        "state": "pending",
        "response": "",
        "at": None,
        "dot": False,
    }


def outbound(
    identifier: str,
    *,
    mailbox: Mapping[str, Any],
    thread: str,
    recipients: Sequence[Document],
    subject: str,
    text: str,
    parent: Mapping[str, Any] | None,
    mode: str,
    actor: Mapping[str, str],
    now: datetime,
) -> Document:
    """The document of a mail accepted for sending.

    Args:
        identifier: Its id.
        mailbox: The mailbox it leaves from.
        thread: The thread it belongs to.
        recipients: As `recipient` makes them, at least one.
        subject: Its subject, checked.
        text: Its text.
        parent: The mail it answers, if any.
        mode: The oversight mode that holds.
        actor: `key` and `agent` of who sends.
        now: The group's time.
    """
    answers = parent["headers"]["message_id"] if parent else ""
    references = [*parent["headers"]["references"], answers] if parent and answers else []
    headers = {
        "from": mailbox["email"],
        "from_name": mailbox["display_name"],
        "to": [each["address"] for each in recipients],
        "cc": [],
        "reply_to": [],
        "subject": subject,
        "message_id": message_id_for(identifier, mailbox["domain"]),
        "in_reply_to": answers,
        "references": references[-50:],
    }
    return _document(identifier, mailbox, thread, headers, text=text, now=now) | {
        "direction": "outbound",
        "state": "queued",
        "people": [each["contact"] for each in recipients],
        "named": [each["key"] for each in recipients],
        "request_id": identifier,
        "recipients": list(recipients),
        "mode": mode,
        "agent": actor["agent"],
        "key": actor["key"],
    }


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
        now: The group's time.
    """
    headers = {
        "from": mail.from_address or envelope_from,
        "from_name": mail.from_name,
        "to": list(mail.to),
        "cc": list(mail.cc),
        "reply_to": list(mail.reply_to),
        "subject": mail.subject,
        "message_id": mail.message_id,
        "in_reply_to": mail.in_reply_to,
        "references": list(mail.references),
    }
    return _document(identifier, mailbox, thread, headers, text=mail.text, html=mail.html, now=now) | {
        "direction": "inbound",
        "state": "received",
        "people": [person] if person else [],
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
    text: str,
    now: datetime,
    html: str = "",
) -> Document:
    ids = (headers["message_id"], headers["in_reply_to"], *headers["references"])
    return {
        "_id": identifier,
        "account": mailbox["account"],
        "mailbox": mailbox["_id"],
        "thread": thread,
        "headers": headers,
        "linked": [each for each in dict.fromkeys(ids) if each],
        "body": {"text": text, "html": html},
        "content_sha256": hashlib.sha256(f"{headers['subject']}\0{text}\0{html}".encode()).hexdigest(),
        "snippet": " ".join(text[: SNIPPET_CHARACTERS * 4].split())[:SNIPPET_CHARACTERS],
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
    }


def outgoing(email: Mapping[str, Any]) -> Outgoing:
    """What goes over the wire for an outbound mail; the same every time it is tried."""
    headers = email["headers"]
    return Outgoing(
        from_address=headers["from"],
        from_name=headers["from_name"],
        to=tuple(headers["to"]),
        subject=headers["subject"],
        text=email["body"]["text"],
        message_id=headers["message_id"],
        date=email["at"],
        in_reply_to=headers["in_reply_to"],
        references=tuple(headers["references"]),
    )


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


def is_settled(email: Mapping[str, Any]) -> bool:
    """Whether an outbound mail came to its end."""
    return email["state"] not in ("queued", "sending")


def with_outcome(email: Document, index: int, state: str, response: str, now: datetime) -> Document:
    """The mail after one recipient's hand-over: `accepted`, `failed`, `retry` or `in_doubt`.

    Only `accepted` and `failed` end the recipient's wait. After `in_doubt` it stays pending with its dot mark, and is
    tried again with the same Message-ID.
    """
    recipients = list(email["recipients"])
    recipients[index] = recipients[index] | {
        "state": state if state in _SETTLING else "pending",
        "response": response,
        "at": now,
        "dot": state == "in_doubt",
    }
    return _judged(email | {"recipients": recipients}, now)


def given_up(email: Document, now: datetime) -> Document:
    """The mail after 48 hours of trying: who is still pending has failed, or is in doubt behind a dot mark."""
    recipients = [
        each | {"state": "in_doubt" if each["dot"] else "failed", "at": now} if each["state"] == "pending" else each
        for each in email["recipients"]
    ]
    judged = _judged(email | {"recipients": recipients}, now)
    doubtful = any(each["state"] == "in_doubt" for each in recipients)
    return judged if doubtful else judged | {"state": "expired"}


def without_person(email: Document, contact: str, now: datetime) -> Document:
    """The mail with an erased person's pending hand-over stopped; behind a dot mark nobody can tell."""
    recipients = [
        each | {"state": "in_doubt" if each["dot"] else "cancelled", "at": now}
        if each["contact"] == contact and each["state"] == "pending"
        else each
        for each in email["recipients"]
    ]
    return _judged(email | {"recipients": recipients}, now)


def _judged(email: Document, now: datetime) -> Document:
    """The mail's own state, following from its recipients': it ends when nobody is pending."""
    states = {each["state"] for each in email["recipients"]}
    if "pending" in states:
        return email
    for state, ends in (
        ("in_doubt", "in_doubt"),
        ("failed", "failed"),
        ("accepted", "sent"),
        ("cancelled", "cancelled"),
    ):
        if state in states:
            return email | {"state": ends, "settle_time": now, "lease": None}
    raise AssertionError(states)


def put_off(email: Document, now: datetime, jitter: float) -> Document:
    """The mail, back in the queue until its next try; `jitter` in [0, 1) spreads the tries."""
    wait = _BACKOFF[min(email["attempts"], len(_BACKOFF)) - 1]
    return email | {"state": "queued", "lease": None, "due_at": now + wait * (0.75 + 0.5 * jitter)}


def is_out_of_time(email: Mapping[str, Any], now: datetime) -> bool:
    """Whether the mail has been tried for 48 hours."""
    return bool(now - email["at"] > EXPIRES_AFTER)


def scrubbed(email: Document, contact: str, keys: Sequence[str]) -> Document:
    """The mail without a person: their address and name everywhere, and unless others share it all its content."""
    headers = email["headers"]
    mine = (
        all(each["contact"] in (contact, "") for each in email["recipients"])
        if email["direction"] == "outbound"
        else _is_author(email, contact, keys)
    )
    left: Document = {
        "people": [each for each in email["people"] if each != contact and each not in keys],
        "named": [each for each in email["named"] if each not in keys],
        "recipients": [
            each | {"address": "", "key": "", "contact": "", "response": ""} if each["contact"] == contact else each
            for each in email["recipients"]
        ],
        "raw": None,
    }
    if mine:
        left["headers"] = {name: [] if isinstance(value, list) else "" for name, value in headers.items()}
        if email["direction"] == "outbound":
            left["headers"] |= {"from": headers["from"], "from_name": headers["from_name"]}
        left |= {"linked": [], "body": {"text": "", "html": ""}, "snippet": "", "attachments": [], "defects": []}
        left |= {"content_sha256": "", "envelope_from": ""}
    else:
        left["headers"] = headers | {
            name: [address for address in headers[name] if key_of(address) not in keys]
            for name in ("to", "cc", "reply_to")
        }
    return email | left


def _is_author(email: Mapping[str, Any], contact: str, keys: Sequence[str]) -> bool:
    return contact in email["people"] or any(key in email["people"] for key in keys)


def key_of(address: str) -> str:
    """The key of an address in a header; of one that is no good, its text in lower case."""
    try:
        return parse_address(address, "address").key
    except DomainError:
        return address.strip().lower()
