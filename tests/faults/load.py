"""Callers of every kind at once, who repeat each request until it is answered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.faults.world import GATED, dice_for

from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from tests.faults.forge import Node
    from tests.faults.world import World

_CALLERS = 8
_PEOPLE = 20


class Load:
    """Sends, answers, takes in, approves, rejects, cancels, reports and erases, until it is told to stop.

    Args:
        world: Where.
        seed: Decides who does what.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.done = 0
        self._world = world
        self._dice = dice_for("load", seed)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins."""
        self._tasks = [asyncio.create_task(self._caller(number)) for number in range(_CALLERS)]

    async def stop(self) -> None:
        """Lets every caller finish what it is at; an error of any is raised."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def check(self) -> None:
        """Raises what ended a caller too early."""
        for task in self._tasks:
            if task.done() and not self._stopping:
                task.result()

    async def reaches(self, number: int) -> None:
        """Waits until so many rounds are done."""
        while self.done < number:
            self.check()
            await asyncio.sleep(0.01)

    async def _caller(self, caller: int) -> None:
        acts = (self._send, self._send, self._answer, self._gated, self._cancelled, self._reported, self._erased)
        number = 0
        while not self._stopping:
            number += 1
            node = self._world.nodes[caller % len(self._world.nodes)]
            await self._dice.choice(acts)(f"{caller}-{number}", node=node)
            self.done += 1

    def _person(self) -> str:
        return f"p{self._dice.randrange(_PEOPLE)}@out.test"

    async def _send(self, name: str, *, node: Node) -> None:
        await self._world.send(f"send-{name}", to=[self._person(), f"{name}@cc.test"], body=name, node=node)

    async def _answer(self, name: str, *, node: Node) -> None:
        parent = await self._world.arrive(f"in-{name}", self._person(), node=node)
        await self._world.reply(f"reply-{name}", parent)

    async def _gated(self, name: str, *, node: Node) -> None:
        held = await self._world.send(f"gated-{name}", to=self._person(), body=name, oversight_mode=GATED, node=node)
        verb = self._dice.choice(("Approve", "Approve", "Reject"))
        outcomes = await self._world.decide(verb, [(held.id, held.content_sha256)], f"{verb}-{name}", node=node)
        assert ["email"] == [each.WhichOneof("result") for each in outcomes], outcomes

    async def _cancelled(self, name: str, *, node: Node) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        send_time = self._dice.choice((later, None))
        mail = await self._world.send(f"stop-{name}", to=self._person(), body=name, send_time=send_time, node=node)
        await self._world.cancel(f"cancel-{name}", mail.id, node=node)

    async def _reported(self, name: str, *, node: Node) -> None:
        mail = await self._world.send(f"told-{name}", to=f"{name}@told.test", body=name, node=node)
        for _ in range(2):
            request = pb.IngestEventRequest(
                email_id=mail.id, type=mail_pb2.DELIVERY_EVENT_TYPE_BOUNCED, permanent=True, detail="no such user"
            )
            await self._world.call("IngestEvent", request, node=node)

    async def _erased(self, name: str, *, node: Node) -> None:
        person = f"{name}@gone.test"
        await self._world.send(f"last-{name}", to=[self._person(), person], body="last", node=node)
        await self._world.ingest(f"from-{name}", person)
        await self._world.erase(f"erase-{name}", person)
