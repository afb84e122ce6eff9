"""How accepted mail leaves: one person per transaction, every reply read right, tried again, and never twice."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from datetime import timedelta
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest
from tests.rpc.calls import all_notifications, approved, made, sent, settled, state_of, stubs, until
from tests.rpc.relays import HANG_UP, Peer, make_due, serving

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_pb2 as mail_pb
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.mail import outbox
from multimail_server.mail.mime import parse_mail
from multimail_server.mail.outbox import LEASE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from tests.conftest import Account

RELAYED = "relayed"
STEPS = ("MAIL", "RCPT", "DATA", ".")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[Peer]:
    """The relay of this file's service."""
    async with Peer().listening() as made:
        yield made


@pytest.fixture(scope="module")
async def relayed(engine_uri: str, peer: Peer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Account]:
    """A service that hands all its mail to the peer, over at most three connections."""
    url, folder = f"smtp://127.0.0.1:{peer.port}", tmp_path_factory.mktemp("relayed")
    async with serving(engine_uri, folder, RELAYED, smtp_url=url, smtp_connections=3) as account:
        yield account


@pytest.fixture
def account(relayed: Account, peer: Peer) -> Account:
    """An account nobody else uses, on the relaying service, whose peer follows no script."""
    peer.script.clear()
    peer.gate.set()
    return dataclasses.replace(relayed, name=f"{RELAYED}{next(_numbers)}")


async def put_off(account: Account, email_id: str) -> dict[str, Any]:
    """The mail's document once a try has failed and it waits for the next."""

    async def look() -> dict[str, Any] | None:
        (found,) = await account.running.database.find("emails", {"_id": email_id})
        return found if found["state"] == "queued" and found["attempts"] else None

    return await until(look)


def states_of(email: mail_pb.Email) -> dict[str, str]:
    """How each recipient stands."""
    name = mail_pb.RecipientState.Name
    return {each.address: name(each.state).removeprefix("RECIPIENT_STATE_").lower() for each in email.recipients}


