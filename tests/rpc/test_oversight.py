"""People between agents and strangers: modes, held mail, decisions, allow-lists, first contact, scopes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.rpc.calls import (
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
from multimail_server.errors import DomainError

if TYPE_CHECKING:
    from tests.conftest import Account

MODES = ("autonomous", "monitored", "gated_send", "gated_all", "read_only")


def mode(name: str) -> Any:
    """The enum value of a mode."""
    return m.OversightMode.Value(f"OVERSIGHT_MODE_{name.upper()}")


@pytest.mark.parametrize("own", MODES)
async def test_the_stricter_of_two_modes_holds(account: Account, own: str) -> None:
    """Of the mailbox's and the request's mode the stricter holds, is returned, and decides what becomes of the mail."""
    box = await made(account, oversight_mode=mode(own))
    async with stubs(account) as (_, mail):
        assert mode(own) == (await mail.GetMailbox(pb.GetMailboxRequest(email=box))).oversight_mode
        for asked in ("", *MODES):
            holds = max(own, asked or own, key=MODES.index)
            request = mail_to(box, "bo@person.test", **({"oversight_mode": mode(asked)} if asked else {}))
            if holds == "read_only":
                refused = await refusal(mail.SendEmail(request))
                assert ("FAILED_PRECONDITION", "MODE_FORBIDS", "read_only") == (
                    refused.code, refused.reason, refused.metadata["oversight_mode"],
                )  # fmt: skip
                continue
            email = (await mail.SendEmail(request)).email
            assert (asked, mode(holds), "held" if holds.startswith("gated") else "queued") == (
                asked, email.oversight_mode, state_of(email),
            )  # fmt: skip


async def test_a_mailbox_is_monitored_unless_told_otherwise(account: Account) -> None:
    """A mailbox made without a mode is monitored, holds no first contacts, and gives people 24 hours."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        found = await mail.GetMailbox(pb.GetMailboxRequest(email=box))
    assert (mode("monitored"), False, [], 24 * 3600) == (
        found.oversight_mode, found.hold_first_contact, found.allow_list, found.approval_ttl.seconds,
    )  # fmt: skip


async def test_only_autonomous_acts_are_not_shown(account: Account) -> None:
    """A send and its refusal by a monitored mailbox show in the notifications, by an autonomous one they do not."""
    loud, quiet = await made(account, "loud"), await made(account, "quiet", oversight_mode=mode("autonomous"))
    async with stubs(account) as (_, mail):
        for box in (loud, quiet):
            person = f"bo@{box.partition('@')[0]}.test"
            email = await sent(mail, box, person)
            await settled(mail, email.id)
            await refusal(mail.SendEmail(mail_to(box, person, guard=pb.SendGuard(no_open_thread=True))))
        ids = {box: (await mail.GetMailbox(pb.GetMailboxRequest(email=box))).id for box in (loud, quiet)}
        about: dict[str, list[str]] = {each: [] for each in ids.values()}
        for note in await all_notifications(mail):
            if note.mailbox_id:
                about[note.mailbox_id].append(m.NotificationType.Name(note.type).removeprefix("NOTIFICATION_TYPE_"))
    assert ["MAILBOX_CREATED", "EMAIL_QUEUED", "EMAIL_SETTLED", "SEND_REFUSED"] == about[ids[loud]]
    assert ["MAILBOX_CREATED"] == about[ids[quiet]]


async def test_held_mail_shows_what_a_decision_needs(account: Account) -> None:
    """The queue shows the mail with bodies and files, everyone it goes to (bcc too), who they are, what was written."""
    box = await made(account, oversight_mode=mode("gated_send"))
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
    box, other = [await made(account, name, oversight_mode=mode("gated_send")) for name in ("one", "two")]
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
    box = await made(account, oversight_mode=mode("gated_send"))
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
    box = await made(account, oversight_mode=mode("gated_send"))
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
    box = await made(account, oversight_mode=mode("gated_send"))
    stranger = type(account)("foreign-" + account.name, account.running, account.commands)
    far = await made(stranger, oversight_mode=mode("gated_send"))
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
    box = await made(account, oversight_mode=mode("gated_send"))
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
    box, other = await made(account, oversight_mode=mode("gated_send")), await made(account, "open")
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


async def test_one_of_all_deciders_wins(account: Account) -> None:
    """Approve, reject, cancel and edit race for the same mails: each mail has one end, and every caller is told it."""
    box = await made(account, oversight_mode=mode("gated_send"))
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


async def test_allow_list(account: Account) -> None:
    """Mail skips the gate when every recipient, cc and bcc too, is in the list: by address, or by the very domain."""
    box = await made(account, oversight_mode=mode("gated_send"), allow_list=["Bo@person.test", "friends.test"])
    async with stubs(account) as (_, mail), stubs(account, "admin", "oversight") as (_, overseer):
        for to, more, state in (
            (["BO@person.test"], {}, "queued"),
            (["any@FRIENDS.test"], {}, "queued"),
            (["bo@person.test", "any@friends.test"], {}, "queued"),
            (["cy@person.test"], {}, "held"),
            (["any@sub.friends.test"], {}, "held"),
            (["any@notfriends.test"], {}, "held"),
            (["bo@person.test"], {"cc": ["cy@person.test"]}, "held"),
            (["bo@person.test"], {"bcc": ["cy@person.test"]}, "held"),
        ):
            assert (to, more, state) == (to, more, state_of(await sent(mail, box, *to, **more)))
        check = pb.BatchCheckSendsRequest(from_mailbox_email=box, to=["bo@person.test", "x@sub.friends.test"])
        checks = (await mail.BatchCheckSends(check)).checks
        assert [m.EMAIL_STATE_QUEUED, m.EMAIL_STATE_HELD] == [each.state for each in checks]
        cleared = await overseer.UpdateMailbox(pb.UpdateMailboxRequest(email=box, allow_list=pb.AllowList()))
        assert [] == cleared.allow_list
        assert "held" == state_of(await sent(mail, box, "bo@person.test"))
        bad = pb.UpdateMailboxRequest(email=box, allow_list=pb.AllowList(entries=["ok.test", "not a domain", "a@"]))
        assert ("allow_list[1]", "allow_list[2]") == (await refusal(overseer.UpdateMailbox(bad))).fields


