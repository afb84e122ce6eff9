"""kill -9 before and after every step of every kind of change: the repeated call makes it whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.invariants import problems_of
from tests.faults.peer import GOOD, Act, Dialogue
from tests.faults.world import GATED, World, dice_for, world_on

from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.faults.forge import Forge

Step = tuple[str, int]


async def script(step: str, dialogue: Dialogue) -> Act:
    """Puts off whoever is called `later`."""
    if step == "rcpt" and dialogue.recipient.startswith("later"):
        return Act(reply=b"451 later\r\n")
    return GOOD


async def sending(world: World, name: str) -> Callable[[], Awaitable[Any]]:
    """A mail to two people."""
    return lambda: world.send(name, to=["p@out.test", f"{name}@out.test"], subject=name, body=name)


async def replying(world: World, name: str) -> Callable[[], Awaitable[Any]]:
    """An answer to a mail that arrived before."""
    parent = await world.ingest(name)
    return lambda: world.reply(name, parent.id)


async def ingesting(world: World, name: str) -> Callable[[], Awaitable[Any]]:
    """A mail that arrives, from somebody who is known."""
    if name.endswith("0"):
        await world.send(f"first-{name}", to=f"{name}@out.test")
        await world.settled()
    return lambda: world.ingest(name, f"{name}@out.test")


async def approving(world: World, name: str) -> Callable[[], Awaitable[Any]]:
    """The approval of a mail that is held."""
    held = await world.send(name, oversight_mode=GATED, body=name)
    assert held.state == mail_pb2.EMAIL_STATE_HELD
    return lambda: world.decide("Approve", [(held.id, held.content_sha256)], f"approve-{name}")


async def cancelling(world: World, name: str) -> Callable[[], Awaitable[Any]]:
    """The stopping of a mail that is held, scheduled or put off."""
    kind = int(name.rsplit("-", 1)[1]) % 3
    if kind == 0:
        mail = await world.send(name, oversight_mode=GATED)
    elif kind == 1:
        mail = await world.send(name, send_time=datetime.now(UTC) + timedelta(hours=1))
    else:
        mail = await world.send(name, to="later@out.test")
        await world.until(lambda: tried(world, mail.id))

    async def cancel() -> None:
        assert "cancelled" == await world.cancel(f"cancel-{name}", mail.id)

    return cancel


async def erasing(world: World, name: str) -> Callable[[], Awaitable[Any]]:
    """The erasure of a person who wrote, is being written to with others, and of whom something was reported."""
    person = f"later-{name}@gone.test"
    mail = await world.send(name, to=["p@out.test", person], subject=name)
    await world.until(lambda: tried(world, mail.id))
    await world.ingest(name, person)
    await world.call(
        "IngestEvent",
        pb.IngestEventRequest(
            email_id=mail.id, address=person, type=mail_pb2.DELIVERY_EVENT_TYPE_BOUNCED, permanent=True,
            detail=f"550 no {person}",
        ),
    )  # fmt: skip
    return lambda: world.erase(f"erase-{name}", person)


async def tried(world: World, email_id: str) -> bool:
    """Whether a mail waits for its next try."""
    (found,) = await world.database.find("emails", {"_id": email_id})
    return bool(found["attempts"] == 1 and found["state"] == "queued")


CALLS = {
    "send": sending, "reply": replying, "ingest": ingesting, "approve": approving, "cancel": cancelling,
    "erase": erasing,
}  # fmt: skip


_ROUNDS = {"erase": 5}  # each waits for its scrub


async def one(world: World, call: str, name: str, when: str, step: int) -> tuple[bool, list[str]]:
    """One call in a service that dies at a step; returns whether it died, and the steps when it did not."""
    node = world.node
    act = await CALLS[call](world, name)
    assert {} == await node.order(do="arm", when=when, step=step)
    died = asyncio.create_task(world.forge.ended(node.pid))

    async def whole() -> None:
        await act()
        await world.settled()

    doing = asyncio.create_task(whole())
    await asyncio.wait({died, doing}, return_when=asyncio.FIRST_COMPLETED)
    steps: list[str] = []
    if not died.done():
        await doing
        await asyncio.sleep(0.02)  # what comes after the outcome, such as taking leave of the peer
        steps = (await node.order(do="disarm")).get("steps", [])
    crashed = not steps
    if crashed:
        await died
        await node.died()
        await node.start()
    else:
        died.cancel()
    await doing
    return crashed, steps


@pytest.mark.parametrize("call", CALLS)
async def test_death_at_every_step(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any, call: str
) -> None:
    """Whatever step the service dies at, the same call again ends as if nothing had been, and no promise is broken."""
    dice = dice_for(call, seed)
    rounds, lanes = amount(1, _ROUNDS.get(call, 20)), amount(2, 3)
    crashes = 0
    with table(f"kill -9 before and after every step of {call}") as row:
        async with world_on(forge, fault_uri, script=script, crashing=True) as world:
            learnt = [await one(world, call, f"{call}-{number}", "never", -1) for number in range(3)]
        most = max(len(steps) for _, steps in learnt)
        every: list[Step] = [(when, step) for step in range(most) for when in ("before", "after")]
        picked = [point for _ in range(rounds) for point in dice.sample(every, amount(min(8, len(every)), len(every)))]
        numbered: Iterator[tuple[int, Step]] = iter(enumerate(picked))

        async def lane() -> None:
            nonlocal crashes
            async with world_on(forge, fault_uri, script=script, crashing=True) as world:
                for done, (number, (when, step)) in enumerate(numbered, 1):
                    crashed, _ = await one(world, call, f"{call}-{number}", when, step)
                    crashes += crashed
                    row.progress(f"{number} of {len(picked)}")
                    if done % 5 == 0:
                        assert [] == await problems_of(world, stream=False), (when, step, learnt)
                assert [] == await problems_of(world)

        async with asyncio.TaskGroup() as group:  # the first problem ends all lanes
            for _ in range(lanes):
                group.create_task(lane())
        row.count = f"{crashes} kills at {most} steps, {rounds} rounds"
        assert crashes >= len(picked) * (0.8 if rounds > 1 else 0.5), (crashes, len(picked), learnt)
