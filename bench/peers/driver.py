"""The raw driver: each case as the fewest plain Motor calls that store or find the same, without any service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import InsertOne, UpdateOne
from pymongo.write_concern import WriteConcern
from ulid import ULID

from bench import cases
from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as rules
from multimail_server.contacts.facets import equality
from multimail_server.contacts.store import PROJECTION
from multimail_server.storage.indexes import INDEXES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NAMES = ("contacts", "history", "emails", "api_keys", "notifications", "counters")
BEFORE = cases.NOW.replace(month=3, day=20)


def connect(uri: str, name: str) -> Any:
    """The database as the service itself opens it: majority, journaled, no hidden repetitions."""
    client = AsyncIOMotorClient(uri, tz_aware=True, retryWrites=False)
    return client.get_database(name, write_concern=WriteConcern("majority", j=True))


async def prepare(database: Any) -> None:
    """Collections and indexes; the contacts have all that the service's have."""
    for name in NAMES:
        await database.create_collection(name)
    for index in INDEXES:
        if index.collection in ("contacts", "notifications"):
            await database[index.collection].create_index(list(index.keys), name=index.name, unique=index.unique)
    await database.api_keys.create_index("hash", unique=True)
    await database.history.create_index([("account", 1), ("contact", 1), ("at", 1)])
    await database.emails.create_index([("account", 1), ("contact", 1), ("at", 1)])
    await database.emails.create_index([("account", 1), ("message_id", 1)], unique=True)


def person(email: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """The document of a new contact."""
    parsed = parse_address(email, "email")
    return rules.new(f"contact_{ULID()}", cases.ACCOUNT, parsed, name="", metadata=metadata, now=cases.NOW)


def by_address(email: str) -> dict[str, Any]:
    """The filter that finds one contact."""
    return {"account": cases.ACCOUNT, "email_keys": email}


def line(seq: int, contact: dict[str, Any]) -> dict[str, Any]:
    """A line of the account's history, as long as one of the service's."""
    return {
        "_id": f"{cases.ACCOUNT}/{seq}",
        "account": cases.ACCOUNT,
        "seq": seq,
        "group": "group_0",
        "type": "contact_created",
        "shown": True,
        "at": cases.NOW,
        "actor": {"key": "key_0", "agent": "bench"},
        "method": "BatchUpsertContacts",
        "contact": contact["_id"],
        "contacts": [contact["_id"]],
        "request_id": f"{cases.ACCOUNT} {seq}",
    }


def pro_and_quiet() -> dict[str, Any]:
    """The filter of the search: on the plan, and not written to for long."""
    return {
        "facets": equality(cases.ACCOUNT, "metadata.plan", "pro"),
        "last_contacted_at": {"$lt": BEFORE},
        "account": cases.ACCOUNT,
    }


def calls(database: Any, contacts: int) -> dict[str, Callable[[int], Awaitable[object]]]:
    """The cases by name; each takes a number that never comes twice."""
    table = database.contacts

    def one(number: int) -> str:
        return cases.address(number % contacts)

    def bulk(writes: Iterator[Any]) -> Awaitable[object]:
        done: Awaitable[object] = table.bulk_write(list(writes), ordered=False)
        return done

    turn = asyncio.Lock()

    async def numbered(number: int) -> None:
        """New contacts and a numbered line of the account's history for each, as one change after all others."""
        people = [person(*row) for row in cases.new_rows(number)]
        keys = [each["email_keys"][0] for each in people]
        async with turn, await database.client.start_session() as session, session.start_transaction():
            await table.find({"account": cases.ACCOUNT, "email_keys": {"$in": keys}}, session=session).to_list()
            account = await database.counters.find_one_and_update(
                {"_id": cases.ACCOUNT}, {"$inc": {"seq": len(people)}}, upsert=True, session=session
            )
            await table.insert_many(people, ordered=False, session=session)
            lines = [line(seq, each) for seq, each in enumerate(people, account["seq"] if account else 0)]
            await database.notifications.insert_many(lines, ordered=False, session=session)

    def changed(email: str, metadata: dict[str, Any]) -> UpdateOne:
        return UpdateOne(by_address(email), {"$set": {f"metadata.{key}": each for key, each in metadata.items()}})

    return {
        cases.GET.name: lambda n: table.find_one(by_address(one(n)), PROJECTION),
        cases.UPSERT_EXISTING.name: lambda n: table.update_one(
            by_address(one(n)), {"$set": {"metadata.n": n + 0.5}}, upsert=True
        ),
        cases.UPSERT_NEW.name: lambda n: table.insert_one(person(cases.fresh(n), cases.details(n))),
        cases.SEARCH.name: lambda _: table.find(pro_and_quiet(), PROJECTION).sort("_id").limit(cases.PAGE).to_list(),
        cases.BATCH_EXISTING.name: lambda n: bulk(changed(*row) for row in cases.existing_rows(n, contacts)),
        cases.BATCH_NEW.name: lambda n: bulk(InsertOne(person(*row)) for row in cases.new_rows(n)),
        cases.BATCH_NUMBERED.name: numbered,
    }
