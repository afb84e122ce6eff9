"""The account's numbered history: every notification once, in order, without a gap, for everyone who follows it."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.rpc.calls import (
    all_notifications,
    ended,
    made,
    make,
    read,
    refusal,
    stubs,
    until,
    watching,
)
from tests.rpc.relays import serving

from multimail.v1 import mail_pb2 as mail_pb
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.notifications.feed import Feed

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.conftest import Account


CREATED = mail_pb.NOTIFICATION_TYPE_CONTACT_CREATED
QUIET = mail_pb.OVERSIGHT_MODE_AUTONOMOUS


async def test_a_stream_and_a_list_say_the_same(account: Account) -> None:
    """What is listed and what is streamed is one history: from 1, by one, oldest first, each with its own number."""
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(30)))
        listed = await all_notifications(mail)
        assert list(range(1, 31)) == [each.seq for each in listed]
        assert sorted(each.time.ToNanoseconds() for each in listed) == [each.time.ToNanoseconds() for each in listed]
        async with watching(mail) as call:
            responses = await read(call, 30)
            await make(contacts, "later")
            responses += await read(call, 1)
    assert listed == [each.notification for each in responses[:30]]
    assert list(range(1, 32)) == [each.seq for each in responses] == [each.notification.seq for each in responses]


async def test_lists_are_paged(account: Account) -> None:
    """Pages of any size show each once; after_seq begins behind a number; what comes meanwhile is at the end."""
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(9)))
        for page_size in (1, 4, 9, 500):
            found, token = [], ""
            while True:
                request = pb.ListNotificationsRequest(after_seq=2, page_size=page_size, page_token=token)
                page = await mail.ListNotifications(request)
                found += [each.seq for each in page.notifications]
                if not (token := page.next_page_token):
                    break
            assert list(range(3, 10)) == found
        first = await mail.ListNotifications(pb.ListNotificationsRequest(page_size=5))
        await make(contacts, "meanwhile")
        second = pb.ListNotificationsRequest(page_size=5, page_token=first.next_page_token)
        rest = await mail.ListNotifications(second)
        assert list(range(6, 11)) == [each.seq for each in rest.notifications]


async def test_a_list_never_jumps_over_what_is_still_to_show(account: Account) -> None:
    """While a number is not to be seen yet, a list ends before it, so that who goes on from its end misses nothing."""
    database = account.running.database
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(6)))
        where = {"account": account.name, "seq": 4}
        (late,) = await database.find("notifications", where)
        await database.delete_many("notifications", [where])
        for after, expected in ((0, [1, 2, 3]), (3, []), (4, [5, 6])):
            page = await mail.ListNotifications(pb.ListNotificationsRequest(after_seq=after))
            assert expected == [each.seq for each in page.notifications]
        async with watching(mail) as call:
            assert [1, 2, 3] == [each.seq for each in await read(call, 3)]
            await database.insert_one("notifications", late)
            assert [4, 5, 6] == [each.seq for each in await read(call, 3)]
        assert list(range(1, 7)) == [each.seq for each in await all_notifications(mail)]


async def test_no_gap_and_no_repeat_after_reconnecting(account: Account) -> None:
    """Who leaves after any response and comes back with its number gets the rest, though much happened meanwhile."""
    async with stubs(account) as (contacts, mail):
        seen: list[int] = []
        position = 0
        for turn in range(6):
            await make(contacts, *(f"p{turn}-{number}" for number in range(7)))
            async with watching(mail, after_seq=position) as call:
                seen += [each.seq for each in await read(call, 4)]
            position = seen[-1]
        async with watching(mail, after_seq=position) as call:
            seen += [each.seq for each in await read(call, 42 - len(seen))]
    assert list(range(1, 43)) == seen


async def test_only_new(account: Account) -> None:
    """With only_new a stream says first where it begins, then shows what happens from then on, and nothing older."""
    async with stubs(account) as (contacts, mail):
        async with watching(mail, only_new=True) as call:
            (begin,) = await read(call, 1)
            assert (0, False) == (begin.seq, begin.HasField("notification"))
            await make(contacts, "old1", "old2")
            assert [1, 2] == [each.notification.seq for each in await read(call, 2)]
        async with watching(mail, only_new=True) as call:
            (begin,) = await read(call, 1)
            assert (2, False) == (begin.seq, begin.HasField("notification"))
            await make(contacts, "new")
            assert [3] == [each.notification.seq for each in await read(call, 1)]


async def test_filters(account: Account) -> None:
    """Types and a mailbox narrow list and stream alike; a stream that shows nothing tells how far it is."""
    async with stubs(account) as (contacts, mail):
        one, two = [
            await mail.CreateMailbox(pb.CreateMailboxRequest(email=account.mailbox(name))) for name in ("one", "two")
        ]
        for box in (one, two):
            await mail.UpdateMailbox(pb.UpdateMailboxRequest(id=box.id, display_name="x"))
        await make(contacts, *(f"p{number}" for number in range(150)))
        await mail.DeleteMailbox(pb.DeleteMailboxRequest(id=two.id))
        kinds = [mail_pb.NOTIFICATION_TYPE_MAILBOX_UPDATED, mail_pb.NOTIFICATION_TYPE_MAILBOX_DELETED]
        for conditions, expected in (
            ({"types": kinds[:1]}, [3, 4]),
            ({"mailbox_id": two.id}, [2, 4, 155]),
            ({"mailbox_email": one.email}, [1, 3]),
            ({"types": kinds, "mailbox_id": two.id}, [4, 155]),
        ):
            page = await mail.ListNotifications(pb.ListNotificationsRequest(**conditions))
            assert expected == [each.seq for each in page.notifications]
            async with watching(mail, **conditions) as call:
                shown = []
                while len(shown) < len(expected):
                    shown += [each.seq for each in await read(call, 1) if each.HasField("notification")]
                assert expected == shown
        async with watching(mail, types=[mail_pb.NOTIFICATION_TYPE_EMAIL_READ]) as call:
            (told,) = await read(call, 1)
            assert (False, True) == (told.HasField("notification"), 100 <= told.seq <= 155)
        for request in (
            pb.ListNotificationsRequest(mailbox_id="mbx_00000000000000000000000000"),
            pb.ListNotificationsRequest(mailbox_email="no@where.test"),
        ):
            assert "MAILBOX_NOT_FOUND" == (await refusal(mail.ListNotifications(request))).reason
        async with watching(mail, mailbox_id="mbx_00000000000000000000000000") as call:
            assert "MAILBOX_NOT_FOUND" == (await ended(call)).reason


async def test_an_autonomous_mailbox_is_numbered_and_not_shown(account: Account) -> None:
    """Acts through an autonomous mailbox take their numbers, and neither list nor stream shows any of them."""
    async with stubs(account) as (contacts, mail), stubs(account, "admin", "oversight") as (_, overseer):
        quiet = await overseer.CreateMailbox(
            pb.CreateMailboxRequest(email=account.mailbox("quiet"), oversight_mode=QUIET)
        )
        box = await mail.CreateMailbox(pb.CreateMailboxRequest(email=account.mailbox()))
        await make(contacts, "a")
        email = (await mail.SendEmail(pb.SendEmailRequest(from_mailbox_id=quiet.id, to=["a@made.test"]))).email
        raw = b"From: a@made.test\r\nIn-Reply-To: " + email.message_id.encode() + b"\r\n\r\nhi"
        arrived = (await mail.IngestEmail(pb.IngestEmailRequest(mailbox_id=quiet.id, raw=raw))).email
        await mail.GetEmail(pb.GetEmailRequest(id=arrived.id))

        async def done() -> bool:
            found = await mail.GetEmail(pb.GetEmailRequest(id=email.id))
            return found.state == mail_pb.EMAIL_STATE_SENT

        await until(done)
        delivered = mail_pb.DELIVERY_EVENT_TYPE_DELIVERED
        await mail.IngestEvent(pb.IngestEventRequest(email_id=email.id, type=delivered))
        shown = await all_notifications(mail)
        await mail.UpdateMailbox(pb.UpdateMailboxRequest(id=box.id, display_name="last"))
        (last,) = await all_notifications(mail, shown[-1].seq)
        async with watching(mail) as call:
            streamed = await read(call, len(shown) + 1)
    assert [*shown, last] == [each.notification for each in streamed]
    assert {""} == {each.email_id for each in shown}
    rows = await account.running.database.find("notifications", {"account": account.name}, sort=[("seq", 1)])
    assert list(range(1, last.seq + 1)) == [each["seq"] for each in rows]
    assert {"email_queued", "email_received", "email_read", "email_settled", "email_event"} <= {
        each["type"] for each in rows if not each["shown"]
    }


async def test_each_account_sees_its_own(account: Account) -> None:
    """Two accounts have two histories, and a stream of one shows nothing of the other's."""
    other = type(account)(f"{account.name}other", account.running, account.commands)
    async with stubs(account) as (contacts, mail), stubs(other) as (others, theirs):
        async with watching(mail) as call, watching(theirs) as second:
            await make(contacts, "mine1", "mine2")
            await make(others, "theirs1")
            assert [1, 2] == [each.seq for each in await read(call, 2)]
            assert [1] == [each.seq for each in await read(second, 1)]
        assert {each.contact_id for each in await all_notifications(mail)}.isdisjoint(
            each.contact_id for each in await all_notifications(theirs)
        )


