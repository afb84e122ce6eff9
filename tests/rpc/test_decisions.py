"""What people decide: held mail with what they need, approved or rejected once, bound to what was read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from tests.rpc.calls import (
    GATED,
    all_notifications,
    approved,
    decision,
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

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from tests.conftest import Account


async def test_held_mail_shows_what_a_decision_needs(account: Account) -> None:
    """The queue shows the mail with bodies and files, everyone it goes to (bcc too), who they are, what was written."""
    box = await made(account, oversight_mode=GATED)
    open_box = await made(account, "open")
    async with stubs(account) as (contacts, mail), stubs(account, "oversight", "read") as (_, overseer):
        await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="bo@person.test", name="Bo"))
        for number in range(6):
            await sent(mail, open_box, "bo@person.test", subject=f"earlier {number}")
        held = await sent(
            mail, box, "bo@person.test", cc=["cy@person.test"], bcc=["di@person.test"], subject="Offer", body="text",
            html_body="<p>text</p>", attachments=[pb.OutgoingAttachment(filename="a.txt", content=b"12345")],
        )  # fmt: skip
        (row,) = (await overseer.ListHeldEmails(pb.ListHeldEmailsRequest(mailbox_email=box))).emails
        email = row.email
        assert (held.id, "held", "mode", held.content_sha256, "Offer", "text", "<p>text</p>") == (
            email.id, state_of(email), email.hold_reason, email.content_sha256, email.subject, email.body.strip(),
            email.html_body.strip(),
        )  # fmt: skip
        assert (["bo@person.test"], ["cy@person.test"], ["di@person.test"]) == (email.to, email.cc, email.bcc)
        assert ["bo@person.test", "cy@person.test", "di@person.test"] == [each.address for each in email.recipients]
        assert [("a.txt", 5)] == [(each.filename, each.size_bytes) for each in email.attachments]
        people = {each.contact.email: each for each in row.people}
        assert {"bo@person.test", "cy@person.test", "di@person.test"} == set(people)
        assert "Bo" == people["bo@person.test"].contact.name
        subjects = [each.subject for each in people["bo@person.test"].interactions]
        assert ["Offer", "earlier 5", "earlier 4", "earlier 3", "earlier 2"] == subjects
        file = await overseer.GetAttachment(pb.GetAttachmentRequest(email_id=email.id))
        assert b"12345" == file.content
        assert 64 == len(email.content_sha256)


async def test_queue_is_oldest_first_page_by_page(account: Account) -> None:
    """The approval queue is walked in order of age, page by page, by mailbox or whole; another account sees none."""
    box, other = [await made(account, name, oversight_mode=GATED) for name in ("one", "two")]
    stranger = type(account)("foreign-" + account.name, account.running, account.commands)
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        ids = [(await sent(mail, box if n % 2 else other, f"p{n}@person.test")).id for n in range(5)]
        seen, token = [], ""
        while True:
            page = await overseer.ListHeldEmails(pb.ListHeldEmailsRequest(page_size=2, page_token=token))
            seen += [each.email.id for each in page.emails]
            if not (token := page.next_page_token):
                break
        of_box = (await overseer.ListHeldEmails(pb.ListHeldEmailsRequest(mailbox_email=box))).emails
    assert ids == seen
    assert ids[1::2] == [each.email.id for each in of_box]
    async with stubs(stranger, "oversight") as (_, elsewhere):
        assert not (await elsewhere.ListHeldEmails(pb.ListHeldEmailsRequest())).emails


async def test_approval_sends_once_and_is_recorded(account: Account) -> None:
    """Until it is approved nobody counts as written to; then the mail goes out, and who decided what stays with it."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (contacts, mail), stubs(account, "oversight", "read") as (_, overseer):
        held = await sent(mail, box, "bo@person.test")
        contact = await contacts.GetContact(contacts_pb.GetContactRequest(email="bo@person.test"))
        assert not contact.HasField("last_contacted")
        assert (1, False) == (contact.interaction_count, (await settles_at(mail, held.id)))
        (outcome,) = await approved(overseer, held, reason="fine")
        assert "queued" == state_of(outcome.email)
        done = await settled(mail, held.id)
        assert ("sent", True, "fine", "tester", held.content_sha256) == (
            state_of(done), done.decision.approved, done.decision.reason, done.decision.agent,
            done.decision.content_sha256,
        )  # fmt: skip
        assert done.decision.key_id.startswith("key_")
        assert (await contacts.GetContact(contacts_pb.GetContactRequest(email="bo@person.test"))).HasField(
            "last_contacted"
        )
        (again,) = await approved(overseer, held)
        assert ("STATE_FORBIDS", "sent") == (reason_of(again), again.refusal.metadata["state"])
        kinds = [note.type for note in await all_notifications(overseer) if note.email_id == held.id]
    assert [
        m.NOTIFICATION_TYPE_EMAIL_HELD,
        m.NOTIFICATION_TYPE_EMAIL_APPROVED,
        m.NOTIFICATION_TYPE_EMAIL_QUEUED,
        m.NOTIFICATION_TYPE_EMAIL_SETTLED,
    ] == kinds


