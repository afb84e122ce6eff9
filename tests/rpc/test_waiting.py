"""Mail that waits: scheduled, cancelled, changed, expired, due, and doubt that somebody ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.rpc.calls import (
    GATED,
    all_notifications,
    approved,
    at,
    contact_of,
    decision,
    get,
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
    until,
)
from tests.rpc.relays import make_due, serving

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from tests.conftest import Account


async def test_scheduled_mail_goes_at_its_time(account: Account) -> None:
    """A mail with a time ahead is SCHEDULED; nobody counts as written to before it; then it goes out by itself."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        when = at(seconds=1.2)
        email = await sent(mail, box, "bo@person.test", send_time=when)
        assert ("scheduled", when.ToMilliseconds()) == (state_of(email), email.send_time.ToMilliseconds())
        assert not (await contact_of(contacts, "bo@person.test")).HasField("last_contacted")
        done = await settled(mail, email.id)
        assert "sent" == state_of(done)
        written = (await contact_of(contacts, "bo@person.test")).last_contacted
        assert when.ToMilliseconds() <= written.ToMilliseconds() <= done.settle_time.ToMilliseconds()
        kinds = [note.type for note in await all_notifications(mail) if note.email_id == email.id]
        assert [
            m.NOTIFICATION_TYPE_EMAIL_SCHEDULED,
            m.NOTIFICATION_TYPE_EMAIL_QUEUED,
            m.NOTIFICATION_TYPE_EMAIL_SETTLED,
        ] == kinds


async def test_send_time_has_bounds(account: Account) -> None:
    """A time that is past means at once; one more than 366 days ahead, or none at all, is refused by name."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        past = await sent(mail, box, "bo@person.test", send_time=at(seconds=-5))
        assert ("queued", False) == (state_of(past), past.HasField("send_time"))
        for bad in (at(days=367), Timestamp(seconds=2**60), Timestamp(seconds=-(2**60)), Timestamp(nanos=-5)):
            refused = await refusal(mail.SendEmail(mail_to(box, "bo@person.test", send_time=bad)))
            assert ("INVALID_ARGUMENT", ("send_time",)) == (refused.code, refused.fields)
        far = await sent(mail, box, "bo@person.test", send_time=at(days=365))
        assert "scheduled" == state_of(far)


async def test_a_reply_can_wait_too(account: Account) -> None:
    """A scheduled answer joins its thread at once, but the person waits for us until it leaves."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="bo@person.test"))
        raw = f"From: bo@person.test\r\nTo: {box}\r\nSubject: hi\r\n\r\nx\r\n".encode()
        asked = (await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))).email
        request = pb.ReplyEmailRequest(email_id=asked.id, body="later", send_time=at(hours=1))
        reply = (await mail.ReplyEmail(request)).email
        assert ("scheduled", asked.thread_id) == (state_of(reply), reply.thread_id)
        assert (await mail.GetThread(pb.GetThreadRequest(id=asked.thread_id))).thread.HasField("unanswered_since")
        await make_due(account, reply.id)
        assert "sent" == state_of(await settled(mail, reply.id))
        thread = (await mail.GetThread(pb.GetThreadRequest(id=asked.thread_id))).thread
        assert (False, True) == (thread.HasField("unanswered_since"), thread.HasField("awaiting_reply_since"))


async def test_the_guard_runs_again_when_it_is_due(account: Account) -> None:
    """A scheduled mail is cancelled, with the rule in words, when its guard no longer holds; else it goes."""
    box = await made(account)
    guard = pb.SendGuard(not_contacted_within=Duration(seconds=3600))
    async with stubs(account) as (_, mail):
        spoilt, fine, suppressed = [
            await sent(mail, box, f"{name}@person.test", guard=guard, send_time=at(hours=1))
            for name in ("spoilt", "fine", "suppressed")
        ]
        await sent(mail, box, "spoilt@person.test")
        await mail.AddSuppression(pb.AddSuppressionRequest(address="suppressed@person.test"))
        for email in (spoilt, fine, suppressed):
            await make_due(account, email.id)
        ends = [await settled(mail, email.id) for email in (spoilt, fine, suppressed)]
        assert [("cancelled", "guard: not_contacted_within"), ("sent", ""), ("cancelled", "suppressed")] == [
            (state_of(each), each.state_detail) for each in ends
        ]


