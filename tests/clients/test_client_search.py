"""Searching, many contacts at once, and streams of them, through both clients against a real service."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from tests.clients.forms import FORMS, Following, client_of
from tests.clients.test_watch import Line, client_on

import multimail
from multimail import bulk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import Account

both = pytest.mark.parametrize("form", FORMS)


def people(count: int, **more: Any) -> list[dict[str, Any]]:
    """Rows for so many people."""
    return [{"email": f"p{number}@b.test", "name": f"Person {number}"} | more for number in range(count)]


async def rows_of(results: Any) -> list[Any]:
    """All that a search finds."""
    if isinstance(results, multimail.AsyncResults):
        return [each async for each in results]
    return await asyncio.to_thread(list, results)


@both
async def test_a_search_as_text_in_an_order(account: Account, form: str) -> None:
    """A filter finds, page by page and in the order asked for, whom it describes, and count counts them."""
    client = await client_of(form, account)
    await client.contacts.upsert_many(people(7, metadata={"plan": "pro"}))
    await client.contacts.upsert(email="other@b.test", metadata={"plan": "free"})
    asked = {"filter": "metadata.plan = pro AND never_contacted"}
    found = await client.contacts.search(**asked, order_by="email desc", limit=6)
    assert [f"p{number}@b.test" for number in range(6, 0, -1)] == [each.email for each in await rows_of(found)]
    assert 7 == await client.contacts.count(**asked)
    assert 1 == await client.contacts.count(filters={"metadata.plan": "free"})
    with pytest.raises(multimail.InvalidArgumentError, match="column 16"):
        await client.contacts.count(filter="metadata.plan =")


@both
async def test_a_search_says_how_it_was_done(account: Account, form: str) -> None:
    """With explain the results tell how their first page was found; else they do not."""
    client = await client_of(form, account)
    await client.contacts.upsert_many(people(4, metadata={"plan": "pro"}))
    found = await client.contacts.search(filter="metadata.plan = pro", explain=True, limit=2)
    assert multimail.SearchPlan(["facets__id"], True, 4, 2) == found.plan
    everybody = await client.contacts.search(filter="metadata.plan != free", explain=True)
    assert (False, 4) == (everybody.plan.indexed, everybody.plan.returned)
    assert (await client.contacts.search()).plan is None


@both
async def test_many_are_made_and_merged(account: Account, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are cut into calls and answered in their order, and one that is refused leaves the others alone."""
    monkeypatch.setattr(bulk, "MAX_ROWS", 40)
    monkeypatch.setattr(bulk, "_MAX_BYTES", 20_000)
    client = await client_of(form, account)
    rows: list[Any] = people(100)
    rows[3] = {"email": "no address"}
    rows[5] = {"email": "p5@b.test", "metadata": {"number": float("nan")}}
    rows[7] = multimail.ContactRow("P8@b.test", metadata={"text": "x" * 30_000})
    outcomes = await client.contacts.upsert_many(iter(rows))
    assert list(range(100)) == [each.row for each in outcomes]
    assert [3, 5] == [each.row for each in outcomes if each.error]
    assert ["email", "metadata.number"] == [
        outcomes[3].error.message.partition(":")[0],
        outcomes[5].error.violations[0].field,
    ]
    assert all(isinstance(outcomes[row].error, multimail.InvalidArgumentError) for row in (3, 5))
    assert (outcomes[7].contact_id, "created", "updated") == (
        outcomes[8].contact_id, outcomes[7].outcome, outcomes[8].outcome,
    )  # fmt: skip
    contact = await client.contacts.get(email="p8@b.test")
    assert (contact.id, contact.etag, "Person 8") == (outcomes[8].contact_id, outcomes[8].etag, contact.name)
    assert [] == await client.contacts.upsert_many([])
    assert [0] == [each.row for each in await client.contacts.upsert_many([rows[5]]) if each.error]
    with pytest.raises(TypeError, match="company"):
        await client.contacts.upsert_many([{"email": "a@b.test", "company": "Acme"}])


@both
async def test_many_are_read_in_order(account: Account, form: str) -> None:
    """Contacts are read by id and address in the order asked for, however large; who is not there is None."""
    client = await client_of(form, account)
    made = await client.contacts.upsert_many(people(120, metadata={"text": "x" * 40_000}))
    asked = [each.contact_id for each in made] + ["P3@b.test", "nobody@b.test", "no id", "no@address", "p3@b.test"]
    found = await client.contacts.get_many(iter(asked))
    assert [each.contact_id for each in made] == [each.id for each in found[:120]]
    assert [made[3].contact_id, None, None, None, made[3].contact_id] == [each and each.id for each in found[120:]]
    assert [found[3]] == await client.contacts.get_many("p3@b.test")
    assert [] == await client.contacts.get_many([])