async def test_one_person_per_transaction_and_bcc_is_in_no_header(account: Account, peer: Peer) -> None:
    """To, Cc and Bcc each get the same mail in a transaction of their own, and nothing in it names who is in Bcc."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        email = await sent(mail, box, "to@bcc.test", cc=["cc@bcc.test"], bcc=["secret@bcc.test"], body="x")
        done = await settled(mail, email.id)
    assert mail_pb.EMAIL_STATE_SENT == done.state
    assert dict.fromkeys(["to@bcc.test", "cc@bcc.test", "secret@bcc.test"], "accepted") == states_of(done)
    (one,), (two,), (three,) = (peer.of(f"{name}@bcc.test") for name in ("to", "cc", "secret"))
    assert [1, 1, 1] == [len(each.recipients) for each in (one, two, three)]
    assert one.data == two.data == three.data
    assert b"secret" not in three.data
    assert b"\r\nCc: cc@bcc.test\r\n" in one.data
    assert ["secret@bcc.test"] == list(done.bcc)


async def test_each_recipient_has_an_outcome(account: Account, peer: Peer) -> None:
    """Of three people one is taken, one refused and one put off; only the last is tried again, then the mail ends."""
    peer.say("RCPT no@each.test", b"550 5.1.1 no such user\r\n")
    peer.say("RCPT later@each.test", b"450 4.2.1 busy\r\n")
    async with stubs(account) as (_, mail):
        box = await made(account)
        email = await sent(mail, box, "yes@each.test", "no@each.test", "later@each.test")
        await put_off(account, email.id)
        waits = await mail.GetEmail(pb.GetEmailRequest(id=email.id))
        assert {"yes@each.test": "accepted", "no@each.test": "failed", "later@each.test": "pending"} == states_of(waits)
        assert ["250 2.0.0 taken", "550 5.1.1 no such user", "450 4.2.1 busy"] == [
            each.response for each in waits.recipients
        ]
        await make_due(account, email.id)
        done = await settled(mail, email.id)
    assert mail_pb.EMAIL_STATE_FAILED == done.state
    assert "accepted" == states_of(done)["later@each.test"]
    assert [1, 0, 1] == [len(peer.of(f"{name}@each.test")) for name in ("yes", "no", "later")]


async def test_a_backlog_is_looked_for_many_at_a_time(account: Account, peer: Peer) -> None:
    """Mail that waits for its turn is not looked for anew at each turn, and each still goes out once."""
    people = [f"p{number}@backlog.test" for number in range(80)]
    peer.gate.clear()
    async with stubs(account) as (_, mail):
        box = await made(account)
        emails = [await sent(mail, box, person) for person in people]
        begun = len(account.commands.sent)
        peer.gate.set()
        for email in emails:
            await settled(mail, email.id)
    sent_since = [command for name, command in account.commands.sent[begun:] if name == "find"]
    looks = [each for each in sent_since if each["find"] == "emails" and each["filter"].get("state") == "queued"]
    assert [1] * len(people) == [len(peer.of(person)) for person in people]
    assert len(looks) <= 12  # 5, where a look at each turn made 25


async def test_what_was_said_is_what_arrives(account: Account, peer: Peer) -> None:
    """Subject, name and text with letters of any kind, and lines of dots, arrive as they were given."""
    async with stubs(account) as (_, mail):
        box = await made(account, display_name="Bücher")
        email = await sent(mail, box, "jörg@said.test", subject="Grüße", body=".\n..\nlast")
        await settled(mail, email.id)
    read = parse_mail(peer.of("jörg@said.test")[0].data)
    assert ("Grüße", ".\n..\nlast\n", "Bücher", email.message_id) == (
        read.subject, read.text.replace("\r\n", "\n"), read.from_name, read.message_id,
    )  # fmt: skip


async def test_an_erased_person_gets_no_further_try(account: Account, peer: Peer) -> None:
    """A mail that waits for its next try is cancelled when its only recipient is erased."""
    peer.say("RCPT later@erased.test", b"451 4.2.1 try later\r\n")
    async with stubs(account) as (contacts, mail):
        email = await sent(mail, await made(account), "later@erased.test")
        await put_off(account, email.id)
        waits = await mail.GetEmail(pb.GetEmailRequest(id=email.id))
        assert ("pending", "451 4.2.1 try later") == (
            states_of(waits)["later@erased.test"],
            waits.recipients[0].response,
        )
        await contacts.DeleteContact(contact_pb.DeleteContactRequest(email="later@erased.test"))
        assert "cancelled" == state_of(await mail.GetEmail(pb.GetEmailRequest(id=email.id)))
    assert [] == peer.of("later@erased.test")


async def test_every_reply_is_read_right(account: Account, peer: Peer) -> None:
    """At every step 4xx and 421 mean another try, which delivers; 5xx means the end. Nobody gets two mails."""
    replies = (b"451 4.3.0 later", b"421 4.7.0 closing", b"554 5.7.1 no")
    cases = {f"{reply[:3].decode()}-{n}": (step, reply) for n, step in enumerate(STEPS) for reply in replies}
    async with stubs(account) as (_, mail):
        ids = {}
        for name, (step, reply) in cases.items():
            box = await made(account, f"box{name}")
            # A kept connection that says 421 is replaced at once, so the new one has to say it too.
            times = 2 if reply[:3] == b"421" and step in ("MAIL", "RCPT") else 1
            peer.say(f"{step} {box}", *[reply + b"\r\n"] * times)
            ids[name] = (await sent(mail, box, f"{name}@replies.test")).id
        for name, (_, reply) in cases.items():
            if reply[:1] == b"4":
                (recipient,) = (await put_off(account, ids[name]))["recipients"]
                assert (reply.decode(), False) == (recipient["response"], recipient["dot"]), name
            else:
                assert "failed" == states_of(await settled(mail, ids[name]))[f"{name}@replies.test"], name
        peer.script.clear()
        for name, (_, reply) in cases.items():
            if reply[:1] == b"4":
                await make_due(account, ids[name])
        for name, (_, reply) in cases.items():
            done = states_of(await settled(mail, ids[name]))[f"{name}@replies.test"]
            taken = [each for each in peer.of(f"{name}@replies.test") if each.answer[:3] == b"250"]
            assert (("accepted", 1) if reply[:1] == b"4" else ("failed", 0)) == (done, len(taken)), name


async def test_connections_are_used_again(account: Account, peer: Peer) -> None:
    """Six mails one after the other need one connection at most, each beginning on a clean one."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        before = len(peer.sessions)
        for number in range(6):
            await settled(mail, (await sent(mail, box, f"p{number}@again.test")).id)
    used = {peer.of(f"p{number}@again.test")[0].session.number for number in range(6)}
    assert 1 == len(used)
    assert len(peer.sessions) - before <= 1


