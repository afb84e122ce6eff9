"""Crowds: reports shuffled with copies, deciders racing over held mail, senders racing on one guard."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call
from tests.faults.invariants import problems_of
from tests.faults.world import ACCOUNT, GATED, dice_for, world_on

from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.forge import Forge
    from tests.faults.world import World

_COPIES = 5
_PER_MAIL = 8
_KINDS = ("DELIVERED", "BOUNCED", "COMPLAINED", "OPENED")


async def test_shuffled_reports(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """Reports that come several times and in any order leave what each, come once and in order, would have left."""
    dice = dice_for("reports", seed)
    mails = amount(24, 500)
    start = datetime.now(UTC) - timedelta(hours=5)
    with table("IngestEvent, shuffled with copies") as row:
        async with world_on(forge, fault_uri, count=2) as world:
            sent = await asyncio.gather(*(world.send(f"m{n}", to=f"m{n}@out.test", body="x") for n in range(mails)))
            await world.settled()
            events: dict[str, list[tuple[str, bool, int]]] = {
                mail.id: dice.sample([(k, p, s) for k in _KINDS for p in (False, True) for s in range(9)], _PER_MAIL)
                for mail in sent
            }
            work = [(mail, event) for mail, its in events.items() for event in its] * _COPIES
            dice.shuffle(work)
            waiting = iter(enumerate(work))

            async def caller(number: int) -> None:
                for done, (mail, (kind, permanent, second)) in waiting:
                    row.progress(f"{done} of {len(work)}")
                    at = Timestamp()
                    at.FromDatetime(start + timedelta(seconds=second))
                    request = pb.IngestEventRequest(
                        email_id=mail, permanent=permanent, time=at,
                        type=mail_pb2.DeliveryEventType.Value(f"DELIVERY_EVENT_TYPE_{kind}"),
                    )  # fmt: skip
                    await world.call("IngestEvent", request, node=world.nodes[number % 2])

            await asyncio.gather(*(caller(number) for number in range(32)))
            assert [] == await problems_of(world)
            for email in await world.database.find("emails", {"account": ACCOUNT}):
                _as_if_once(email, events[email["_id"]])
            listed = {each["email"] for each in await world.database.find("suppressions", {"account": ACCOUNT})}
            grave = {
                m for m, its in events.items() if any(k == "COMPLAINED" or (k == "BOUNCED" and p) for k, p, _ in its)
            }
            assert grave == listed
            row.count = f"{len(work)} deliveries of {mails * _PER_MAIL} events"


def _as_if_once(email: dict[str, Any], events: list[tuple[str, bool, int]]) -> None:
    """The mail's timeline holds each event once, in order, and its first times are the earliest."""
    told = sorted((event["at"], event["type"], event["permanent"]) for event in email["events"])
    assert told == sorted(set(told))
    assert len(events) == len(told)
    first: dict[str, int] = {}
    for kind, permanent, second in events:
        if kind != "BOUNCED" or permanent:
            first[kind.lower()] = min(first.get(kind.lower(), second), second)
    reported = email["recipients"][0]["reported"]
    assert set(first) == set(reported)
    base = min(first.values(), default=0)
    earliest = min(reported.values(), default=None)
    assert first == {kind: base + round((at - earliest).total_seconds()) for kind, at in reported.items()}


