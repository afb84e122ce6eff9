"""Each documented query examines about what it returns, at 20,000 contacts on the embedded engine.

Beside each query stand the indexes that lead it: on MongoDB its winning plan begins with an IXSCAN of each of them,
with a FETCH behind that tries the other conditions. The embedded engine's `explain` names no index truly, so there the
documents examined are counted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient
from ulid import ULID

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as rules
from multimail_server.contacts.filters import compile_search, holds
from multimail_server.contacts.searches import Searches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account

    import multimail

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTACTS = 20_000
COMPANIES = 200  # a hundred contacts each


@pytest.fixture(scope="module")
async def crowd(service: Any) -> AsyncIterator[tuple[multimail.AsyncClient, Account]]:
    """An account with 20,000 contacts, half of them on the pro plan."""
    from tests.conftest import Account

    running, commands = service
    account = Account("crowd", running, commands)
    client = await account.client()
    now = datetime(2026, 6, 1, tzinfo=UTC)
    batch = []
    for number in range(CONTACTS):
        address = parse_address(f"p{number}@company{number % COMPANIES}.test", "email")
        metadata = {
            "plan": "pro" if number // COMPANIES % 2 else "free",
            "company": f"C{number % COMPANIES}",
            "n": number,
        }
        document = rules.new(f"contact_{ULID()}", "crowd", address, name=f"Person {number}", metadata=metadata, now=now)
        if number % 3:
            document = rules.contacted_elsewhere(document, now - timedelta(days=number % 90))
        if number % 400 == 1:
            row = {"email": f"email_{number}", "thread": "thread_1", "mailbox": "mbx_1", "agent": "a", "at": NOW}
            document = rules.with_sent(document, row, timedelta(days=14))
        batch.append(document)
        if len(batch) == 1_000:
            await running.database.insert_many("contacts", batch)
            batch = []
    yield client, account
    await client.close()


@pytest.fixture(scope="module")
async def people(crowd: tuple[multimail.AsyncClient, Account]) -> list[dict[str, Any]]:
    """All their documents, in order of id."""
    return await crowd[1].running.database.find("contacts", {"account": "crowd"}, sort=[("_id", 1)])


def examined(account: Account, pipeline: list[dict[str, Any]]) -> int:
    """How many documents the engine says it examines for a pipeline."""
    with MongoClient(account.running.mongodb_uri) as mongo:
        plan = mongo["multimail"].command(
            "explain", {"aggregate": "contacts", "pipeline": pipeline, "cursor": {}}, verbosity="executionStats"
        )
    return int(plan["executionStats"]["totalDocsExamined"])


@pytest.mark.parametrize(
    ("conditions", "most"),
    [
        ({"domain": "company7.test", "filters": {"metadata.plan": "pro", "last_contacted_before": "2026-05-02"}}, 200),
        ({"filters": {"metadata.company": "C7", "metadata.plan": "pro", "last_contacted_before": "2026-05-02"}}, 200),
        ({"query": "p77@company77.test"}, 2),
        ({"email": "P77@company77.test"}, 2),
        ({"filters": {"metadata.n": {"gte": 100, "lt": 150}}}, 100),
        ({"filters": {"metadata.n": 77}}, 2),
        ({"name": "19999"}, 2),
        ({"domain": "company7.test", "filters": {"metadata.plan": {"ne": "pro"}}}, 200),
    ],
)
async def test_search_examines_little(
    crowd: tuple[multimail.AsyncClient, Account], conditions: dict[str, Any], most: int
) -> None:
    """The query that a search sends examines at most so many documents, not the account's 20,000."""
    client, account = crowd
    start = len(account.commands.sent)
    found = await client.contacts.search(**conditions)
    assert found.items
    pipelines = [command["pipeline"] for name, command in account.commands.sent[start:] if name == "aggregate"]
    search = next(pipeline for pipeline in pipelines if any("$project" in stage for stage in pipeline))
    assert examined(account, search) <= most