async def test_421_in_the_middle_of_a_session(account: Account, peer: Peer) -> None:
    """When a kept connection is told 421 or is closed, the mail goes at once over a new one: nobody waits for it."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        for number, answer in enumerate((b"421 4.4.2 idle too long\r\n", HANG_UP)):
            await settled(mail, (await sent(mail, box, f"first{number}@mid.test")).id)
            peer.say("MAIL", answer)
            done = await settled(mail, (await sent(mail, box, f"second{number}@mid.test")).id)
            assert "accepted" == states_of(done)[f"second{number}@mid.test"]
            (first,), (second,) = peer.of(f"first{number}@mid.test"), peer.of(f"second{number}@mid.test")
            assert first.session.number != second.session.number


async def test_connections_to_one_server_are_bounded(account: Account, peer: Peer) -> None:
    """However many mails wait, the server sees no more connections at once than were allowed, and they are used."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        peer.peak = peer.open
        peer.gate.clear()
        emails = await asyncio.gather(*(sent(mail, box, f"p{number}@bound.test") for number in range(9)))

        async def all_busy() -> bool:
            return peer.waiting >= 3

        await until(all_busy)
        peer.gate.set()
        for each in emails:
            await settled(mail, each.id)
    assert 3 == peer.peak
    assert 9 == sum(len(peer.of(f"p{number}@bound.test")) for number in range(9))


async def test_every_try_has_the_same_bytes(account: Account, peer: Peer) -> None:
    """A mail that is tried again has the same bytes: Date, Message-ID and boundaries too."""
    async with stubs(account) as (_, mail):
        box = await made(account, display_name="Büro")
        peer.say(".", b"451 4.3.0 later\r\n")
        file = pb.OutgoingAttachment(filename="a.bin", content=bytes(range(256)))
        email = await sent(mail, box, "p@same.test", markdown_body="# *Hi*", attachments=[file])
        await put_off(account, email.id)
        await make_due(account, email.id)
        await settled(mail, email.id)
    first, second = peer.of("p@same.test")
    assert first.data == second.data
    read = message_from_bytes(first.data)
    assert (email.message_id, True) == (read["Message-ID"], bool(read["Date"]))


@pytest.mark.parametrize(("policy", "ends"), [("RETRY", "sent"), ("HOLD", "in_doubt")])
async def test_a_lost_answer_follows_the_policy(account: Account, peer: Peer, policy: str, ends: str) -> None:
    """When the server is silent after the content, `retry` hands over again with the same id, `hold` asks a person."""
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        box = await made(account, in_doubt_policy=mail_pb.InDoubtPolicy.Value(f"IN_DOUBT_POLICY_{policy}"))
        person = f"{ends}@doubt.test"
        peer.say(".", HANG_UP)
        email = await sent(mail, box, person)
        if policy == "RETRY":
            assert (await put_off(account, email.id))["recipients"][0]["dot"], "it may have gone out"
            await make_due(account, email.id)
        done = await settled(mail, email.id)
        assert ends == mail_pb.EmailState.Name(done.state).removeprefix("EMAIL_STATE_").lower()
        if policy == "HOLD":
            assert 1 == len(peer.of(person))
            await asyncio.sleep(1)  # a Date header of its own would show
            again = pb.ResolveEmailRequest(id=email.id, resolution=pb.RESOLUTION_SEND_AGAIN)
            await overseer.ResolveEmail(again)
            assert mail_pb.EMAIL_STATE_SENT == (await settled(mail, email.id)).state
    first, second = peer.of(person)
    assert first.data == second.data


async def test_a_lease_is_by_the_engines_clock_and_taken_over(account: Account, peer: Peer) -> None:
    """A mail that another process left is let alone while its lease lives, and delivered once when it ran out."""
    database = account.running.database
    async with stubs(account) as (_, mail):
        box = await made(account)
        peer.gate.clear()
        email = await sent(mail, box, "p@lease.test")

        async def leased() -> dict[str, Any] | None:
            (found,) = await database.find("emails", {"_id": email.id})
            return found if found["recipients"][0]["dot"] else None

        found = await until(leased)
        now = await database.now()
        assert timedelta() <= now + LEASE - found["due_at"] < timedelta(seconds=30)
        # Somebody else's now, who is never heard of again: what we know of the hand-over must not be written.
        lease = {"process": "process_gone", "token": "lease_gone"}
        far = {"$set": {"lease": lease, "recipients.0.dot": False}, "$inc": {"fence": 1}}
        assert 1 == await database.update_one("emails", {"_id": email.id, "fence": found["fence"]}, far)
        peer.gate.set()
        other = await sent(mail, box, "q@lease.test")
        await settled(mail, other.id)
        (alone,) = await database.find("emails", {"_id": email.id})
        assert ("sending", lease, found["fence"] + 1) == (alone["state"], alone["lease"], alone["fence"])
        await make_due(account, email.id)
        done = await settled(mail, email.id)
    assert "accepted" == states_of(done)["p@lease.test"]


