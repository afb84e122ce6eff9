"""The load, a process of its own: so many callers, each calling again as soon as it is answered.

It warms up, says so, waits for a line on its input, runs for a bounded time and prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

from bench import cases
from bench.senders import SENDERS
from multimail_server.commands import loop_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.senders import Sender

WARM_S = 0.3


def numbers() -> Iterator[int]:
    """Numbers that no other run of this benchmark uses."""
    first = time.time_ns() // 1_000_000 % 10**9 * 1_000_000
    while True:
        yield (first := first + 1)


async def run(sender: Sender, todo: Iterator[int], callers: int, seconds: float) -> list[float]:
    """Calls until the time is over; returns how long each call took, in seconds."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    async def caller() -> None:
        while (started := time.perf_counter()) < ends:
            await sender.send(next(todo))
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return times


async def main() -> None:
    """Warms up, waits, runs, tells."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("kind", choices=SENDERS)
    arguments.add_argument("target")
    arguments.add_argument("key", help="API key; for the driver the database's name")
    arguments.add_argument("case")
    arguments.add_argument("--callers", type=int, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    arguments.add_argument("--contacts", type=int, default=cases.CONTACTS)
    given = arguments.parse_args()
    sender = SENDERS[given.kind](given.target, given.key, given.case, given.contacts)
    todo = numbers()
    await run(sender, todo, given.callers, WARM_S)
    print("warm", flush=True)
    sys.stdin.readline()
    started, busy = time.perf_counter(), time.process_time()
    times = await run(sender, todo, given.callers, given.seconds)
    took = time.perf_counter() - started
    print(json.dumps({"took_s": took, "busy": (time.process_time() - busy) / took, "times_s": sorted(times)}))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