async def test_first_contact(account: Account) -> None:
    """With the option the first mail to a person waits, whatever the mode; once one went out, later ones go."""
    box = await made(account, hold_first_contact=True, oversight_mode=mode("autonomous"), allow_list=["friend.test"])
    async with stubs(account) as (contacts, mail), stubs(account, "oversight") as (_, overseer):
        first, second = await sent(mail, box, "bo@person.test"), await sent(mail, box, "bo@person.test")
        assert [("held", "first_contact")] * 2 == [(state_of(each), each.hold_reason) for each in (first, second)]
        await rejected(overseer, second)
        await approved(overseer, first)
        assert "queued" == state_of(await sent(mail, box, "bo@person.test"))
        assert "held" == state_of(await sent(mail, box, "bo@person.test", cc=["cy@person.test"]))
        assert "queued" == state_of(await sent(mail, box, "new@friend.test"))
        await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="known@person.test"))
        assert "held" == state_of(await sent(mail, box, "known@person.test"))


async def test_what_loosens_needs_oversight(account: Account) -> None:
    """A key without oversight may make a mailbox stricter, but not looser, by whatever rule."""
    box = await made(
        account, oversight_mode=mode("gated_send"), hold_first_contact=True, allow_list=["a.test", "b@c.test"],
        approval_ttl=Duration(seconds=7200),
    )  # fmt: skip
    looser: tuple[dict[str, Any], ...] = (
        {"oversight_mode": mode("monitored")},
        {"oversight_mode": mode("autonomous")},
        {"hold_first_contact": False},
        {"allow_list": pb.AllowList(entries=["a.test", "b@c.test", "d.test"])},
        {"allow_list": pb.AllowList(entries=["other.test"])},
        {"approval_ttl": Duration(seconds=7201)},
    )
    stricter: tuple[dict[str, Any], ...] = (
        {"allow_list": pb.AllowList(entries=["a.test"])},
        {"approval_ttl": Duration(seconds=60)},
        {"oversight_mode": mode("gated_all")},
        {"oversight_mode": mode("read_only")},
    )
    async with stubs(account) as (_, admin), stubs(account, "admin", "oversight") as (_, both):
        before = await admin.GetMailbox(pb.GetMailboxRequest(email=box))
        for change in looser:
            refused = await refusal(admin.UpdateMailbox(pb.UpdateMailboxRequest(email=box, **change)))
            assert (change, "PERMISSION_DENIED", "SCOPE_MISSING", "oversight") == (
                change, refused.code, refused.reason, refused.metadata["scope"],
            )  # fmt: skip
        assert before == await admin.GetMailbox(pb.GetMailboxRequest(email=box))
        for change in stricter:
            await admin.UpdateMailbox(pb.UpdateMailboxRequest(email=box, **change))
        refused = await refusal(
            admin.UpdateMailbox(pb.UpdateMailboxRequest(email=box, oversight_mode=mode("gated_all")))
        )
        assert "SCOPE_MISSING" == refused.reason
        loose = await both.UpdateMailbox(pb.UpdateMailboxRequest(email=box, oversight_mode=mode("autonomous")))
        assert mode("autonomous") == loose.oversight_mode
        for rules in ({"oversight_mode": mode("autonomous")}, {"allow_list": ["a.test"]}):
            request = pb.CreateMailboxRequest(email=account.mailbox("loose"), **rules)
            assert "SCOPE_MISSING" == (await refusal(admin.CreateMailbox(request))).reason
        made_ = await both.CreateMailbox(
            pb.CreateMailboxRequest(email=account.mailbox("loose"), oversight_mode=mode("autonomous"))
        )
        assert mode("autonomous") == made_.oversight_mode


async def test_no_key_sends_and_approves(account: Account) -> None:
    """A key with send and oversight cannot be made, and neither scope alone does the other's work."""
    with pytest.raises(DomainError) as refused:
        await account.running.keys.create(account.name, "both", ("send", "oversight", "read"))
    assert "scopes" == refused.value.violations[0].field
    box = await made(account, oversight_mode=mode("gated_send"))
    async with stubs(account) as (_, mail), stubs(account, "read", "write", "admin", "oversight") as (_, overseer):
        held = await sent(mail, box, "bo@person.test")
        assert "SCOPE_MISSING" == (await refusal(overseer.SendEmail(mail_to(box, "bo@person.test")))).reason
        for call in (
            mail.ApproveEmails(pb.ApproveEmailsRequest(emails=[decision(held)])),
            mail.RejectEmails(pb.RejectEmailsRequest(emails=[decision(held)], reason="r")),
            mail.ListHeldEmails(pb.ListHeldEmailsRequest()),
            mail.ResolveEmail(pb.ResolveEmailRequest(id=held.id, resolution=pb.RESOLUTION_SENT)),
        ):
            assert "SCOPE_MISSING" == (await refusal(call)).reason
