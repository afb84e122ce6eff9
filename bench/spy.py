"""Where the service's time goes under one case: CPU by thread, and py-spy's samples of what Python does.

CPU that no Python function shows for is gRPC's own, in C++.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench import cases, processes

CASES = {each.name: each for each in vars(cases).values() if isinstance(each, cases.Case)}


def spied(pid: int, seconds: float, path: Path) -> subprocess.Popen[bytes]:
    """py-spy on a process: stacks of whoever holds the interpreter, with counts, into a file."""
    options = ("--gil", "--format", "raw", "--rate", "500", "--duration", str(round(seconds)), "--output", str(path))
    program = str(Path(sys.executable).parent / "py-spy")
    return subprocess.Popen([program, "record", *options, "--pid", str(pid)], stdout=subprocess.DEVNULL)


def by_thread(pid: int) -> Counter[str]:
    """CPU seconds of each thread, by its name and id."""
    used: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        used[f"{name} {task.name}"] = processes.cpu_s(f"{pid}/task/{task.name}")
    return used


def show(stacks: str, most: int) -> None:
    """Prints the functions by how often they were anywhere in a stack, and how often at its top."""
    within: Counter[str] = Counter()
    at_top: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] for frame in stack.split(";")]
        at_top[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    total = sum(at_top.values())
    print(f"{'within %':>9} {'itself %':>9}")
    for frame, count in within.most_common(most):
        print(f"{100 * count / total:9.1f} {100 * at_top[frame] / total:9.1f}  {frame}")


async def main() -> None:
    """Measures one case, then once more under py-spy."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("case", choices=CASES)
    arguments.add_argument("--callers", type=int, default=64)
    arguments.add_argument("--seconds", type=float, default=4)
    arguments.add_argument("--runs", type=int, default=3, help="how often to measure before")
    arguments.add_argument("--most", type=int, default=60, help="lines to print; 0 only measures")
    given = arguments.parse_args()
    async with processes.engine() as engine, processes.service(engine, cases.CONTACTS) as system:
        before = by_thread(system.pid)
        for _ in range(given.runs):
            result = await processes.measure(system, CASES[given.case], given.callers, given.seconds, engine)
            print(
                f"{result.cpu_us:.0f} µs CPU a call, {result.per_s:.0f} calls/s, p50 {result.p50_ms:.1f} ms", flush=True
            )
        for name, used in (by_thread(system.pid) - before).most_common(8):
            print(f"{used:6.2f} s CPU in thread {name}")
        if given.most:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "stacks"
                spy = spied(system.pid, given.seconds, path)
                await processes.measure(system, CASES[given.case], given.callers, given.seconds + 1, engine)
                await asyncio.to_thread(spy.wait)
                show(path.read_text(), given.most)


if __name__ == "__main__":
    asyncio.run(main())