async def test_many_watchers_and_a_slow_one(account: Account) -> None:
    """Fifty streams each get everything; one that reads nothing meanwhile holds nobody up and misses nothing."""
    async with stubs(account) as (contacts, mail), watching(mail) as slow:
        arguments = ("-m", "tests.rpc.follow", str(account.running.grpc_port), await account.key(), "50", "32")
        others = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        for turn in range(4):
            await make(contacts, *(f"p{turn}-{number}" for number in range(8)))
        seen, _ = await others.communicate()
        assert [list(range(1, 33))] * 50 == json.loads(seen)
        await make(contacts, *(f"late{number}" for number in range(400)))
        assert list(range(1, 433)) == [each.seq for each in await read(slow, 432)]


async def test_two_processes_and_a_watcher_on_each(engine_uri: str, tmp_path: Path) -> None:
    """Two services commit at once on one engine; a watcher on each sees all of it, in the same order, without a gap."""
    async with (
        serving(engine_uri, tmp_path / "a", "twofold") as one,
        serving(engine_uri, tmp_path / "b", "twofold") as two,
        stubs(one) as (contacts, mail),
        stubs(two) as (others, theirs),
        watching(mail) as first,
        watching(theirs) as second,
    ):

        async def work(stub: Any, name: str) -> None:
            for turn in range(8):
                await make(stub, *(f"{name}{turn}-{number}" for number in range(5)))

        _, _, seen, as_well = await asyncio.gather(
            work(contacts, "a"), work(others, "b"), read(first, 80), read(second, 80)
        )
        assert seen == as_well
        assert list(range(1, 81)) == [each.seq for each in seen]
        assert [each.notification for each in seen] == await all_notifications(theirs)
        # A watcher hears of what another process did without anything happening in its own.
        waits = []
        for number in range(5):
            begun = time.monotonic()
            await make(others, f"quiet{number}")
            await read(first, 1)
            waits.append(time.monotonic() - begun)
        assert min(waits) < 1, "within the second that is promised"