async def test_mail_expires_after_two_days(account: Account, peer: Peer) -> None:
    """A mail that nobody takes for 48 hours is EXPIRED, says why, and is tried no more."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        peer.say("RCPT p@expire.test", *[b"450 4.2.2 mailbox full\r\n"] * 2)
        email = await sent(mail, box, "p@expire.test")
        waits = await put_off(account, email.id)
        back = {"$set": {"released_at": waits["released_at"] - timedelta(hours=48, minutes=1)}}
        await account.running.database.update_one("emails", {"_id": email.id}, back)
        await make_due(account, email.id)
        done = await settled(mail, email.id)
        shown = await all_notifications(mail)
    assert (mail_pb.EMAIL_STATE_EXPIRED, "450 4.2.2 mailbox full") == (done.state, done.recipients[0].response)
    assert [mail_pb.EMAIL_STATE_EXPIRED] == [
        each.email_state for each in shown if each.type == mail_pb.NOTIFICATION_TYPE_EMAIL_SETTLED
    ]


async def test_letters_before_the_at(account: Account, peer: Peer, engine_uri: str, tmp_path: Any) -> None:
    """An address with letters beyond ASCII goes out with SMTPUTF8; a server without it is a failure that says so."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        await settled(mail, (await sent(mail, box, "jörg@utf8.test")).id)
        (taken,) = peer.of("jörg@utf8.test")
        assert b"SMTPUTF8" in taken.options
        await settled(mail, (await sent(mail, box, "plain@utf8.test")).id)
        assert b"SMTPUTF8" not in peer.of("plain@utf8.test")[0].options
    async with Peer(utf8=False).listening() as old:
        url = f"smtp://127.0.0.1:{old.port}"
        async with serving(engine_uri, tmp_path, "old-relay", smtp_url=url) as other, stubs(other) as (_, mail):
            box = await made(other)
            done = await settled(mail, (await sent(mail, box, "jörg@utf8.test")).id)
            assert ("failed", True) == (states_of(done)["jörg@utf8.test"], "SMTPUTF8" in done.recipients[0].response)
            assert [] == old.deliveries


async def test_two_processes_share_the_queue(engine_uri: str, tmp_path: Any) -> None:
    """Two services on one database deliver all mail between them, and every mail once."""
    async with Peer().listening() as peer:
        url = f"smtp://127.0.0.1:{peer.port}"
        async with (
            serving(engine_uri, tmp_path / "a", "shared-queue", smtp_url=url) as one,
            serving(engine_uri, tmp_path / "b", "shared-queue", smtp_url=url) as two,
            stubs(one) as (_, mail),
            stubs(two) as (_, other),
        ):
            box = await made(one)
            emails = await asyncio.gather(
                *(sent((mail, other)[number % 2], box, f"p{number}@shared.test") for number in range(24))
            )
            for each in emails:
                assert mail_pb.EMAIL_STATE_SENT == (await settled(mail, each.id)).state
        assert [1] * 24 == [len(peer.of(f"p{number}@shared.test")) for number in range(24)]


async def test_mail_can_be_listed_by_how_it_stands(account: Account, peer: Peer) -> None:
    """ListEmails shows sent, failed, held and in-doubt mail, each by its state and together, newest first."""
    async with stubs(account) as (_, mail):
        box = await made(account, in_doubt_policy=mail_pb.IN_DOUBT_POLICY_HOLD)
        peer.say("RCPT failed@list.test", b"550 no\r\n")
        peer.say(". in_doubt@list.test", HANG_UP)
        ids = {}
        for state in ("sent", "failed", "in_doubt"):
            ids[state] = (await sent(mail, box, f"{state}@list.test")).id
            await settled(mail, ids[state])
        gated = mail_pb.OVERSIGHT_MODE_GATED_SEND
        ids["held"] = (await sent(mail, box, "held@list.test", oversight_mode=gated)).id
        values = {state: mail_pb.EmailState.Value(f"EMAIL_STATE_{state.upper()}") for state in ids}
        for state, identifier in ids.items():
            found = await mail.ListEmails(pb.ListEmailsRequest(states=[values[state]]))
            assert [identifier] == [each.id for each in found.emails]
        both = await mail.ListEmails(pb.ListEmailsRequest(states=[values["sent"], values["held"]]))
        assert [ids["held"], ids["sent"]] == [each.id for each in both.emails]
        everything = await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box))
        assert list(ids.values())[::-1] == [each.id for each in everything.emails]


