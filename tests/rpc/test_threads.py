"""Conversations: who takes part, who waits for whom and since when, and finding who has not answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pymongo import MongoClient
from tests.rpc.calls import delivered, made, refusal, stubs, until
from tests.rpc.relays import arrive, letter
from ulid import ULID

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_pb2 as mail_pb
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.mail import thread as rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from tests.conftest import Account

THREADS = 4_000
DAYS = 100
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def stamp(moment: datetime) -> Timestamp:
    """A moment as a message."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


async def box_of(mail: Any, account: Account, name: str = "box", **more: Any) -> mail_pb.Mailbox:
    """A new mailbox."""
    return await mail.CreateMailbox(pb.CreateMailboxRequest(email=account.mailbox(name), **more))


async def send(mail: Any, box: str, *to: str, **more: Any) -> mail_pb.Email:
    """Sends a mail."""
    return (await mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=to, subject="Offer", **more))).email


async def take_in(mail: Any, box: str, author: str, answers: str = "", **headers: str) -> mail_pb.Email:
    """A mail from outside arrives."""
    more = {"In-Reply-To": answers} if answers else {}
    raw = letter(author, box, "Re: Offer", f"{ULID()}", **more, **headers).as_bytes()
    return (await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))).email


async def thread_of(mail: Any, email: mail_pb.Email) -> mail_pb.Thread:
    """The thread of a mail as it is."""
    return (await mail.GetThread(pb.GetThreadRequest(id=email.thread_id))).thread


def waits(thread: mail_pb.Thread) -> tuple[Timestamp | None, Timestamp | None]:
    """Since when we wait, and since when somebody waits for us."""
    ours = thread.awaiting_reply_since if thread.HasField("awaiting_reply_since") else None
    return ours, thread.unanswered_since if thread.HasField("unanswered_since") else None


async def test_a_conversation_from_both_sides(account: Account) -> None:
    """Each mail in turn moves counts, participants, last activity, and who waits since the oldest mail unanswered."""
    async with stubs(account) as (contacts, mail):
        box = await box_of(mail, account)
        first = await send(mail, box.email, "a@talk.test")
        second = (await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=first.id, body="and"))).email
        thread = await thread_of(mail, first)
        contact = await contacts.GetContact(contact_pb.GetContactRequest(email="a@talk.test"))
        assert ((first.time, None), 2, 2, 0) == (
            waits(thread), thread.email_count, thread.outbound_count, thread.inbound_count,
        )  # fmt: skip
        assert ("Offer", [contact.id], [box.id], second.id, second.time, first.time, mail_pb.DIRECTION_OUTBOUND) == (
            thread.subject, list(thread.contact_ids), list(thread.mailbox_ids), thread.latest_email_id,
            thread.update_time, thread.create_time, thread.latest_direction,
        )  # fmt: skip
        heard = await take_in(mail, box.email, "a@talk.test", second.message_id)
        again = await take_in(mail, box.email, "a@talk.test", heard.message_id or second.message_id)
        thread = await thread_of(mail, first)
        assert ((None, heard.time), 4, 2, 2) == (
            waits(thread), thread.email_count, thread.outbound_count, thread.inbound_count,
        )  # fmt: skip
        assert (again.id, again.time, mail_pb.DIRECTION_INBOUND) == (
            thread.latest_email_id, thread.update_time, thread.latest_direction,
        )  # fmt: skip
        third = (await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=again.id, body="thanks"))).email
        fourth = (await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=again.id, body="PS"))).email
        thread = await thread_of(mail, first)
        assert ((third.time, None), fourth.id, 6) == (waits(thread), thread.latest_email_id, thread.email_count)
        listed = (await mail.ListThreads(pb.ListThreadsRequest(contact_email="A@talk.test"))).threads
        assert [thread] == list(listed)


