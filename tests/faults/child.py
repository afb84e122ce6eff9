"""The service as the fault tests run it: forked from one warm process, each told by a socket when to die.

The parent imports everything once and forks for every service, so that a start after a kill costs a tenth of a second.
What a child runs is the real service; around it are only the times that tests shorten, the step at which it shall kill
itself, and, where a test asks for it, one planted fault.

    python -m tests.faults.child SOCKET
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.faults import crash, planted

from multimail_server.app import Service
from multimail_server.commands import loop_factory
from multimail_server.mail import outbox, smtp, states
from multimail_server.settings import Settings

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def shorten(backoff_s: float, smtp_timeout_s: float, poll_s: float, used_at_most: int | None = None) -> None:
    """Makes the waits of the outbox, and the lives of its connections, short; what it does stays as it is."""
    states._BACKOFF = (timedelta(seconds=backoff_s),) * 8
    smtp._STEP_TIMEOUT_S = smtp._DATA_TIMEOUT_S = smtp_timeout_s
    outbox._POLL_S = poll_s
    smtp._USED_AT_MOST = used_at_most or smtp._USED_AT_MOST


async def serve(spec: dict[str, Any], socket: str) -> None:
    """Runs one service until its socket closes, doing as it is told over it."""
    reader, writer = await asyncio.open_unix_connection(socket)

    def say(row: dict[str, Any]) -> None:
        writer.write(json.dumps(row).encode() + b"\n")

    async with Service(Settings(**spec["settings"])) as running:
        process = running.committer._process.id
        say({"pid": os.getpid(), "process": process, "grpc": running.grpc_port, "smtp": running.smtp_port})
        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "arm":
                crash.plan.arm(order["when"], order["step"])
                say({})
            elif order["do"] == "disarm":
                say({"steps": crash.plan.disarm()})
            else:
                break


def child(spec: dict[str, Any], socket: str) -> None:
    """A forked child's whole life."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level="WARNING", format=f"%(asctime)s {os.getpid()} %(levelname)s %(name)s %(message)s")
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    shorten(**spec["times"])
    if spec["crashing"]:
        crash.install()
    for name in spec["faults"]:
        planted.FAULTS[name]()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(spec, socket))


def main() -> None:
    """Forks a child per line read, and says when one has ended."""
    socket = sys.argv[1]
    children: set[int] = set()

    def reap(*_: object) -> None:
        for pid in list(children):
            with contextlib.suppress(ChildProcessError):  # another signal came meanwhile, and its handler was first
                if os.waitpid(pid, os.WNOHANG)[0]:
                    children.discard(pid)
                    os.write(1, json.dumps({"ended": pid}).encode() + b"\n")

    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        spec = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            code = 1
            try:
                child(spec, socket)
                code = 0
            except BaseException:
                logging.getLogger("faults").exception("the service ended")
            finally:
                os._exit(code)
        children.add(pid)
        os.write(1, json.dumps({"forked": pid}).encode() + b"\n")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    Path(sys.argv[1]).resolve(strict=True)  # the socket must be there before anybody connects
    main()
