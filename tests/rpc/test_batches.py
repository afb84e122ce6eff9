"""Many contacts at once: batches, imports of any length, and exports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from tests.rpc.calls import ended, read, reason_of, refusal, stubs, until
from tests.rpc.relays import serving
from tests.store.proxy import CuttingProxy

from multimail.v1 import contact_pb2, error_reason_pb2
from multimail.v1 import contact_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from tests.conftest import Account

CREATED, UPDATED, UNCHANGED = (
    contact_pb2.UpsertOutcome.Value(f"UPSERT_OUTCOME_{name}") for name in ("CREATED", "UPDATED", "UNCHANGED")
)


def row(who: str, **more: Any) -> pb.UpsertContactRequest:
    """A row for somebody."""
    return pb.UpsertContactRequest(email=f"{who}@batch.test", **more)


def import_row(number: int, contact: pb.UpsertContactRequest, import_id: str = "i") -> pb.ImportContactsRequest:
    """A row of an import."""
    return pb.ImportContactsRequest(import_id=import_id, row=number, contact=contact)


async def imported(contacts: Any, rows: Iterable[pb.ImportContactsRequest]) -> list[pb.ImportContactsResponse]:
    """What becomes of these rows."""
    return [answer async for answer in contacts.ImportContacts(iter(list(rows)))]


async def test_each_row_of_a_batch_by_itself(account: Account) -> None:
    """Rows are made or merged in order, one that is refused leaves the others alone, and outcomes stand in order."""
    async with stubs(account) as (contacts, _):
        request = pb.BatchUpsertContactsRequest(
            contacts=[row("a"), row("b", name="B"), pb.UpsertContactRequest(email="no address"), row("a", name="A")]
        )
        outcomes = (await contacts.BatchUpsertContacts(request)).outcomes
        assert [CREATED, CREATED, 0, UPDATED] == [each.upserted.outcome for each in outcomes]
        assert "INVALID_FIELD" == reason_of(outcomes[2])
        assert outcomes[0].upserted.contact_id == outcomes[3].upserted.contact_id
        found = await contacts.GetContact(pb.GetContactRequest(email="a@batch.test"))
        assert ("A", outcomes[3].upserted.etag) == (found.name, found.etag)
        for bad in ([], [row("x")] * 1001):
            refused = await refusal(contacts.BatchUpsertContacts(pb.BatchUpsertContactsRequest(contacts=bad)))
            assert ("INVALID_ARGUMENT", ("contacts",)) == (refused.code, refused.fields)
        own = pb.BatchUpsertContactsRequest(contacts=[row("a", request_id="x")])
        assert "INVALID_FIELD" == reason_of((await contacts.BatchUpsertContacts(own)).outcomes[0])


async def test_many_are_read_in_order(account: Account) -> None:
    """Contacts are read by id and by address in the order asked for; who is not there is refused in their place."""
    async with stubs(account) as (contacts, _):
        made = (await contacts.UpsertContact(row("a"))).contact
        asked = [
            pb.GetContactRequest(email="nobody@batch.test"),
            pb.GetContactRequest(id=made.id),
            pb.GetContactRequest(),
            pb.GetContactRequest(email="A@batch.test"),
            pb.GetContactRequest(email="no address"),
        ]
        outcomes = (await contacts.BatchGetContacts(pb.BatchGetContactsRequest(contacts=asked))).outcomes
        assert ["CONTACT_NOT_FOUND", "", "INVALID_FIELD", "", "INVALID_FIELD"] == [reason_of(each) for each in outcomes]
        assert [made.id] * 2 == [outcomes[n].contact.id for n in (1, 3)]
        large = Struct()
        large.update({"text": "x" * 60_000})
        await contacts.UpsertContact(row("a", metadata=large))
        many = pb.BatchGetContactsRequest(contacts=[pb.GetContactRequest(id=made.id)] * 100)
        assert ("contacts",) == (await refusal(contacts.BatchGetContacts(many))).fields


async def test_a_thousand_at_once(account: Account) -> None:
    """A thousand rows are one call, and a thousand contacts; repeated, it changes nothing."""
    async with stubs(account, timeout_s=60) as (contacts, _):
        request = pb.BatchUpsertContactsRequest(contacts=[row(f"p{n}") for n in range(1000)], request_id="once")
        first = (await contacts.BatchUpsertContacts(request)).outcomes
        assert [CREATED] * 1000 == [each.upserted.outcome for each in first]
        again = (await contacts.BatchUpsertContacts(request)).outcomes
        assert [each.upserted.contact_id for each in first] == [each.upserted.contact_id for each in again]
        assert 1000 == (await contacts.CountContacts(pb.CountContactsRequest())).count
        asked = [pb.GetContactRequest(email=f"p{n}@batch.test") for n in range(1000)]
        read = (await contacts.BatchGetContacts(pb.BatchGetContactsRequest(contacts=asked))).outcomes
        assert [each.upserted.contact_id for each in first] == [each.contact.id for each in read]


async def test_an_import_answers_each_row_in_order(account: Account) -> None:
    """Each row of an import is answered by its number, in order, and what is refused stops nothing."""
    async with stubs(account) as (contacts, _):
        rows = [import_row(n, row(f"p{n % 50}", name=f"Name {n}")) for n in range(120)]
        rows[7] = import_row(7, pb.UpsertContactRequest(email="no address"))
        answers = await imported(contacts, rows)
        assert list(range(120)) == [each.row for each in answers]
        assert [7] == [each.row for each in answers if each.WhichOneof("result") == "refusal"]
        assert 49 == sum(each.upserted.outcome == CREATED for each in answers[:50])
        assert 50 == (await contacts.CountContacts(pb.CountContactsRequest())).count


async def test_an_import_answers_while_more_is_to_come(account: Account) -> None:
    """A client may wait for the answer to one row before it sends the next."""
    async with stubs(account) as (contacts, _):
        call = contacts.ImportContacts()
        for number in range(3):
            await call.write(import_row(number, row(f"p{number}")))
            assert (number, CREATED) == ((answer := await call.read()).row, answer.upserted.outcome)
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF


async def test_an_import_goes_on_where_it_broke(account: Account) -> None:
    """Rows sent again under the same import are not done again, and answer as they did; other content is refused."""
    async with stubs(account) as (contacts, _):
        rows = [import_row(n, row(f"p{n}")) for n in range(30)]
        first = await imported(contacts, rows[:20])
        await contacts.UpdateContact(pb.UpdateContactRequest(email="p3@batch.test", name="Changed since"))
        again = await imported(contacts, rows)
        assert [(each.row, each.upserted.contact_id) for each in first] == [
            (each.row, each.upserted.contact_id) for each in again[:20]
        ]
        assert [CREATED] * 30 == [each.upserted.outcome for each in again]
        assert "Changed since" == (await contacts.GetContact(pb.GetContactRequest(email="p3@batch.test"))).name
        (other,) = await imported(contacts, [import_row(3, row("else"))])
        assert error_reason_pb2.ERROR_REASON_REQUEST_ID_REUSED == other.refusal.reason
        (fresh,) = await imported(contacts, [import_row(3, row("else"), import_id="another")])
        assert CREATED == fresh.upserted.outcome


async def test_an_import_that_runs_twice_at_once(account: Account) -> None:
    """Two runs of one import at the same time make each contact once, and both are told of the same ones."""
    async with stubs(account, timeout_s=60) as (contacts, _):
        rows = [import_row(n, row(f"p{n}")) for n in range(60)]
        one, other = await asyncio.gather(imported(contacts, rows), imported(contacts, rows))
        assert [each.upserted.contact_id for each in one] == [each.upserted.contact_id for each in other]
        assert [CREATED] * 120 == [each.upserted.outcome for each in (*one, *other)]
        assert 60 == (await contacts.CountContacts(pb.CountContactsRequest())).count


async def test_an_import_waits_for_an_engine_that_is_away(engine_uri: str, tmp_path: Path) -> None:
    """While nothing can be written no row is refused: the stream ends as unavailable, and goes on from there later."""
    async with (
        CuttingProxy(engine_uri) as proxy,
        serving(proxy.uri, tmp_path, "away") as account,
        stubs(account, timeout_s=60) as (contacts, _),
    ):
        rows = [import_row(n, row(f"p{n}")) for n in range(4)]
        call = contacts.ImportContacts()
        await call.write(rows[0])
        (first,) = await read(call, 1)
        proxy.cut_at(b"accounts", times=10_000, deliver=False)
        for each in rows[1:]:
            await call.write(each)
        assert "UNAVAILABLE" == (await ended(call)).code
        proxy.cut_at(b"", times=0, deliver=False)
        again = await imported(contacts, rows)
        assert [CREATED] * 4 == [each.upserted.outcome for each in again]
        assert first.upserted.contact_id == again[0].upserted.contact_id


async def test_an_import_needs_a_name_and_good_rows(account: Account) -> None:
    """Without an import_id in its first message an import is refused, as is a message without a contact."""
    async with stubs(account) as (contacts, _), stubs(account, "read") as (reader, _):
        for rows, field in (
            ([import_row(0, row("a"), import_id="")], "import_id"),
            ([pb.ImportContactsRequest(import_id="i")], "contact"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await imported(contacts, rows)
            assert grpc.StatusCode.INVALID_ARGUMENT == refused.value.code()
            assert field in str(refused.value.details())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await imported(reader, [import_row(0, row("a"))])
        assert grpc.StatusCode.PERMISSION_DENIED == refused.value.code()


async def test_an_import_takes_no_more_than_it_can_write(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends without reading is made to wait: only so many rows are taken in at a time."""
    monkeypatch.setattr("multimail_server.contacts.batches._UNDER_WAY", 4)
    sent = 0

    async def rows() -> AsyncIterator[pb.ImportContactsRequest]:
        nonlocal sent
        large = Struct()
        large.update({"text": "x" * 60_000})
        for number in range(1_000):
            yield import_row(number, row(f"p{number}", metadata=large))
            sent = number

    async with stubs(account) as (contacts, _):
        before = len(asyncio.all_tasks())
        call = contacts.ImportContacts(rows())
        await call.read()
        await asyncio.sleep(1.0)  # nobody reads
        assert sent < 999
        call.cancel()
        count = (await contacts.CountContacts(pb.CountContactsRequest())).count
        assert 0 < count <= sent + 1

        async def gone() -> bool:
            return len(asyncio.all_tasks()) <= before + 1

        await until(gone)


