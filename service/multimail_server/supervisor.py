"""The process above several workers: it owns engine and ports, replaces the dead, and restarts without a lost call."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail_server.accounts.store import KeyStore
from multimail_server.app import Startable, engine_of, new_id
from multimail_server.ports import reserve
from multimail_server.settings import environment_with
from multimail_server.storage.mongo import connect

if TYPE_CHECKING:
    from asyncio.subprocess import Process


log = logging.getLogger("multimail.supervisor")

_STOPS_WITHIN_S = 15.0  # a worker drains within ten, unless everything is late at once
_YOUNG_S = 10.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Supervised:
    """A service of several workers that runs, and where."""

    grpc_port: int
    smtp_port: int
    http_port: int
    keys: KeyStore


class Supervisor(Startable[Supervised]):
    """A service of several worker processes.

    SIGHUP restarts the workers one after the other. Should this process be killed, its workers end by themselves. The
    workers read their settings from the environment.
    """

    async def _start(self) -> Supervised:
        settings, later = self._settings, self._stack.push_async_callback
        grpc_port = await self._reserve("MULTIMAIL_PORT", settings.host, settings.port)
        smtp_port = await self._reserve("MULTIMAIL_SMTP_PORT", settings.smtp_host, settings.smtp_port)
        http_port = await self._reserve("MULTIMAIL_HTTP_PORT", settings.http_host, settings.http_port)
        uri = await self._stack.enter_async_context(engine_of(settings))
        database = connect(uri, settings.database, driver=settings.mongo_driver)
        later(database.close)
        environment = environment_with(
            MONGODB_URI=uri,
            MULTIMAIL_WORKERS=str(settings.workers),
            MULTIMAIL_PORT=str(grpc_port),
            MULTIMAIL_SMTP_PORT=str(smtp_port),
            MULTIMAIL_HTTP_PORT=str(http_port),
        )
        places = [Place(number, environment) for number in range(1, settings.workers + 1)]
        later(_stopped, places)
        # The first alone: it prepares the database for all.
        if not (await places[0].fill() and all(await asyncio.gather(*(place.fill() for place in places[1:])))):
            raise SystemExit("multimail-server: a worker did not start; what it said stands above.")
        self._restart_on_hangup(places)
        keys = KeyStore(database, new_id=new_id, randomness=os.urandom, clock=time.monotonic)
        return Supervised(grpc_port, smtp_port, http_port, keys)

    async def _reserve(self, setting: str, host: str, port: int) -> int:
        """Takes a port for the workers, or ends with a message that says who may have it."""
        try:
            held = self._stack.enter_context(await reserve(host, port))
        except OSError as error:
            raise SystemExit(
                f"multimail-server: the port {host}:{port} cannot be had ({error.strerror}), perhaps another service "
                f"runs. Stop it first, or choose another port with {setting}."
            ) from None
        taken: int = held.getsockname()[1]
        return taken

    def _restart_on_hangup(self, places: list[Place]) -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, asked.set)
        restarting = asyncio.create_task(_restart_when(asked, places))
        self._stack.push_async_callback(_cancelled, restarting)


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker process that was started, and whether it came to serve."""

    process: Process
    serves: bool
    started: float


class Place:
    """Where one worker is at a time; whichever dies there is followed by another.

    Args:
        number: What the worker is called in the log.
        environment: What it reads its settings from.
    """

    def __init__(self, number: int, environment: dict[str, str]) -> None:
        self._number = number
        self._environment = environment
        self._worker: _Worker | None = None
        self._leaving: _Worker | None = None
        self._changing = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None

    async def fill(self) -> bool:
        """Starts the first worker and keeps the place filled from now on; False when that one does not start."""
        self._worker = await self._started()
        self._keeping = asyncio.create_task(self._keep())
        return self._worker.serves

    async def renew(self) -> bool:
        """Starts another worker, then has the old one leave; False when the other does not start, and the old stays."""
        async with self._changing:
            fresh = await self._started()
            if not fresh.serves:
                return False
            self._leaving, self._worker = self._worker, fresh
        if self._leaving is not None:
            _signal(self._leaving.process, signal.SIGHUP)
            await self._leaving.process.wait()
        return True

    async def stop(self) -> None:
        """Has the worker, and one that is leaving, drain and end."""
        if self._keeping is not None:
            await _cancelled(self._keeping)
        await asyncio.gather(*(_ended(each.process) for each in (self._worker, self._leaving) if each))

    async def _started(self) -> _Worker:
        """A new worker, once it serves or has died of it."""
        started, process = time.monotonic(), await self._spawned()
        try:
            serves = process.stdout is not None and bool(await process.stdout.readline())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if serves:
            log.info("worker %d serves (process %d)", self._number, process.pid)
        return _Worker(process, serves, started)

    async def _spawned(self) -> Process:
        """A new process, as soon as the system has room for one."""
        while True:
            try:
                return await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "multimail_server.child", str(self._number), env=self._environment,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor only
                )  # fmt: skip
            except OSError as error:
                log.warning("worker %d cannot be started (%s); trying again", self._number, error.strerror)
                await asyncio.sleep(_FIRST_PAUSE_S)

    async def _keep(self) -> None:
        pause = 0.0
        while (worker := self._worker) is not None:
            code = await worker.process.wait()
            async with self._changing:
                if self._worker is worker:  # else it was to end
                    pause = pause_after(time.monotonic() - worker.started, pause)
                    log.error("worker %d died (%d); starting another in %.1f s", self._number, code, pause)
                    await asyncio.sleep(pause)
                    self._worker = await self._started()


def pause_after(lived_s: float, last_s: float) -> float:
    """Seconds before the next worker: none after a long life, more after each short one."""
    return 0.0 if lived_s >= _YOUNG_S else min(max(_FIRST_PAUSE_S, last_s * 2), _LONGEST_PAUSE_S)


async def _restart_when(asked: asyncio.Event, places: list[Place]) -> None:
    while True:
        await asked.wait()
        asked.clear()
        log.info("restarting the workers, one after the other")
        for place in places:
            if not await place.renew():
                log.error("a new worker does not start; the others stay as they are")
                break
        else:
            log.info("all workers are restarted")


async def _stopped(places: list[Place]) -> None:
    await asyncio.gather(*(place.stop() for place in places))


async def _ended(process: Process) -> None:
    """Ends a worker: asked first, killed when it does not."""
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOPS_WITHIN_S):
            await process.wait()
    except TimeoutError:
        log.warning("process %d did not end in time; killing it", process.pid)
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended meanwhile
        process.send_signal(number)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