async def test_a_stricter_mailbox_holds_what_comes_due(account: Account) -> None:
    """Mail scheduled before its mailbox was gated is HELD when due, unless the allow-list lets it pass."""
    box = await made(account, allow_list=["friend.test"])
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        stranger, friend, never = [
            await sent(mail, box, to, send_time=at(hours=1))
            for to in ("bo@person.test", "bo@friend.test", "cy@friend.test")
        ]
        await mail.UpdateMailbox(pb.UpdateMailboxRequest(email=box, oversight_mode=GATED))
        for email in (stranger, friend):
            await make_due(account, email.id)
        assert "sent" == state_of(await settled(mail, friend.id))

        async def held() -> Any:
            return (await overseer.ListHeldEmails(pb.ListHeldEmailsRequest(mailbox_email=box))).emails

        (row,) = await until(held)
        assert (stranger.id, "mode") == (row.email.id, row.email.hold_reason)
        (outcome,) = await approved(overseer, row.email)
        assert "scheduled" == state_of(outcome.email)
        await make_due(account, stranger.id)
        assert "sent" == state_of(await settled(mail, stranger.id))
        await mail.UpdateMailbox(pb.UpdateMailboxRequest(email=box, oversight_mode=m.OVERSIGHT_MODE_READ_ONLY))
        await make_due(account, never.id)
        end = await settled(mail, never.id)
        assert ("cancelled", "mode_forbids") == (state_of(end), end.state_detail)


