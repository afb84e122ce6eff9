"""One worker of several, as its supervisor starts it: serves until it is told to stop or to leave.

    python -m multimail_server.child NUMBER

Its output tells the supervisor that it serves, its input that the supervisor lives.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from multimail_server import settings
from multimail_server.app import Service
from multimail_server.commands import loop_factory, spare_collecting, start_logging
from multimail_server.ports import stop_listening
from multimail_server.storage.embedded import end_left_behind

if TYPE_CHECKING:
    from multimail_server.settings import Settings

# gRPC asks connections to move up to a tenth later than it was told; they need a moment for it.
_LATEST = 1.1
_MOVES_WITHIN_S = 1.0


async def work(config: Settings) -> None:
    """Serves until SIGTERM; after SIGHUP only until what is connected has moved to another worker."""
    loop = asyncio.get_running_loop()
    stop, leave = asyncio.Event(), asyncio.Event()

    def asked_to_stop() -> None:
        stop.set()
        leave.set()

    async with Service(config) as running:
        spare_collecting()
        # Before, a signal just ends this process, which has accepted nothing.
        loop.add_signal_handler(signal.SIGTERM, asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, leave.set)
        os.write(1, b"serving\n")
        await leave.wait()
        if not stop.is_set():
            stop_listening(running.grpc_port)
            running.door.leave()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), config.connection_age_s * _LATEST + _MOVES_WITHIN_S)


def _end_with_supervisor(config: Settings) -> None:
    """Waits until the supervisor is gone, then ends this process and the engine that nobody looks after any more."""
    os.read(0, 1)
    try:
        asyncio.run(end_left_behind(config.data, config.mongodb_uri.get_secret_value()))
    finally:
        os._exit(1)


def main() -> None:
    """A worker's whole life."""
    config = settings.from_environment()
    start_logging(config, f"worker {sys.argv[1]}, process {os.getpid()}")
    # A thread, so that a busy loop does not keep it waiting.
    threading.Thread(target=_end_with_supervisor, args=(config,), daemon=True).start()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work(config))


if __name__ == "__main__":
    main()