async def test_a_stream_goes_on_after_a_restart(engine_uri: str, tmp_path: Path) -> None:
    """A service that stops ends its streams in a way that says to come back, and from their number they go on."""
    async with AsyncExitStack() as clients:
        async with serving(engine_uri, tmp_path, "restarted") as account:
            contacts, mail = await clients.enter_async_context(stubs(account))
            await make(contacts, "a", "b", "c")
            call = mail.WatchNotifications(pb.WatchNotificationsRequest())
            assert [1, 2] == [each.seq for each in await read(call, 2)]
        assert "UNAVAILABLE" == await broken(call)
    async with serving(engine_uri, tmp_path, "restarted") as account, stubs(account) as (contacts, mail):
        await make(contacts, "d")
        async with watching(mail, after_seq=2) as call:
            assert [3, 4] == [each.seq for each in await read(call, 2)]


async def broken(call: Any) -> str:
    """The code a stream ends with."""
    try:
        async with asyncio.timeout(15):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def test_a_watcher_that_leaves_frees_everything(engine_uri: str, tmp_path: Path) -> None:
    """Streams are bounded like calls; each that is cancelled frees its place, its task and its place in the feed."""
    async with (
        serving(engine_uri, tmp_path, "leaving", max_concurrent=16) as account,
        stubs(account) as (contacts, mail),
    ):
        (feed,) = [
            each for each in gc.get_objects() if type(each) is Feed and each._database is account.running.database
        ]
        await make(contacts, "a")
        before = len(asyncio.all_tasks())
        for _ in range(3):
            calls = [mail.WatchNotifications(pb.WatchNotificationsRequest()) for _ in range(4)]
            for call in calls:
                assert [1] == [each.seq for each in await read(call, 1)]
            refused = await ended(mail.WatchNotifications(pb.WatchNotificationsRequest()))
            assert ("RESOURCE_EXHAUSTED", "TOO_BUSY") == (refused.code, refused.reason)
            assert 4 == len(feed._readers[account.name])
            for call in calls:
                call.cancel()

            async def free() -> bool:
                return not feed._readers and len(asyncio.all_tasks()) <= before + 1

            await until(free)


