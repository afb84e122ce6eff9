"""The pre-send guard: checked and reserved in one step, told in full when it refuses, asked without doing anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from tests.rpc.calls import (
    GATED,
    all_notifications,
    approved,
    at,
    made,
    mail_to,
    read_refusal,
    reason_of,
    refusal,
    rejected,
    sent,
    settled,
    state_of,
    stubs,
)
from tests.rpc.relays import serving

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Account

HOUR = Duration(seconds=3600)


def within(seconds: int = 3600) -> pb.SendGuard:
    """The guard that nobody wrote within this time."""
    return pb.SendGuard(not_contacted_within=Duration(seconds=seconds))


def filters(**conditions: Any) -> pb.SendGuard:
    """The guard with these filters."""
    return pb.SendGuard(filters={key.replace("__", "."): ParseDict(each, Value()) for key, each in conditions.items()})


async def known(contacts: Any, email: str, **metadata: Any) -> Any:
    """A contact with this metadata."""
    fields = Struct()
    fields.update(metadata)
    answer = await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email=email, metadata=fields))
    return answer.contact


def inbound(author: str, box: str, **headers: str) -> bytes:
    """A raw mail from somebody."""
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"From: {author}\r\nTo: {box}\r\nSubject: hi\r\n{extra}\r\nhello\r\n".encode()


async def test_not_contacted_within_names_all(account: Account) -> None:
    """A refusal says which rule, which earlier mail, its thread and agent, and when exactly to come back."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        first = await sent(mail, box, "bo@person.test", guard=within())
        refused = await refusal(mail.SendEmail(mail_to(box, "bo@person.test", guard=within())))
        contact = await contacts.GetContact(contacts_pb.GetContactRequest(email="bo@person.test"))
        back = contact.last_contacted.ToDatetime(UTC) + timedelta(hours=1)
        assert ("FAILED_PRECONDITION", "GUARD_REFUSED") == (refused.code, refused.reason)
        assert {
            "rule": "not_contacted_within",
            "email_id": first.id,
            "thread_id": first.thread_id,
            "agent": "tester",
            "retry_time": back.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        } == refused.metadata
        assert refused.retry_delay_s is not None
        assert 3500 < refused.retry_delay_s <= 3600
        (note,) = [n for n in await all_notifications(mail) if n.type == m.NOTIFICATION_TYPE_SEND_REFUSED]
        assert ("not_contacted_within", first.id, contact.id) == (note.rule, note.email_id, note.contact_id)
        after = await contacts.GetContact(contacts_pb.GetContactRequest(email="bo@person.test"))
        assert (1, 1, contact.etag) == (after.interaction_count, after.thread_count, after.etag)
        assert "queued" == state_of(await sent(mail, box, "bo@person.test"))
        for email, ago, passes in (("old@person.test", 7200, True), ("new@person.test", 60, False)):
            await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email=email, last_contacted=at(seconds=-ago)))
            check = pb.BatchCheckSendsRequest(from_mailbox_email=box, to=[email], guard=within())
            (answer,) = (await mail.BatchCheckSends(check)).checks
            assert (email, "" if passes else "GUARD_REFUSED") == (email, reason_of(answer))


