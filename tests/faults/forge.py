"""Services that can be killed: forked from one warm process, and started again after each death."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc

from multimail.v1.contact_service_pb2_grpc import ContactServiceStub
from multimail.v1.mail_service_pb2_grpc import MailServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ROOT = Path(__file__).parents[2]


class Forge:
    """The warm process that services are forked from."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="faults"))
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._hellos: dict[int, asyncio.Future[Any]] = {}
        self._forked: asyncio.Queue[int] = asyncio.Queue()
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path = self._folder / "socket"
        server = await asyncio.start_unix_server(self._greeted, path)
        self._stack.callback(server.close)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.child", str(path), cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith(("MULTIMAIL_", "MONGODB_"))},
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading
        await self._stack.aclose()
        await asyncio.to_thread(shutil.rmtree, self._folder)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            row = json.loads(line)
            if "forked" in row:
                # A new one each time: the system gives the ids of the dead out again.
                self._waiting[row["forked"]] = asyncio.get_running_loop().create_future()
                self._forked.put_nowait(row["forked"])
            else:
                self._waiting[row["ended"]].set_result(None)

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line := await reader.readline():
            row = json.loads(line)
            hello = self._hellos.setdefault(row["pid"], asyncio.get_running_loop().create_future())
            hello.set_result((row, reader, writer))
        else:
            writer.close()

    async def fork(
        self, spec: dict[str, Any]
    ) -> tuple[int, dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
        """Starts a service; returns its pid, where it is, and the line over which it takes orders."""
        assert self._process.stdin is not None
        async with self._lock:
            self._process.stdin.write(json.dumps(spec).encode() + b"\n")
            pid = await self._forked.get()
        hello = self._hellos.setdefault(pid, asyncio.get_running_loop().create_future())
        done, _ = await asyncio.wait({hello, self._waiting[pid]}, timeout=40, return_when=asyncio.FIRST_COMPLETED)
        if hello not in done:
            raise AssertionError(f"a service did not start: {Path(spec['log']).read_text()[-4000:]}")
        row, reader, writer = hello.result()
        del self._hellos[pid]
        return pid, row, reader, writer

    def kill(self, pid: int) -> None:
        """Kill -9, unless it has ended already: its id may be another's by now."""
        if not self._waiting[pid].done():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def ended(self, pid: int) -> None:
        """Waits until the process is gone and reaped: a neighbour would take a zombie for alive."""
        await asyncio.shield(self._waiting[pid])


class Node:
    """One service process, started again after each death on the same database.

    Args:
        forge: Starts it.
        spec: What it is; see `child.serve`.
        died: Awaited after each death, before it starts again.
    """

    def __init__(self, forge: Forge, spec: dict[str, Any], died: Callable[[], Awaitable[None]]) -> None:
        self._forge = forge
        self._spec = spec
        self._died = died
        self._channel: grpc.aio.Channel | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.up = asyncio.Event()
        self.pid = 0
        self.process = ""  # as leases name it

    async def start(self) -> None:
        """Forks it and waits until it serves."""
        self.pid, row, self._reader, self._writer = await self._forge.fork(self._spec)
        self.smtp_port, self.process = row["smtp"], row["process"]
        options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{row['grpc']}", options=options)
        self.stub = MailServiceStub(self._channel)
        self.contacts = ContactServiceStub(self._channel)
        self.up.set()

    async def kill(self) -> None:
        """Kill -9, unless it killed itself already."""
        self._forge.kill(self.pid)
        await self.died()

    async def died(self) -> None:
        """Waits for its death and has what it left looked at."""
        self.up.clear()
        await self._forge.ended(self.pid)
        await self._died()
        await self._close()

    async def stop(self) -> None:
        """Asks it to stop, as Ctrl-C would."""
        if self.up.is_set():
            self.up.clear()
            await self.order(do="stop")
            await asyncio.wait_for(self._forge.ended(self.pid), 20)
            await self._close()

    async def _close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        if self._writer is not None:
            self._writer.close()

    async def order(self, **order: Any) -> dict[str, Any]:
        """Tells it something, and returns what it says; empty when it dies of it."""
        assert self._writer is not None
        self._writer.write(json.dumps(order).encode() + b"\n")
        line = b""
        with suppress(ConnectionError):  # it died with the order unread
            line = await self._reader.readline() if order["do"] != "stop" else b""
        return json.loads(line) if line else {}
