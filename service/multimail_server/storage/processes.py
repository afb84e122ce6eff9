"""This process among its neighbours: its registered sessions, its heartbeat, the locks of the dead, and turns."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from multimail_server.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from multimail_server.storage.mongo import Database, Document, Session

log = logging.getLogger("multimail.storage")

SESSIONS = 8
HEARTBEAT_S = 2.0
STALE_AFTER = timedelta(seconds=15)
TURN = timedelta(milliseconds=400)
_LONGEST_STAND_BACK_S = 2.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PID_NAMESPACE = "/proc/self/ns/pid"


class Process:
    """One running service process, as its row in `processes` tells the others.

    Its sessions are written there before their first use, so that whoever finds it dead can end the transactions it
    left open, which would keep their accounts locked for the engine's limit of a minute.

    Args:
        database: The database.
        new_id: Makes an id with the given prefix.
        on_death: Told the id of every process found dead, to take over what it was doing.
    """

    def __init__(
        self, database: Database, *, new_id: Callable[[str], str], on_death: Callable[[str], Awaitable[None]]
    ) -> None:
        self._database = database
        self.id = new_id("process")
        self._on_death = on_death
        self._sessions: list[Session] = []
        self._free: asyncio.LifoQueue[Session] = asyncio.LifoQueue()
        self._alone = True
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Registers this process and ends what dead ones left open."""
        self._sessions = [await self._database.start_session() for _ in range(SESSIONS)]
        await self._register()
        await self._bury()
        for session in self._sessions:
            self._free.put_nowait(session)
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Ends the heartbeat, the sessions and the row."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        for session in self._sessions:
            await session.close()
        try:
            await self._database.delete_many("processes", [{"_id": self.id}])
        except DomainError:
            log.warning("could not take this process off the list; it will be found stale")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session for one commit group, shared with nobody while it lasts.

        The one given back last is taken first, so a session whose transaction hangs after a failure soon starts its
        next one, which ends the old.
        """
        session = await self._free.get()
        try:
            yield session
        finally:
            self._free.put_nowait(session)

    async def stand_back(self, account: str) -> None:
        """Waits while another process has a turn on the account; alone, it costs nothing."""
        if self._alone:
            return
        waited = 0.0
        while waited < _LONGEST_STAND_BACK_S:
            turns = await self._database.find("turns", {"_id": account})
            if not turns or turns[0]["process"] == self.id:
                return
            left = (turns[0]["until"] - await self._database.now()).total_seconds()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.05))
            waited += 0.05

    async def take_turn(self, account: str) -> None:
        """Asks the others to stand back from the account for a moment."""
        self._alone = False
        until = await self._database.now() + TURN
        await self._database.update_one(
            "turns", {"_id": account}, {"$set": {"process": self.id, "until": until}}, upsert=True
        )

    async def end_turn(self, account: str) -> None:
        """Gives the turn back, if it is still this process's; else it ends by itself."""
        try:
            await self._database.delete_many("turns", [{"_id": account, "process": self.id}])
        except DomainError:
            log.warning("could not give a turn back; it ends by itself")

    async def _register(self) -> None:
        row = {
            "sessions": [dict(session.id) for session in self._sessions],
            "host": _here(),
            "pid": os.getpid(),
        }
        await self._database.update_one(
            "processes", {"_id": self.id}, {"$set": row, "$currentDate": {"heartbeat": True}}, upsert=True
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                # Registers anew each time: a neighbour may have taken a long silence for death.
                await self._register()
                await self._bury()
            except DomainError:
                log.warning("no heartbeat: the database does not answer")
            except Exception:  # whatever it is, a process without a heartbeat would be taken for dead
                log.exception("a heartbeat failed; trying again")

    async def _bury(self) -> None:
        """Ends the sessions of processes that are dead, has their work taken over, and forgets them."""
        now = await self._database.now()
        others = [row for row in await self._database.find("processes", {}) if row["_id"] != self.id]
        dead = [row for row in others if now - row["heartbeat"] > STALE_AFTER or _is_dead_here(row)]
        self._alone = len(others) == len(dead)
        for row in dead:
            log.info("ending the sessions of a process that died (pid %s)", row["pid"])
            await self._database.kill_sessions(row["sessions"])
            await self._on_death(row["_id"])
            # One that only looked dead registers again with its next heartbeat.
            await self._database.delete_many("processes", [{"_id": row["_id"], "heartbeat": row["heartbeat"]}])


def _here() -> str:
    """Where a pid means something: this host since it was started, and this container."""
    try:
        return f"{socket.gethostname()} {Path(_BOOT_ID).read_text().strip()} {Path(_PID_NAMESPACE).readlink()}"
    except OSError:  # a system without /proc
        return socket.gethostname()


def _is_dead_here(row: Document) -> bool:
    """Whether the process ran on this host and its pid is gone; elsewhere only its heartbeat can tell."""
    if row["host"] != _here():
        return False
    try:
        os.kill(row["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
