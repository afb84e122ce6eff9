"""Growth: more contacts, a longer log, more calls; what must not cost more, and does not take more memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
from ulid import ULID

import multimail
from bench import cases
from bench.peers import driver
from bench.processes import insert, measure, resident_mb, seed, service
from multimail.v1 import contact_service_pb2, contact_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.figures import Figures
    from bench.processes import Engine, System

PAGE_ROWS = 100
LONGEST_WALK_S = 60.0


@dataclass(frozen=True)
class Extent:
    """How far growth is taken.

    Attributes:
        contacts: Numbers of contacts, rising.
        interactions: Numbers of interactions on one contact, rising.
        calls: Calls while memory is looked at.
        rows: Rows of the import.
        seconds: Of one measurement.
    """

    contacts: tuple[int, ...]
    interactions: tuple[int, ...]
    calls: int
    rows: int
    seconds: float


async def contacts(engine: Engine, extent: Extent, figures: Figures) -> None:
    """A lone get, upsert and search, with more and more contacts, of whom as many are on the pro plan."""
    async with service(engine, extent.contacts[0]) as system:
        database, there = driver.connect(engine.uri, system.database), extent.contacts[0]
        for count in extent.contacts:
            started = time.perf_counter()
            await seed(database, there, count)
            if count > there:
                print(f"loaded {count - there:,} contacts in {time.perf_counter() - started:.0f} s", flush=True)
            there = count
            for case in (cases.GET, cases.UPSERT_EXISTING, cases.SEARCH):
                result = await measure(system, case, 1, extent.seconds, engine, contacts=count, size=count)
                figures.add(result)


async def interactions(engine: Engine, extent: Extent, figures: Figures) -> None:
    """Appends to the log of one contact, and pages through it, as it gets longer."""
    async with service(engine, cases.CONTACTS) as system:
        database, there = driver.connect(engine.uri, system.database), 0
        async with multimail.AsyncClient(api_key=system.key, target=system.target) as client:
            await client.ingest_email(mailbox=cases.MAILBOX, raw=cases.mail(0, 1))
        for count in extent.interactions:
            await lengthen(database, there, count)
            there = count
            result = await measure(system, cases.APPEND, 1, extent.seconds, engine, contacts=1, size=count)
            figures.add(result)
        figures.pages |= await walk(system, there // PAGE_ROWS)


async def lengthen(database: Any, there: int, count: int) -> None:
    """Makes the first contact's log longer by copies of the mail that is there, one a minute and all answered."""
    contact = await database.contacts.find_one(driver.by_address(cases.address(0)))
    template = await database.emails.find_one({"account": cases.ACCOUNT, "people": contact["_id"]})

    def copies(first: int, last: int) -> Iterator[dict[str, Any]]:
        for number in range(first, last):
            at = template["at"] - timedelta(minutes=number + 1)
            yield template | {
                "_id": f"email_{ULID()}",
                "request_id": f"copy {number}",
                "linked": [f"<copy{number}@company.test>"],
                "at": at,
            }

    for first in range(there, count, 1000):
        await insert(database.emails, copies(first, min(first + 1000, count)))
    await database.contacts.update_one(
        {"_id": contact["_id"]}, {"$set": {"interaction_count": count, "unanswered": []}}
    )


async def walk(system: System, last: int) -> dict[int, float]:
    """Pages through the log and returns what the first and the last page took, in ms; bounded in time."""
    pages: dict[int, float] = {}
    request = contact_service_pb2.ListInteractionsRequest(email=cases.address(0), page_size=PAGE_ROWS)
    ends = time.perf_counter() + LONGEST_WALK_S
    async with grpc.aio.insecure_channel(system.target) as channel:
        stub = contact_service_pb2_grpc.ContactServiceStub(channel)
        for number in range(1, last + 1):
            started = time.perf_counter()
            answer = await stub.ListInteractions(request, metadata=_bearer(system))
            pages[number] = (time.perf_counter() - started) * 1000
            request.page_token = answer.next_page_token
            if not answer.next_page_token or time.perf_counter() > ends:
                break
    return {1: pages[1], len(pages): pages[len(pages)]}


async def memory(engine: Engine, extent: Extent, figures: Figures) -> None:
    """Resident memory of a service: after a start, over many calls, and during an import."""
    async with service(engine, cases.CONTACTS) as system:
        await measure(system, cases.GET, 64, extent.seconds)
        figures.memory = {"idle": resident_mb(system.pid)}
        calls = 0
        for quarter in range(1, 5):
            while calls < extent.calls * quarter / 4:
                for case in (cases.GET, cases.UPSERT_EXISTING):
                    calls += (await measure(system, case, 64, extent.seconds)).calls
            figures.memory[f"after {quarter}/4, {calls:,} calls"] = resident_mb(system.pid)
        figures.memory["import, most"] = await imported(system, extent.rows)
        figures.note("The import had", f"{extent.rows:,} rows.")


async def imported(system: System, rows: int) -> float:
    """Imports so many new contacts and returns the most memory that was resident meanwhile, in MiB."""
    most = 0.0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, resident_mb(system.pid))
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    async with grpc.aio.insecure_channel(system.target) as channel:
        stub = contact_service_pb2_grpc.ContactServiceStub(channel)
        answers = stub.ImportContacts(_import_rows(rows), metadata=_bearer(system))
        count = sum([1 async for _ in answers])
    looking.cancel()
    assert count == rows, f"{count} of {rows} rows were answered"
    return most


def _import_rows(rows: int) -> Iterator[contact_service_pb2.ImportContactsRequest]:
    first = time.time_ns()
    for number in range(rows):
        row = contact_service_pb2.ImportContactsRequest(import_id="bench", row=number)
        row.contact.email = cases.fresh(first, number)
        row.contact.metadata.update(cases.details(number))
        yield row


def _bearer(system: System) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {system.key}"),)