async def test_domains_in_other_letters(engine_uri: str, tmp_path: Any) -> None:
    """A mailbox and a person whose domains have letters beyond ASCII need no SMTPUTF8: domains go as A-labels."""
    async with Peer(utf8=False).listening() as old:
        url = f"smtp://127.0.0.1:{old.port}"
        async with serving(engine_uri, tmp_path, "idn", smtp_url=url) as account, stubs(account) as (_, mail):
            async with stubs(account, "admin") as (_, admin):
                box = (await admin.CreateMailbox(pb.CreateMailboxRequest(email="info@bücher.test"))).email
            done = await settled(mail, (await sent(mail, box, "bo@straße.test")).id)
            assert "sent" == state_of(done), done.recipients
            (taken,) = old.deliveries
            assert ("xn--bcher-kva.test", "bo@xn--strae-oqa.test") == (
                taken.sender.rpartition("@")[2], taken.recipients[0],
            )  # fmt: skip


async def test_nothing_comes_between_an_answer_and_its_record(account: Account, peer: Peer) -> None:
    """After the server's answer nothing more is said on the connection before the outcome is on disk."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        await settled(mail, (await sent(mail, box, "one@record.test")).id)
        (taken,) = peer.of("one@record.test")
        assert b"DATA" == taken.session.commands[-1]
        await settled(mail, (await sent(mail, box, "two@record.test")).id)
        assert b"RSET" in taken.session.commands[taken.session.commands.index(b"DATA") :]


async def test_what_nobody_foresaw_is_tried_again(
    account: Account, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in our own code ends neither the outbox nor the mail: it waits like any other for its next try."""

    def broken(outgoing: Any) -> bytes:
        if "odd@fault.test" in outgoing.to:
            raise ZeroDivisionError
        return compose(outgoing)

    compose = outbox.compose
    async with stubs(account) as (_, mail):
        box = await made(account)
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "compose", broken)
            odd = await sent(mail, box, "odd@fault.test")
            waiting = await put_off(account, odd.id)
            assert (None, "queued", 1) == (waiting["lease"], waiting["state"], waiting["attempts"])
            assert waiting["due_at"] > await account.running.database.now()
            assert "sent" == state_of(await settled(mail, (await sent(mail, box, "even@fault.test")).id))
        await make_due(account, odd.id)
        assert "sent" == state_of(await settled(mail, odd.id))


async def test_a_mail_that_comes_back_after_its_cancellation_was_never_sent(account: Account, peer: Peer) -> None:
    """Cancelled while the server thinks, and then put off by it: the mail ends, and nobody counts as written to."""
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        peer.gate.clear()
        peer.say(". back@cancel.test", b"451 later\r\n")
        email = await sent(mail, box, "back@cancel.test", "other@cancel.test")

        async def handed_over() -> bool:
            return peer.waiting > 0

        await until(handed_over)
        await mail.CancelEmail(pb.CancelEmailRequest(id=email.id))
        peer.gate.set()
        done = await settled(mail, email.id)
        assert {"back@cancel.test": "cancelled", "other@cancel.test": "cancelled"} == states_of(done)
        for person in ("back@cancel.test", "other@cancel.test"):
            found = await contacts.GetContact(contact_pb.GetContactRequest(email=person))
            assert not found.HasField("last_contacted"), person
        thread = (await mail.GetThread(pb.GetThreadRequest(id=email.thread_id))).thread
        assert not thread.HasField("awaiting_reply_since")


@pytest.mark.parametrize(
    "change",
    [{"body.text": "another"}, {"headers.subject": "another"}, {"recipients.0.address": "else@away.test"}],
    ids=["body", "subject", "recipient"],
)
async def test_what_was_not_approved_does_not_leave(account: Account, peer: Peer, change: dict[str, Any]) -> None:
    """A mail changed in the database after its approval is FAILED at the last step, and nobody gets it."""
    box = await made(account, oversight_mode=mail_pb.OVERSIGHT_MODE_GATED_SEND)
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        person = f"{'-'.join(change)}@away.test"
        peer.say(f"RCPT {person}", b"451 later\r\n")
        held = await sent(mail, box, person)
        await approved(overseer, held)
        await put_off(account, held.id)
        await account.running.database.update_one("emails", {"_id": held.id}, {"$set": change})
        await make_due(account, held.id)
        done = await settled(mail, held.id)
        assert ("failed", True) == (state_of(done), "approved" in done.recipients[0].response)
        assert [] == peer.of(person) + peer.of("else@away.test")