async def test_approved_mail_waits_for_its_time(account: Account) -> None:
    """A held mail with a time is SCHEDULED by its approval; an edit holds it again, until it is approved anew."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        held = await sent(mail, box, "bo@person.test", send_time=at(hours=1))
        assert "held" == state_of(held)
        (outcome,) = await approved(overseer, held)
        assert "scheduled" == state_of(outcome.email)
        same = await mail.UpdateEmail(pb.UpdateEmailRequest(id=held.id, subject="s", body="b"))
        assert ("scheduled", held.content_sha256) == (state_of(same), same.content_sha256)
        edited = await mail.UpdateEmail(pb.UpdateEmailRequest(id=held.id, body="and more"))
        assert ("held", False) == (state_of(edited), edited.HasField("decision"))
        (stale,) = await approved(overseer, held)
        assert "CONTENT_CHANGED" == reason_of(stale)
        (fresh,) = await approved(overseer, edited)
        assert "scheduled" == state_of(fresh.email)
        await make_due(account, held.id)
        done = await settled(mail, held.id)
        assert ("sent", edited.content_sha256, "and more") == (
            state_of(done), done.decision.content_sha256, done.body.strip(),
        )  # fmt: skip


async def test_what_can_be_edited(account: Account) -> None:
    """Held and scheduled mail can be edited in subject and body, on the content that was read; no other mail can."""
    box, gated = await made(account), await made(account, "gated", oversight_mode=GATED)
    async with stubs(account) as (_, mail):
        waits = await sent(mail, box, "bo@person.test", send_time=at(hours=1), subject="one", body="text")
        edited = await mail.UpdateEmail(pb.UpdateEmailRequest(id=waits.id, subject="two"))
        assert ("scheduled", "two") == (state_of(edited), edited.subject)
        stale = pb.UpdateEmailRequest(id=waits.id, subject="three", content_sha256=waits.content_sha256)
        refused = await refusal(mail.UpdateEmail(stale))
        assert ("CONTENT_CHANGED", {"content_sha256": edited.content_sha256}) == (refused.reason, refused.metadata)
        formatted = await mail.UpdateEmail(
            pb.UpdateEmailRequest(id=waits.id, markdown_body="**new** <script>x</script>")
        )
        read = await get(mail, formatted)
        assert ("two", True, True) == (read.subject, "<strong>new</strong>" in read.html_body, "new" in read.body)
        assert "<script" not in read.html_body
        for bad, field in (
            (pb.UpdateEmailRequest(id=waits.id, subject="a\r\nBcc: x@y.test"), "subject"),
            (pb.UpdateEmailRequest(id=waits.id, subject="x" * 999), "subject"),
            (pb.UpdateEmailRequest(id=waits.id, body="x" * (256 * 1024 + 1)), "body"),
        ):
            assert (field,) == (await refusal(mail.UpdateEmail(bad))).fields
        for gone in (
            await settled(mail, (await sent(mail, box, "bo@person.test")).id),
            await mail.CancelEmail(pb.CancelEmailRequest(id=(await sent(mail, gated, "bo@person.test")).id)),
        ):
            refused = await refusal(mail.UpdateEmail(pb.UpdateEmailRequest(id=gone.id, body="x")))
            assert ("STATE_FORBIDS", {"state": state_of(gone)}) == (refused.reason, refused.metadata)
        unknown = await refusal(mail.UpdateEmail(pb.UpdateEmailRequest(id="email_nope", body="x")))
        assert "EMAIL_NOT_FOUND" == unknown.reason


async def test_cancel(account: Account) -> None:
    """Waiting mail is cancelled once, and nobody counts as written to; sent, inbound and foreign mail is not."""
    box, gated = await made(account), await made(account, "gated", oversight_mode=GATED)
    stranger = type(account)("foreign-" + account.name, account.running, account.commands)
    async with stubs(account) as (contacts, mail), stubs(stranger) as (_, there), stubs(account, "oversight") as (_, o):
        for email in (
            await sent(mail, box, "bo@person.test", send_time=at(hours=1)),
            await sent(mail, gated, "bo@person.test"),
        ):
            told = await refusal(there.CancelEmail(pb.CancelEmailRequest(id=email.id)))
            assert ("NOT_FOUND", "EMAIL_NOT_FOUND") == (told.code, told.reason)
            ended = await mail.CancelEmail(pb.CancelEmailRequest(id=email.id))
            assert ("cancelled", [m.RECIPIENT_STATE_CANCELLED], True) == (
                state_of(ended), [each.state for each in ended.recipients], ended.HasField("settle_time"),
            )  # fmt: skip
            twice = await refusal(mail.CancelEmail(pb.CancelEmailRequest(id=email.id)))
            assert ("FAILED_PRECONDITION", "STATE_FORBIDS", {"state": "cancelled"}) == (
                twice.code, twice.reason, twice.metadata,
            )  # fmt: skip
            (late,) = await approved(o, email)
            assert "STATE_FORBIDS" == reason_of(late)
        assert not (await contact_of(contacts, "bo@person.test")).HasField("last_contacted")
        done = await settled(mail, (await sent(mail, box, "bo@person.test")).id)
        raw = f"From: bo@person.test\r\nTo: {box}\r\n\r\nx\r\n".encode()
        arrived = (await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))).email
        for email in (done, arrived):
            assert "STATE_FORBIDS" == (await refusal(mail.CancelEmail(pb.CancelEmailRequest(id=email.id)))).reason
        states = pb.ListEmailsRequest(states=[m.EMAIL_STATE_CANCELLED, m.EMAIL_STATE_SENT])
        assert ["sent", "cancelled", "cancelled"] == [state_of(each) for each in (await mail.ListEmails(states)).emails]


async def test_cancel_races_with_the_time(account: Account) -> None:
    """A mail cancelled in the moment it comes due is either cancelled or sent, as the caller was told, never both."""
    box, reader = await made(account), await made(account, "reader")
    async with stubs(account) as (_, mail):
        emails = [await sent(mail, box, reader, send_time=at(seconds=1.0 + n / 20)) for n in range(12)]

        async def cancelled(email: m.Email, wait_s: float) -> bool:
            await asyncio.sleep(wait_s)  # somewhere around its time
            try:
                await mail.CancelEmail(pb.CancelEmailRequest(id=email.id))
            except grpc.aio.AioRpcError as error:
                assert "STATE_FORBIDS" == read_refusal(error).reason
                return False
            return True

        told = await asyncio.gather(*(cancelled(email, 0.8 + n / 8) for n, email in enumerate(emails)))
        ends = [state_of(await settled(mail, email.id)) for email in emails]
        assert ["cancelled" if each else "sent" for each in told] == ends
        inbox = pb.ListEmailsRequest(mailbox_email=reader, direction=m.DIRECTION_INBOUND)
        assert told.count(False) == len((await mail.ListEmails(inbox)).emails)


async def test_held_mail_expires(engine_uri: str, tmp_path: Path) -> None:
    """Held mail that nobody decides about is EXPIRED after the time set for service or mailbox, for good."""
    async with serving(engine_uri, tmp_path, "expires", approval_ttl_h=2.0 / 3600) as account:
        box = await made(account, oversight_mode=m.OVERSIGHT_MODE_GATED_ALL)
        longer = await made(account, "longer", oversight_mode=GATED, approval_ttl=Duration(seconds=3600))
        guard = pb.SendGuard(dedupe_key="k", not_contacted_within=Duration(seconds=3600))
        async with stubs(account) as (_, mail), stubs(account, "oversight", "read") as (_, overseer):
            held = await sent(mail, box, "bo@person.test", guard=guard)
            raw = b"From: bo@person.test\r\nSubject: hi\r\n\r\nx\r\n"
            await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))
            patient = await sent(mail, longer, "cy@person.test")
            waits = patient.expire_time.ToDatetime(UTC) - patient.time.ToDatetime(UTC)
            assert (timedelta(seconds=2), timedelta(hours=1)) == (
                held.expire_time.ToDatetime(UTC) - held.time.ToDatetime(UTC), waits,
            )  # fmt: skip
            end = await settled(overseer, held.id)
            assert ("expired", False, "nobody decided in time") == (
                state_of(end), end.HasField("expire_time"), end.state_detail,
            )  # fmt: skip
            (late,) = await approved(overseer, held)
            assert ("STATE_FORBIDS", "expired") == (reason_of(late), late.refusal.metadata["state"])

            async def both() -> bool:
                gone = await overseer.ListEmails(pb.ListEmailsRequest(states=[m.EMAIL_STATE_EXPIRED]))
                return len(gone.emails) == 2

            assert await until(both)
            assert [] == list((await mail.ListEmails(pb.ListEmailsRequest(direction=m.DIRECTION_INBOUND))).emails)
            assert "held" == state_of(await get(mail, patient))
            again = await sent(mail, box, "bo@person.test", guard=guard)
            assert "held" == state_of(again)


async def test_an_approval_that_comes_too_late(account: Account) -> None:
    """From the moment of its expiry a mail cannot be approved, even before the service has noticed."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        held = [await sent(mail, box, f"p{number}@person.test") for number in range(5)]
        for email in held:
            await make_due(account, email.id)
            (late,) = await approved(overseer, email)
            assert ("STATE_FORBIDS", "expired") == (reason_of(late), late.refusal.metadata["state"])
        assert ["expired"] * 5 == [state_of(await settled(mail, email.id)) for email in held]


