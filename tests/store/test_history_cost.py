"""What is read of a long history, and a step of its trimming, examine about what they show or remove.

On MongoDB the winning plan of each is an IXSCAN of account_seq.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from tests.conftest import Account
from tests.rpc.calls import read, streaming, stubs

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.notifications.store import NotificationStore

NOTIFICATIONS = 20_000
OLD = 2_500
MOST = 1_100  # are looked at for a page or a step


def notification(account: str, number: int, at: datetime) -> dict[str, Any]:
    """One of a contact that was made."""
    return {
        "_id": f"{account}/{number}",
        "account": account,
        "seq": number,
        "request_id": f"{account} {number}",
        "type": "contact_created",
        "shown": True,
        "at": at,
        "actor": {"key": "key_1", "agent": "a"},
        "contact": f"contact_{number}",
        "contacts": [f"contact_{number}"],
    }


@pytest.fixture(scope="module")
async def long(service: Any) -> Account:
    """An account with 20,000 notifications."""
    running, commands = service
    account = Account("long", running, commands)
    await account.key()
    now = datetime.now(UTC)
    for start in range(1, NOTIFICATIONS, 1_000):
        rows = [notification("long", number, now) for number in range(start, start + 1_000)]
        await running.database.insert_many("notifications", rows)
    await running.database.update_one("accounts", {"_id": "long"}, {"$set": {"seq": NOTIFICATIONS}})
    return account


def examined(account: Account, start: int) -> int:
    """How many notifications the engine says it examines for the queries sent since."""
    sent = [command for name, command in account.commands.sent[start:] if name == "find"]
    sent = [command for command in sent if command["find"] == "notifications"]
    total = 0
    with MongoClient(account.running.mongodb_uri) as mongo:
        for command in sent:
            explained = {name: command[name] for name in ("find", "filter", "sort", "limit") if name in command}
            plan = mongo["multimail"].command("explain", explained, verbosity="executionStats")
            total += int(plan["executionStats"]["totalDocsExamined"])
    return total


@pytest.mark.parametrize("after", [0, 10_000, NOTIFICATIONS - 1, NOTIFICATIONS])
async def test_reading_examines_little(long: Account, after: int) -> None:
    """However long the history is, a page of it and the beginnings of both streams look at few of its notifications."""
    async with stubs(long) as (contacts, mail):
        start = len(long.commands.sent)
        page = await mail.ListNotifications(pb.ListNotificationsRequest(after_seq=after, page_size=20))
        assert examined(long, start) <= MOST
        first = [each.seq for each in page.notifications][:1]
        assert first == [after + 1][: NOTIFICATIONS - after]
        streams = (
            mail.WatchNotifications(pb.WatchNotificationsRequest(after_seq=after)),
            contacts.WatchContacts(contact_pb.WatchContactsRequest(after_seq=after)),
        )
        for call in streams if first else ():
            start = len(long.commands.sent)
            async with streaming(call) as stream:
                assert first == [each.seq for each in await read(stream, 1)]
            assert examined(long, start) <= 2 * MOST  # it may have gone on to a second run


async def test_trimming_examines_little(long: Account) -> None:
    """Each step of trimming looks at no more than it may remove; a pass removes all that are old, and no other."""
    database, now = long.running.database, datetime.now(UTC)
    await Account("aged", long.running, long.commands).key()
    for at, numbers in ((now - timedelta(days=31), range(1, OLD + 1)), (now, range(OLD + 1, OLD + 501))):
        await database.insert_many("notifications", [notification("aged", number, at) for number in numbers])
    notifications = NotificationStore(database)
    going = True
    while going:
        start = len(long.commands.sent)
        going = await notifications.trim()
        assert examined(long, start) <= MOST
    for account, left in (("long", NOTIFICATIONS), ("aged", 500)):
        assert left == len(await database.find("notifications", {"account": account}, projection={"_id": 1}))
