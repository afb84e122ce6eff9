"""The embedded engine: a SecantusDB process of our own, found again, watched and stopped; never imported.

It is GPL-2.0-only software in a process of its own that speaks MongoDB's wire protocol on a loopback port.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from io import TextIOWrapper

log = logging.getLogger("multimail.engine")

_STARTS_WITHIN_S = 30.0
_STOPS_WITHIN_S = 5.0
_DIES_WITHIN_S = 3.0
_LOOKS_EVERY_S = 0.25
_LONGEST_PAUSE_S = 5.0
_MAX_LOG_BYTES = 10 << 20


class AlreadyRunningError(Exception):
    """Another service holds the data folder."""


class DataLock:
    """Keeps a second service away from the data folder; the system releases it when the process dies.

    Args:
        data: The folder.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / "service.lock"
        self._file: TextIOWrapper | None = None

    def acquire(self) -> None:
        """Takes the lock, or raises AlreadyRunningError naming who holds it."""
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise AlreadyRunningError(
                f"A service is already running on the data folder {self._path.parent} (process {holder}). "
                "Stop it first, or choose another folder with MULTIMAIL_DATA."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def uri_of(port: int) -> str:
    """How to reach an engine on this machine."""
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def find_running(data: Path) -> str | None:
    """The URI of the living engine on this folder, or None; never starts one."""
    row = _living(data)
    return uri_of(row["port"]) if row else None


def find_binary(configured: str) -> str:
    """The engine to run: the configured one, else the faster `secantusd-rs`, else `secantusd-py` from the extra."""
    beside = Path(sys.executable).parent
    names = (
        (configured,)
        if configured
        else ("secantusd-rs", ".engine/bin/secantusd-rs", str(beside / "secantusd-py"), "secantusd-py")
    )
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise SystemExit(
        f"multimail-server: no embedded engine ({' or '.join(names)}) can be found. "
        "Install it with: pip install 'multimail[embedded]', or set MONGODB_URI to a MongoDB of yours."
    )


class EmbeddedEngine:
    """Supervises the engine of one data folder; hold the folder's DataLock while using it.

    Args:
        data: The data folder; made when missing.
        binary: The engine's program.
        pid: The engine's process, where it is known to live.
    """

    def __init__(self, data: Path, binary: str, *, pid: int = 0) -> None:
        self._data = data
        self._binary = binary
        self._port = 0
        self._pid = pid
        self._child: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> str:
        """Finds the engine a killed service left behind, or starts one; returns its URI and watches it from now on."""
        row = _living(self._data)
        if row is not None:
            self._port, self._pid = row["port"], row["pid"]
            log.info("found the engine still running (process %d)", self._pid)
        else:
            self._port = _free_port()
            await self._launch()
        self._watching = asyncio.create_task(self._watch(), name="engine watch")
        return uri_of(self._port)

    async def stop(self) -> None:
        """Ends the engine: asked first, killed after five seconds."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if not self._pid:  # it never started, and to signal 0 would be to signal ourselves
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if await self._ended(signal_number):
                break
        _row_path(self._data).unlink(missing_ok=True)

    async def _ended(self, signal_number: signal.Signals) -> bool:
        try:
            os.kill(self._pid, signal_number)
        except ProcessLookupError:
            return True
        for _ in range(round(_STOPS_WITHIN_S / 0.05)):
            if not self._alive():
                return True
            await asyncio.sleep(0.05)
        return False

    def _alive(self) -> bool:
        if self._child is not None:
            return self._child.returncode is None
        return is_alive(self._pid)

    async def _launch(self) -> None:
        files = self._data / "engine"
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        # An empty file of its own: the engine would else take one from the working directory or the home.
        config = self._data / "engine.toml"
        config.touch()
        log_path = self._data / "engine.log"
        if log_path.exists() and log_path.stat().st_size > _MAX_LOG_BYTES:
            log_path.replace(self._data / "engine.log.1")
        with log_path.open("ab") as output:
            self._child = await asyncio.create_subprocess_exec(
                self._binary, "--config", str(config), "--host", "127.0.0.1", "--port", str(self._port),
                "--storage-path", str(files), "--sync-on-commit",
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal reaches the service only
            )  # fmt: skip
        self._pid = self._child.pid
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not await _answers(self._port):
            if self._child.returncode is not None or time.monotonic() > deadline:
                raise SystemExit(f"multimail-server: the embedded engine did not start; see {log_path}")
            await asyncio.sleep(0.05)
        _write_row(self._data, {"pid": self._pid, "port": self._port, "started": _start_time(self._pid)})

    async def _watch(self) -> None:
        """Starts the engine anew on the same port whenever it dies."""
        pause = 0.1
        while not self._stopping:
            await asyncio.sleep(_LOOKS_EVERY_S)
            if self._alive():
                pause = 0.1
                continue
            log.error("the engine died; starting it again")
            try:
                await self._launch()
            except (SystemExit, OSError) as error:
                log.warning("the engine could not be started: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)


async def end_left_behind(data: Path, uri: str) -> None:
    """Ends the living engine on this folder, if it is the one at this URI and nobody looks after it any more."""
    if find_running(data) != uri:
        return
    lock = DataLock(data)
    if not await _taken(lock):  # also so that one alone asks it: secantusd-py hangs when it is asked twice at once
        return
    if row := _living(data):  # else another one ended it meanwhile
        await EmbeddedEngine(data, "", pid=row["pid"]).stop()
    lock.release()


async def _taken(lock: DataLock) -> bool:
    """Takes the lock; of a process that dies the system takes it back a moment after its pipes were closed."""
    deadline = time.monotonic() + _DIES_WITHIN_S
    while True:
        try:
            lock.acquire()
        except AlreadyRunningError:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        else:
            return True


def _row_path(data: Path) -> Path:
    return data / "engine.json"


def _write_row(data: Path, row: dict[str, Any]) -> None:
    draft = _row_path(data).with_suffix(".tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(row, file)
    draft.replace(_row_path(data))


def _living(data: Path) -> dict[str, Any] | None:
    """What `engine.json` says, if that very process still lives and answers on its port."""
    try:
        row: dict[str, Any] = json.loads(_row_path(data).read_text())
        pid, port, started = row["pid"], row["port"], row["started"]
    except (OSError, ValueError, KeyError):
        return None
    if not is_alive(pid) or started != _start_time(pid):
        return None
    with socket.socket() as probe:
        probe.settimeout(2)
        return row if probe.connect_ex(("127.0.0.1", port)) == 0 else None


def is_alive(pid: int) -> bool:
    """Whether the process lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat_of(pid)[:1] != ["Z"]  # one that ended and that nobody asked about lives no more


def _stat_of(pid: int) -> list[str]:
    """What `/proc` tells of a process behind its name, state first; nothing where there is no `/proc`."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _start_time(pid: int) -> str:
    """When the process started, as far as this system tells; a pid alone may belong to somebody new."""
    fields = _stat_of(pid)
    return fields[19] if len(fields) > 19 else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
