"""What must be true after any fault, checked against what callers were told and what the peer took."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
from tests.faults.world import ACCOUNT

from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.fsck import at_rest, check_accounts
from multimail_server.mail.suppressions import suppression_id
from multimail_server.storage.indexes import COLLECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.world import Ledger, World

    from multimail_server.storage.mongo import Document

_SETTLED = {"sent", "failed", "cancelled", "expired", "rejected", "in_doubt"}
_WAITS = {"held", "scheduled"}
_NOT_OUT = {"cancelled", "rejected"}
_ENTERED = {"email_queued", "email_held", "email_scheduled"}


async def problems_of(world: World, *, settled: bool = True, stream: bool = True) -> list[str]:
    """Everything that is wrong in this world; empty when nothing is.

    Args:
        world: The world, its mail at rest.
        settled: Whether all mail must have come to its end or wait for a person or a time.
        stream: Whether to read the notifications through the service too.
    """
    report = await check_accounts(world.database, progress=lambda _: None)
    problems = list(report.problems)
    # A job's last, hidden number may come when its work is long to be seen.
    (seq, emails, notes, suppressions), _ = await at_rest(world.database, ACCOUNT, partial(_everything, world))
    told: dict[str, list[Document]] = defaultdict(list)
    for note in notes:
        if "email" in note:
            told[note["email"]].append(note)
    problems += _nothing_lost(world.ledger, emails)
    problems += _numbers(notes, seq)
    problems += _handed_over(world, emails)
    problems += _guarded(emails)
    problems += await _erased(world)
    for email in emails.values():
        problems += _one_end(email, told[email["_id"]], world.ledger, settled=settled)
        problems += _reports(email, told[email["_id"]])
        if email["direction"] == "outbound":
            problems += _approved(email, told[email["_id"]], world)
            problems += _suppressed(email, suppressions)
    if stream:
        problems += await _streams(world, notes)
    return problems


async def _everything(world: World, seq: int) -> tuple[int, dict[str, Document], list[Document], dict[str, Document]]:
    """The account's number, its mails by id, its notifications in order and its suppressions by id."""
    where = {"account": ACCOUNT}
    emails = {each["_id"]: each for each in await world.database.find("emails", where)}
    notes = await world.database.find("notifications", where, sort=[("seq", 1)])
    suppressions = {each["_id"]: each for each in await world.database.find("suppressions", where)}
    return seq, emails, notes, suppressions


def _nothing_lost(ledger: Ledger, emails: dict[str, Document]) -> Iterator[str]:
    for kind, answers, direction in (
        ("send", ledger.accepted, "outbound"),
        ("ingest", ledger.ingested, "inbound"),
    ):
        for request_id, email_id in answers.items():
            if email_id not in emails:
                yield f"lost: {kind} {request_id} was answered with {email_id}, which is not there"
        by_smtp = ledger.arrived if direction == "inbound" else set()
        found = sum(each["direction"] == direction for each in emails.values())
        if found != len(set(answers.values())) + len(by_smtp):
            yield f"{kind}: {len(answers) + len(by_smtp)} requests were answered, {found} mails are there"
        if len(set(answers.values())) != len(answers):
            yield f"{kind}: two requests were answered with one mail"
    received = Counter(e["headers"]["message_id"] for e in emails.values() if e["direction"] == "inbound")
    for message_id in ledger.arrived:
        if received[message_id] != 1:
            yield f"by SMTP: {message_id} was taken with 250, and is there {received[message_id]} times"


def _numbers(notes: list[Document], seq: int) -> Iterator[str]:
    numbers = [note["seq"] for note in notes]
    if numbers != list(range(1, seq + 1)):
        yield f"notifications: the account stands at {seq}, the numbers are {len(numbers)}, not 1 to {seq}"
    for one, other in pairwise(notes):
        if other["at"] < one["at"]:
            yield f"notifications: {other['seq']} happened before {one['seq']}"


def _handed_over(world: World, emails: dict[str, Document]) -> Iterator[str]:
    counts = world.peer.counts()
    known = {each["headers"]["message_id"]: each for each in emails.values() if each["direction"] == "outbound"}
    for (message_id, address), count in counts.items():
        email = known.get(message_id)
        if email is None:
            yield f"handed over: {message_id}, which no mail bears"
            continue
        key = message_id, address
        allowed = 1 + world.ledger.resolved[email["_id"]]
        if email["policy"] == "retry":
            allowed += world.ledger.gaps[key] + world.peer.doubts[key]
        if count > allowed:
            yield f"handed over: {email['_id']} to {address} {count} times, at most {allowed} can be explained"
    for email in known.values():
        for each in email["recipients"]:
            if not each["address"]:  # an erased person's
                continue
            count = counts[email["headers"]["message_id"], each["address"]]
            if each["state"] == "accepted" and not count:
                yield f"handed over: {email['_id']} is accepted by {each['address']}, who never got it"
            if each["state"] == "cancelled" and count:
                yield f"handed over: {email['_id']} was stopped for {each['address']}, who got it"
        if email["_id"] in world.ledger.cancelled | world.ledger.rejected and email["state"] not in _NOT_OUT:
            yield f"{email['_id']} was stopped, and is {email['state']}"


