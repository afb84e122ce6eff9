"""How the things of an account are shown to a model: their facts, and what outsiders wrote on them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from multimail.mcp.told import Outside, Shown, line, outside

FEW = 5
_HTML = "\n\n[The same mail as HTML, which mail programs show instead of the text above:]\n"
_ADDRESS = re.compile(r"[^\s<>\"(),;:\[\]\\@]{1,64}@[\w.-]{1,255}")


def addresses(given: list[str]) -> list[str]:
    """Those that look like addresses, without characters that are not seen; others may say anything."""
    return [each for each in given if _ADDRESS.fullmatch(each) and each.isprintable()]


class ShownContact(Shown):
    """A contact."""

    id: str
    email: str
    name: str = ""
    metadata: dict[str, Any] = {}
    metadata_left_out: bool = Field(False, description="The metadata is too long for this answer.")
    etag: str = ""
    outcome: str = Field("", description="What a change did: created, updated or unchanged.")
    last_contacted: datetime | None = None
    last_inbound: datetime | None = None
    interaction_count: int
    thread_count: int
    latest_thread_id: str = ""


class ShownInteraction(Shown):
    """An entry of a contact's log; its subject is in `untrusted`."""

    email_id: str
    direction: str
    time: datetime | None = None
    state: str
    mailbox_id: str = ""
    mailbox_deleted: bool = False
    thread_id: str = ""
    agent: str = ""
    replied_at: datetime | None = None
    read_at: datetime | None = None


class ShownRecipient(Shown):
    """How a recipient stands."""

    address: str
    contact_id: str = ""
    kind: str = "to"
    state: str
    open_time: datetime | None = None


class ShownEvent(Shown):
    """A report about the delivery."""

    type: str
    address: str = ""
    time: datetime | None = None
    permanent: bool = False


class ShownDecision(Shown):
    """What a person decided."""

    approved: bool
    reason: str = ""
    agent: str = ""
    key_id: str = ""
    time: datetime | None = None


class ShownAttachment(Shown):
    """A file; its name is in `untrusted` when it came from outside."""

    index: int
    filename: str = ""
    size_bytes: int = 0


class ShownEmail(Shown):
    """A mail in a list. What was written outside is in `untrusted`, under its id."""

    id: str = ""
    direction: str
    state: str
    time: datetime | None = None
    from_: str = Field("", alias="from")
    to: list[str] = Field([], description="The first 5.")
    recipient_count: int = 0
    subject: str = ""
    snippet: str = ""
    mailbox_id: str = ""
    thread_id: str = ""
    agent: str = ""
    attachment_count: int = 0
    read_at: datetime | None = None
    replied_at: datetime | None = None
    send_time: datetime | None = None
    expire_time: datetime | None = None
    hold_reason: str = ""
    state_detail: str = ""
    kind: str = Field("", description="auto_reply, delivery_status or unsubscribe; absent when somebody wrote it.")


class ReadEmail(ShownEmail):
    """A mail as it is read."""

    to: list[str] = []
    cc: list[str] = []
    bcc: list[str] = []
    reply_to: list[str] = []
    body: str = Field("", description="Our own text, while held with its HTML; of a mail from outside in `untrusted`.")
    cut: bool = Field(False, description="The body goes on.")
    content_sha256: str = ""
    oversight_mode: str = ""
    decision: ShownDecision | None = None
    recipients: list[ShownRecipient] = []
    events: list[ShownEvent] = Field([], description="The newest.")
    attachments: list[ShownAttachment] = []
    authentication: str = Field("", description="SPF, DKIM, DMARC, as a trusted server found them.")
    truncated: bool = Field(False, description="The mail was longer than is kept.")


class ShownPerson(Shown):
    """Somebody a held mail goes to or came from."""

    id: str
    email: str
    name: str = ""
    last_contacted: datetime | None = None
    last_inbound: datetime | None = None
    interaction_count: int


class HeldMail(ReadEmail):
    """A mail that waits for a decision."""

    people: list[ShownPerson] = Field([], description="Whom it goes to or came from.")


class ShownThread(Shown):
    """A conversation; its subject is in `untrusted`."""

    id: str
    email_count: int
    outbound_count: int = 0
    inbound_count: int = 0
    contact_ids: list[str] = Field([], description="The first 5.")
    mailbox_ids: list[str] = Field([], description="The first 5.")
    latest_email_id: str = ""
    latest_direction: str = ""
    update_time: datetime | None = None
    awaiting_reply_since: datetime | None = None
    unanswered_since: datetime | None = None


class ShownMailbox(Shown):
    """A mailbox."""

    id: str
    email: str
    display_name: str = ""
    oversight_mode: str
    etag: str = ""
    hold_first_contact: bool = False
    allow_list: list[str] = []
    allow_list_count: int = Field(0, description="How many it has, where only the first are shown.")
    approval_ttl: timedelta
    in_doubt_policy: str
    delete_time: datetime | None = None


class ShownSuppression(Shown):
    """An address nobody writes to."""

    address: str = ""
    reason: str
    email_id: str = ""
    create_time: datetime | None = None


