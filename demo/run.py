"""The whole of it against a running service: import, search, write, hear back, remember, forget."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aiosmtplib

import multimail

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

EXPORT = Path(__file__).parent / "crm_export.csv"
COMPANY = "Northwind Traders"
DOMAIN = "northwind.test"
MAILBOX = "success@demo.multimail.test"
QUIET_DAYS = 30
SMTP = os.environ.get("MULTIMAIL_SMTP_HOST", "127.0.0.1"), int(os.environ.get("MULTIMAIL_SMTP_PORT", "2525"))


def say(title: str, text: str = "") -> None:
    """One line of the story."""
    print(f"{title:<12}{text}", flush=True)


def require(what: str, expected: object, actual: object) -> None:
    """Ends the demonstration when something is not as it must be."""
    if expected != actual:
        sys.exit(f"\nThe demonstration failed: {what}\n  expected {expected!r}\n  found    {actual!r}")


def connect() -> multimail.Client:
    """The client, with MULTIMAIL_API_KEY or the key `make run` keeps."""
    kept = Path(os.environ.get("MULTIMAIL_DATA", "data")) / "api-key"
    key = os.environ.get("MULTIMAIL_API_KEY") or (kept.read_text().strip() if kept.exists() else None)
    client = multimail.Client(api_key=key)
    client.contacts.search(limit=1)
    return client


def metadata_of(row: dict[str, str]) -> dict[str, Any]:
    """What one row says about a person, as metadata."""
    return {
        "company": row["company"],
        "plan": row["plan"],
        "open_tickets": int(row["open_tickets"]) if row["open_tickets"] else None,
        "renewal": row["renewal"],
        "tags": row["tags"].split(";") if row["tags"] else [],
        "address": {"city": row["city"]} if row["city"] else None,
        "check_in": None,
    }


async def import_rows(rows: list[dict[str, str]], now: datetime, key: str) -> dict[str, int]:
    """Upserts every row, a few at a time, with a progress bar; returns how many were new, changed or as they were."""
    outcomes = {"created": 0, "updated": 0, "unchanged": 0}
    room = asyncio.Semaphore(32)
    async with multimail.AsyncClient(api_key=key) as client:

        async def one(row: dict[str, str]) -> None:
            days = row["days_since_last_contact"]
            async with room:
                contact = await client.contacts.upsert(
                    email=row["email"],
                    name=row["name"] or None,
                    metadata=metadata_of(row),
                    last_contacted=now - timedelta(days=int(days)) if days else None,
                )
            outcomes[contact.outcome] += 1
            done = sum(outcomes.values())
            if sys.stdout.isatty():
                print(f"\r{'Import':<12}[{'#' * (30 * done // len(rows)):<30}] {done}/{len(rows)}", end="", flush=True)

        await asyncio.gather(*map(one, rows))
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    return outcomes


def expected_hits(rows: list[dict[str, str]]) -> set[str]:
    """Who must be found: pro plan, this company, last contact longer ago than 30 days, or never."""
    return {
        row["email"].lower()
        for row in rows
        if row["company"] == COMPANY
        and row["plan"] == "pro"
        and (not row["days_since_last_contact"] or int(row["days_since_last_contact"]) > QUIET_DAYS)
    }


def forget_earlier_run(client: multimail.Client) -> None:
    """Erases what an earlier run of this demonstration left, so that it starts the same way again."""
    people = list(client.contacts.search(domain=DOMAIN))
    for contact in people:
        client.contacts.delete(id=contact.id)
    if people:
        say("Again", f"erased the {len(people)} people of {COMPANY} that an earlier run left")


def mailbox(client: multimail.Client) -> multimail.Mailbox:
    """The demonstration's mailbox, made unless it is there."""
    try:
        return client.mailboxes.create(email=MAILBOX, display_name="Customer Success")
    except multimail.AlreadyExistsError:
        return client.mailboxes.get(MAILBOX)


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """Looks until there is something, at most 30 seconds."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if (found := look()) is not None:
            return found
        time.sleep(0.1)
    sys.exit(f"\nThe demonstration failed: waited 30 seconds for {what}")


def letter_to(contact: multimail.Contact) -> str:
    """A mail written from what is known."""
    tickets = contact.metadata.get("open_tickets", 0)
    lines = [
        f"Hello {contact.name or 'there'},",
        "",
        (
            f"your {contact.metadata['plan']} plan at {contact.metadata['company']} "
            f"renews on {contact.metadata['renewal']}."
        ),
    ]
    if tickets:
        lines.append(f"I see {tickets} open tickets; shall we go through them together?")
    return "\n".join([*lines, "", "Kind regards", "Customer Success"])


def answer_by_smtp(sent: multimail.Email, address: str) -> None:
    """A real answer, as a mail program would send it: multipart, encoded words, by SMTP."""
    message = EmailMessage()
    message["From"] = address
    message["To"] = MAILBOX
    message["Subject"] = f"Re: {sent.subject} – danke schön ☕"
    message["In-Reply-To"] = sent.message_id
    message["References"] = sent.message_id
    message.set_content("Thursday at ten would be great.\n\n> " + sent.subject + "\n")
    message.add_alternative("<p>Thursday at <b>ten</b> would be great.</p>", subtype="html")
    message.add_attachment(b"%PDF-1.4 ...", maintype="application", subtype="pdf", filename="tickets.pdf")
    asyncio.run(aiosmtplib.send(message, sender=address, recipients=[MAILBOX], hostname=SMTP[0], port=SMTP[1]))


def main() -> None:
    """Tells the story, checking every step."""
    try:
        client = connect()
    except multimail.MultimailError as error:
        sys.exit(f"The demonstration needs a running service (make run): {error}")
    key = client._caller._endpoint.api_key  # noqa: SLF001  the second client uses the same key
    rows = list(csv.DictReader(EXPORT.open(encoding="utf-8")))
    now = datetime.now(UTC)
    started = time.monotonic()

    forget_earlier_run(client)
    outcomes = asyncio.run(import_rows(rows, now, key))
    say("Import", f"{len(rows)} rows of {EXPORT.name}: " + ", ".join(f"{n} {word}" for word, n in outcomes.items()))
    box = mailbox(client)
    say("Mailbox", f"{box.email}, {box.oversight_mode}")

    quiet_since = (now - timedelta(days=QUIET_DAYS)).isoformat()
    hits = list(
        client.contacts.search(domain=DOMAIN, filters={"metadata.plan": "pro", "last_contacted_before": quiet_since})
    )
    require("the search finds exactly these people", expected_hits(rows), {hit.email.lower() for hit in hits})
    say("Search", f"{len(hits)} pro contacts of {COMPANY} not contacted for {QUIET_DAYS} days, exactly as expected:")
    for hit in hits:
        seen = f"{hit.last_contacted:%Y-%m-%d}" if hit.last_contacted else "never"
        say("", f"{hit.name or '(no name)':<18} {hit.email:<40} last contacted {seen}")

    sent = {
        hit.id: client.send_email(
            from_mailbox=MAILBOX,
            to=hit.email,
            subject=f"Your {hit.metadata['plan']} plan renews {hit.metadata['renewal']}",
            body=letter_to(hit),
            oversight_mode="monitored",
        )
        for hit in hits
    }
    say("Send", f"{len(sent)} mails accepted, each written from the contact's metadata")
    again = client.contacts.search(
        domain=DOMAIN, filters={"metadata.plan": "pro", "last_contacted_before": quiet_since}
    )
    require("nobody is found a second time", [], [contact.email for contact in again])
    say("Search", "the same search now finds nobody: sending moved last_contacted in the same step")
    for mail in sent.values():
        wait_for("a mail to leave", lambda mail=mail: client.get_email(mail.id).state == "sent" or None)
    say("Delivered", "all of them (without a relay: as files in the outbox folder)")

    person = hits[0]
    answer_by_smtp(sent[person.id], person.email)
    inbox = client.check_inbox(mailbox=MAILBOX, contact=person.id, unread=True, limit=1)
    require("the answer is in the inbox", 1, len(inbox.items))
    arrived = client.get_email(inbox.items[0].id)
    say(
        "Answer",
        f"“{arrived.subject}” with {arrived.attachments[0].filename}; it reads: {arrived.body.splitlines()[0]}",
    )
    require("the answer is text from outside", True, arrived.untrusted)

    timeline = list(client.contacts.interactions(email=person.email))
    say("Timeline", f"of {person.email}:")
    for entry in timeline:
        notes = f"replied {entry.replied_at:%H:%M:%S}" if entry.replied_at else ""
        notes += f"read {entry.read_at:%H:%M:%S}" if entry.read_at else ""
        say("", f"{entry.time:%H:%M:%S} {entry.direction:<9} {entry.subject[:44]:<45} {notes}")
    require("the timeline's directions", ["inbound", "outbound"], [entry.direction for entry in timeline])
    require("the sent mail is recognised as answered", True, timeline[1].replied_at is not None)
    require("both are one conversation", 1, len({entry.thread_id for entry in timeline}))

    updated = client.contacts.update(
        email=person.email, metadata={"check_in": {"agreed": "Thursday 10:00"}}, increment={"open_tickets": 1}
    )
    say("Write back", f"check_in {updated.metadata['check_in']}, open_tickets {updated.metadata['open_tickets']}")
    found = client.contacts.search(filters={"metadata.check_in.agreed": {"exists": True}, "metadata.plan": "pro"})
    require("the next agent sees it at once", [person.id], [contact.id for contact in found])

    erasure = client.contacts.delete(email=person.email)
    for look in (client.contacts.get, client.contacts.interactions):
        try:
            look(email=person.email)
            sys.exit("\nThe demonstration failed: an erased person was found")
        except multimail.NotFoundError:
            continue
    scrubbed = wait_for(
        "the mail to be scrubbed",
        lambda: client.get_email(arrived.id) if not client.get_email(arrived.id).body else None,
    )
    require("the scrubbed mail names nobody", ("", ""), (scrubbed.from_, scrubbed.subject))
    say("Erase", f"{erasure.contact_id}: gone from every answer, mail scrubbed")
    say("Done", f"in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