@pytest.mark.parametrize("whose", ["the account's own", "another account's"])
async def test_changes_somebody_waits_for_go_before_rows(account: Account, whose: str) -> None:
    """A single upsert, of whichever account, among thousands of rows is answered long before the last of them."""
    other = type(account)(f"{account.name}-other", account.running, account.commands)
    caller = account if whose == "the account's own" else other
    async with stubs(account, timeout_s=60) as (contacts, _), stubs(caller) as (single, _):
        batches = [
            pb.BatchUpsertContactsRequest(contacts=[row(f"p{batch}-{n}") for n in range(500)]) for batch in range(4)
        ]
        calls = [asyncio.ensure_future(contacts.BatchUpsertContacts(batch)) for batch in batches]

        async def waiting() -> bool:
            lane = account.running.committer._lanes.get(account.name)
            return lane is not None and len(lane.patient) > 1000

        await until(waiting)
        await single.UpsertContact(row("single"))
        assert not all(call.done() for call in calls)
        await asyncio.gather(*calls)


async def test_everybody_is_exported_once(account: Account) -> None:
    """An export streams whom its filter finds, each once, in order of id, and goes on behind the last one read."""
    async with stubs(account, timeout_s=60) as (contacts, _):
        rows = [row(f"p{n}", name="Odd" if n % 2 else "Even") for n in range(700)]
        await contacts.BatchUpsertContacts(pb.BatchUpsertContactsRequest(contacts=rows))
        every = [each.contact async for each in contacts.ExportContacts(pb.ExportContactsRequest())]
        assert [f"p{n}@batch.test" for n in range(700)] == [each.email for each in every]
        odd = [each.contact.id async for each in contacts.ExportContacts(pb.ExportContactsRequest(filter="odd"))]
        assert [each.id for each in every if each.name == "Odd"] == odd
        rest = contacts.ExportContacts(pb.ExportContactsRequest(filter="odd", after_id=odd[99]))
        assert odd[100:] == [each.contact.id async for each in rest]