async def test_mail_in_cc_counts_but_is_not_guarded(account: Account) -> None:
    """Somebody written to in cc or bcc was written to; a guarded mail's own cc and bcc are not looked at."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        first = await sent(mail, box, "to@person.test", cc=["cc@person.test"], bcc=["bcc@person.test"])
        for person in ("cc@person.test", "bcc@person.test"):
            refused = await refusal(mail.SendEmail(mail_to(box, person, guard=within())))
            assert ("not_contacted_within", first.id) == (refused.metadata["rule"], refused.metadata["email_id"])
        email = await sent(
            mail, box, "fresh@person.test", cc=["cc@person.test"], bcc=["bcc@person.test"], guard=within()
        )
        assert "queued" == state_of(email)


async def test_held_and_scheduled_mail_stands_in_the_way(account: Account) -> None:
    """The guard sees mail that waits for a person or its time, names it, and forgets it when it is stopped."""
    box, gated = await made(account), await made(account, "gated", oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        for guard, rule in (
            (within(), "not_contacted_within"),
            (pb.SendGuard(no_open_thread=True), "no_open_thread"),
            (pb.SendGuard(dedupe_key="offer-1"), "dedupe_key"),
        ):
            for number, (how, from_box) in enumerate((("held", gated), ("scheduled", box), ("held", gated))):
                person = f"{rule}-{number}@person.test"
                more = {"send_time": at(hours=1)} if how == "scheduled" else {}
                waits = await sent(mail, from_box, person, guard=guard, **more)
                assert how == state_of(waits)
                refused = await refusal(mail.SendEmail(mail_to(box, person, guard=guard)))
                assert (rule, waits.id, waits.thread_id, "tester") == (
                    refused.metadata["rule"], refused.metadata["email_id"], refused.metadata["thread_id"],
                    refused.metadata["agent"],
                )  # fmt: skip
                if number == 2:
                    await rejected(overseer, waits)
                else:
                    await mail.CancelEmail(pb.CancelEmailRequest(id=waits.id))
                assert "queued" == state_of(await sent(mail, box, person, guard=guard))


async def test_no_open_thread(account: Account) -> None:
    """A young thread, and an inbound mail nobody answered, keep a person's conversation open."""
    box = await made(account)
    guard = pb.SendGuard(no_open_thread=True)
    async with stubs(account) as (contacts, mail):
        await known(contacts, "asks@person.test")
        raw = inbound("asks@person.test", box)
        asked = (await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))).email
        refused = await refusal(mail.SendEmail(mail_to(box, "asks@person.test", guard=guard)))
        assert ("no_open_thread", asked.thread_id, asked.id) == (
            refused.metadata["rule"], refused.metadata["thread_id"], refused.metadata["email_id"],
        )  # fmt: skip
        assert "retry_time" not in refused.metadata
        await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=asked.id, body="here"))
        refused = await refusal(mail.SendEmail(mail_to(box, "asks@person.test", guard=guard)))
        assert "no_open_thread" == refused.metadata["rule"]
        assert refused.retry_delay_s is not None
        assert 13.9 < refused.retry_delay_s / 86400 <= 14


async def test_contact_etag_require_contact_and_filters(account: Account) -> None:
    """A send can require the contact as it was read, a contact at all, or a contact that meets the filters."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        read = await known(contacts, "bo@person.test", plan="pro", seats=5)
        for guard, rule in (
            (pb.SendGuard(require_contact=True), "require_contact"),
            (pb.SendGuard(contact_etag=read.etag), "contact_etag"),
            (filters(metadata__plan="pro"), "filter"),
        ):
            refused = await refusal(mail.SendEmail(mail_to(box, "nobody@person.test", guard=guard)))
            assert ("GUARD_REFUSED", {"rule": rule}) == (refused.reason, refused.metadata)
        await refusal(contacts.GetContact(contacts_pb.GetContactRequest(email="nobody@person.test")))
        for guard in (
            filters(metadata__plan="free"),
            filters(metadata__seats={"gt": 5}),
            filters(metadata__plan="pro", never_contacted=False),
            pb.SendGuard(filter="metadata.plan = free OR metadata.seats > 5"),
        ):
            refused = await refusal(mail.SendEmail(mail_to(box, "bo@person.test", guard=guard)))
            assert "filter" == refused.metadata["rule"]
        changed = await known(contacts, "bo@person.test", plan="team")
        stale = pb.SendGuard(contact_etag=read.etag, require_contact=True)
        assert (
            "contact_etag"
            == (await refusal(mail.SendEmail(mail_to(box, "bo@person.test", guard=stale)))).metadata["rule"]
        )
        fits = filters(
            metadata__plan={"in": ["team", "pro"]}, metadata__seats={"gte": 5, "lt": 6}, never_contacted=True
        )
        text = "metadata.seats = 5 AND never_contacted = true"
        fits.MergeFrom(pb.SendGuard(contact_etag=changed.etag, require_contact=True, filter=text))
        assert "queued" == state_of(await sent(mail, box, "bo@person.test", guard=fits))


async def test_a_filter_is_asked_again_when_the_mail_leaves(account: Account) -> None:
    """Held mail keeps its filter: approved when the contact no longer meets it, it is refused by that rule."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (contacts, mail), stubs(account, "read", "oversight") as (_, overseer):
        await known(contacts, "bo@person.test", plan="pro")
        held = await sent(mail, box, "bo@person.test", guard=pb.SendGuard(filter="metadata.plan = pro"))
        await known(contacts, "bo@person.test", plan="free")
        (outcome,) = await approved(overseer, held)
        assert "GUARD_REFUSED" == reason_of(outcome)
        await known(contacts, "bo@person.test", plan="pro")
        (outcome,) = await approved(overseer, held)
    assert outcome.email.state == m.EMAIL_STATE_QUEUED


