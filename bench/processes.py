"""The processes of a measurement: the engine, the servers and the load, and what each has used."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import multimail
from bench import cases
from bench.figures import Result
from bench.peers import driver
from multimail_server.accounts.keys import key_from, key_hash
from multimail_server.storage.embedded import EmbeddedEngine, find_binary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from bench.cases import Case

TICKS = os.sysconf("SC_CLK_TCK")
SEEDED_AT_ONCE = 2_000


@dataclass(frozen=True)
class Engine:
    """The database everything runs on.

    Attributes:
        uri: Where it is.
        name: What it is, for people.
        pid: Its process; 0 when it is not ours.
        database: The name each database of this run begins with.
    """

    uri: str
    name: str
    pid: int
    database: str


@dataclass(frozen=True)
class System:
    """One system to measure, running.

    Attributes:
        name: What it is, for people.
        kind: How it is called: `grpc`, `http` or `driver`.
        target: Where; for the driver the engine's URI.
        key: Its API key; for the driver the database's name.
        pid: The server's process; 0 when the load itself is what is measured.
        database: Where its documents are; empty when it has none.
    """

    name: str
    kind: str
    target: str
    key: str
    pid: int
    database: str = ""


def cpu_s(process: int | str) -> float:
    """CPU seconds a process (or thread: `pid/task/tid`) has used; 0 where that cannot be read."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MiB; 0 where that cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(each.split()[1]) / 1024 for each in lines if each.startswith("VmRSS:")), 0.0)


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """The engine that BENCH_MONGODB_URI names, else an embedded one with files of its own."""
    database = f"bench_{os.getpid()}"
    if uri := os.environ.get("BENCH_MONGODB_URI"):
        yield Engine(uri, "MongoDB at BENCH_MONGODB_URI", 0, database)
        return
    with tempfile.TemporaryDirectory() as folder:
        binary = find_binary(os.environ.get("MULTIMAIL_ENGINE", ""))
        embedded = EmbeddedEngine(Path(folder), binary)
        uri = await embedded.start()
        try:
            pid = json.loads((Path(folder) / "engine.json").read_text())["pid"]
            yield Engine(uri, Path(binary).name, pid, database)
        finally:
            await embedded.stop()


@asynccontextmanager
async def started(
    *module: str, ready: bytes = b"", env: dict[str, str] | None = None
) -> AsyncIterator[tuple[int, bytes]]:
    """A server as a process of its own: its pid, and the line it printed when it was ready."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, stdout=asyncio.subprocess.PIPE, env=os.environ | (env or {})
    )
    assert server.stdout is not None
    try:
        while ready not in (line := await server.stdout.readline()):
            if not line:
                raise SystemExit(f"bench: {module[0]} did not start")
        yield server.pid, line
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()


@asynccontextmanager
async def echo(name: str, *how: str) -> AsyncIterator[System]:
    """A server of bench/peers/echo.py."""
    async with started("bench.peers.echo", *how) as (pid, port):
        yield System(name, "grpc", f"127.0.0.1:{int(port)}", key_from(bytes(32)), pid)


@asynccontextmanager
async def peer(engine: Engine, contacts: int) -> AsyncIterator[tuple[System, System, System]]:
    """The service a good engineer would write, a handler with one driver call, and the raw driver, on one database."""
    name, key = engine.database + "_peer", key_from(secrets.token_bytes(32))
    database = driver.connect(engine.uri, name)
    try:
        await driver.prepare(database)
        await database.api_keys.insert_one({"account": cases.ACCOUNT, "hash": key_hash(key), "revoke_time": None})
        await seed(database, 0, contacts)
        async with started("bench.peers.rest", engine.uri, name) as (pid, port):
            rest = System("FastAPI peer", "http", f"127.0.0.1:{int(port)}", key, pid, name)
            async with echo("one driver call", "one-call", engine.uri, name) as handler:
                yield rest, handler, System("raw driver", "driver", engine.uri, name, 0, name)
    finally:
        await dropped(database)


@asynccontextmanager
async def service(engine: Engine, contacts: int) -> AsyncIterator[System]:
    """The service itself, with so many contacts and a mailbox."""
    name = engine.database
    database = driver.connect(engine.uri, name)
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "MONGODB_URI": engine.uri,
            "MULTIMAIL_DATABASE": name,
            "MULTIMAIL_DATA": folder,
            "MULTIMAIL_PORT": "0",
            "MULTIMAIL_SMTP_PORT": "0",
            "MULTIMAIL_HTTP_PORT": "0",
            "MULTIMAIL_LOG_LEVEL": "WARNING",
        }
        try:
            async with started("multimail_server", "serve", ready=b"gRPC", env=env) as (pid, line):
                target, key = line.split()[1].decode(), (Path(folder) / "api-key").read_text().strip()
                await seed(database, 0, contacts)
                async with multimail.AsyncClient(api_key=key, target=target) as client:
                    await client.mailboxes.create(email=cases.MAILBOX)
                yield System("Multimail", "grpc", target, key, pid, name)
        finally:
            await dropped(database)


async def dropped(database: Any) -> None:
    """Leaves nothing behind, for the next part of the run begins under the same name."""
    await database.client.drop_database(database.name)


async def seed(database: Any, first: int, last: int) -> None:
    """Loads contacts in bulk, behind everybody's back."""
    for start in range(first, last, SEEDED_AT_ONCE):
        await insert(database.contacts, cases.people(start, min(start + SEEDED_AT_ONCE, last)))


async def insert(collection: Any, documents: Iterable[dict[str, Any]]) -> None:
    """Inserts documents in one command."""
    await collection.insert_many(list(documents), ordered=False)


async def measure(
    system: System,
    case: Case,
    callers: int,
    seconds: float,
    engine: Engine | None = None,
    *,
    contacts: int = cases.CONTACTS,
    size: int = 0,
) -> Result:
    """Runs one case against one system.

    Args:
        system: What to call.
        case: What to call it for.
        callers: How many call at once.
        seconds: For how long.
        engine: Whose CPU to note too.
        contacts: How many contacts may be called for.
        size: How many contacts or interactions there are, where that is what is measured.
    """
    options = ("--callers", str(callers), "--seconds", str(seconds), "--contacts", str(contacts))
    load = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", system.kind, system.target, system.key, case.name, *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 30,
    )
    assert load.stdin is not None
    assert load.stdout is not None
    if not await load.stdout.readline():
        raise SystemExit(f"bench: {system.name} cannot do {case.name}")
    pid, engine_pid = system.pid or load.pid, engine.pid if engine else 0
    before, engine_before = cpu_s(pid), cpu_s(engine_pid)
    load.stdin.write(b"go\n")
    line = await load.stdout.readline()
    used, engine_used = cpu_s(pid) - before, cpu_s(engine_pid) - engine_before
    await load.wait()
    told = json.loads(line)
    times = told["times_s"]
    return Result(
        system=system.name,
        case=case.name,
        callers=callers,
        calls=len(times),
        rows=case.rows,
        per_s=len(times) / told["took_s"],
        p50_ms=statistics.median(times) * 1000,
        p99_ms=times[len(times) * 99 // 100] * 1000,
        cpu_us=used / len(times) * 1e6,
        engine_us=engine_used / len(times) * 1e6,
        load_busy=told["busy"],
        size=size,
    )