async def test_everybody_who_takes_part_is_named(account: Account) -> None:
    """To, Cc, Bcc and who writes from outside take part, each once, and a second mailbox stands beside the first."""
    async with stubs(account) as (contacts, mail):
        box, other = await box_of(mail, account), await box_of(mail, account, "other")
        await contacts.UpsertContact(contact_pb.UpsertContactRequest(email="d@part.test"))
        email = await send(mail, box.email, "a@part.test", cc=["b@part.test"], bcc=["c@part.test"])
        await take_in(mail, other.email, "d@part.test", email.message_id)
        await take_in(mail, box.email, "a@part.test", email.message_id)
        thread = await thread_of(mail, email)
        people = [
            (await contacts.GetContact(contact_pb.GetContactRequest(email=f"{name}@part.test"))).id for name in "abcd"
        ]
        assert (people, [box.id, other.id]) == (list(thread.contact_ids), list(thread.mailbox_ids))
        for condition in ({"mailbox_id": other.id}, {"mailbox_email": box.email}, {"contact_email": "c@part.test"}):
            found = (await mail.ListThreads(pb.ListThreadsRequest(**condition))).threads
            assert [thread.id] == [each.id for each in found]


async def test_mail_that_waits_is_counted_but_asks_nobody(account: Account) -> None:
    """A held mail is in its thread and its count, but we wait for an answer only from when it may go."""
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        box = await box_of(mail, account, oversight_mode=mail_pb.OVERSIGHT_MODE_GATED_SEND)
        held = await send(mail, box.email, "a@held.test")
        thread = await thread_of(mail, held)
        assert ((None, None), 1) == (waits(thread), thread.outbound_count)
        decision = pb.EmailDecision(email_id=held.id, content_sha256=held.content_sha256)
        await overseer.ApproveEmails(pb.ApproveEmailsRequest(emails=[decision]))
        since, _ = waits(await thread_of(mail, held))
        assert since is not None
        assert since.ToNanoseconds() >= held.time.ToNanoseconds()


async def test_who_waits_is_listed(account: Account) -> None:
    """`unanswered` lists threads in which somebody waits for us, `awaiting_reply_before` those in which we wait."""
    async with stubs(account) as (_, mail):
        box = (await box_of(mail, account)).email
        ours = await send(mail, box, "ours@list.test")
        theirs = await take_in(mail, box, "theirs@list.test")
        answered = await send(mail, box, "done@list.test")
        answer = await take_in(mail, box, "done@list.test", answered.message_id)
        await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=answer.id, body="x"))
        away = {"Auto-Submitted": "auto-replied"}
        silent = await send(mail, box, "silent@list.test")
        await take_in(mail, box, "silent@list.test", silent.message_id, **away)
        soon = stamp(datetime.now(UTC) + timedelta(minutes=1))
        for request, expected in (
            (pb.ListThreadsRequest(unanswered=True), [theirs]),
            (pb.ListThreadsRequest(awaiting_reply_before=soon), [ours, answered, silent]),
            (pb.ListThreadsRequest(awaiting_reply_before=ours.time), []),
            (pb.ListThreadsRequest(awaiting_reply_before=soon, contact_email="silent@list.test"), [silent]),
            (pb.ListThreadsRequest(awaiting_reply_before=soon, unanswered=True), []),
        ):
            found = (await mail.ListThreads(request)).threads
            assert sorted(each.thread_id for each in expected) == [each.id for each in found]


async def test_another_accounts_thread_is_not_there(account: Account) -> None:
    """A thread of another account is NOT_FOUND, in the words of one that never was, and is in no list."""
    other = type(account)(f"{account.name}other", account.running, account.commands)
    async with stubs(account) as (_, mail), stubs(other) as (_, theirs):
        foreign = await send(theirs, (await box_of(theirs, other)).email, "a@theirs.test")
        words = {
            (refused.code, refused.reason, refused.message)
            for identifier in (foreign.thread_id, "thread_00000000000000000000000000")
            if (refused := await refusal(mail.GetThread(pb.GetThreadRequest(id=identifier))))
        }
        assert [("NOT_FOUND", "THREAD_NOT_FOUND")] == [each[:2] for each in words]
        assert [] == list((await mail.ListThreads(pb.ListThreadsRequest())).threads)