async def test_an_unclear_filter_is_refused(account: Account) -> None:
    """A filter that cannot be understood is refused with its place in the request."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        call = mail.SendEmail(mail_to(box, "bo@person.test", guard=pb.SendGuard(filter="metadata.plan = ")))
        refused = await refusal(call)
    assert ("INVALID_FILTER", ("guard.filter",)) == (refused.reason, refused.fields)


async def test_dedupe_key(account: Account) -> None:
    """A key marks one mail per address and account for good, whatever became of it, unless it was stopped."""
    box = await made(account)
    stranger = type(account)("foreign-" + account.name, account.running, account.commands)
    far = await made(stranger)
    guard = pb.SendGuard(dedupe_key="welcome")
    async with stubs(account) as (_, mail), stubs(stranger) as (_, there):
        first = await sent(mail, box, "bo@person.test", guard=guard)
        refused = await refusal(mail.SendEmail(mail_to(box, "BO@person.test", guard=guard)))
        assert ("dedupe_key", first.id) == (refused.metadata["rule"], refused.metadata["email_id"])
        await sent(mail, box, "cy@person.test", guard=guard)
        await sent(mail, box, "bo@person.test", guard=pb.SendGuard(dedupe_key="other"))
        await sent(there, far, "bo@person.test", guard=guard)
        await sent(mail, box, "bo@person.test")


async def test_exactly_one_of_many_passes(account: Account) -> None:
    """Of 64 callers with two keys at once, over the same person, one passes and 63 are told of that one's mail."""
    box, other = await made(account), await made(account, "other")
    async with stubs(account) as (contacts, one), stubs(account) as (_, two):
        for person, guard in (
            ("a@person.test", within()),
            ("b@person.test", pb.SendGuard(no_open_thread=True)),
            ("c@person.test", pb.SendGuard(dedupe_key="k")),
        ):
            calls = [
                (one, two)[n % 2].SendEmail(mail_to((box, other)[n % 3 % 2], person, guard=guard)) for n in range(64)
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            (passed,) = [each for each in results if not isinstance(each, BaseException)]
            refused = [read_refusal(each) for each in results if isinstance(each, grpc.aio.AioRpcError)]
            assert [("GUARD_REFUSED", passed.email.id)] * 63 == [
                (each.reason, each.metadata["email_id"]) for each in refused
            ]
            contact = await contacts.GetContact(contacts_pb.GetContactRequest(email=person))
            assert (1, 1) == (contact.interaction_count, contact.thread_count)


async def test_guard_needs_one_to(account: Account) -> None:
    """A guarded mail has exactly one To; nonsense in a guard is refused by name, and nothing is made."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        two = mail_to(box, "a@person.test", "b@person.test", guard=within())
        assert ("INVALID_ARGUMENT", ("guard",)) == ((told := await refusal(mail.SendEmail(two))).code, told.fields)
        for guard, reason, field in (
            (pb.SendGuard(not_contacted_within=Duration(seconds=-1)), "INVALID_FIELD", "guard.not_contacted_within"),
            (within(400_000_000), "INVALID_FIELD", "guard.not_contacted_within"),
            (
                pb.SendGuard(not_contacted_within=Duration(seconds=2**62)),
                "INVALID_FIELD",
                "guard.not_contacted_within",
            ),
            (pb.SendGuard(dedupe_key="k" * 257), "INVALID_FIELD", "guard.dedupe_key"),
            (filters(nonsense=1), "INVALID_FILTER", "nonsense"),
            (filters(metadata__a={"$where": "1"}), "INVALID_FILTER", "metadata.a"),
            (pb.SendGuard(filters={"metadata.a": Value(number_value=float("nan"))}), "INVALID_FILTER", "metadata.a"),
            (pb.SendGuard(filters={"metadata.a": Value(number_value=float("inf"))}), "INVALID_FILTER", "metadata.a"),
        ):
            for call in (
                mail.SendEmail(mail_to(box, "a@person.test", guard=guard)),
                mail.BatchCheckSends(
                    pb.BatchCheckSendsRequest(from_mailbox_email=box, to=["a@person.test"], guard=guard)
                ),
            ):
                told = await refusal(call)
                assert (field, "INVALID_ARGUMENT", reason) == (field, told.code, told.reason)
                assert field in told.fields[0]
        await refusal(contacts.GetContact(contacts_pb.GetContactRequest(email="a@person.test")))
        empty = mail_to(box, "a@person.test", "b@person.test", guard=pb.SendGuard())
        assert "queued" == state_of((await mail.SendEmail(empty)).email)


async def whole(account: Account) -> dict[str, Any]:
    """Everything the database holds of an account."""
    database = account.running.database
    held: dict[str, Any] = {}
    for collection in ("contacts", "emails", "threads", "notifications", "suppressions", "jobs", "mailboxes"):
        held[collection] = await database.find(collection, {"account": account.name})
    held["accounts"] = await database.find("accounts", {"_id": account.name})
    return held


@pytest.mark.parametrize("kind", ["stranger", "known", "refused", "held", "attached", "reply"])
async def test_validate_only_changes_nothing_at_all(account: Account, kind: str) -> None:
    """The answer is the one a send would get, without ids; the database is as before, and the request_id still free."""
    box = await made(account, oversight_mode=GATED if kind == "held" else m.OVERSIGHT_MODE_MONITORED)
    async with stubs(account) as (contacts, mail):
        if kind != "stranger":
            await known(contacts, "bo@person.test")
        asked = (
            await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=inbound("bo@person.test", box)))
        ).email
        more: dict[str, Any] = {"request_id": "same", "validate_only": True}
        if kind == "reply":
            call, request = mail.ReplyEmail, pb.ReplyEmailRequest(email_id=asked.id, body="b", **more)
        else:
            guard = pb.SendGuard(no_open_thread=True, dedupe_key="k") if kind == "refused" else pb.SendGuard()
            files = [pb.OutgoingAttachment(filename="a.txt", content=b"x")] if kind == "attached" else []
            call = mail.SendEmail
            request = mail_to(box, "bo@person.test", guard=guard, attachments=files, **more)
        before = await whole(account)
        if kind == "refused":
            told = await refusal(call(request))
        else:
            email = (await call(request)).email
            assert ("", "", [""]) == (email.id, email.message_id, [r.contact_id for r in email.recipients])
            assert ("" if kind != "reply" else asked.thread_id) == email.thread_id
        assert before == await whole(account)
        request.validate_only = False
        if kind == "refused":
            assert told.metadata == (await refusal(call(request))).metadata
            return
        real = (await call(request)).email
        assert (True, email.subject, email.to, email.state, email.oversight_mode) == (
            real.id.startswith("email_"), real.subject, real.to, real.state, real.oversight_mode,
        )  # fmt: skip


async def test_batch_check(account: Account) -> None:
    """A thousand addresses are answered in their order, as a send to each would be, and nothing is recorded."""
    box = await made(account, oversight_mode=GATED, allow_list=["open.test"])
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        written = await sent(mail, box, "written@open.test")
        await settled(mail, written.id)
        held = await sent(mail, box, "held@person.test")
        await mail.AddSuppression(pb.AddSuppressionRequest(address="bad@person.test"))
        special = ["written@open.test", "HELD@person.test", "bad@person.test", "free@open.test"]
        to = special + [f"p{n}@person.test" for n in range(996)]
        before = await whole(account)
        request = pb.BatchCheckSendsRequest(from_mailbox_email=box, to=to, guard=within())
        checks = (await mail.BatchCheckSends(request)).checks
        assert to == [each.address for each in checks]
        assert ["GUARD_REFUSED", "GUARD_REFUSED", "SUPPRESSED", ""] == [reason_of(each) for each in checks[:4]]
        assert [written.id, held.id] == [each.refusal.metadata["email_id"] for each in checks[:2]]
        assert "retry_time" in checks[0].refusal.metadata
        assert m.EMAIL_STATE_QUEUED == checks[3].state
        assert Counter({m.EMAIL_STATE_HELD: 996}) == Counter(each.state for each in checks[4:])
        for wrong in ([*to, "x@y.test"], []):
            told = await refusal(mail.BatchCheckSends(pb.BatchCheckSendsRequest(from_mailbox_email=box, to=wrong)))
            assert ("INVALID_ARGUMENT", ("to",)) == (told.code, told.fields)
        bad = pb.BatchCheckSendsRequest(from_mailbox_email=box, to=["a@b.test", "no address", "c@d.test", "@"])
        checks = (await mail.BatchCheckSends(bad)).checks
        assert ["", "INVALID_FIELD", "", "INVALID_FIELD"] == [reason_of(each) for each in checks]
        assert checks[1].refusal.message.startswith("to[1]: ")
        missing = pb.BatchCheckSendsRequest(from_mailbox_email="no@where.test", to=["a@b.test"])
        assert "MAILBOX_NOT_FOUND" == (await refusal(mail.BatchCheckSends(missing))).reason
        assert before == await whole(account)
        (outcome,) = await approved(overseer, held)
        assert "" == reason_of(outcome)


async def test_a_thread_is_open_for_as_long_as_the_setting_says(engine_uri: str, tmp_path: Path) -> None:
    """A conversation whose newest mail is older than the days of the setting is open no more, and mail passes again."""
    async with serving(engine_uri, tmp_path, "closing", thread_open_days=1) as account, stubs(account) as (_, mail):
        box = await made(account)
        await sent(mail, box, "bo@person.test")
        guarded = mail_to(box, "bo@person.test", guard=pb.SendGuard(no_open_thread=True))
        refused = await refusal(mail.SendEmail(guarded))
        assert ("no_open_thread", True) == (
            refused.metadata["rule"], 86_000 < (refused.retry_delay_s or 0) <= 86_400
        )  # fmt: skip
        (contact,) = await account.running.database.find("contacts", {"account": account.name})
        for hours, passes in ((23, False), (25, True)):
            then = contact["young_until"] - timedelta(hours=hours)
            await account.running.database.update_one(
                "contacts", {"_id": contact["_id"]}, {"$set": {"young_until": then}}
            )
            check = pb.BatchCheckSendsRequest(from_mailbox_email=box, to=["bo@person.test"], guard=guarded.guard)
            (answer,) = (await mail.BatchCheckSends(check)).checks
            assert passes == (answer.WhichOneof("result") == "state")
