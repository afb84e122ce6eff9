"""Ports for several processes: held for them without answering, refused beside a stranger, left without a cut."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from multimail_server import ports


def listener(port: int, *, shared: bool) -> socket.socket:
    """Somebody who listens on a port."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


async def test_a_reserved_port_answers_only_once_somebody_listens() -> None:
    """The system's choice is held, refuses connections until a worker listens, and may be shared by several."""
    with await ports.reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 2)
        with (
            listener(port, shared=True),
            listener(port, shared=True),
            socket.create_connection(("127.0.0.1", port), 2) as connection,
        ):
            assert port == connection.getpeername()[1]


@pytest.mark.parametrize("shared", [True, False])
async def test_a_port_beside_a_stranger_is_refused(monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> None:
    """A port on which somebody else listens cannot be had, not even when they would share it."""
    monkeypatch.setattr(ports, "_PATIENCE_S", 0.2)
    with listener(0, shared=shared) as stranger, pytest.raises(OSError, match="in use"):
        await ports.reserve("127.0.0.1", stranger.getsockname()[1])


def test_who_stops_listening_keeps_its_connections() -> None:
    """What was connected goes on; what connects from then on reaches another listener, or nobody."""
    with listener(0, shared=True) as leaving:
        port = leaving.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            accepted, _ = leaving.accept()
            ports.stop_listening(port)
            with accepted:
                connection.sendall(b"still here")
                assert b"still here" == accepted.recv(20)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 2)
        with listener(port, shared=True), socket.create_connection(("127.0.0.1", port), 2) as moved:
            assert port == moved.getpeername()[1]


def test_looking_for_the_listener_leaves_no_file_open() -> None:
    """After a listener was looked for, this process has the files open that it had before."""
    reading, writing = os.pipe()
    try:
        before = sorted(Path("/dev/fd").iterdir())
        ports.stop_listening(1)
        assert before == sorted(Path("/dev/fd").iterdir())
    finally:
        os.close(reading)
        os.close(writing)