@pytest.fixture(scope="module")
async def crowd(service: Any) -> AsyncIterator[tuple[Any, Account]]:
    """An account with thousands of threads: in a tenth we wait, since 0 to 99 days; in a tenth we are waited for."""
    from tests.conftest import Account

    running, commands = service
    account = Account("threads", running, commands)
    documents = []
    for number in range(THREADS):
        at = NOW - timedelta(days=number // 10 % DAYS)
        email = {
            "direction": "outbound",
            "people": [f"contact_{number}"],
            "mailbox": "mbx_1",
            "at": at,
            "_id": f"e{number}",
        }
        thread = rules.with_email(rules.new(f"thread_{ULID()}", "threads", f"n{number}"), email)
        if number % 10 == 0:
            thread = rules.with_sent(thread, email["_id"], at)
        if number % 10 == 1:
            thread = rules.with_heard(thread, email["_id"], "contact_x", at)
        documents.append(thread)
    for start in range(0, THREADS, 1_000):
        await running.database.insert_many("threads", documents[start : start + 1_000])
    async with stubs(account, "read") as (_, mail):
        yield mail, account


def examined(account: Account, pipeline: list[dict[str, Any]]) -> int:
    """How many documents the engine says it examines for a pipeline over threads."""
    with MongoClient(account.running.mongodb_uri) as mongo:
        plan = mongo["multimail"].command(
            "explain", {"aggregate": "threads", "pipeline": pipeline, "cursor": {}}, verbosity="executionStats"
        )
    return int(plan["executionStats"]["totalDocsExamined"])


@pytest.mark.parametrize(
    ("request_of", "matches"),
    [
        (pb.ListThreadsRequest(awaiting_reply_before=stamp(NOW - timedelta(days=95))), 4 * 4),
        (pb.ListThreadsRequest(awaiting_reply_before=stamp(NOW + timedelta(days=1))), THREADS // 10),
        (pb.ListThreadsRequest(unanswered=True), THREADS // 10),
    ],
)
async def test_who_has_not_answered_is_one_indexed_query(
    crowd: tuple[Any, Account], request_of: pb.ListThreadsRequest, matches: int
) -> None:
    """Who has not answered in N days is one query, which examines about what matches, whatever else there is."""
    mail, account = crowd
    start = len(account.commands.sent)
    request_of.page_size = 500
    found = (await mail.ListThreads(request_of)).threads
    pipelines = [
        command["pipeline"]
        for name, command in account.commands.sent[start:]
        if name == "aggregate" and command["aggregate"] == "threads"
    ]
    assert (matches, 1) == (len(found), len(pipelines))
    assert examined(account, pipelines[0]) <= matches + 2


async def test_pages_of_who_has_not_answered(crowd: tuple[Any, Account]) -> None:
    """Pages show everybody once, in order of id."""
    mail, _ = crowd
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListThreadsRequest(
            awaiting_reply_before=stamp(NOW - timedelta(days=50)), page_size=70, page_token=token
        )
        page = await mail.ListThreads(request)
        found += [each.id for each in page.threads]
        if not (token := page.next_page_token):
            break
    assert sorted(set(found)) == found
    assert THREADS // 10 * (DAYS - 51) // DAYS == len(found)


async def test_mail_between_two_mailboxes_is_answered(account: Account) -> None:
    """When one mailbox of an account answers another's mail, the mail that was sent counts as answered."""
    async with stubs(account) as (_, mail):
        one, two = await made(account, "one"), await made(account, "two")
        asked = await delivered(mail, one, two)

        async def inbox(box: str) -> Any:
            request = pb.ListEmailsRequest(mailbox_email=box, direction=mail_pb.DIRECTION_INBOUND)
            return (await mail.ListEmails(request)).emails

        (there,) = await until(lambda: inbox(two))
        await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=there.id, body="yes"))
        await until(lambda: inbox(one))
        assert (await mail.GetEmail(pb.GetEmailRequest(id=asked.id))).HasField("replied_at")


async def test_an_answer_to_all_is_bounded(account: Account) -> None:
    """Who answers everybody of a crowded mail is refused above 50; what is no address among them is left out."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        for count, fields in ((49, ()), (50, ("reply_all",))):
            raw = letter("author@crowd.test", box, f"to {count}")
            raw["Cc"] = ", ".join([*(f"p{number}@crowd.test" for number in range(count)), "root@localhost"])
            await arrive(account, box, raw)
            (found,) = (await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box, page_size=1))).emails
            request = pb.ReplyEmailRequest(email_id=found.id, body="x", reply_all=True, validate_only=True)
            if fields:
                assert fields == (await refusal(mail.ReplyEmail(request))).fields
            else:
                assert 50 == len((await mail.ReplyEmail(request)).email.recipients)