async def settles_at(mail: Any, email_id: str) -> bool:
    """Whether the mail has a settle time."""
    found = await mail.GetEmail(pb.GetEmailRequest(id=email_id))
    return bool(found.HasField("settle_time"))


async def test_rejected_mail_never_goes(account: Account) -> None:
    """A rejected mail is REJECTED for good with its reason, which the agent reads, and its people are cancelled."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (contacts, mail), stubs(account, "oversight") as (_, overseer):
        held = await sent(mail, box, "bo@person.test")
        no_reason = await refusal(overseer.RejectEmails(pb.RejectEmailsRequest(emails=[decision(held)])))
        assert ("INVALID_ARGUMENT", ("reason",)) == (no_reason.code, no_reason.fields)
        (outcome,) = await rejected(overseer, held, reason="too pushy")
        assert "rejected" == state_of(outcome.email)
        found = await mail.GetEmail(pb.GetEmailRequest(id=held.id))
        assert ("rejected", False, "too pushy", [m.RECIPIENT_STATE_CANCELLED]) == (
            state_of(found), found.decision.approved, found.decision.reason, [r.state for r in found.recipients],
        )  # fmt: skip
        (after,) = await approved(overseer, held)
        assert "STATE_FORBIDS" == reason_of(after)
        contact = await contacts.GetContact(contacts_pb.GetContactRequest(email="bo@person.test"))
        assert not contact.HasField("last_contacted")


async def test_outcome_per_mail(account: Account) -> None:
    """One call decides about many mails; each unknown, foreign, changed or repeated one is refused by itself."""
    box = await made(account, oversight_mode=GATED)
    stranger = type(account)("foreign-" + account.name, account.running, account.commands)
    far = await made(stranger, oversight_mode=GATED)
    async with (
        stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer), stubs(stranger) as (_, there)
    ):  # fmt: skip
        one, two, open_ = [await sent(mail, box, f"p{n}@person.test") for n in range(3)]
        foreign = await sent(there, far, "bo@person.test")
        rows = [
            decision(one),
            pb.EmailDecision(email_id="email_nope", content_sha256="0" * 64),
            decision(foreign),
            pb.EmailDecision(email_id=two.id, content_sha256=one.content_sha256),
            decision(one),
            decision(two),
        ]
        outcomes = (await overseer.ApproveEmails(pb.ApproveEmailsRequest(emails=rows))).outcomes
        assert [row.email_id for row in rows] == [each.email_id for each in outcomes]
        assert ["", "EMAIL_NOT_FOUND", "EMAIL_NOT_FOUND", "CONTENT_CHANGED", "STATE_FORBIDS", ""] == [
            reason_of(each) for each in outcomes
        ]
        assert outcomes[1].refusal.message == outcomes[2].refusal.message
        assert two.content_sha256 == outcomes[3].refusal.metadata["content_sha256"]
        assert "held" == state_of(await mail.GetEmail(pb.GetEmailRequest(id=open_.id)))
        assert "held" == state_of(await there.GetEmail(pb.GetEmailRequest(id=foreign.id)))
        hostile = [pb.EmailDecision(email_id="x\0", content_sha256="0"), pb.EmailDecision(email_id="y")]
        refused = await refusal(overseer.ApproveEmails(pb.ApproveEmailsRequest(emails=hostile)))
        assert {"emails[0].email_id", "emails[1].content_sha256"} == set(refused.fields)
        many = pb.ApproveEmailsRequest(emails=[decision(two)] * 501)
        assert ("emails",) == (await refusal(overseer.ApproveEmails(many))).fields
        none = await refusal(overseer.ApproveEmails(pb.ApproveEmailsRequest()))
        assert ("emails",) == none.fields


async def test_editing_voids_what_was_read(account: Account) -> None:
    """After an edit only the new hash approves, and the mail that leaves is the edited one."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight", "read") as (_, overseer):
        held = await sent(mail, box, "bo@person.test", subject="old", body="old text")
        changed = await mail.UpdateEmail(pb.UpdateEmailRequest(id=held.id, subject="new"))
        assert held.content_sha256 != changed.content_sha256
        (stale,) = await approved(overseer, held)
        assert ("CONTENT_CHANGED", changed.content_sha256) == (
            reason_of(stale), stale.refusal.metadata["content_sha256"],
        )  # fmt: skip
        read = await overseer.GetEmail(pb.GetEmailRequest(id=held.id))
        assert ("new", "old text") == (read.subject, read.body.strip())
        (fresh,) = await approved(overseer, changed)
        assert "" == reason_of(fresh)
        assert ("sent", "new") == ((done := await settled(mail, held.id)) and state_of(done), done.subject)


