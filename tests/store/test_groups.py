"""Commit groups and grouped reads on every driver and engine at hand: nothing lost, nothing doubled, few commands."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import Account, Commands, binaries, engine_on, settings_for
from tests.store.proxy import CuttingProxy

from multimail_server.app import Service, new_id
from multimail_server.errors import DomainError, Reason
from multimail_server.fsck import check_accounts
from multimail_server.storage import commit, gather
from multimail_server.storage.documents import Draft, Need
from multimail_server.storage.mongo import WriteRefusedError
from multimail_server.storage.operation import Operation
from multimail_server.storage.reads import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import multimail

HOUSEKEEPING = {"hello", "ping", "isMaster", "endSessions", "killSessions", "listCollections"}
# Collections that workers and heartbeats look at on their own.
BACKGROUND = {"jobs", "processes", "api_keys"}


@pytest.fixture(
    scope="module", params=[(engine, driver) for engine in binaries() for driver in ("motor", "pymongo")], ids="-".join
)
async def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Account]:
    """A service per engine and driver, behind a proxy that can cut its connections."""
    engine, driver = request.param
    folder = tmp_path_factory.mktemp(f"{engine}-{driver}")
    commands = Commands()
    async with engine_on(folder / "engine", binaries()[engine]) as uri, CuttingProxy(uri) as proxy:
        settings = settings_for(proxy.uri, folder, mongo_driver=driver)
        async with Service(settings, listeners=[commands]) as running:
            account = Account("store", running, commands)
            account.__dict__["proxy"] = proxy
            yield account


@pytest.fixture
async def contacts(store: Account) -> AsyncIterator[multimail.AsyncClient]:
    """A client whose channel is connected."""
    async with await store.client() as client:
        await client.contacts.search(limit=1)
        yield client


def counted(commands: list[tuple[str, dict]]) -> list[str]:
    """The names of the commands that answer calls: no heartbeats, no workers."""
    names = []
    for name, command in commands:
        target = command.get(name)
        outbox = name == "find" and target == "emails" and "due_at" in command.get("filter", {})
        if name not in HOUSEKEEPING and target not in BACKGROUND and not outbox:
            names.append(name)
    return names


async def test_one_new_address_from_everywhere(contacts: multimail.AsyncClient) -> None:
    """200 concurrent upserts of one new address make one contact and lose no key."""
    email = f"{new_id('x')}@acme.test".lower()
    made = await asyncio.gather(
        *(contacts.contacts.upsert(email=email, metadata={f"k{n}": n, "deep": {f"d{n}": n}}) for n in range(200))
    )
    assert len({contact.id for contact in made}) == 1
    assert Counter(contact.outcome for contact in made) == {"created": 1, "updated": 199}
    metadata = (await contacts.contacts.get(email=email)).metadata
    assert {f"k{n}": n for n in range(200)} == {key: value for key, value in metadata.items() if key != "deep"}
    assert {f"d{n}": n for n in range(200)} == metadata["deep"]


async def test_concurrent_merges_lose_nothing(contacts: multimail.AsyncClient) -> None:
    """200 concurrent merges and increments of one known contact are all there afterwards."""
    email = f"{new_id('x')}@acme.test".lower()
    await contacts.contacts.upsert(email=email, metadata={"sum": 0})
    await asyncio.gather(
        *(contacts.contacts.update(email=email, metadata={f"m{n}": n}, increment={"sum": 1}) for n in range(200))
    )
    assert {f"m{n}": n for n in range(200)} | {"sum": 200} == (await contacts.contacts.get(email=email)).metadata


async def test_64_reads_share_queries(store: Account, contacts: multimail.AsyncClient) -> None:
    """64 concurrent gets of different contacts take at most 4 queries."""
    emails = [f"read{n}@acme.test" for n in range(64)]
    await asyncio.gather(*(contacts.contacts.upsert(email=email) for email in emails))
    start = len(store.commands.sent)
    found = await asyncio.gather(*(contacts.contacts.get(email=email) for email in emails))
    assert emails == [contact.email for contact in found]
    names = counted(store.commands.sent[start:])
    assert len(names) <= 4, names


async def test_a_read_goes_on_where_a_reply_ends(store: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into one reply is read whole, by find and by aggregate, in a transaction too."""
    await store.client()
    database = store.running.database
    monkeypatch.setattr("multimail_server.storage.mongo._MANY", 10)
    key = new_id("many")
    await database.insert_many("erasures", [{"_id": f"{key} {n}", "many": key} for n in range(35)])
    session = await database.start_session()
    await session.begin()
    begun = len(store.commands.sent)
    for inside in (None, session):
        found = await database.find("erasures", {"many": key}, session=inside)
        piped = await database.aggregate("erasures", [{"$match": {"many": key}}], session=inside)
        assert 35 == len({each["_id"] for each in found}) == len({each["_id"] for each in piped})
    await session.abort()
    await session.close()
    assert 4 == [name for name, _ in store.commands.sent[begun:]].count("killCursors"), "a cursor is left open"


