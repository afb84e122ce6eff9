"""What is reported about mail that left: events, delivery reports and automatic answers, and what they do not move."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.rpc.calls import all_notifications, at, delivered, made, refusal, stubs
from tests.rpc.relays import Peer, arrive, letter, serving

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_pb2 as mail_pb
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from tests.conftest import Account

DELIVERED, BOUNCED, COMPLAINED, OPENED = (
    mail_pb.DeliveryEventType.Value(f"DELIVERY_EVENT_TYPE_{name}")
    for name in ("DELIVERED", "BOUNCED", "COMPLAINED", "OPENED")
)


def ago(minutes: float) -> Timestamp:
    """A time so many minutes ago, to the millisecond."""
    made = Timestamp()
    made.FromMilliseconds(int((datetime.now(UTC) - timedelta(minutes=minutes)).timestamp() * 1000))
    return made


async def get(mail: Any, email_id: str) -> mail_pb.Email:
    """The mail as it is."""
    return await mail.GetEmail(pb.GetEmailRequest(id=email_id))


async def report(mail: Any, email: mail_pb.Email, kind: int, **more: Any) -> pb.IngestEventResponse:
    """Reports something about a mail."""
    return await mail.IngestEvent(pb.IngestEventRequest(email_id=email.id, type=kind, **more))


def state_of(email: mail_pb.Email, index: int = 0) -> str:
    """How a recipient stands."""
    return mail_pb.RecipientState.Name(email.recipients[index].state).removeprefix("RECIPIENT_STATE_").lower()


async def suppressed(mail: Any, address: str) -> str:
    """Why an address is suppressed; empty when it is not."""
    found = (await mail.ListSuppressions(pb.ListSuppressionsRequest(address=address))).suppressions
    return mail_pb.SuppressionReason.Name(found[0].reason).removeprefix("SUPPRESSION_REASON_").lower() if found else ""


async def test_an_event_moves_its_recipient_and_nothing_else(account: Account) -> None:
    """Delivered and opened show at their recipient, in the timeline and the notifications, not in the log's count."""
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        email = await delivered(mail, box, "a@moves.test", "b@moves.test")
        before = await contacts.GetContact(contact_pb.GetContactRequest(email="b@moves.test"))
        opened, arrived = ago(1), ago(2)
        await report(mail, email, OPENED, address="B@moves.test", time=opened)
        answer = await report(mail, email, DELIVERED, address="b@moves.test", time=arrived, detail="250 ok")
        found = await get(mail, email.id)
        assert (False, found.recipients) == (answer.duplicate, answer.email.recipients)
        assert ("accepted", "delivered", opened) == (state_of(found), state_of(found, 1), found.recipients[1].open_time)
        assert [(DELIVERED, "b@moves.test", arrived, "250 ok"), (OPENED, "b@moves.test", opened, "")] == [
            (each.type, each.address, each.time, each.detail) for each in found.events
        ]
        assert before == await contacts.GetContact(contact_pb.GetContactRequest(email="b@moves.test"))
        shown = [each for each in await all_notifications(mail) if each.type == mail_pb.NOTIFICATION_TYPE_EMAIL_EVENT]
        assert [(OPENED, email.id, before.id), (DELIVERED, email.id, before.id)] == [
            (each.event, each.email_id, each.contact_id) for each in shown
        ]
        assert "" == await suppressed(mail, "b@moves.test")


async def test_any_order_and_any_number_converge(account: Account) -> None:
    """The same four reports in every order, some twice and all at once, leave one and the same mail."""
    kinds = ((DELIVERED, False), (BOUNCED, False), (OPENED, False), (COMPLAINED, False))
    times = {kind: ago(10 - number) for number, (kind, _) in enumerate(kinds)}
    async with stubs(account) as (_, mail):
        box = await made(account)
        orders = list(itertools.permutations(kinds))[::3]
        emails = [await delivered(mail, box, f"p{number}@order.test") for number in range(len(orders))]
        for email, order in zip(emails, orders, strict=True):
            for kind, good in [*order, order[0]]:
                await report(mail, email, kind, time=times[kind], permanent=good)
        at_once = await delivered(mail, box, "all@order.test")
        answers = await asyncio.gather(
            *(report(mail, at_once, kind, time=times[kind], permanent=good) for kind, good in kinds * 5)
        )
        assert 4 == sum(not answer.duplicate for answer in answers)
        ends = set()
        for email in (*emails, at_once):
            found = await get(mail, email.id)
            events = [(each.type, each.time.ToMilliseconds()) for each in found.events]
            ends.add((state_of(found), found.recipients[0].open_time.ToMilliseconds(), tuple(events)))
    assert [("complained", times[OPENED].ToMilliseconds())] == [end[:2] for end in ends]