async def test_approval_runs_the_guard_again(account: Account) -> None:
    """The mail's own row does not stand in its way, but a mail that went out meanwhile does, and it stays held."""
    box, other = await made(account, oversight_mode=GATED), await made(account, "open")
    guard = pb.SendGuard(not_contacted_within=Duration(seconds=3600), no_open_thread=True, dedupe_key="k")
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        alone = await sent(mail, box, "alone@person.test", guard=guard)
        (outcome,) = await approved(overseer, alone)
        assert "queued" == state_of(outcome.email)
        late = await sent(mail, box, "late@person.test", guard=guard)
        between = await sent(mail, other, "late@person.test")
        (refused,) = await approved(overseer, late)
        assert ("GUARD_REFUSED", "not_contacted_within", between.id) == (
            reason_of(refused), refused.refusal.metadata["rule"], refused.refusal.metadata["email_id"],
        )  # fmt: skip
        assert "held" == state_of(await mail.GetEmail(pb.GetEmailRequest(id=late.id)))
        await mail.AddSuppression(pb.AddSuppressionRequest(address="bad@person.test"))
        (await refusal(mail.SendEmail(mail_to(box, "bad@person.test"))))
        unlucky = await sent(mail, box, "unlucky@person.test")
        await mail.AddSuppression(pb.AddSuppressionRequest(address="unlucky@person.test"))
        (suppressed,) = await approved(overseer, unlucky)
        assert "SUPPRESSED" == reason_of(suppressed)


async def test_of_all_who_decide_at_once_one_is_heard(account: Account) -> None:
    """Approve, reject, cancel and edit race for a mail: one ends its wait, and every caller is told how it stands."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight", "read") as (_, overseer):
        held = [await sent(mail, box, f"p{n}@person.test") for n in range(12)]

        async def decide(email: m.Email, how: str) -> str:
            if how in ("approve", "reject"):
                (outcome,) = await (approved if how == "approve" else rejected)(overseer, email)
                assert reason_of(outcome) in ("", "STATE_FORBIDS", "CONTENT_CHANGED")
                return "" if reason_of(outcome) else how
            call = (
                mail.CancelEmail(pb.CancelEmailRequest(id=email.id))
                if how == "cancel"
                else mail.UpdateEmail(pb.UpdateEmailRequest(id=email.id, body=f"edited {email.id}"))
            )
            try:
                await call
            except grpc.aio.AioRpcError as error:
                assert "STATE_FORBIDS" == read_refusal(error).reason
                return ""
            return how if how == "cancel" else ""

        hows = ["approve", "reject", "cancel", "edit", "approve", "reject"]
        for shift, email in enumerate(held):
            order = hows[shift % 6 :] + hows[: shift % 6]
            winners = [each for each in await asyncio.gather(*(decide(email, how) for how in order)) if each]
            done = await settled(overseer, email.id)
            # An approved mail can still be cancelled while it is queued; nothing else can follow a decision.
            assert sorted(winners) in (["approve"], ["reject"], ["cancel"], ["approve", "cancel"]), order
            ends = {"approve": "sent", "reject": "rejected", "cancel": "cancelled"}
            assert ends["cancel" if "cancel" in winners else winners[0]] == state_of(done)
            if "approve" in winners:
                assert done.content_sha256 == done.decision.content_sha256


async def test_the_guard_is_about_who_is_written_to(account: Account) -> None:
    """When whom the guard was about is erased, it does not stop the mail for somebody in Cc."""
    box, free = await made(account, "gated", oversight_mode=GATED), await made(account, "free")
    async with stubs(account) as (contacts, mail), stubs(account, "oversight") as (_, overseer):
        guard = pb.SendGuard(not_contacted_within=Duration(seconds=3600))
        held = await sent(mail, box, "gone@person.test", cc=["copy@person.test"], guard=guard)
        await sent(mail, free, "copy@person.test")
        await contacts.DeleteContact(contacts_pb.DeleteContactRequest(email="gone@person.test"))
        now = await mail.GetEmail(pb.GetEmailRequest(id=held.id))
        (outcome,) = await approved(overseer, now)
        assert "" == reason_of(outcome)
        done = await settled(mail, held.id)
        assert [m.RECIPIENT_STATE_CANCELLED, m.RECIPIENT_STATE_ACCEPTED] == [each.state for each in done.recipients]


async def test_large_held_mails_come_page_by_page(account: Account) -> None:
    """Held mails that are too large together for one answer are listed all the same, each once, in order."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight", "read") as (_, overseer):
        ids = [(await sent(mail, box, "bo@person.test", body="x" * 250_000)).id for _ in range(25)]
        found: list[str] = []
        pages, token = 0, ""
        while pages == 0 or token:
            page = await overseer.ListHeldEmails(pb.ListHeldEmailsRequest(page_size=500, page_token=token))
            found += [each.email.id for each in page.emails]
            pages, token = pages + 1, page.next_page_token
            assert page.ByteSize() < 4 << 20
        assert (ids, 3) == (found, pages)