async def slowly(rows: list[Any]) -> AsyncIterator[Any]:
    """The rows, as an asyncio program gets them."""
    for row in rows:
        await asyncio.sleep(0)
        yield row


@both
async def test_an_import_says_what_became_of_each_row(account: Account, form: str) -> None:
    """Any iterable can be imported: each row is answered by its number, in order, also those that cannot be sent."""
    client = await client_of(form, account)
    rows: list[Any] = people(1_100)
    rows[0] = rows[1_020] = {"email": "\ud800@b.test"}
    rows[1_050] = {"email": "no address"}
    importing = await client.contacts.import_(slowly(rows) if form == "async" else iter(rows))
    outcomes = await Following(importing).rest()
    assert list(range(1_100)) == [each.row for each in outcomes]
    refused = {each.row: type(each.error) for each in outcomes if each.error}
    assert dict.fromkeys((0, 1_020, 1_050), multimail.InvalidArgumentError) == refused
    assert 1_097 == await client.contacts.count() == sum(each.outcome == "created" for each in outcomes)
    assert [] == await Following(await client.contacts.import_([])).rest()


@both
async def test_a_second_run_of_an_import_changes_nothing(account: Account, form: str) -> None:
    """The same rows under the same name are answered as at first, and leave alone what was changed since."""
    client = await client_of(form, account)
    first = await client.contacts.import_(people(50))
    outcomes = await Following(first).rest()
    await client.contacts.upsert(email="p7@b.test", name="Changed since")
    seen = (await client.notifications.list()).items[-1].seq
    again = await client.contacts.import_(people(50) + people(1, name="More"), first.import_id)
    told = await Following(again).rest()
    assert [(each.row, each.contact_id, "created") for each in outcomes] == [
        (each.row, each.contact_id, each.outcome) for each in told[:50]
    ]
    assert "Changed since" == (await client.contacts.get(email="p7@b.test")).name
    assert [("contact_updated", told[50].contact_id)] == [
        (each.type, each.contact_id) for each in (await client.notifications.list(after_seq=seen)).items
    ]
    other = await Following(await client.contacts.import_(people(1, name="Other"), first.import_id)).rest()
    assert ["REQUEST_ID_REUSED"] == [each.error.reason for each in other]


@both
async def test_an_import_goes_on_when_connections_break(account: Account, form: str) -> None:
    """Over connections that break after random bytes every row is answered once, in order, and done once."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    async with Line(account.running.grpc_port, random.Random(seed)).up() as line:
        client = await client_on(form, account, line.port)
        outcomes = await Following(await client.contacts.import_(people(120))).rest()
        assert [(number, "created") for number in range(120)] == [(each.row, each.outcome) for each in outcomes]
        assert line.cuts >= 3
    async with await account.client() as direct:
        assert 120 == len((await direct.notifications.list(types="contact_created", limit=500)).items)


@both
async def test_an_import_holds_few_rows(account: Account, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are taken no further ahead of the outcomes than is allowed, and sent again after a cut, with no more."""
    monkeypatch.setattr(bulk, "_AHEAD", 10)
    taken = 0

    def rows() -> Iterator[Any]:
        nonlocal taken
        for row in people(60):
            taken += 1
            yield row

    async with Line(account.running.grpc_port).up() as line:
        client = await client_on(form, account, line.port)
        following = Following(await client.contacts.import_(rows()))
        for number in range(60):
            if number in (3, 30, 55):
                await line.cut()
            assert number == (await following.step()).row
            assert taken <= number + 10
        assert [] == await following.rest()


