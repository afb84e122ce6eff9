"""People between agents and strangers: modes, allow-lists, first contact, scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.rpc.calls import (
    all_notifications,
    approved,
    at,
    decision,
    made,
    mail_to,
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
        asked = await sent(mail, box, "bo@person.test", oversight_mode=mode("gated_send"))
        assert "held" == state_of(asked), "a gate the sender asks for is its own"
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
        told = at(days=-1)
        await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="told@person.test", last_contacted=told))
        assert "held" == state_of(await sent(mail, box, "told@person.test")), "the agent's own word lifts no gate"


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


async def test_deleting_what_people_watch_needs_oversight(account: Account) -> None:
    """A mailbox that holds mail for people, or may not send, is deleted with oversight only: it frees the address."""
    for number, (rules, watched) in enumerate(
        (
            ({"oversight_mode": mode("gated_all")}, True),
            ({"oversight_mode": mode("read_only")}, True),
            ({"hold_first_contact": True}, True),
            ({"oversight_mode": mode("monitored")}, False),
        )
    ):
        box = await made(account, f"box{number}", **rules)
        async with stubs(account, "admin") as (_, admin), stubs(account, "admin", "oversight") as (_, overseer):
            request = pb.DeleteMailboxRequest(email=box)
            if watched:
                refused = await refusal(admin.DeleteMailbox(request))
                assert ("SCOPE_MISSING", "oversight") == (refused.reason, refused.metadata["scope"])
            await (overseer if watched else admin).DeleteMailbox(request)


async def test_a_send_that_the_mode_forbids_is_in_the_history(account: Account) -> None:
    """An attempt to send from a read-only mailbox is refused, and an overseer sees that it was made."""
    box = await made(account, oversight_mode=mode("read_only"))
    async with stubs(account) as (_, mail):
        refused = await refusal(mail.SendEmail(mail_to(box, "bo@person.test")))
        assert ("MODE_FORBIDS", "read_only") == (refused.reason, refused.metadata["oversight_mode"])
        (note,) = [n for n in await all_notifications(mail) if n.type == m.NOTIFICATION_TYPE_SEND_REFUSED]
        assert "mode" == note.rule