async def test_a_repeated_report_says_so(account: Account) -> None:
    """A report that comes again changes nothing, tells no one, and says that it is a duplicate."""
    async with stubs(account) as (_, mail):
        email = await delivered(mail, await made(account), "p@again.test")
        for request_id in ("", "", "one", "one"):
            answer = await report(mail, email, DELIVERED, request_id=request_id)
        assert answer.duplicate
        refused = await refusal(report(mail, email, OPENED, request_id="one"))
        assert ("INVALID_ARGUMENT", "REQUEST_ID_REUSED") == (refused.code, refused.reason)
        shown = [each.type for each in await all_notifications(mail)]
        assert 1 == shown.count(mail_pb.NOTIFICATION_TYPE_EMAIL_EVENT)
        assert 1 == len((await get(mail, email.id)).events)


async def test_mail_is_found_by_its_message_id(account: Account) -> None:
    """A Message-ID names the mail with or without angle brackets; the mail that answers it is another."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        email = await delivered(mail, box, "p@mid.test")
        answer = letter("p@mid.test", box, Message_ID="<answer@mid.test>", In_Reply_To=email.message_id)
        await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=answer.as_bytes()))
        for message_id in (email.message_id, f" {email.message_id.strip('<>')} "):
            found = await mail.IngestEvent(pb.IngestEventRequest(message_id=message_id, type=DELIVERED))
            assert email.id == found.email.id


async def test_reports_about_what_is_not_ours_are_refused(account: Account, client: Any) -> None:
    """Unknown mail, another's and mail that arrived are NOT_FOUND in the same words; bad fields are named."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        email = await delivered(mail, box, "a@ours.test", "b@ours.test")
        arrived = await mail.IngestEmail(
            pb.IngestEmailRequest(mailbox_email=box, raw=letter("x@y.test", box, Message_ID="<in@y.test>").as_bytes())
        )
        other = type(account)(f"{account.name}other", account.running, account.commands)
        async with stubs(other) as (_, theirs):
            foreign = await delivered(theirs, await made(other), "p@theirs.test")
            words = set()
            for named in (
                {"email_id": "email_00000000000000000000000000"}, {"email_id": foreign.id},
                {"email_id": arrived.email.id},
                {"message_id": foreign.message_id}, {"message_id": "<in@y.test>"}, {"message_id": "<unknown@y.test>"},
            ):  # fmt: skip
                refused = await refusal(mail.IngestEvent(pb.IngestEventRequest(type=BOUNCED, permanent=True, **named)))
                words.add((refused.code, refused.reason, refused.message))
            assert 1 == len(words), words
            assert ("NOT_FOUND", "EMAIL_NOT_FOUND") == words.pop()[:2]
            assert [] == list((await get(theirs, foreign.id)).events)
        future = at(days=2)
        for fields, more in (
            ("address", {}), ("address", {"address": "c@ours.test"}), ("address", {"address": "no address"}),
            ("time", {"address": "a@ours.test", "time": future}),
        ):  # fmt: skip
            refused = await refusal(report(mail, email, DELIVERED, **more))
            assert ("INVALID_ARGUMENT", (fields,)) == (refused.code, refused.fields)
        assert ("type",) == (await refusal(report(mail, email, 0, address="a@ours.test"))).fields
        assert [] == list((await get(mail, email.id)).events)


@pytest.mark.parametrize(
    ("kind", "permanent", "reason"),
    [(BOUNCED, True, "bounced"), (COMPLAINED, False, "complained"), (BOUNCED, False, ""), (OPENED, True, "")],
)
async def test_what_suppresses(account: Account, kind: int, reason: str, *, permanent: bool) -> None:
    """A bounce for good and a complaint suppress the address, in whatever mailbox; the rest does not."""
    async with stubs(account) as (_, mail):
        email = await delivered(mail, await made(account), "p@hard.test")
        other = await made(account, "other")
        await report(mail, email, kind, permanent=permanent, detail="550 no")
        assert reason == await suppressed(mail, "P@hard.test")
        again = mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=other, to=["p@hard.test"]))
        if not reason:
            await again
            return
        refused = await refusal(again)
        assert ("FAILED_PRECONDITION", "SUPPRESSED", reason) == (
            refused.code, refused.reason, refused.metadata["suppression"],
        )  # fmt: skip
        shown = await all_notifications(mail)
        assert [email.id] == [
            each.email_id for each in shown if each.type == mail_pb.NOTIFICATION_TYPE_SUPPRESSION_ADDED
        ]