async def test_a_read_is_made_again_once(store: Account) -> None:
    """A connection that breaks under a read costs nobody an error; an engine that is gone does."""
    await store.client()
    database, proxy = store.running.database, store.__dict__["proxy"]
    for times in (1, 2):
        key = new_id("broken")
        await database.insert_one("erasures", {"_id": key})
        proxy.cut_at(key.encode(), times=times, deliver=False)
        try:
            found = await database.find("erasures", {"_id": key})
        except DomainError as error:
            assert (2, Reason.ENGINE_UNAVAILABLE) == (times, error.reason)
        else:
            assert (1, [{"_id": key}]) == (times, found)


@pytest.mark.parametrize("known", [False, True])
async def test_64_upserts_share_commits(store: Account, contacts: multimail.AsyncClient, *, known: bool) -> None:
    """64 concurrent upserts, of new or of known contacts, form at most 4 groups of at most 10 commands each."""
    emails = [f"write{n}@acme.test" for n in range(64)]
    start = len(store.commands.sent)
    done = await asyncio.gather(*(contacts.contacts.upsert(email=e, metadata={"known": known}) for e in emails))
    assert {"updated" if known else "created"} == {contact.outcome for contact in done}
    names = list(counted_groups(store.commands.sent[start:]))
    assert len(names) <= 4, names
    assert max(names) <= 10, names


def counted_groups(commands: list[tuple[str, dict]]) -> list[int]:
    """How many commands each transaction took, commits included."""
    groups: Counter[tuple[str, int]] = Counter()
    for _, command in commands:
        if "txnNumber" in command and command.get("autocommit") is False:
            groups[str(command["lsid"]), command["txnNumber"]] += 1
    return list(groups.values())


@pytest.mark.parametrize("changes", [False, True], ids=["reads", "changes"])
async def test_who_comes_again_shares_again(store: Account, *, changes: bool) -> None:
    """Eight who call again and again, each some time after the answer, share every round trip but few."""
    await store.client()
    committer, reader = store.running.committer, Reader(store.running.database, {})
    wanted = f"shared-{new_id('x')}"

    async def caller(number: int) -> None:
        for _ in range(6):
            if changes:
                await committer.run(operation(store.name, lambda _: None, wanted))
            else:
                await reader.all(store.name, "contacts", "email_keys", wanted)
            await asyncio.sleep(0.001 * number)

    begun = len(store.commands.sent)
    await asyncio.gather(*map(caller, range(8)))
    asked = [name for name, command in store.commands.sent[begun:] if name == "find" and wanted in repr(command)]
    assert len(asked) <= 9, "who was answered first went alone, the others after them"


LONE = {
    "one read": lambda contacts: contacts.get(email="alone1@acme.test"),
    "many read": lambda contacts: contacts.get_many(f"alone{n}@acme.test" for n in range(20)),
    "one changed": lambda contacts: contacts.upsert(email="alone1@acme.test", metadata={"n": new_id("x")}),
    "many changed": lambda contacts: contacts.upsert_many({"email": f"alone{n}@acme.test"} for n in range(20)),
    "more needed": lambda contacts: contacts.delete(email="alone2@acme.test"),
}


@pytest.mark.parametrize("call", LONE.values(), ids=LONE)
async def test_a_lone_call_waits_for_no_clock(
    store: Account, monkeypatch: pytest.MonkeyPatch, contacts: multimail.AsyncClient, call: Callable[[Any], Any]
) -> None:
    """However much one call asks for, and whatever its caller asked for just before, it waits for nobody."""
    await contacts.contacts.upsert_many({"email": f"alone{n}@acme.test"} for n in range(20))
    await store.running.committer.settle(grace_s=10)
    pauses, sleep = [], gather.sleep

    async def noting(seconds: float) -> None:
        lane = asyncio.current_task()
        assert lane is not None
        if inspect.getcoroutinelocals(lane.get_coro())["self"]._database is store.running.database:
            pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(gather, "sleep", noting)
    await contacts.contacts.get_many(f"alone{n}@acme.test" for n in range(20))
    await contacts.contacts.upsert_many({"email": f"alone{n}@acme.test", "name": new_id("x")} for n in range(20))
    await call(contacts.contacts)
    assert {0} == set(pauses)


async def test_rows_of_a_stream_are_waited_for(
    store: Account, monkeypatch: pytest.MonkeyPatch, contacts: multimail.AsyncClient
) -> None:
    """Each row of an import counts as a caller, for the next is on its way: else groups would hold a few rows each."""
    askers = []
    monkeypatch.setattr(commit, "current_asker", lambda: askers.append(gather.current_asker()) or askers[-1])
    rows = ({"email": f"streamed{n}@acme.test"} for n in range(20))
    async for outcome in await contacts.contacts.import_(rows, new_id("import")):
        assert outcome.error is None
    assert 20 <= len(askers) == len(set(askers))


