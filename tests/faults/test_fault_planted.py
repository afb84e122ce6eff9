"""The checks notice: each planted fault is caught by the scenario that finds nothing without it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.faults.invariants import problems_of
from tests.faults.peer import GOOD, Act, Dialogue, slow_dot
from tests.faults.planted import FAULTS
from tests.faults.world import GATED, world_on

from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.forge import Forge
    from tests.faults.world import World

_GUARD = pb.SendGuard(not_contacted_within=Duration(seconds=86_400))
_TIMES = {"backoff_s": 0.05, "smtp_timeout_s": 3.0, "poll_s": 0.05}


async def slow_rcpt(step: str, dialogue: Dialogue) -> Act:
    """Thinks about every recipient."""
    return Act(wait_s=0.6) if step == "rcpt" else GOOD


async def hangs_up_at_dot(step: str, dialogue: Dialogue) -> Act:
    """Breaks off at the first dot without taking the mail."""
    return Act(close=True, takes=False, doubt=True) if step == "dot" and dialogue.number == 1 else GOOD


async def killed_behind_the_dot(world: World) -> None:
    """A service dies between the end of the content and the answer."""
    await world.send("one")

    async def taken() -> bool:
        return bool(world.peer.taken)

    await world.until(taken)
    await world.node.kill()
    await world.node.start()


async def handed_over_slowly(world: World) -> None:
    """Two services share a queue whose mails take their time."""
    await asyncio.gather(*(world.send(f"m{n}", to=f"p{n}@out.test") for n in range(6)))


async def handed_over_one_by_one(world: World) -> None:
    """The same, the mails coming one after the other, so that both services have some."""
    for number in range(12):
        await world.send(f"m{number}", to=f"p{number}@out.test")


async def cancelled_under_way(world: World) -> None:
    """Somebody cancels while the mail is being handed over."""
    mail = await world.send("one")

    async def met() -> bool:
        return world.peer.sessions > 0

    await world.until(met)
    await asyncio.sleep(0.2)  # into what the peer thinks about
    await world.cancel("stop", mail.id)
    await asyncio.sleep(1.0)  # out of it


async def approved_after_an_edit(world: World) -> None:
    """A mail changes between being read and being approved."""
    held = await world.send("one", body="read", oversight_mode=GATED)
    await world.call("UpdateEmail", pb.UpdateEmailRequest(id=held.id, body="changed", request_id="edit"))
    await world.decide("Approve", [(held.id, held.content_sha256)], "approve")


async def approved_twice(world: World) -> None:
    """Two people approve one mail."""
    held = await world.send("one", oversight_mode=GATED)
    await world.decide("Approve", [(held.id, held.content_sha256)], "first")
    await world.settled()
    await world.decide("Approve", [(held.id, held.content_sha256)], "second")


async def killed_after_ok(world: World) -> None:
    """A service dies as soon as it has said OK."""
    await world.send("before", to="a@out.test")
    await world.settled()
    await world.send("one", to="b@out.test")
    await world.node.kill()
    await world.node.start()


async def guarded_senders(world: World) -> None:
    """Many senders, at two services, want to write to the same people under the guard."""

    async def sender(number: int) -> None:
        for person in range(4):
            try:
                await world.send(
                    f"{number}-{person}",
                    to=f"p{person}@out.test",
                    guard=_GUARD,
                    node=world.nodes[number % len(world.nodes)],
                )
            except grpc.aio.AioRpcError as error:
                assert grpc.StatusCode.FAILED_PRECONDITION == error.code(), error

    await asyncio.gather(*(sender(number) for number in range(12)))


async def heard_from_at_two(world: World) -> None:
    """Mail of one person arrives at two services."""
    await world.send("one")
    for wave in range(12):
        await asyncio.gather(*(world.ingest(f"in{wave}-{n}", node=world.nodes[n % len(world.nodes)]) for n in range(6)))


async def reported_twice(world: World) -> None:
    """The same report comes twice."""
    mail = await world.send("one")
    await world.settled()
    for _ in range(2):
        kind = mail_pb2.DELIVERY_EVENT_TYPE_DELIVERED
        await world.call("IngestEvent", pb.IngestEventRequest(email_id=mail.id, type=kind, time=Timestamp(seconds=1)))


async def written_to_after_a_bounce(world: World) -> None:
    """Somebody writes to an address that bounced for good."""
    mail = await world.send("one")
    await world.settled()
    kind = mail_pb2.DELIVERY_EVENT_TYPE_BOUNCED
    await world.call("IngestEvent", pb.IngestEventRequest(email_id=mail.id, type=kind, permanent=True))
    try:
        await world.send("again")
    except grpc.aio.AioRpcError as error:
        assert grpc.StatusCode.FAILED_PRECONDITION == error.code(), error


async def asked_twice(world: World) -> None:
    """A caller that heard no answer asks again."""
    for _ in range(2):
        await world.send("one")


async def broken_off(world: World) -> None:
    """The peer breaks off at the dot, and has not taken the mail."""
    await world.send("one")


# What brings the fault to light, what is then found to be wrong, and the world it happens in.
Scenario = tuple["Callable[[World], Awaitable[None]]", str, dict[str, Any]]
_TWO: dict[str, Any] = {"count": 2}
SCENARIOS: dict[str, Scenario] = {
    "no_dot_mark": (killed_behind_the_dot, "times, at most 1", {"script": slow_dot}),
    "lease_by_local_clock": (handed_over_one_by_one, "times, at most 1", {"script": slow_dot, "faulty": 1, **_TWO}),
    "leases_ignored": (handed_over_slowly, "times, at most 1", {"script": slow_rcpt, **_TWO}),
    "dot_mark_without_fence": (cancelled_under_way, "was stopped for p@out.test, who got it", {"script": slow_rcpt}),
    "cancel_without_fence": (cancelled_under_way, "was stopped for p@out.test, who got it", {"script": slow_dot}),
    "approval_without_hash": (approved_after_an_edit, "0 approvals of its content were given", {}),
    "approval_counts_twice": (approved_twice, "2 approvals of its content were given", {}),
    "ok_before_write": (killed_after_ok, "which is not there", {}),
    "answer_before_commit": (killed_after_ok, "which is not there", {}),
    "reads_outside_without_pin": (heard_from_at_two, "its log has", _TWO),
    "guard_outside_operation": (guarded_senders, "passed it, though", _TWO),
    "reports_count_twice": (reported_twice, "is kept twice", {}),
    "suppression_ignored": (written_to_after_a_bounce, "suppressed before", {}),
    "notifications_outside_commit": (killed_after_ok, "the numbers are", {}),
    "request_id_forgotten": (asked_twice, "1 requests were answered, 2 mails are there", {}),
    "doubt_is_success": (broken_off, "who never got it", {"script": hangs_up_at_dot}),
}


async def found(forge: Forge, uri: str, fault: str, *, planted: bool) -> list[str]:
    """What is wrong after a fault's scenario, with or without the fault."""
    scenario, _, more = SCENARIOS[fault]
    more = dict(more)
    faulty = more.pop("faulty", more.get("count", 1))
    sound = more.get("count", 1) - faulty
    per_node = [[]] * sound + [[fault] if planted else []] * faulty
    async with world_on(forge, uri, per_node=per_node, times=_TIMES, **more) as world:
        await scenario(world)
        stuck = []
        try:
            await world.settled(5)
        except AssertionError:
            stuck = ["some mail never comes to its end"]
        return stuck + await problems_of(world, settled=not stuck)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_planted_fault_is_caught(forge: Forge, fault_uri: str, table: Any, fault: str) -> None:
    """With the fault planted what it breaks is found; without it, in the same scenario, nothing is."""
    with table(f"planted: {fault.replace('_', ' ')}") as row:
        wrong = await found(forge, fault_uri, fault, planted=True)
        print("\n".join(wrong))
        row.count = f"{len(wrong)} problems found with it"
        assert [] == await found(forge, fault_uri, fault, planted=False)
        assert any(SCENARIOS[fault][1] in each for each in wrong)