async def test_racing_deciders(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """However many decide about held mail at once, while it changes under them, each mail is decided once, as read."""
    dice = dice_for("deciders", seed)
    mails, deciders = amount(48, 1000), 8
    with table("held mails under 8 racing deciders") as row:
        async with world_on(forge, fault_uri, count=2, mode=GATED) as world:
            held = await asyncio.gather(
                *(world.send(f"m{n}", to=f"m{n}@out.test", body=f"first {n}") for n in range(mails))
            )
            known = {mail.id: [mail.content_sha256] for mail in held}
            decided: dict[str, list[str]] = defaultdict(list)
            refused: Counter[str] = Counter()

            async def decider(number: int) -> None:
                order = list(known)
                dice.shuffle(order)
                while order:
                    some = [order.pop() for _ in range(min(len(order), dice.randrange(1, 20)))]
                    verb = dice.choice(("Approve", "Reject"))
                    batch = [(each, dice.choice(known[each])) for each in some]
                    name = f"{number}-{len(order)}"
                    for outcome in await world.decide(verb, batch, name, node=world.nodes[number % 2]):
                        if outcome.WhichOneof("result") == "email":
                            decided[outcome.email_id].append(verb)
                        else:
                            refused[outcome.refusal.reason] += 1
                    row.progress(f"decider {number}: {len(order)} left")

            async def editor() -> None:
                for email_id in dice.sample(list(known), mails // 3):
                    request = pb.UpdateEmailRequest(id=email_id, body=f"second {email_id}", request_id=f"e-{email_id}")
                    try:
                        changed = await world.call("UpdateEmail", request)
                    except grpc.aio.AioRpcError as error:
                        assert grpc.StatusCode.FAILED_PRECONDITION == error.code()
                        continue
                    world.ledger.said[changed.content_sha256] = request.body
                    known[email_id].append(changed.content_sha256)

            await asyncio.gather(editor(), *(decider(number) for number in range(deciders)))
            await world.settled()
            assert {1} == {len(each) for each in decided.values()}
            for number, email_id in enumerate(set(known) - set(decided)):  # nobody had read what it said in the end
                await world.decide("Approve", [(email_id, known[email_id][-1])], f"last-{number}")
            await world.settled()
            assert [] == await problems_of(world)
            approved = {each for each, _ in world.ledger.approved}
            assert len(approved) + len(world.ledger.rejected) == mails
            assert len(world.peer.taken) == len(approved)
            row.count = f"{mails} mails, {mails * deciders} decisions, {sum(refused.values())} of them too late"


async def test_senders_on_one_guard(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """Of any number of senders to one person under the guard exactly one passes; the others are told who."""
    dice = dice_for("guard", seed)
    senders, people = amount(24, 64), amount(10, 200)
    with table("senders racing on one guard") as row:
        async with world_on(forge, fault_uri, count=2) as world:
            passed: dict[str, list[str]] = defaultdict(list)
            named: dict[str, set[str]] = defaultdict(set)
            guard = pb.SendGuard(not_contacted_within=Duration(seconds=86_400))

            async def sender(number: int) -> None:
                # Everybody goes the same way, so that all meet at every person.
                for person in range(people):
                    row.progress(f"{person} of {people} contacts")
                    to = f"p{person}@out.test"
                    try:
                        node = world.nodes[number % 2]
                        mail = await world.send(f"{number}-{person}", to=to, body="x", guard=guard, node=node)
                    except grpc.aio.AioRpcError as error:
                        assert grpc.StatusCode.FAILED_PRECONDITION == error.code(), error
                        named[to].add(_named(error))
                    else:
                        passed[to].append(mail.id)
                    await asyncio.sleep(dice.random() * 0.002)

            await asyncio.gather(*(sender(number) for number in range(senders)))
            await world.settled()
            assert {f"p{person}@out.test" for person in range(people)} == set(passed)
            assert {1} == {len(each) for each in passed.values()}
            assert {to: set(each) for to, each in passed.items()} == dict(named)
            assert [] == await problems_of(world)
            row.count = f"{senders} senders, {people} contacts, {people} passed of {senders * people}"


def _named(error: grpc.aio.AioRpcError) -> str:
    """The earlier mail that a refusal by the guard names."""
    for detail in _details(error):
        info = ErrorInfo()
        if detail.Unpack(info):
            assert ("GUARD_REFUSED", "not_contacted_within") == (info.reason, info.metadata["rule"])
            return str(info.metadata["email_id"])
    raise AssertionError(error)


def _details(error: grpc.aio.AioRpcError) -> Any:
    status = from_call(error)  # type: ignore[arg-type]
    assert status is not None
    return status.details


async def test_stream_over_reconnects(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """A watcher that is cut off again and again, by itself and by kills, reads every notification once, in order."""
    dice = dice_for("stream", seed)
    kills = amount(3, 30)
    with table("kills under watchers of the stream") as row:
        async with world_on(forge, fault_uri, count=2) as world:
            seen: list[int] = []
            stopping = asyncio.Event()
            watcher = asyncio.create_task(_watch(world, seen, stopping))
            for number in range(kills):
                await asyncio.gather(*(world.send(f"{number}-{n}", to=f"p{n}@out.test", body="x") for n in range(10)))
                node = dice.choice(world.nodes)
                await node.kill()
                await node.start()
            await world.settled()
            rows = await world.database.find("notifications", {"account": ACCOUNT, "shown": True}, sort=[("seq", 1)])

            async def caught_up() -> bool:
                return bool(seen) and seen[-1] >= rows[-1]["seq"]

            await world.until(caught_up)
            stopping.set()
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            assert [each["seq"] for each in rows] == seen
            assert [] == await problems_of(world)
            row.count = f"{kills} kills, {len(seen)} notifications, each once"


async def _watch(world: World, seen: list[int], stopping: asyncio.Event) -> None:
    """Follows the stream, taking it up again wherever it broke, now from this service, now from that."""
    metadata = (("authorization", f"Bearer {world.keys['agent']}"),)
    position = turn = 0
    while not stopping.is_set():
        turn += 1
        node = world.nodes[turn % len(world.nodes)]
        await node.up.wait()
        stream = node.stub.WatchNotifications(
            pb.WatchNotificationsRequest(after_seq=position), metadata=metadata, timeout=60
        )
        read = 0
        try:
            async for response in stream:
                position = response.seq
                if response.HasField("notification"):
                    seen.append(response.notification.seq)
                read += 1
                if read == 15:
                    break
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            await asyncio.sleep(0.02)
        finally:
            stream.cancel()