async def test_the_gravest_reason_stays(account: Account) -> None:
    """A complaint outweighs a bounce whichever was reported first."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        for number, kinds in enumerate(((BOUNCED, COMPLAINED), (COMPLAINED, BOUNCED))):
            email = await delivered(mail, box, f"p{number}@grave.test")
            for kind in kinds:
                await report(mail, email, kind, permanent=True)
            assert "complained" == await suppressed(mail, f"p{number}@grave.test")


def delivery_report(status: str, action: str, person: str, message_id: str = "") -> bytes:
    """A delivery report (RFC 3464), with the head of the mail it is about where a Message-ID is given."""
    head = f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: s\r\nMessage-ID: {message_id}\r\n\r\n"
    return (
        "From: Mail Delivery System <MAILER-DAEMON@out.test>\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n"
        f"Message-ID: <{status}-{action}@out.test>\r\n"
        'Content-Type: multipart/report; report-type="delivery-status"; boundary=b\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nI'm sorry\r\n\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; out.test\r\n\r\n"
        f"Final-Recipient: rfc822; {person}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {status} said so\r\n\r\n{head if message_id else ''}--b--\r\n"
    ).encode()


async def unanswered(contacts: Any, mail: Any, email: mail_pb.Email, person: str) -> bool:
    """Whether nobody counts as having answered the mail: in its thread, at itself, in the log and at the contact."""
    thread = (await mail.GetThread(pb.GetThreadRequest(id=email.thread_id))).thread
    log = await contacts.ListInteractions(contact_pb.ListInteractionsRequest(email=person))
    contact = await contacts.GetContact(contact_pb.GetContactRequest(email=person))
    marks = {
        thread.awaiting_reply_since == email.time,
        not thread.HasField("unanswered_since"),
        not (await get(mail, email.id)).HasField("replied_at"),
        not any(each.HasField("replied_at") for each in log.interactions),
        not contact.HasField("last_inbound"),
    }
    assert 1 == len(marks), marks
    return marks.pop()


@pytest.mark.parametrize(
    ("status", "action", "state", "reason"),
    [
        ("5.1.1", "failed", "bounced", "bounced"), ("4.4.1", "delayed", "accepted", ""),
        ("2.0.0", "delivered", "delivered", ""),
    ],
)  # fmt: skip
async def test_a_delivery_report_by_message_id(
    account: Account, status: str, action: str, state: str, reason: str
) -> None:
    """A report that names our Message-ID moves the recipient it names, once, and is nobody's answer."""
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        email = await delivered(mail, box, "p@dsn.test", "q@dsn.test")
        raw = delivery_report(status, action, "P@dsn.test", email.message_id)
        for _ in range(2):
            await arrive(account, box, raw, sender="")
        found = await get(mail, email.id)
        assert (state, "accepted", 1) == (state_of(found), state_of(found, 1), len(found.events))
        assert (reason, "") == (await suppressed(mail, "p@dsn.test"), await suppressed(mail, "q@dsn.test"))
        (kept,) = (await mail.ListEmails(pb.ListEmailsRequest(direction=mail_pb.DIRECTION_INBOUND))).emails
        assert (mail_pb.EMAIL_KIND_DELIVERY_STATUS, email.thread_id, True) == (
            kept.kind, kept.thread_id, kept.untrusted,
        )  # fmt: skip
        assert await unanswered(contacts, mail, email, "p@dsn.test")