@pytest.mark.parametrize(
    ("text", "most", "queries", "plan"),
    [
        ("metadata.n = (77 OR 78 OR 19000)", 4, 1, "facets__id"),
        (
            "metadata.n < 20 OR metadata.n >= 19990 OR p77@company77.test OR company7.test", 150, 4,
            "facets__id account_email_keys",
        ),
        ("company7.test AND (metadata.plan = pro OR last_contacted < -30d)", 110, 1, "facets__id"),
        ("awaiting_reply", 50, 1, "account_awaiting_since__id"),
        ("has_open_thread AND NOT metadata.plan = pro", 60, 1, "account_open_until__id"),
        (
            "(awaiting_reply OR has_open_thread) last_contacted > -3650d", 110, 2,
            "account_awaiting_since__id account_open_until__id",
        ),
        ("created > 2026-06-02 OR metadata.n = 5", 3, 2, "account_create_time__id facets__id"),
        ("updated > 2026-06-02 OR metadata.n = 5", 3, 2, "account_update_time__id facets__id"),
        ("last_inbound > -1d OR metadata.n = 5", 3, 2, "account_last_inbound_at__id facets__id"),
    ],
)  # fmt: skip
async def test_filter_text_examines_little(
    crowd: tuple[multimail.AsyncClient, Account],
    people: list[dict[str, Any]],
    text: str,
    most: int,
    queries: int,
    plan: str,
) -> None:
    """A filter is found by as many queries as it has leads, which examine little; each hit once, in order of id."""
    _, account = crowd
    searches = Searches(account.running.database)
    search = compile_search("crowd", filter=text, now=NOW)
    expected = [each["_id"] for each in people if holds(search, each)]
    start = len(account.commands.sent)
    found = await searches.find("crowd", search, limit=500)
    sent = [command["pipeline"] for name, command in account.commands.sent[start:] if name == "aggregate"]
    assert expected[:500] == [each["_id"] for each in found]
    assert expected
    pipelines = [pipeline for pipeline in sent if any("$project" in stage for stage in pipeline)]
    assert queries == len(pipelines)
    assert sum(examined(account, pipeline) for pipeline in pipelines) <= most
    walked: list[str] = []
    while page := await searches.find("crowd", search, after=walked[-1:] or None, limit=7):
        walked += [each["_id"] for each in page]
    assert expected == walked
    sent = [command["pipeline"] for name, command in account.commands.sent[-queries:] if name == "aggregate"]
    assert sum(examined(account, pipeline) for pipeline in sent) <= most, "and so does a later page"
    assert plan.split() == list((await searches.plan("crowd", search)).indexes)


async def test_filter_without_an_index_is_exact(
    crowd: tuple[multimail.AsyncClient, Account], people: list[dict[str, Any]]
) -> None:
    """What no index serves is found all the same, by the conditions alone."""
    _, account = crowd
    for text in (
        "NOT metadata.n >= 5",
        "metadata.n = 3 OR NOT metadata.n > 4 OR -(metadata.n != 9)",
        "NOT (metadata.plan:* OR x@y.test) OR NOT company7.test AND NOT metadata.n > 10",
    ):
        search = compile_search("crowd", filter=text, now=NOW)
        expected = [each["_id"] for each in people if holds(search, each)]
        assert not search.is_led
        assert expected
        found = await Searches(account.running.database).find("crowd", search, limit=500)
        assert expected == [each["_id"] for each in found]


async def test_demonstration_search_is_exact(crowd: tuple[multimail.AsyncClient, Account]) -> None:
    """The search of the demonstration finds exactly the company's pro contacts not contacted for 30 days."""
    client, _ = crowd
    now = datetime(2026, 6, 1, tzinfo=UTC)
    expected = {
        f"p{n}@company7.test"
        for n in range(7, CONTACTS, COMPANIES)
        if n // COMPANIES % 2 and (n % 3 == 0 or n % 90 > 30)
    }
    found = await client.contacts.search(
        domain="company7.test",
        filters={"metadata.plan": "pro", "last_contacted_before": (now - timedelta(days=30)).isoformat()},
    )
    assert expected == {contact.email async for contact in found}
