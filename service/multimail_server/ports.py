"""Ports that several processes listen on: reserved for all of them, and left by one."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

_PATIENCE_S = 12.0
_LOOKS_EVERY_S = 0.1


async def reserve(host: str, port: int) -> socket.socket:
    """Holds a port for processes that share it; nobody is answered there until one of them listens.

    A port on which somebody listens is waited for: the workers of a supervisor that was killed end by themselves, the
    last of them once the engine has ended.

    Args:
        host: The address.
        port: The port; 0 lets the system choose.

    Returns:
        The socket that holds it.

    Raises:
        OSError: The port cannot be had.
    """
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        try:
            bound(host, port, shared=False).close()  # a port that only may be shared would be had beside a stranger
            return bound(host, port, shared=True)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_LOOKS_EVERY_S)


def stop_listening(port: int) -> None:
    """Lets the others have what connects to this port from now on; what is connected stays.

    gRPC ends its listener only together with its connections, under calls that are on their way, and does not give its
    socket away: it is found among this process's files. gRPC notes "Closing acceptor" in the log.
    """
    for descriptor in list(Path("/dev/fd").iterdir()):
        try:
            if not stat.S_ISSOCK(os.fstat(number := int(descriptor.name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1:2] == (port,):
                    found.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed meanwhile
            continue


def bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A socket that holds a port without listening; OSError when it cannot be had.

    Args:
        host: The address.
        port: The port; 0 lets the system choose.
        shared: Whether others may listen on it beside.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