class ShownNotification(Shown):
    """Something that happened."""

    seq: int
    type: str
    time: datetime | None = None
    agent: str = ""
    key_id: str = ""
    contact_id: str = ""
    mailbox_id: str = ""
    email_id: str = ""
    thread_id: str = ""
    email_state: str = ""
    rule: str = ""
    event: str = ""


class ShownCheck(Shown):
    """What would become of a mail."""

    address: str
    state: str = Field("", description="queued or held; absent when it would be refused.")
    reason: str = Field("", description="Why it would be refused.")
    message: str = ""
    facts_: dict[str, str] = Field({}, alias="facts")


def list_email(email: Any) -> tuple[ShownEmail, list[Outside]]:
    """A mail in a list."""
    shown = ShownEmail.of(email, **_of_email(email, FEW), snippet="" if email.untrusted else email.snippet)
    return shown, outside(email.id, *_foreign(email, 0), email.snippet if email.untrusted else "")


def _of_email(email: Any, most: int) -> dict[str, Any]:
    """What is shown of a mail wherever it is shown, and is no text from outside."""
    everybody = [*email.to, *email.cc, *email.bcc]
    return {
        "from_": "".join(addresses([email.from_])),
        "to": addresses(email.to)[:most],
        "recipient_count": len(everybody) if len(everybody) > most else 0,
        "subject": "" if email.untrusted or email.in_reply_to else email.subject,
        "attachment_count": len(email.attachments),
        "kind": "" if email.kind == "personal" else email.kind,
    }


def _foreign(email: Any, most: int) -> list[str]:
    """What outsiders wrote on a mail, but its text: its subject, odd addresses, names of files, servers' replies.

    Args:
        email: The mail.
        most: How many entries each list of it shows; none in a list of mails, where the subject is cut too.
    """
    said = []
    if (email.untrusted or email.in_reply_to) and email.subject:
        said.append(f"Subject: {email.subject if most > FEW else line(email.subject)}")
    odd = [each for each in (*email.to, *email.cc, *email.reply_to) if not addresses([each])]
    if email.from_ and not addresses([email.from_]):
        said.append(f"From: {line(email.from_)}")
    said += [f"In its headers: {line(each)}" for each in odd[:most]]
    if email.untrusted:
        files = enumerate(email.attachments[:most])
        said += [f"File {number}: {line(each.filename)} ({line(each.content_type)})" for number, each in files]
    said += [f"Server of {each.address}: {line(each.response)}" for each in email.recipients[:most] if each.response]
    said += [f"Report of {each.address}: {line(each.detail)}" for each in _newest(email, most) if each.detail]
    return said


def text_of(email: Any) -> str:
    """What there is to read of a mail; who decides about it reads its HTML too, for that is what people will see."""
    if email.state == "held" and email.html_body:
        return f"{email.body.rstrip()}{_HTML}{email.html_body}"
    return str(email.body)


def _newest(email: Any, most: int) -> list[Any]:
    """Its newest reports."""
    return email.events[-most:] if most else []


def read_email(email: Any, body: str, *, cut: bool, most: int = 50) -> tuple[ReadEmail, list[Outside]]:
    """A mail as it is read.

    Args:
        email: The mail.
        body: As much of its body as is shown.
        cut: Whether the body goes on.
        most: How many entries each of its lists shows.
    """
    shown = ReadEmail.of(
        email,
        **_of_email(email, most),
        snippet="",
        cc=addresses(email.cc)[:most],
        bcc=email.bcc[:most],
        reply_to=addresses(email.reply_to)[:most],
        body="" if email.untrusted else body,
        decision=ShownDecision.of(email.decision) if email.decision else None,
        recipients=[ShownRecipient.of(each) for each in email.recipients[:most]],
        events=[ShownEvent.of(each) for each in _newest(email, most)],
        attachments=[
            ShownAttachment(index=number, filename="" if email.untrusted else each.filename, size_bytes=each.size_bytes)
            for number, each in enumerate(email.attachments[:most])
        ],
        authentication=_authentication(email.authentication),
        cut=cut,
    )
    said = [*_foreign(email, most), *(["Text:", body] if email.untrusted and body else [])]
    return shown, outside(email.id, *said)


def _authentication(found: Any) -> str:
    if found is None:
        return ""
    checks = (("spf", found.spf), ("dkim", found.dkim), ("dmarc", found.dmarc))
    return " ".join(f"{name}={line(told)}" for name, told in checks if told.isalnum())


def thread(found: Any) -> tuple[ShownThread, list[Outside]]:
    """A conversation."""
    ids = {"contact_ids": found.contact_ids[:FEW], "mailbox_ids": found.mailbox_ids[:FEW]}
    return ShownThread.of(found, **ids), outside(found.id, f"Subject: {line(found.subject)}" if found.subject else "")


def mailbox(found: Any, most: int = FEW) -> ShownMailbox:
    """A mailbox, with so many entries of its allow-list."""
    many = len(found.allow_list) if len(found.allow_list) > most else 0
    return ShownMailbox.of(found, allow_list=found.allow_list[:most], allow_list_count=many)
