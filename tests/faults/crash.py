"""Where the service can die: the steps of the storage seam and of SMTP, counted, and a kill -9 at one of them."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from typing import TYPE_CHECKING, Any

import aiosmtplib

from multimail_server.storage.mongo import Database, Session

if TYPE_CHECKING:
    from collections.abc import Callable

# Loops that run beside every call: their steps belong to none.
_BESIDE = ("Worker._run", "Process._beat")


class Plan:
    """Counts steps from the moment it is armed, and kills this process right before or after a certain one."""

    def __init__(self) -> None:
        self._when, self._at = "", -1
        self._steps: list[str] = []
        self._armed = False

    def arm(self, when: str, step: int) -> None:
        """From now on steps count; `when` is `before` or `after`, `step` counts from 0."""
        self._when, self._at, self._steps, self._armed = when, step, [], True

    def disarm(self) -> list[str]:
        """No more dying; returns the steps that were taken."""
        self._armed = False
        return self._steps

    def enter(self, label: str) -> int:
        """A step begins; returns its number, -1 when it does not count."""
        if not self._armed or _beside():
            return -1
        number = len(self._steps)
        self._steps.append(label)
        if self._when == "before" and number == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def leave(self, number: int) -> None:
        """The step with this number ended."""
        if self._armed and self._when == "after" and number == self._at >= 0:
            os.kill(os.getpid(), signal.SIGKILL)


plan = Plan()


def _beside() -> bool:
    task = asyncio.current_task()
    name = getattr(task and task.get_coro(), "__qualname__", "")
    return name in _BESIDE


def _counted(owner: type, name: str, label: Callable[..., str]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    async def step(self: Any, *args: Any, **more: Any) -> Any:
        number = plan.enter(label(*args))
        result = await original(self, *args, **more)
        plan.leave(number)
        return result

    setattr(owner, name, step)


def install() -> None:
    """Makes every step of storage and SMTP a place to die at."""
    _counted(Session, "begin", lambda: "begin")
    _counted(Session, "commit", lambda: "commit")
    _counted(Database, "find", lambda collection, *_: f"find {collection}")
    _counted(Database, "aggregate", lambda collection, *_: f"read {collection}")
    _counted(Database, "_write", lambda command, *_: " ".join(next(iter(command.items()))))
    for name in ("connect", "mail", "rcpt", "data", "rset", "quit"):
        _counted(aiosmtplib.SMTP, name, lambda *_, name=name: f"smtp {name}")
