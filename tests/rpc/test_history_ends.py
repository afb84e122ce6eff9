"""Where a history begins and ends: what is trimmed, positions that are too old or still to come, its first number."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pymongo import monitoring
from tests.conftest import Account, Commands, settings_for
from tests.rpc.calls import (
    age,
    all_notifications,
    ended,
    make,
    read,
    refusal,
    stubs,
    trim,
    watching,
)

from multimail.v1 import mail_service_pb2 as pb
from multimail_server.app import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


async def kept(account: Account) -> list[int]:
    """The numbers that are in the database."""
    rows = await account.running.database.find("notifications", {"account": account.name}, sort=[("seq", 1)])
    return [row["seq"] for row in rows]


async def test_a_position_that_is_too_old_says_so(account: Account) -> None:
    """Behind a number whose successors were trimmed no stream or list begins; the refusal names where one does."""
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(12)))
        await age(account, *range(1, 9))
        await trim(account)
        assert list(range(9, 13)) == await kept(account)
        for after in (0, 8):
            assert list(range(9, 13)) == [each.seq for each in await all_notifications(mail, after)]
        for after in (1, 7):
            listed = await refusal(mail.ListNotifications(pb.ListNotificationsRequest(after_seq=after)))
            assert ("POSITION_TOO_OLD", "9") == (listed.reason, listed.metadata["oldest_seq"])
            async with watching(mail, after_seq=after) as call:
                refused = await ended(call)
                assert ("FAILED_PRECONDITION", "POSITION_TOO_OLD", "9") == (
                    refused.code, refused.reason, refused.metadata["oldest_seq"],
                )  # fmt: skip
        for after in (0, 8):
            async with watching(mail, after_seq=after) as call:
                assert list(range(9, 13)) == [each.seq for each in await read(call, 4)]


async def test_trimming_begins_at_the_low_end(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history is trimmed step by step up to the first that is young; numbers that are lost do not hold it up."""
    monkeypatch.setattr("multimail_server.notifications.store._TRIMMED_AT_ONCE", 3)
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(12)))
        await account.running.database.delete_many("notifications", [{"account": account.name, "seq": 4}])
        await age(account, *range(1, 9), 10, 11)
        await trim(account)
        assert list(range(9, 13)) == await kept(account)
        await trim(account)
        assert list(range(9, 13)) == await kept(account) == [each.seq for each in await all_notifications(mail)]


async def test_trimming_goes_on_where_another_process_died(account: Account) -> None:
    """What is marked as no longer kept is removed by whoever comes next; until then nobody misses a part of it."""
    database = account.running.database
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(9)))
        await database.update_one("accounts", {"_id": account.name}, {"$set": {"trimmed": 6}})
        assert list(range(7, 10)) == [each.seq for each in await all_notifications(mail)]
        assert list(range(3, 10)) == [each.seq for each in await all_notifications(mail, 2)]
        await database.delete_many("notifications", [{"account": account.name, "seq": seq} for seq in (1, 2, 4)])
        for after in (2, 3):
            refused = await refusal(mail.ListNotifications(pb.ListNotificationsRequest(after_seq=after)))
            assert ("POSITION_TOO_OLD", "7") == (refused.reason, refused.metadata["oldest_seq"])
        await trim(account)
        assert list(range(7, 10)) == await kept(account)


async def test_an_account_is_trimmed_while_it_changes(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes and trimming of one account get in each other's way without harm: none is lost, none fails."""
    monkeypatch.setattr("multimail_server.notifications.store._TRIMMED_AT_ONCE", 2)
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(20)))
        await age(account, *range(1, 21))
        await asyncio.gather(trim(account), trim(account), *(make(contacts, f"q{number}") for number in range(60)))
        await trim(account)  # what lost to a change waits for the next pass
        assert list(range(21, 81)) == await kept(account) == [each.seq for each in await all_notifications(mail)]


async def test_a_history_that_was_trimmed_whole_says_so(account: Account) -> None:
    """Who comes back after everything was trimmed is told so, instead of being shown an empty history."""
    async with stubs(account) as (contacts, mail):
        await make(contacts, *(f"p{number}" for number in range(6)))
        await age(account, *range(1, 7))
        await trim(account)
        assert [] == await kept(account)
        for after in (2, 5):
            refused = await refusal(mail.ListNotifications(pb.ListNotificationsRequest(after_seq=after)))
            assert ("POSITION_TOO_OLD", "7") == (refused.reason, refused.metadata["oldest_seq"])
        for after in (0, 6):
            assert [] == await all_notifications(mail, after)
        async with watching(mail) as one, watching(mail, after_seq=6) as other:
            await make(contacts, "next")
            assert [7, 7] == [each.seq for each in await read(one, 1) + await read(other, 1)]
        for after in (0, 6):
            assert [7] == [each.seq for each in await all_notifications(mail, after)]


async def test_numbers_not_given_out_yet_are_refused(account: Account) -> None:
    """Who asks behind a number that is still to come, or for two beginnings at once, has mixed something up."""
    async with stubs(account) as (contacts, mail):
        await make(contacts, "a", "b")
        for after in (3, 2**63 - 1):
            listed = await refusal(mail.ListNotifications(pb.ListNotificationsRequest(after_seq=after)))
            assert ("INVALID_ARGUMENT", ("after_seq",)) == (listed.code, listed.fields)
            async with watching(mail, after_seq=after) as call:
                assert ("after_seq",) == (await ended(call)).fields
        async with watching(mail, after_seq=1, only_new=True) as call:
            assert ("only_new",) == (await ended(call)).fields


class Meanwhile(monitoring.CommandListener):
    """Has something done before one of the commands that read an account's history reaches the engine.

    Counted from when `act` is set: the trimmer reads too, when the service starts.
    """

    def __init__(self, account: str, number: int) -> None:
        self.act: Callable[[], object] | None = None
        self._account = account
        self._left = number

    def started(self, event: Any) -> None:
        """Waits, when it is that one, until that is done; the driver calls this in a thread of its own."""
        command = event.command
        if self.act is None or command.get("find") not in {"accounts", "notifications"}:
            return
        if self._account in command["filter"].values():
            self._left -= 1
            if not self._left:
                self.act()

    def succeeded(self, event: Any) -> None:
        """Nothing to do."""

    def failed(self, event: Any) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_a_stream_that_begins_with_the_account_misses_nothing(
    engine_uri: str, tmp_path: Path, number: int
) -> None:
    """An account's very first change is told by a stream, amid which of its first reads it may fall."""
    meanwhile = Meanwhile("fresh", number)
    settings = settings_for(engine_uri, tmp_path, database=f"fresh{number}")
    async with Service(settings, listeners=[meanwhile]) as running:
        account = Account("fresh", running, Commands())
        async with stubs(account) as (contacts, mail):
            loop = asyncio.get_running_loop()

            def first_change() -> None:
                asyncio.run_coroutine_threadsafe(make(contacts, "first"), loop).result(10)

            meanwhile.act = first_change
            async with watching(mail) as stream:
                assert [1] == [each.seq for each in await read(stream, 1)]
                assert meanwhile._left <= 0
