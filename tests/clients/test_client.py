"""The clients: one surface in two forms, errors of their own, values as they went in, retries that double nothing."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.clients.forms import FORMS, InThreads

import multimail
from multimail import aio, client
from multimail.errors import BY_CODE, BY_REASON
from multimail.v1 import contact_pb2, contact_service_pb2, contact_service_pb2_grpc
from multimail_server.rpc.status import CODES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account


def signatures(module: Any, name: str) -> dict[str, list[str]]:
    """Public methods of a class and their parameters."""
    members = inspect.getmembers(getattr(module, name), inspect.isfunction)
    return {method: list(inspect.signature(found).parameters) for method, found in members if method[0] != "_"}


@pytest.mark.parametrize(
    ("sync", "asynchronous"),
    [("Client", "AsyncClient"), ("Contacts",) * 2, ("Mailboxes",) * 2, ("Threads",) * 2, ("Notifications",) * 2,
     ("Suppressions",) * 2],
)  # fmt: skip
def test_both_clients_have_one_surface(sync: str, asynchronous: str) -> None:
    """The synchronous and the asyncio client have the same methods with the same parameters."""
    assert signatures(client, sync) == signatures(aio, asynchronous)


@pytest.mark.parametrize("name", ["Stream", "Watch", "Import"])
def test_both_forms_of_a_stream_have_one_surface(name: str) -> None:
    """What streams has the same methods in both forms."""
    assert signatures(multimail, name) == signatures(multimail, f"Async{name}")


def test_every_code_has_an_exception() -> None:
    """Every status code grpc knows but OK is an exception of ours."""
    assert set(grpc.StatusCode) - {grpc.StatusCode.OK} == set(BY_CODE)


def test_every_reason_has_an_exception() -> None:
    """Every reason of the service is an exception of ours: that of the code it comes with, or a kind of it."""
    assert {reason.value for reason in CODES} == set(BY_REASON)
    assert all(issubclass(BY_REASON[reason.value], BY_CODE[code]) for reason, code in CODES.items())


async def test_synchronous_client_end_to_end(account: Account) -> None:
    """The synchronous client does the whole of it from a thread."""
    key = await account.key("read", "write", "send", "admin")

    def story() -> None:
        with multimail.Client(api_key=key, target=f"127.0.0.1:{account.running.grpc_port}") as sync:
            made = sync.contacts.upsert(email="a@b.test", metadata={"n": 1, "f": 1.5, "t": (1, None)})
            assert made.metadata == {"n": 1, "f": 1.5, "t": [1, None]}
            assert (int, str) == (type(made.metadata["n"]), type(made.name))
            box = sync.mailboxes.create(email=account.mailbox())
            sent = sync.send_email(
                from_mailbox=box.id, to="a@b.test", subject="s", body="b", oversight_mode="monitored"
            )
            assert [sent.id] == [entry.email_id for entry in sync.contacts.interactions(email="a@b.test")]
            for number in range(7):
                sync.contacts.upsert(email=f"x{number}@b.test")
            found = sync.contacts.search(domain="b.test", limit=5)
            assert (len(found.items), len(list(found)), [len(page) for page in found.pages()]) == (5, 5, [5])
            assert len(list(sync.contacts.search(domain="b.test"))) == 8
            assert list(sync.contacts.search(limit=0)) == []
            sync.contacts.delete(id=made.id)
            with pytest.raises(multimail.NotFoundError):
                sync.contacts.get(id=made.id)
        with pytest.raises(multimail.CancelledError):
            sync.contacts.get(id=made.id)

    await asyncio.to_thread(story)


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"n": 2**53 + 1}, "metadata.n"),
        ({"a": {"f": float("nan")}}, "metadata.a.f"),
        ({"a": [{"d": datetime(2026, 1, 1, tzinfo=UTC)}]}, "metadata.a.d"),
        ({"a": {1: 2}}, "metadata.a"),
        ({"s": {1, 2}}, "metadata.s"),
    ],
)
def test_what_json_cannot_hold_is_refused_here(metadata: dict[str, Any], path: str) -> None:
    """Metadata that would be changed on the way is refused by the client with its path, before anything is sent."""
    sync = multimail.Client(api_key="mm_live_x", target="127.0.0.1:1")
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        sync.contacts.upsert(email="a@b.test", metadata=metadata)
    assert [path] == [violation.field for violation in refused.value.violations]


def test_metadata_that_holds_itself_is_refused() -> None:
    """A dict that contains itself ends in a refusal, not in a crash."""
    loop: dict[str, Any] = {}
    loop["me"] = loop
    with pytest.raises(multimail.InvalidArgumentError):
        multimail.Client(api_key="mm_live_x").contacts.upsert(email="a@b.test", metadata=loop)


def test_no_key_says_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the client says how to get one; with one in the environment it takes that."""
    monkeypatch.delenv("MULTIMAIL_API_KEY", raising=False)
    with pytest.raises(multimail.UnauthenticatedError, match="make run"):
        multimail.Client()
    monkeypatch.setenv("MULTIMAIL_API_KEY", "mm_live_env")
    monkeypatch.setenv("MULTIMAIL_TARGET", "mail.example.test:443")
    endpoint = multimail.Client()._caller._endpoint
    assert (endpoint.api_key, endpoint.target, endpoint.tls) == ("mm_live_env", "mail.example.test:443", True)
    assert not multimail.Client(target="127.0.0.1:50051")._caller._endpoint.tls


