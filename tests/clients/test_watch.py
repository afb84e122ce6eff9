"""Watches of both clients: every notification once, in order, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import random
import signal
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.clients.forms import FORMS, InThreads, client_of, follow, until
from tests.clients.line import Line
from tests.rpc.calls import age, trim
from tests.rpc.relays import serving

import multimail
from multimail import _wire
from multimail.v1 import mail_pb2, mail_service_pb2, mail_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Account

both = pytest.mark.parametrize("form", FORMS)


async def client_on(form: str, account: Account, port: int, *scopes: str) -> Any:
    """A client of that form which reaches the account's service by a port."""
    key, target = await account.key(*scopes), f"127.0.0.1:{port}"
    if form == "async":
        return multimail.AsyncClient(api_key=key, target=target)
    return InThreads(multimail.Client(api_key=key, target=target))


async def history(client: Any) -> list[multimail.Notification]:
    """All there is to see."""
    return [each async for each in await client.notifications.list()]


@both
async def test_nothing_is_lost_or_repeated_when_connections_break(
    account: Account, client: multimail.AsyncClient, form: str
) -> None:
    """Over connections that break after random bytes, a watch yields exactly what was written, in order, once."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    async with Line(account.running.grpc_port, random.Random(seed)).up() as line:
        watch = await follow(await client_on(form, account, line.port))
        writing = asyncio.create_task(_write(client, 60))
        seen = [await watch.step() for _ in range(60)]
        await writing
        assert await history(client) == seen
        assert (seen[-1].seq, True) == (watch.watch.seq, line.cuts >= 3)
        await watch.close()


async def _write(client: multimail.AsyncClient, count: int) -> None:
    for number in range(count):
        await client.contacts.upsert(email=f"p{number}@b.test")


@both
async def test_only_new_begins_when_the_call_returns(
    account: Account, client: multimail.AsyncClient, form: str
) -> None:
    """What happens after the call is seen and what was before is not, even if the connection breaks in between."""
    await client.contacts.upsert(email="before@b.test")
    async with Line(account.running.grpc_port).up() as line:
        watch = await follow(await client_on(form, account, line.port), only_new=True)
        await line.cut()
        made = await client.contacts.upsert(email="after@b.test")
        first = await watch.step()
        assert ("contact_created", made.id, 1) == (first.type, first.contact_id, line.cuts)
        await watch.close()


@both
async def test_a_watch_outlives_the_service(engine_uri: str, tmp_path: Path, form: str) -> None:
    """A watch that waits while the service stops and another one starts goes on with what that one commits."""
    async with Line(0).up() as line:
        async with serving(engine_uri, tmp_path / "one", f"outlived{form}") as account:
            line.target = account.running.grpc_port
            watch = await follow(await client_on(form, account, line.port))
            async with await account.client() as writer:
                first = await writer.contacts.upsert(email="first@b.test")
            assert first.id == (await watch.step()).contact_id
            waiting = asyncio.create_task(watch.step())
        assert not waiting.done()
        async with serving(engine_uri, tmp_path / "two", f"outlived{form}") as again:
            line.target = again.running.grpc_port
            async with await again.client() as writer:
                second = await writer.contacts.upsert(email="second@b.test")
            assert second.id == (await waiting).contact_id
        await watch.close()


@both
async def test_a_watch_goes_on_where_an_earlier_one_was(
    account: Account, client: multimail.AsyncClient, form: str
) -> None:
    """The `seq` of a watch, kept anywhere, begins the next one right behind what was yielded."""
    own = await client_of(form, account)
    await _write(client, 4)
    watch = await follow(own)
    seen = [await watch.step(), await watch.step()]
    await watch.close()
    later = await follow(own, after_seq=watch.watch.seq)
    seen += [await later.step(), await later.step()]
    assert await history(client) == seen
    await later.close()


@both
async def test_filters_of_lists_and_watches(account: Account, client: multimail.AsyncClient, form: str) -> None:
    """Lists and watches show only the types and the mailbox that were asked for."""
    own = await client_of(form, account)
    boxes = [await client.mailboxes.create(email=account.mailbox(name)) for name in ("one", "two")]
    sent = [await client.send_email(from_mailbox=box.id, to="a@b.test") for box in boxes]
    asked = {"types": ["email_queued", "mailbox_created"], "mailbox": boxes[1].email}
    expected = [("mailbox_created", boxes[1].id, ""), ("email_queued", boxes[1].id, sent[1].id)]
    listed = (await own.notifications.list(**asked)).items
    assert expected == [(each.type, each.mailbox_id, each.email_id) for each in listed]
    watch = await follow(own, **asked)
    assert listed == [await watch.step(), await watch.step()]
    await watch.close()
    with pytest.raises(multimail.InvalidArgumentError, match="email_held"):
        await follow(own, types="email_helt")


@both
async def test_a_watch_stays_with_its_mailbox(account: Account, client: multimail.AsyncClient, form: str) -> None:
    """A watch of an address follows the mailbox that had it at first, deleted or not, and never a later one."""
    box = await client.mailboxes.create(email=account.mailbox())
    sent = await client.send_email(from_mailbox=box.id, to="a@b.test")
    await until(lambda: client.get_email(sent.id), lambda mail: mail.state == "sent")
    async with Line(account.running.grpc_port).up() as line:
        own = await client_on(form, account, line.port)
        watch = await follow(own, mailbox=box.email, only_new=True)
        await client.mailboxes.delete(box.id)
        assert "mailbox_deleted" == (await watch.step()).type
        await line.cut()
        await client.mailboxes.create(email=box.email)
        await client.ingest_event("delivered", email_id=sent.id)
        told = await watch.step()
        assert ("email_event", box.id) == (told.type, told.mailbox_id)
        await watch.close()
        with pytest.raises(multimail.NotFoundError):
            await follow(own, mailbox=account.mailbox("nobody"))


@both
async def test_a_quiet_watch_outlives_every_cut(account: Account, client: multimail.AsyncClient, form: str) -> None:
    """Where nothing happens and connections are short, each one that reached the service renews the patience."""
    async with Line(account.running.grpc_port).up() as line:
        watch = await follow(await client_on(form, account, line.port), patience=2.4)
        waiting = asyncio.create_task(watch.step())
        for _ in range(7):
            await asyncio.sleep(0.4)
            await until(functools.partial(asyncio.sleep, 0, watch.watch), lambda seen: seen._reconnects._since is None)
            await line.cut()
        made = await client.contacts.upsert(email="a@b.test")
        assert (made.id, True) == ((await waiting).contact_id, line.cuts >= 5)
        await watch.close()


class Interrupted(BaseException):
    """What a signal handler raises, as Ctrl-C does."""


class Teller(mail_service_pb2_grpc.MailServiceServicer):
    """A scripted peer whose streams tell the number behind the one they were asked for, and then nothing more."""

    def WatchNotifications(self, request: Any, context: Any) -> Iterator[mail_service_pb2.WatchNotificationsResponse]:
        """Tells one, and waits for the end."""
        ended, seq = threading.Event(), request.after_seq + 1
        context.add_callback(ended.set)
        yield mail_service_pb2.WatchNotificationsResponse(notification=mail_pb2.Notification(seq=seq), seq=seq)
        ended.wait()


@pytest.fixture
def teller() -> Iterator[str]:
    """The address of the scripted peer, which runs in threads, for the main one is interrupted."""
    options = [("grpc.http2.min_ping_interval_without_data_ms", 100)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=options)
    mail_service_pb2_grpc.add_MailServiceServicer_to_server(Teller(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_watch_goes_on_after_an_interrupt(teller: str) -> None:
    """An exception out of a signal handler ends the wait, not the watch: the next step goes on where it was."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None
    try:
        with multimail.Client(api_key="k", target=teller) as client, client.notifications.watch() as watch:
            for seq in range(1, 4):
                assert (seq, seq) == (next(watch).seq, watch.seq)
                timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGUSR1))
                timer.start()
                with pytest.raises(Interrupted):
                    next(watch)
                timer.join()
        with pytest.raises(multimail.CancelledError), client.notifications.watch() as late:
            next(late)
    finally:
        signal.signal(signal.SIGUSR1, before)