def _one_end(email: Document, told: list[Document], ledger: Ledger, *, settled: bool) -> Iterator[str]:
    identifier, state = email["_id"], email["state"]
    kinds = Counter(note["type"] for note in told)
    if email["direction"] == "inbound":
        if kinds["email_received"] + kinds["email_held"] != 1:
            yield f"{identifier}: arrived once, and is told {kinds['email_received'] + kinds['email_held']} times"
        return
    first = [note for note in told if note["type"] in _ENTERED]
    if not first:
        yield f"{identifier}: no notification tells that it was accepted"
    ends = [note for note in told if note["type"] == "email_settled"]
    if settled and state not in _SETTLED | _WAITS:
        yield f"{identifier}: is {state}, and was to have come to its end"
    expected = (1 if state in _SETTLED else 0) + ledger.resolved[identifier]
    if len(ends) != expected:
        yield f"{identifier}: is {state}, and {len(ends)} notifications tell of an end, not {expected}"
    if ends and state in _SETTLED and ends[-1].get("state") != state:
        yield f"{identifier}: is {state}, its notification says {ends[-1].get('state')}"
    if kinds["email_queued"] > 1 + ledger.resolved[identifier]:
        yield f"{identifier}: was put into the queue {kinds['email_queued']} times"
    if (state in _SETTLED) != (email["settle_time"] is not None):
        yield f"{identifier}: is {state}, settled at {email['settle_time']}"


def _approved(email: Document, told: list[Document], world: World) -> Iterator[str]:
    """Nothing gated leaves without one recorded approval of that very content, which a person gave for it."""
    if not email["hold"]:
        return
    identifier, digest, decision = email["_id"], email["content_sha256"], email["decision"]
    approvals = sum(note["type"] == "email_approved" for note in told)
    left = any(each.message_id == email["headers"]["message_id"] for each in world.peer.taken)
    released = left or email["state"] in {"queued", "sending", "sent", "failed", "in_doubt"}
    if released and not (decision and decision["approved"] and decision["content_sha256"] == digest):
        yield f"{identifier}: left without a recorded approval of its content"
    if released and world.ledger.approved[identifier, digest] != 1:
        yield f"{identifier}: left, and {world.ledger.approved[identifier, digest]} approvals of its content were given"
    if approvals != sum(n for (each, _), n in world.ledger.approved.items() if each == identifier):
        yield f"{identifier}: {approvals} approvals are told, others were given"
    if identifier in world.ledger.rejected and released:
        yield f"{identifier}: was rejected, and left"
    body = world.ledger.said.get(digest)
    for each in world.peer.taken:
        if each.message_id == email["headers"]["message_id"] and body is not None and each.body.strip() != body:
            yield f"{identifier}: what left is not what was approved"


def _reports(email: Document, told: list[Document]) -> Iterator[str]:
    rows = [(e["type"], e["recipient"], e["at"], e["permanent"], e["detail"]) for e in email["events"]]
    if len(set(rows)) != len(rows):
        yield f"{email['_id']}: a report about it is kept twice"
    count = sum(note["type"] == "email_event" for note in told)
    if count != len(rows):
        yield f"{email['_id']}: {count} notifications tell of {len(rows)} reports"


def _suppressed(email: Document, suppressions: dict[str, Document]) -> Iterator[str]:
    for each in email["recipients"]:
        found = suppressions.get(suppression_id(ACCOUNT, each["key"]))
        if found is not None and email["at"] > found["create_time"]:
            yield f"{email['_id']}: was accepted for {each['address']}, suppressed before"


def _guarded(emails: dict[str, Document]) -> Iterator[str]:
    """Of all mails to a person within a guard's time only the first had passed it."""
    by_person: dict[str, list[Document]] = defaultdict(list)
    for email in emails.values():
        if email["direction"] == "outbound" and email["state"] not in _NOT_OUT:
            by_person[email["recipients"][0]["contact"]].append(email)
    for person, mails in by_person.items():
        mails.sort(key=lambda each: (each["at"], each["_id"]))
        for earlier, later in pairwise(mails):
            within = later["guard"]["not_contacted_within_s"] if later["guard"] else 0
            if (later["at"] - earlier["at"]).total_seconds() < within:
                yield f"guard: {later['_id']} passed it, though {person} had been written to by {earlier['_id']}"


async def _erased(world: World) -> list[str]:
    """Nothing the account holds names an erased person, once their erasure is done."""
    if not world.ledger.erased or await world.database.find("erasures", {"account": ACCOUNT, "done": False}, limit=1):
        return []
    problems = []
    for collection in COLLECTIONS:
        for row in await world.database.find(collection, {"account": ACCOUNT}):
            text = repr(row).lower()
            problems += [f"{collection} {row['_id']} names {each}" for each in world.ledger.erased if each in text]
    return problems


async def _streams(world: World, notes: list[Document]) -> list[str]:
    """ListNotifications and WatchNotifications say the same: every shown notification, once, in order."""
    shown = [note["seq"] for note in notes if note["shown"]]
    listed: list[int] = []
    token = ""
    while True:
        page = await world.call("ListNotifications", pb.ListNotificationsRequest(page_size=500, page_token=token))
        listed += [note.seq for note in page.notifications]
        token = page.next_page_token
        if not token:
            break
    watched = await watched_until(world, 0, shown[-1] if shown else 0)
    problems = []
    if listed != shown:
        problems.append(f"ListNotifications shows {len(listed)} of {len(shown)}, or in another order")
    if [note.seq for note in watched] != shown:
        problems.append(f"WatchNotifications shows {len(watched)} of {len(shown)}, or in another order")
    return problems


async def watched_until(world: World, after: int, last: int) -> list[mail_pb2.Notification]:
    """What WatchNotifications tells after a number, up to another one."""
    metadata = (("authorization", f"Bearer {world.keys['agent']}"),)
    found: list[Any] = []
    if last <= after:
        return found
    await world.nodes[0].up.wait()
    stream = world.nodes[0].stub.WatchNotifications(
        pb.WatchNotificationsRequest(after_seq=after), metadata=metadata, timeout=20
    )
    try:
        async for response in stream:
            if response.HasField("notification"):
                found.append(response.notification)
            if response.seq >= last:
                break
    except grpc.aio.AioRpcError:
        return found
    finally:
        stream.cancel()
    return found