async def test_nobody_there_is_said_plainly() -> None:
    """When nothing listens, the error says where it looked and how to start the service."""
    async with multimail.AsyncClient(api_key="mm_live_x", target="127.0.0.1:1", timeout=3) as nobody:
        with pytest.raises(multimail.UnavailableError, match=r"127\.0\.0\.1:1.*make run") as refused:
            await nobody.contacts.search()
    assert refused.value.reason == "CONNECTION"


class Flaky(contact_service_pb2_grpc.ContactServiceServicer):
    """A scripted peer: fails as often as it is told, remembers the request ids it saw."""

    def __init__(self) -> None:
        self.failures: list[grpc.StatusCode] = []
        self.seen: list[str] = []

    async def UpsertContact(self, request: Any, context: Any) -> contact_service_pb2.UpsertContactResponse:
        """Fails, or answers."""
        self.seen.append(request.request_id)
        if self.failures:
            await context.abort(self.failures.pop(0), "scripted")
        return contact_service_pb2.UpsertContactResponse(contact=contact_pb2.Contact(id="contact_1"), outcome=1)


@pytest.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, str]]:
    """The scripted peer on a port."""
    servicer, server = Flaky(), grpc.aio.server()
    contact_service_pb2_grpc.add_ContactServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_retries_repeat_the_request_id(flaky: tuple[Flaky, str], form: str) -> None:
    """What was not done is tried again with the same request_id; a new logical call gets a new one."""
    servicer, target = flaky
    servicer.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    if form == "sync":
        sync = multimail.Client(api_key="k", target=target)
        made = await asyncio.to_thread(sync.contacts.upsert, email="a@b.test")
        await asyncio.to_thread(sync.contacts.upsert, email="a@b.test")
    else:
        async with multimail.AsyncClient(api_key="k", target=target) as other:
            made = await other.contacts.upsert(email="a@b.test")
            await other.contacts.upsert(email="a@b.test")
    assert (made.id, made.outcome) == ("contact_1", "created")
    assert (len(servicer.seen), len(set(servicer.seen[:3])), len(set(servicer.seen))) == (4, 1, 2)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED])
async def test_nothing_else_is_tried_again(flaky: tuple[Flaky, str], code: grpc.StatusCode) -> None:
    """Any other failure reaches the caller at once, as an exception of ours."""
    servicer, target = flaky
    servicer.failures = [code]
    async with multimail.AsyncClient(api_key="k", target=target) as other:
        with pytest.raises(BY_CODE[code]):
            await other.contacts.upsert(email="a@b.test")
    assert len(servicer.seen) == 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_call_that_may_have_happened_says_how_to_repeat_it(flaky: tuple[Flaky, str], form: str) -> None:
    """The error of a change holds the request_id it went out with, minted or given, and its text says to repeat it."""
    servicer, target = flaky
    servicer.failures = [grpc.StatusCode.DEADLINE_EXCEEDED] * 2
    sync = InThreads(multimail.Client(api_key="k", target=target))
    other = multimail.AsyncClient(api_key="k", target=target) if form == "async" else sync
    with pytest.raises(multimail.DeadlineExceededError) as late:
        await other.contacts.upsert(email="a@b.test")
    minted = late.value.request_id
    assert ([minted], "") == (servicer.seen, late.value.log_id)
    assert str(late.value).startswith(f"scripted. It may have happened; repeat it with request_id='{minted}'")
    with pytest.raises(multimail.DeadlineExceededError) as again:
        await other.contacts.upsert(email="a@b.test", request_id=minted)
    assert (minted, [minted] * 2) == (again.value.request_id, servicer.seen)
    with pytest.raises(multimail.UnimplementedError) as read:
        await other.contacts.get(id="contact_1")
    assert "" == read.value.request_id
    await other.close()
    with pytest.raises(multimail.CancelledError) as shut:
        await other.contacts.upsert(email="a@b.test", request_id="mine")
    assert "mine" == shut.value.request_id


async def test_errors_of_the_service_say_where_its_log_tells_more(account: Account) -> None:
    """What the service answered is found in its log by the error's log_id, and its own text stands alone."""
    async with await account.client() as known:
        with pytest.raises(multimail.NotFoundError) as unknown:
            await known.contacts.delete(email="nobody@b.test", request_id="mine")
    error = unknown.value
    assert (True, "mine", error.message) == (error.log_id.startswith("req_"), error.request_id, str(error))


def test_another_event_loop_is_refused_in_words() -> None:
    """A client of asyncio that is used on a second loop says what to do, and can still be closed."""
    wandering = multimail.AsyncClient(api_key="k", target="127.0.0.1:1", timeout=0.1)
    with pytest.raises(multimail.MultimailError):
        asyncio.run(wandering.get_email("email_1"))
    with pytest.raises(multimail.MultimailError, match=r"another event loop.*asyncio\.run") as refused:
        asyncio.run(wandering.get_email("email_1"))
    assert "WRONG_LOOP" == refused.value.reason
    asyncio.run(wandering.close())