async def test_a_report_from_behind_a_forwarding(account: Account) -> None:
    """A report that names where the mail was forwarded, and whom it was written to, moves whom it was written to."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        email = await delivered(mail, box, "p@forward.test", "q@forward.test")
        written_to = b"Original-Recipient: rfc822; q@forward.test\r\nFinal-Recipient: rfc822; "
        raw = delivery_report("5.1.1", "failed", "home@elsewhere.test", email.message_id)
        await arrive(account, box, raw.replace(b"Final-Recipient: rfc822; ", written_to), sender="")
        found = await get(mail, email.id)
        assert ("accepted", "bounced") == (state_of(found), state_of(found, 1))
        assert ("bounced", "") == (
            await suppressed(mail, "q@forward.test"),
            await suppressed(mail, "home@elsewhere.test"),
        )


async def test_a_report_about_anothers_mail_moves_nothing(account: Account) -> None:
    """A report that names another account's Message-ID, or a person who is no recipient, changes nothing there."""
    other = type(account)(f"{account.name}other", account.running, account.commands)
    async with stubs(account) as (_, mail), stubs(other) as (_, theirs):
        foreign = await delivered(theirs, await made(other), "p@theirs.test")
        box = await made(account)
        email = await delivered(mail, box, "p@mine.test")
        for message_id, person in ((foreign.message_id, "p@theirs.test"), (email.message_id, "stranger@mine.test")):
            await arrive(account, box, delivery_report("5.1.1", "failed", person, message_id), sender="")
        assert ([], []) == (
            list((await get(theirs, foreign.id)).events), list((await get(mail, email.id)).events),
        )  # fmt: skip
        assert [] == list((await mail.ListSuppressions(pb.ListSuppressionsRequest())).suppressions)


AUTOMATIC = ("Auto-Submitted: auto-replied", "Precedence: bulk", "X-Autoreply: yes", "X-Auto-Response-Suppress: All")


@pytest.mark.parametrize("header", AUTOMATIC)
async def test_an_automatic_answer_is_no_answer(account: Account, header: str) -> None:
    """An absence note joins the thread and the log, but we still wait for an answer, until a person gives one."""
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        email = await delivered(mail, box, "p@away.test")
        name, _, value = header.partition(": ")
        away = letter("p@away.test", box, "Away", **{name: value, "In-Reply-To": email.message_id})
        await arrive(account, box, away)
        (kept,) = (await mail.ListEmails(pb.ListEmailsRequest(direction=mail_pb.DIRECTION_INBOUND))).emails
        assert (mail_pb.EMAIL_KIND_AUTO_REPLY, email.thread_id, True) == (kept.kind, kept.thread_id, kept.untrusted)
        assert await unanswered(contacts, mail, email, "p@away.test")
        await arrive(account, box, letter("p@away.test", box, "Re: s", In_Reply_To=email.message_id))
        assert not await unanswered(contacts, mail, email, "p@away.test")


@pytest.fixture(scope="module")
async def fronted(engine_uri: str, tmp_path_factory: Any) -> AsyncIterator[tuple[Account, Peer]]:
    """A service behind a mail server it trusts, with sealed return paths, and the peer its mail goes to."""
    async with Peer().listening() as peer:
        more = {"smtp_url": f"smtp://127.0.0.1:{peer.port}", "verp": True, "authserv_ids": "mx.front.test, other.test"}
        async with serving(engine_uri, tmp_path_factory.mktemp("fronted"), "fronted", **more) as account:
            yield account, peer


async def test_a_delivery_report_by_return_path(fronted: tuple[Account, Peer]) -> None:
    """A report to a mail's own return path finds mail and recipient though it names neither as we know them."""
    account, peer = fronted
    async with stubs(account) as (_, mail):
        box = await made(account, "verp")
        email = await delivered(mail, box, "p@verp.test", cc=["q@verp.test"])
        paths = {each: peer.of(each)[0].sender for each in ("p@verp.test", "q@verp.test")}
        assert 3 == len({*paths.values(), box})
        await arrive(account, paths["q@verp.test"], delivery_report("5.1.1", "failed", "forwarded@else.test"), "")
        found = await get(mail, email.id)
        assert ("accepted", "bounced") == (state_of(found), state_of(found, 1))
        assert ("", "bounced") == (await suppressed(mail, "p@verp.test"), await suppressed(mail, "q@verp.test"))


async def test_what_comes_to_a_return_path_is_no_answer(fronted: tuple[Account, Peer]) -> None:
    """Automatic answers without any mark go to the return path, where no person writes: they are told by that."""
    account, peer = fronted
    async with stubs(account) as (contacts, mail):
        box = await made(account, "path")
        email = await delivered(mail, box, "p@path.test")
        (taken,) = peer.of("p@path.test")
        await arrive(account, taken.sender, letter("p@path.test", box, "away", In_Reply_To=email.message_id), "")
        (kept,) = (await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box, unread=True))).emails
        assert mail_pb.EMAIL_KIND_AUTO_REPLY == kept.kind
        assert await unanswered(contacts, mail, email, "p@path.test")