async def test_a_revoked_key_ends_its_streams(account: Account) -> None:
    """A stream lives no longer than its key."""
    async with stubs(account) as (contacts, mail):
        await make(contacts, "a")
        async with watching(mail) as call:
            await read(call, 1)
            keys = account.running.keys
            for row in await account.running.database.find("api_keys", {"account": account.name}):
                await keys.revoke(row["_id"])
            assert "UNAUTHENTICATED" == await broken(call)


@pytest.mark.parametrize("call", ["ListNotifications", "WatchNotifications"])
async def test_reading_the_history_needs_read(account: Account, call: str) -> None:
    """Neither list nor stream is open to a key without the scope read."""
    async with stubs(account, "write", "send", "admin") as (_, mail):
        if call == "ListNotifications":
            refused = await refusal(mail.ListNotifications(pb.ListNotificationsRequest()))
        else:
            refused = await ended(mail.WatchNotifications(pb.WatchNotificationsRequest()))
    assert ("PERMISSION_DENIED", "read") == (refused.code, refused.metadata["scope"])


async def test_a_filter_that_lets_little_through_still_ends(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a bounded part of the history: it may be empty, and its token leads on to what is shown."""
    monkeypatch.setattr("multimail_server.notifications.store._BATCH", 3)
    monkeypatch.setattr("multimail_server.notifications.store._MOST_RUNS", 2)
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(20)))
        await made(account)
        (box,) = (await mail.ListMailboxes(pb.ListMailboxesRequest())).mailboxes
        kind = mail_pb.NOTIFICATION_TYPE_MAILBOX_CREATED
        sizes, token, found = [], "", []
        while not sizes or token:
            page = await mail.ListNotifications(
                pb.ListNotificationsRequest(types=[kind], page_token=token, page_size=5)
            )
            sizes.append(len(page.notifications))
            found += page.notifications
            token = page.next_page_token
        assert ([0, 0, 0, 1], [box.id]) == (sizes, [each.mailbox_id for each in found])


async def test_one_key_cannot_take_every_stream(engine_uri: str, tmp_path: Path) -> None:
    """A key holds a quarter of the streams at most; the next one is refused, and other keys still get theirs."""
    async with (
        serving(engine_uri, tmp_path, "streams", max_concurrent=8) as account,
        stubs(account) as (_, mail),
        stubs(account) as (_, other),
    ):
        async with watching(mail, only_new=True) as one, watching(mail, only_new=True) as two:
            await read(one, 1)
            await read(two, 1)
            async with watching(mail, only_new=True) as three:
                assert "TOO_BUSY" == (await ended(three)).reason
            async with watching(other, after_seq=0) as theirs:
                await made(account)
                assert 1 == len(await read(theirs, 1))
        async with watching(mail, after_seq=0) as again:
            assert 1 == len(await read(again, 1))
