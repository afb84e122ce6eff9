"""kill -9 of services and engine, and a line that breaks, all under load: no promise is broken."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import engine_on
from tests.faults.invariants import problems_of
from tests.faults.load import Load
from tests.faults.peer import slow_dot
from tests.faults.world import best_engine, dice_for, world_on
from tests.store.proxy import CuttingProxy

from multimail.v1 import mail_pb2
from multimail_server.storage.embedded import EmbeddedEngine, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.forge import Forge

# So many kills per database: what is checked after them grows with what is in it.
_PER_WORLD = 30


@pytest.mark.parametrize("count", [1, 2], ids=["one service", "two services"])
async def test_kills_of_the_service(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any, count: int
) -> None:
    """Services killed again and again under load lose nothing, double nothing outside the gap, and tell everything."""
    dice = dice_for(f"service {count}", seed)
    kills = amount(5, 150)
    with table(f"kill -9 of the service under load, {count} at once") as row:
        done = calls = handed = 0
        while done < kills:
            async with world_on(forge, fault_uri, count=count) as world:
                load = Load(world, seed + done)
                load.start()
                for _ in range(min(_PER_WORLD, kills - done)):
                    await load.reaches(load.done + dice.randrange(1, 25))
                    await asyncio.sleep(dice.random() * 0.05)
                    node = dice.choice(world.nodes)
                    await node.kill()
                    await node.start()
                    done += 1
                    row.progress(f"{done} kills of {kills}")
                await load.stop()
                await world.settled()
                assert [] == await problems_of(world)
                calls += load.done
                handed += len(world.peer.taken)
        row.count = f"{done} kills, {calls} rounds of calls, {handed} hand-overs"
        assert handed > calls / 2


async def test_kills_of_the_engine(
    forge: Forge, tmp_path: Path, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """An engine killed again and again under load loses nothing, and no mail is handed over twice."""
    dice = dice_for("engine", seed)
    kills = amount(3, 100)
    with table("kill -9 of the engine under load") as row:
        done = calls = handed = 0
        while done < kills:
            engine = EmbeddedEngine(tmp_path / str(done), best_engine())
            (tmp_path / str(done)).mkdir()
            async with AsyncExitStack() as stack:
                stack.push_async_callback(engine.stop)
                uri = await engine.start()
                world = await stack.enter_async_context(world_on(forge, uri))
                load = Load(world, seed + done)
                load.start()
                for _ in range(min(_PER_WORLD, kills - done)):
                    await load.reaches(load.done + dice.randrange(5, 40))
                    await asyncio.sleep(dice.random() * 0.05)
                    victim = engine._pid
                    os.kill(victim, signal.SIGKILL)
                    while is_alive(victim):  # noqa: ASYNC110  the supervisor reaps it, and tells nobody
                        await asyncio.sleep(0.005)
                    done += 1
                    row.progress(f"{done} kills of {kills}")
                await load.stop()
                await world.settled()
                assert [] == await problems_of(world)
                calls += load.done
                handed += len(world.peer.taken)
        row.count = f"{done} kills, {calls} rounds of calls, {handed} hand-overs"


async def test_cut_lines(
    forge: Forge, tmp_path: Path, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """A line to the engine that breaks at any command, delivered or not, loses nothing and doubles nothing."""
    dice = dice_for("line", seed)
    cuts = amount(8, 200)
    markers = (b"commitTransaction", b"insert", b"update", b"find", b"aggregate")
    with table("cuts of the line to the engine under load") as row:
        async with engine_on(tmp_path, best_engine()) as uri, CuttingProxy(uri) as proxy:
            done = calls = 0
            while done < cuts:
                async with world_on(forge, proxy.uri, direct_uri=uri) as world:
                    load = Load(world, seed + done)
                    load.start()
                    for _ in range(min(_PER_WORLD, cuts - done)):
                        await load.reaches(load.done + dice.randrange(2, 15))
                        proxy.cut_at(dice.choice(markers), times=dice.randrange(1, 3), deliver=dice.random() < 0.5)
                        done += 1
                        row.progress(f"{done} cuts of {cuts}")
                    await load.stop()
                    await world.settled()
                    assert [] == await problems_of(world)
                    calls += load.done
            row.count = f"{done} cuts, {calls} rounds of calls"


@pytest.mark.parametrize(
    ("policy", "cancelled"),
    [("hold", False), ("hold", True), ("retry", True)],
    ids=["hold", "hold, cancelled", "retry, cancelled"],
)
async def test_kills_behind_the_mark(
    forge: Forge, fault_uri: str, amount: Callable[[int, int], int], table: Any, policy: str, *, cancelled: bool
) -> None:
    """A service that dies behind the mark leaves doubt where that is held or mail cancelled: nothing goes twice."""
    rounds = amount(2, 20)
    held = mail_pb2.InDoubtPolicy.Value(f"IN_DOUBT_POLICY_{policy.upper()}")
    with table(f"kill -9 behind the mark, policy {policy}{', cancelled' if cancelled else ''}") as row:
        async with world_on(forge, fault_uri, policy=held, script=slow_dot) as world:
            for number in range(rounds):
                person = f"p{number}@out.test"
                mail = await world.send(f"{number}", to=[person, f"other{number}@out.test"])

                async def marked(identifier: str = mail.id) -> bool:
                    (found,) = await world.database.find("emails", {"_id": identifier})
                    return bool(found["recipients"][0]["dot"])

                await world.until(marked)
                if cancelled:
                    assert "sending" == await world.cancel(f"cancel-{number}", mail.id)
                await world.node.kill()
                await world.node.start()
                await world.settled()
                (found,) = await world.database.find("emails", {"_id": mail.id})
                assert ("in_doubt", "in_doubt") == (found["state"], found["recipients"][0]["state"])
                assert world.peer.counts()[mail.message_id, person] <= 1
            assert [] == await problems_of(world)
        row.count = f"{rounds} kills"