async def test_decisions_of_a_deleted_mailbox(account: Account) -> None:
    """Held mail of a mailbox that was deleted can be rejected, but no approval lets it go any more."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "admin", "oversight") as (_, overseer):
        one, two = await sent(mail, box, "bo@person.test"), await sent(mail, box, "cy@person.test")
        await overseer.DeleteMailbox(pb.DeleteMailboxRequest(email=box))
        (gone,) = await approved(overseer, one)
        assert "MAILBOX_NOT_FOUND" == reason_of(gone)
        request = pb.RejectEmailsRequest(emails=[decision(one), decision(two)], reason="mailbox is gone")
        outcomes = (await overseer.RejectEmails(request)).outcomes
        assert ["rejected", "rejected"] == [state_of(each.email) for each in outcomes]


async def test_mail_put_off_to_one_moment_does_not_go_at_once(engine_uri: str, tmp_path: Path) -> None:
    """Of answers scheduled for the same time as many go as the thread's cap allows; the others wait for their turn."""
    async with (
        serving(engine_uri, tmp_path, "crowded", thread_sends_per_hour=3) as account,
        stubs(account) as (_, mail),
    ):
        box = await made(account)
        first = await sent(mail, box, "bo@person.test")
        later = at(minutes=60)
        replies = [
            (await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=first.id, body=f"{n}", send_time=later))).email
            for n in range(5)
        ]
        for each in replies:
            await make_due(account, each.id)

        async def states() -> list[str]:
            return sorted([state_of(await get(mail, each)) for each in replies])

        expected = ["scheduled"] * 3 + ["sent"] * 2
        await until(states, holds=lambda found: found == expected)
        due = await account.running.database.find("emails", {"account": account.name, "state": "scheduled"})
        now = await account.running.database.now()
        assert all(each["due_at"] > now + timedelta(minutes=50) for each in due), "an hour after the first ones"


async def test_waiting_mail_to_one_person_is_bounded(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many mails to a person may wait, and no more, until some are decided; what need not wait still goes."""
    monkeypatch.setattr("multimail_server.mail.guard.MOST_WAITING", 2)
    box, free = await made(account, "gated", oversight_mode=GATED), await made(account, "free")
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        held = [await sent(mail, box, "bo@person.test") for _ in range(2)]
        for sender, more in ((box, {}), (free, {"send_time": at(minutes=60)})):
            refused = await refusal(mail.SendEmail(mail_to(sender, "bo@person.test", **more)))
            assert ("CONVERSATION_TOO_FAST", "waiting", "2") == (
                refused.reason, refused.metadata["scope"], refused.metadata["limit"],
            )  # fmt: skip
        assert "queued" == state_of(await sent(mail, free, "bo@person.test"))
        await rejected(overseer, held[0])
        assert "held" == state_of(await sent(mail, box, "bo@person.test"))