def operation(account: str, rule: object, need: str = "") -> Operation:
    """An operation of a test."""
    needs = (Need("contacts", "email_keys", (need,)),) if need else ()
    return Operation(account, "test", needs, rule)


async def test_refused_operation_drops_only_its_own(store: Account) -> None:
    """In one group an operation that refuses, fails or is cancelled leaves nothing; its neighbours happen."""
    await store.client()
    service = store.running

    def note(draft: Draft) -> int:
        draft.notify("unchanged", shown=False)
        return draft.group.seq

    def refuse(draft: Draft) -> int:
        note(draft)
        raise DomainError(Reason.STATE_FORBIDS, "no")

    def fail(draft: Draft) -> int:
        note(draft)
        return 1 // 0

    before = (await service.database.find("accounts", {"_id": store.name}))[0]["seq"]
    committer = service.committer
    tasks = [
        asyncio.create_task(committer.run(operation(store.name, rule))) for rule in (note, refuse, fail, note, note)
    ]
    await asyncio.sleep(0)
    tasks[4].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [int, DomainError, ZeroDivisionError, int, asyncio.CancelledError] == [type(each) for each in results]
    after = (await service.database.find("accounts", {"_id": store.name}))[0]["seq"]
    assert after - before == 2


async def test_taken_key_fails_alone(store: Account) -> None:
    """When the engine refuses one operation's document for a taken key, the others of its group still happen."""
    await store.client()
    await store.running.database.insert_one("secrets", {"_id": "taken"})

    def insert(identifier: str) -> object:
        def rule(draft: Draft) -> str:
            draft.put("secrets", {"_id": identifier, "account": store.name})
            draft.notify("unchanged", shown=False)
            return identifier

        return rule

    tasks = [store.running.committer.run(operation(store.name, insert(each))) for each in ("a1", "taken", "a2")]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[2]] == ["a1", "a2"]
    assert isinstance(results[1], Exception)
    assert len(await store.running.database.find("secrets", {"_id": {"$in": ["a1", "a2"]}})) == 2
    await store.running.database.delete_many("secrets", [{"_id": each} for each in ("a1", "a2", "taken")])


@pytest.mark.parametrize("content", [{"a\0b": 1}, 2**70], ids=["a key with NUL", "a number too large"])
async def test_what_cannot_be_written_fails_alone(store: Account, content: object) -> None:
    """When a document cannot even be put on the wire, its operation fails, and the others of its group still happen."""
    await store.client()

    def insert(identifier: str, more: object) -> object:
        def rule(draft: Draft) -> str:
            draft.put("secrets", {"_id": identifier, "account": store.name, "content": more})
            draft.notify("unchanged", shown=False)
            return identifier

        return rule

    rules = (insert("b1", 1), insert("bad", content), insert("b2", 2))
    results = await asyncio.gather(
        *(store.running.committer.run(operation(store.name, rule)) for rule in rules), return_exceptions=True
    )
    assert [results[0], results[2]] == ["b1", "b2"]
    assert isinstance(results[1], WriteRefusedError)
    await store.running.database.delete_many("secrets", [{"_id": each} for each in ("b1", "b2")])


@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_unknown_commit_is_looked_up(store: Account, contacts: multimail.AsyncClient, lost: str) -> None:
    """When the connection breaks at the commit, before or after it happened, each change still happens once."""
    email = f"{lost}@acme.test"
    await contacts.contacts.upsert(email=email, metadata={"n": 0})
    store.__dict__["proxy"].cut_at(b"commitTransaction", times=3, deliver=lost == "reply")
    await asyncio.gather(*(contacts.contacts.update(email=email, increment={"n": 1}) for _ in range(20)))
    assert (await contacts.contacts.get(email=email)).metadata["n"] == 20


async def test_erased_in_the_group_that_made_it(store: Account, contacts: multimail.AsyncClient) -> None:
    """Made, written to and erased all at once, a person leaves only a tombstone, in whatever groups that fell."""
    box = await contacts.mailboxes.create(email=f"{new_id('b').lower()}@store.test")
    for number in range(5):
        email = f"gone{number}-{new_id('x').lower()}@acme.test"
        made, _, _ = await asyncio.gather(
            contacts.contacts.upsert(email=email),
            contacts.send_email(from_mailbox=box.id, to=email, subject="secret"),
            asyncio.sleep(0),
        )
        await asyncio.gather(
            contacts.send_email(from_mailbox=box.id, to=email, subject="secret"),
            contacts.contacts.delete(id=made.id),
        )
        (tombstone,) = await store.running.database.find("contacts", {"_id": made.id})
        assert "secret" not in repr(tombstone)
        assert "gone" not in repr(tombstone)
        assert [] == tombstone["interactions"]


async def test_everything_still_fits(store: Account) -> None:
    """After all of the above the counters equal the logs and the numbers have no gaps."""
    report = await check_accounts(store.running.database, progress=lambda _: None)
    assert report.problems == []
    assert report.notifications > 0