@both
async def test_an_error_of_the_rows_ends_an_import(
    account: Account, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the rows raise comes out of the iteration, which is over then; the same rows can be imported again."""
    monkeypatch.setattr(bulk, "_AHEAD", 100)

    def rows() -> Iterator[Any]:
        yield from people(150)
        raise KeyError

    client = await client_of(form, account)
    following = Following(await client.contacts.import_(rows(), "again"))
    for number in range(51):
        assert number == (await following.step()).row
    with pytest.raises(KeyError):
        await following.step()
    assert [] == await following.rest()
    told = await Following(await client.contacts.import_(people(150), "again")).rest()
    assert [(number, "created") for number in range(150)] == [(each.row, each.outcome) for each in told]


@both
async def test_an_import_gives_up_when_it_must(account: Account, form: str) -> None:
    """No scope, a name that is too long, and nobody there for longer than the patience are errors of ours."""
    for client, more, expected in (
        (await client_of(form, account, "read"), {}, multimail.PermissionDeniedError),
        (await client_of(form, account), {"import_id": "x" * 65}, multimail.InvalidArgumentError),
        (await client_on(form, account, 1), {"patience": 0.3}, multimail.UnavailableError),
    ):
        following = Following(await client.contacts.import_(people(2), **more))
        with pytest.raises(expected):
            await following.step()
        await following.close()


@both
async def test_everybody_is_exported_once(account: Account, form: str) -> None:
    """Over connections that break, an export yields whom its filter finds, in order of id, each once, and ends."""
    client = await client_of(form, account)
    await client.contacts.upsert_many(people(150, metadata={"plan": "pro"}))
    await client.contacts.upsert(email="other@b.test")
    seed = random.randrange(1 << 30)
    print("seed", seed)
    async with Line(account.running.grpc_port, random.Random(seed)).up() as line:
        cut = await client_on(form, account, line.port)
        found = await Following(await cut.contacts.export(filter="metadata.plan = pro")).rest()
        assert [f"p{number}@b.test" for number in range(150)] == [each.email for each in found]
        assert line.cuts >= 3
    with pytest.raises(multimail.InvalidArgumentError):
        await Following(await client.contacts.export(filter="metadata.plan =")).rest()


@both
async def test_contacts_are_followed(account: Account, form: str) -> None:
    """A watch tells what became of each contact, in order, also over a cut, and a later one goes on behind it."""
    writer = await client_of(form, account)
    await writer.contacts.upsert(email="before@b.test")
    async with Line(account.running.grpc_port).up() as line:
        client = await client_on(form, account, line.port)
        watch = Following(await client.contacts.watch(filter="metadata.plan = pro", only_new=True))
        made = await writer.contacts.upsert(email="a@b.test", metadata={"plan": "pro"})
        told = await watch.step()
        assert (made.id, True, False) == (told.contact_id, told.matches, told.erased)
        assert (made.etag, watch.watch.seq) == (told.contact.etag, told.seq)
        await line.cut()
        await writer.contacts.upsert(email="a@b.test", metadata={"plan": "free"})
        assert (made.id, False) == ((told := await watch.step()).contact_id, told.matches)
        await watch.close()
    await writer.contacts.delete(id=made.id)
    later = Following(await writer.contacts.watch(after_seq=watch.watch.seq))
    told = await later.step()
    assert (made.id, None, True, later.watch.seq) == (told.contact_id, told.contact, told.erased, told.seq)
    await later.close()


@both
async def test_what_is_worth_knowing_before_an_act(account: Account, form: str) -> None:
    """One read tells who it is, why not to write, what waits, what is open and what was written, within a budget."""
    client = await client_of(form, account)
    box = await client.mailboxes.create(email=account.mailbox())
    strict = await client.mailboxes.create(email=account.mailbox("strict"), oversight_mode="gated_send")
    sent = await client.send_email(from_mailbox=box.id, to="a@b.test", subject="Offer", body="words " * 30)
    held = await client.send_email(from_mailbox=strict.id, to="a@b.test", subject="Second")
    await client.suppressions.add("a@b.test")
    known = await client.contacts.context(email="a@b.test")
    assert ("a@b.test", False, "manual") == (known.contact.email, known.truncated, known.suppression.reason)
    assert ([held.id], {sent.id, held.id}) == (
        [each.id for each in known.pending], {each.email_id for each in known.interactions},
    )  # fmt: skip
    assert {sent.thread_id, held.thread_id} == {each.id for each in known.open_threads}
    assert ("Offer" in known.text, known.contact.id in known.text) == (True, True)
    short = await client.contacts.context(id=known.contact.id, max_characters=500)
    assert (True, True) == (short.truncated, len(short.text) <= 500)
    with pytest.raises(multimail.InvalidArgumentError):
        await client.contacts.context(id=known.contact.id, max_characters=499)
    with pytest.raises(multimail.NotFoundError):
        await client.contacts.context(email="nobody@b.test")
