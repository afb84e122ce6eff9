"""Proves that what is counted equals what is there: contacts against their logs, numbers against notifications."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from multimail_server.contacts.contact import FOREVER, NEVER, is_erased
from multimail_server.storage.writes import KEPT_INTERACTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from multimail_server.storage.mongo import Database, Document

T = TypeVar("T")

_TRIES = 5
_EMAIL_FIELDS = dict.fromkeys(
    ("people", "thread", "direction", "kind", "hidden", "at", "released_at", "state", "recipients.state",
     "recipients.contact"), 1,
)  # fmt: skip
_WAITS = ("held", "scheduled")
_UNSETTLED = (*_WAITS, "queued", "sending")


@dataclass(slots=True)
class Report:
    """What was checked, and what does not fit, in words with ids."""

    accounts: int = 0
    contacts: int = 0
    emails: int = 0
    notifications: int = 0
    problems: list[str] = field(default_factory=list)


async def check_accounts(database: Database, *, progress: Callable[[str], None]) -> Report:
    """Checks every account, also beside a running service: one that moved meanwhile is checked again."""
    report = Report()
    accounts = await database.find("accounts", {}, sort=[("_id", 1)])
    for account in accounts:
        progress(f"checking account {account['_id']}")
        found, stood_still = await at_rest(database, account["_id"], partial(_check_account, database, account["_id"]))
        if not stood_still:
            found.problems.append(f"account {account['_id']} never stood still; stop its callers and check again")
        report.accounts += 1
        report.contacts += found.contacts
        report.emails += found.emails
        report.notifications += found.notifications
        report.problems += found.problems
    return report


async def at_rest(database: Database, account: str, read: Callable[[int], Awaitable[T]]) -> tuple[T, bool]:
    """What `read` finds at the account's number, read again while it moves; and whether it stood still at last."""
    for _ in range(_TRIES):
        before = await _seq(database, account)
        found = await read(before)
        if await _seq(database, account) == before:
            return found, True
    return found, False


async def _seq(database: Database, account: str) -> int:
    return int((await database.find("accounts", {"_id": account}))[0]["seq"])


async def _check_account(database: Database, account: str, seq: int) -> Report:
    where = {"account": account}
    contacts = await database.find("contacts", where, projection={"metadata": 0, "facets": 0})
    emails = await database.find("emails", where, projection=_EMAIL_FIELDS)
    threads = await database.find("threads", where)
    notifications = await database.find("notifications", where, projection={"seq": 1}, sort=[("seq", 1)])
    report = Report(1, len(contacts), len(emails), len(notifications))
    log: dict[str, list[Document]] = defaultdict(list)
    conversations: dict[str, list[Document]] = defaultdict(list)
    for email in emails:
        if email["hidden"]:  # mail that arrived and that nobody has let in belongs to no conversation and no log
            continue
        conversations[email["thread"]].append(email)
        for person in email["people"]:
            log[person].append(email)
    for contact in contacts:
        report.problems += [f"contact {contact['_id']}: {each}" for each in _wrong_in_contact(contact, log)]
    for email in emails:
        report.problems += [f"email {email['_id']}: {each}" for each in _wrong_in_email(email)]
    for thread in threads:
        mails = conversations.pop(thread["_id"], [])
        report.problems += [f"thread {thread['_id']}: {each}" for each in _wrong_in_thread(thread, mails)]
    report.problems += [f"thread {each}: is missing, mails are in it" for each in conversations]
    report.problems += [f"account {account}: {each}" for each in _wrong_in_numbers(notifications, seq)]
    return report


def _wrong_in_contact(contact: Document, log: dict[str, list[Document]]) -> Iterator[str]:
    emails = sorted(log.get(contact["_id"], []), key=lambda email: (email["at"], email["_id"]))
    if is_erased(contact):
        return
    outbound = [email for email in emails if email["direction"] == "outbound"]
    waits = sorted(email["_id"] for email in outbound if email["state"] in _WAITS)
    inbound = [email["at"] for email in emails if email["direction"] == "inbound" and email["kind"] == "personal"]
    if contact["interaction_count"] != len(emails):
        yield f"counts {contact['interaction_count']} interactions, its log has {len(emails)}"
    if contact["thread_count"] != len({email["thread"] for email in emails}):
        yield f"counts {contact['thread_count']} threads, its log has {len({email['thread'] for email in emails})}"
    left = max(_left_for(contact, outbound), default=NEVER)
    if contact["last_contacted_at"] < left:
        yield "was contacted later than it says"
    if left > contact["last_inbound_at"] and contact["awaiting_since"] == NEVER:
        yield "owes an answer to the mail that left last, and does not say so"
    if (contact["open_until"] == FOREVER) != bool(contact["held"] or contact["unanswered"]):
        yield "says otherwise than its waiting mail whether a conversation is open"
    if sorted(row["email"] for row in contact["held"]) != waits:
        yield f"has {len(contact['held'])} mails that wait, its log has {len(waits)}"
    if contact["last_inbound_at"] != max(inbound, default=NEVER):
        yield "heard from at another time than it says"
    kept = {entry["email"] for entry in contact["interactions"]}
    if len(kept) != len(contact["interactions"]) or len(kept) != min(len(emails), KEPT_INTERACTIONS):
        yield f"keeps {len(contact['interactions'])} entries of {len(emails)}, or one twice"
    if not kept <= {email["_id"] for email in emails}:
        yield "keeps an entry of a mail that is not in its log"
    if emails and contact["latest_thread_id"] not in {e["thread"] for e in emails if e["at"] == emails[-1]["at"]}:
        yield "names another thread than its newest mail's"


def _left_for(contact: Document, emails: list[Document]) -> Iterator[datetime]:
    """When mails to the person were queued, those left out that were stopped before they left."""
    for email in emails:
        states = {each["state"] for each in email["recipients"] if each["contact"] == contact["_id"]}
        if email["released_at"] is not None and states - {"cancelled"}:
            yield email["released_at"]


def _wrong_in_thread(thread: Document, emails: list[Document]) -> Iterator[str]:
    for name, direction in (("outbound_count", "outbound"), ("inbound_count", "inbound")):
        count = sum(email["direction"] == direction for email in emails)
        if count != thread[name]:
            yield f"counts {thread[name]} {direction} mails, has {count}"
    if len(emails) != thread["email_count"]:
        yield f"counts {thread['email_count']} mails, has {len(emails)}"


def _wrong_in_email(email: Document) -> Iterator[str]:
    pending = any(recipient["state"] == "pending" for recipient in email["recipients"])
    if email["direction"] == "outbound" and pending != (email["state"] in _UNSETTLED):
        yield f"is {email['state']}, its recipients say otherwise"


def _wrong_in_numbers(notifications: list[Document], seq: int) -> Iterator[str]:
    numbers = [notification["seq"] for notification in notifications]
    if numbers and numbers[-1] != seq:
        yield f"stands at number {seq}, its notifications end at {numbers[-1]}"
    for one, following in pairwise(numbers):
        if following != one + 1:
            yield f"has a gap between the numbers {one} and {following}"