async def test_unsubscribing_is_no_answer(fronted: tuple[Account, Peer]) -> None:
    """Mail to the address in List-Unsubscribe suppresses its recipient, and we still wait for an answer."""
    account, peer = fronted
    async with stubs(account) as (contacts, mail):
        box = await made(account, "list")
        email = await delivered(mail, box, "p@list.test", list_unsubscribe=True)
        header = message_from_bytes(peer.of("p@list.test")[0].data)["List-Unsubscribe"]
        address = header.removeprefix("<mailto:").removesuffix(">")
        await arrive(account, address, letter("p@list.test", box, "unsubscribe", In_Reply_To=email.message_id))
        assert "unsubscribed" == await suppressed(mail, "p@list.test")
        assert await unanswered(contacts, mail, email, "p@list.test")


FORGED = "mx.front.test; spf=pass; dkim=pass; dmarc=pass"
TRUSTED = "mx.front.test; spf=softfail; dkim=none; dmarc=fail (p=none)"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([TRUSTED], ("mx.front.test", "softfail", "none", "fail")),
        ([TRUSTED, FORGED], ("mx.front.test", "softfail", "none", "fail")),
        (["mx.evil.test; dmarc=pass", TRUSTED], ("mx.front.test", "softfail", "none", "fail")),
        (["Other.Test; spf=pass"], ("other.test", "pass", "", "")),
        (["mx.evil.test; spf=pass; dkim=pass; dmarc=pass"], ("", "", "", "")),
        (["mx.front.test.evil.test; spf=pass"], ("", "", "", "")),
        (["(mx.front.test) mx.evil.test; dkim=pass"], ("", "", "", "")),
        ([], ("", "", "", "")),
    ],
)
async def test_only_servers_we_trust_are_believed(
    fronted: tuple[Account, Peer], headers: list[str], expected: tuple[str, ...]
) -> None:
    """SPF, DKIM and DMARC are what our own front server wrote on top; what the sender or others wrote is not."""
    account, _ = fronted
    async with stubs(account) as (_, mail):
        box = (await mail.ListMailboxes(pb.ListMailboxesRequest())).mailboxes
        address = box[0].email if box else await made(account)
        raw = "".join(f"Authentication-Results: {each}\r\n" for each in headers) + "From: a@b.test\r\n\r\nhi"
        request = pb.IngestEmailRequest(mailbox_email=address, raw=raw.encode())
        found = (await mail.IngestEmail(request)).email.authentication
        assert expected == (found.authserv_id, found.spf, found.dkim, found.dmarc)


async def test_without_trusted_servers_nobody_is_believed(account: Account) -> None:
    """A service that was told of no front server keeps no results, whoever claims them."""
    async with stubs(account) as (_, mail):
        raw = f"Authentication-Results: {FORGED}\r\nFrom: a@b.test\r\n\r\nhi".encode()
        request = pb.IngestEmailRequest(mailbox_email=await made(account), raw=raw)
        assert not (await mail.IngestEmail(request)).email.HasField("authentication")


async def test_a_report_about_everybody(account: Account) -> None:
    """One delivery report about twenty recipients moves them all, and suppresses them all."""
    people = [f"p{number:02}@all.test" for number in range(20)]
    async with stubs(account) as (_, mail):
        box = await made(account)
        email = await delivered(mail, box, *people)
        raw = delivery_report("5.1.1", "failed", people[0], email.message_id)
        first = next(part for part in raw.split(b"\r\n\r\n") if part.startswith(b"Final-Recipient"))
        fields = first.partition(b"\r\n--b")[0]
        rows = [fields.replace(people[0].encode(), each.encode()) for each in people]
        await arrive(account, box, raw.replace(fields, b"\r\n\r\n".join(rows)), sender="")
        found = await get(mail, email.id)
        assert ["bounced"] * 20 == [state_of(found, index) for index in range(20)]
        suppressions = (await mail.ListSuppressions(pb.ListSuppressionsRequest())).suppressions
        assert people == sorted(each.address for each in suppressions)