@both
async def test_a_quiet_watch_notices_a_dead_line(teller: str, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """However long nothing happened, a line that carries nothing any more is noticed by the next ping, and left."""
    hurried = [
        (name, value // 15 if "keepalive_time" in name or "ping_timeout" in name else value)
        for name, value in _wire.OWN_OPTIONS
    ]
    monkeypatch.setattr(_wire, "OWN_OPTIONS", hurried)
    async with Line(int(teller.rpartition(":")[2])).up() as line:
        made = {"api_key": "k", "target": f"127.0.0.1:{line.port}"}
        client = multimail.AsyncClient(**made) if form == "async" else InThreads(multimail.Client(**made))
        watch = await follow(client)
        assert 1 == (await watch.step()).seq
        waiting = asyncio.create_task(watch.step())
        await asyncio.sleep(4.5)  # for four pings
        line.dead = True
        await until(functools.partial(asyncio.sleep, 0, watch.watch), lambda seen: seen._reconnects._since)
        await line.cut()
        line.dead = False
        assert 2 == (await waiting).seq
        await watch.close()


@both
async def test_closing_ends_a_watch_that_waits(account: Account, form: str) -> None:
    """Closing a watch ends its iteration; closing its client ends it with an error of ours."""
    for closes_client in (False, True):
        own = await client_of(form, account)
        watch = await follow(own, only_new=True)
        waiting = asyncio.create_task(watch.rest())
        await until(functools.partial(asyncio.sleep, 0, watch.watch), lambda waits: waits._stream is not None)
        await (own if closes_client else watch).close()
        if closes_client:
            with pytest.raises(multimail.CancelledError):
                await asyncio.wait_for(waiting, 10)
        else:
            assert [] == await asyncio.wait_for(waiting, 10)


async def test_a_cancelled_wait_loses_nothing(client: multimail.AsyncClient) -> None:
    """Whoever gives up waiting, again and again, still gets every notification, once."""
    watch = await follow(client)
    writing = asyncio.create_task(_write(client, 20))
    seen: list[multimail.Notification] = []
    while len(seen) < 20:
        try:
            seen.append(await asyncio.wait_for(anext(watch.watch), 0.02 * random.random()))
        except TimeoutError:
            continue
    await writing
    assert await history(client) == seen
    await watch.close()


@both
async def test_a_watch_gives_up_when_it_must(account: Account, client: multimail.AsyncClient, form: str) -> None:
    """Nobody there for longer than the patience, no scope, and a position no longer kept are errors of ours."""
    nobody = await follow(await client_on(form, account, 1), patience=0.3)
    with pytest.raises(multimail.UnavailableError) as refused:
        await nobody.step()
    assert "CONNECTION" == refused.value.reason
    mute = await follow(await client_of(form, account, "write"))
    with pytest.raises(multimail.PermissionDeniedError):
        await mute.step()
    with pytest.raises(multimail.PermissionDeniedError):
        await follow(await client_of(form, account, "write"), only_new=True)
    await _write(client, 4)
    await age(account, 1, 2)
    await trim(account)
    old = await follow(await client_of(form, account), after_seq=1)
    with pytest.raises(multimail.FailedPreconditionError) as late:
        await old.step()
    assert ("POSITION_TOO_OLD", "3") == (late.value.reason, late.value.metadata["oldest_seq"])
