"""Each documented query examines about what it returns, at 20,000 contacts on the embedded engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient
from ulid import ULID

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account

    import multimail

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
        batch.append(document)
        if len(batch) == 1_000:
            await running.database.insert_many("contacts", batch)
            batch = []
    yield client, account
    await client.close()


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
