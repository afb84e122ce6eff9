"""A page of a long list of mail examines about what it shows, and pages together show every mail once, newest first.

On MongoDB the winning plan of each is an IXSCAN of the index named beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient
from ulid import ULID

from multimail_server.mail.views import MailViews
from multimail_server.storage.files import Files
from multimail_server.storage.reads import Reader

if TYPE_CHECKING:
    from tests.conftest import Account

MAILS = 2_000
PEOPLE = 100  # twenty mails each


def mail(number: int, now: datetime) -> dict[str, Any]:
    """A mail: one every twenty minutes, every second one from one and the same person, two at the same time."""
    who = "contact_big" if number % 2 else f"contact_{number // 2 % PEOPLE}"
    return {
        "_id": f"email_{ULID()}",
        "account": "lists",
        "request_id": f"lists {number}",
        "linked": [f"<{number}@lists.test>"],
        "people": [who],
        "mailbox": f"mbx_{number % 2}",
        "thread": f"thread_{number // 2 % PEOPLE}",
        "state": "received" if number % 50 else "held",
        "hidden": number % 7 == 0,
        "at": now - timedelta(minutes=20 * (number // 2 * 2)),
        "due_at": now + timedelta(days=9999),
        "dedupe": f"lists {number}",
    }


@pytest.fixture(scope="module")
async def lists(service: Any) -> tuple[MailViews, Account, list[dict[str, Any]]]:
    """An account with 2,000 mails of the last 28 days."""
    from tests.conftest import Account

    running, commands = service
    now = datetime.now(UTC).replace(microsecond=0)
    mails = [mail(number, now) for number in range(MAILS)]
    await running.database.insert_many("emails", mails)
    database = running.database
    return MailViews(database, Reader(database, {}), Files(database)), Account("lists", running, commands), mails


def examined(account: Account, start: int) -> int:
    """How many documents the engine says it examines for the pipelines sent since."""
    sent = [command for name, command in account.commands.sent[start:] if name == "aggregate"]
    sent = [command for command in sent if command["aggregate"] == "emails"]
    assert sent
    total = 0
    with MongoClient(account.running.mongodb_uri) as mongo:
        for command in sent:
            explained = {"aggregate": "emails", "pipeline": command["pipeline"], "cursor": {}}
            plan = mongo["multimail"].command("explain", explained, verbosity="executionStats")
            total += int(plan["executionStats"]["totalDocsExamined"])
    return total


@pytest.mark.parametrize(
    ("equal", "rest", "limit", "most"),
    [
        ({"people": "contact_big"}, {}, 20, 100),  # account_people_at__id
        ({"people": "contact_7"}, {}, 20, 50),
        ({"people": "contact_7"}, {"hidden": False}, 50, 50),
        ({"mailbox": "mbx_1"}, {"hidden": False}, 20, 100),  # account_mailbox_at__id
        ({"thread": "thread_7"}, {}, 50, 100),  # account_thread_at__id
        ({"state": "held"}, {}, 50, 100),  # account_state_at__id
        ({}, {"hidden": False}, 20, 200),  # account_at__id
    ],
)  # fmt: skip
async def test_a_page_examines_little(
    lists: tuple[MailViews, Account, list[dict[str, Any]]],
    equal: dict[str, str],
    rest: dict[str, Any],
    limit: int,
    most: int,
) -> None:
    """However many mails there are, a page looks at few of them; the pages hold each mail once, newest first."""
    views, account, mails = lists
    expected = [
        each["_id"]
        for each in sorted(mails, key=lambda each: (each["at"], each["_id"]), reverse=True)
        if all(value in (each[name], *each["people"]) for name, value in {**equal, **rest}.items())
    ]
    walked: list[str] = []
    before = None
    while True:
        start = len(account.commands.sent)
        page = await views.list_emails("lists", equal=equal, rest=rest, before=before, limit=limit)
        if len(walked) in {0, 5 * limit}:
            assert examined(account, start) <= most
        if not page:
            break
        walked += [each["_id"] for each in page]
        before = [page[-1]["at"], page[-1]["_id"]]
    assert expected == walked
