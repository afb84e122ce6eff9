"""Measures the service beside a bare echo, in one run on one machine: calls a second, latency, server CPU per call.

Every case is bounded in calls and time; everything runs on loopback. Ratios within one run are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import multimail

ROOT = Path(__file__).resolve().parent
CONTACTS = 2_000
COMPANIES = 100
CALLS = {1: 400, 64: 4_000}
LONGEST_S = 10.0
TICKS = os.sysconf("SC_CLK_TCK")

Act = Callable[[multimail.AsyncClient, int], Awaitable[object]]


@dataclass(frozen=True)
class Result:
    """One case: calls a second, median and 99th percentile in ms, server CPU per call in µs."""

    case: str
    callers: int
    calls: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port() -> int:
    """A port nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(case: str, callers: int, client: multimail.AsyncClient, pid: int, act: Act) -> Result:
    """Runs one case with so many callers, each calling again as soon as it is answered."""
    for number in range(50):
        await act(client, number)
    numbers = iter(range(CALLS[callers]))
    times: list[float] = []
    ends = time.perf_counter() + LONGEST_S

    async def caller() -> None:
        for number in numbers:
            started = time.perf_counter()
            if started > ends:
                return
            await act(client, number)
            times.append(time.perf_counter() - started)

    before, started = cpu_s(pid), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took, used = time.perf_counter() - started, cpu_s(pid) - before
    times.sort()
    return Result(
        case,
        callers,
        len(times),
        len(times) / took,
        statistics.median(times) * 1000,
        times[len(times) * 99 // 100] * 1000,
        used / len(times) * 1e6,
    )


async def start(*command: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """A server of the benchmark, as a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, env=os.environ | (env or {})
    )


async def echo(kind: str) -> list[Result]:
    """The echo server's figures."""
    server = await start(str(ROOT / "echo.py"), kind)
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    name = "bare echo" if kind == "plain" else "echo behind our chain"
    try:
        async with multimail.AsyncClient(api_key="mm_live_bench", target=f"127.0.0.1:{port}") as client:
            return [await measure(name, n, client, server.pid, lambda c, _: c.contacts.get(id="x")) for n in CALLS]
    finally:
        server.terminate()
        await server.wait()


async def service(folder: Path) -> list[Result]:
    """The service's figures, on an engine and data of its own."""
    port = free_port()
    env = {
        "MULTIMAIL_DATA": str(folder),
        "MULTIMAIL_PORT": str(port),
        "MULTIMAIL_SMTP_PORT": "0",
        "MULTIMAIL_LOG_LEVEL": "WARNING",
    }
    if uri := os.environ.get("BENCH_MONGODB_URI"):
        env |= {"MONGODB_URI": uri, "MULTIMAIL_DATABASE": f"bench_{os.getpid()}"}
    server = await start("-m", "multimail_server", "serve", env=env)
    assert server.stdout is not None
    while b"Try it" not in await server.stdout.readline():
        continue
    key = (folder / "api-key").read_text().strip()
    try:
        async with multimail.AsyncClient(api_key=key, target=f"127.0.0.1:{port}") as client:
            await fill(client)
            return [
                await measure(case, callers, client, server.pid, act)
                for case, act in cases().items()
                for callers in CALLS
            ]
    finally:
        server.terminate()
        await server.wait()


def cases() -> dict[str, Act]:
    """What is measured, by name."""

    async def search(client: multimail.AsyncClient, number: int) -> object:
        filters = {"metadata.plan": "pro", "last_contacted_before": "2026-03-20"}
        return await client.contacts.search(domain=f"company{number % COMPANIES}.test", filters=filters, limit=20)

    return {
        "get": lambda client, n: client.contacts.get(email=address(n % CONTACTS)),
        "upsert existing": lambda client, n: client.contacts.upsert(
            email=address(n % CONTACTS), metadata={"n": n + 0.5}
        ),
        "upsert new": lambda client, _: client.contacts.upsert(
            email=f"new{time.perf_counter_ns()}@fresh.test", metadata={"plan": "pro"}
        ),
        "search": search,
    }


def address(number: int) -> str:
    """The address of one of the contacts there are."""
    return f"p{number}@company{number % COMPANIES}.test"


async def fill(client: multimail.AsyncClient) -> None:
    """Makes the contacts."""
    room = asyncio.Semaphore(64)

    async def one(number: int) -> None:
        async with room:
            metadata = {
                "plan": "pro" if number % 2 else "free",
                "open_tickets": number % 7,
                "company": f"Company {number}",
            }
            await client.contacts.upsert(email=address(number), name=f"Person {number}", metadata=metadata)

    await asyncio.gather(*map(one, range(CONTACTS)))


def show(results: list[Result]) -> None:
    """Prints the table; ratios are server CPU per call over the bare echo's with as many callers."""
    bare = {result.callers: result.cpu_us for result in results if result.case == "bare echo"}
    print(f"\n{'case':<24}{'callers':>8}{'calls/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs/call':>13}{'× echo':>8}")
    for each in results:
        ratio = each.cpu_us / bare[each.callers] if bare.get(each.callers) else float("nan")
        print(
            f"{each.case:<24}{each.callers:>8}{each.per_s:>10,.0f}{each.p50_ms:>9.2f}{each.p99_ms:>9.2f}"
            f"{each.cpu_us:>13,.0f}{ratio:>8.2f}"
        )


async def main() -> None:
    """Runs everything and prints it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", type=Path, help="also write the figures to this file")
    given = arguments.parse_args()
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores shared by all",
        flush=True,
    )
    results = await echo("plain") + await echo("chain")
    print("echo measured, now the service …", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        results += await service(Path(folder))
    show(results)
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in results], indent=1))


if __name__ == "__main__":
    asyncio.run(main())
