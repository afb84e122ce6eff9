"""The HTTP port with all its parts, and the channel by which they reach the service."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from multimail_server.gateway.body import MAX_BODY_BYTES
from multimail_server.gateway.door import Door
from multimail_server.gateway.edge import Edge, with_cors
from multimail_server.gateway.parts import app_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from multimail_server.gateway.transcoder import Check
    from multimail_server.gateway.unsubscribing import Links
    from multimail_server.settings import Settings

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_BODY_BYTES),
    ("grpc.max_send_message_length", MAX_BODY_BYTES),
    ("grpc.enable_retries", 0),  # the caller decides whether to try again
]
# What a socket's path may hold is 104 bytes on some systems.
_LONGEST_FOLDER = 60
_PREFIX, _SOCKET = "multimail-grpc-", "grpc"
_ANSWERS_WITHIN_S = 0.5
_YOUNG_S = 60.0


@contextmanager
def private_target() -> Iterator[str]:
    """Where a gRPC server can listen for this process alone: a socket in a folder that only its user can enter."""
    where = Path(tempfile.gettempdir())
    if len(str(where)) > _LONGEST_FOLDER:
        where = Path("/tmp")  # noqa: S108  the folder made in it is ours alone
    _sweep(where)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=where) as folder:
        yield f"unix:{folder}/{_SOCKET}"


def _sweep(where: Path) -> None:
    """Removes the folders of services that were killed: nobody listens on the sockets in them any more."""
    for path in where.glob(f"{_PREFIX}*/{_SOCKET}"):
        try:
            if time.time() - path.lstat().st_mtime < _YOUNG_S:
                continue  # another worker's, perhaps, that is about to listen
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_ANSWERS_WITHIN_S)
                probe.connect(str(path))
        except ConnectionRefusedError:
            shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:  # another user's, or gone meanwhile
            continue


class Gateway:
    """Serves HTTP by calling gRPC, as any client does.

    Args:
        settings: How the service runs.
        target: Where its gRPC is reached inside this machine.
        check: Refuses a caller before much is read; see Transcoder.
        links: What links for unsubscribing lead to.
        new_id: Makes an id with the given prefix.
    """

    def __init__(
        self, settings: Settings, target: str, check: Check, links: Links, new_id: Callable[[str], str]
    ) -> None:
        self._settings = settings
        self._check = check
        self._links = links
        self._new_id = new_id
        self._target = target
        self._channel: grpc.aio.Channel | None = None
        self.door = Door(settings)

    async def open(self) -> None:
        """Answers requests from now on; the port must be reserved, and gRPC be served."""
        self._channel = grpc.aio.insecure_channel(self._target, options=_CHANNEL_OPTIONS)
        app: ASGIApp = app_for(self._settings, self._target, self._channel, self._check, self._links)
        app = Edge(app, self._new_id, self.door)
        await self.door.open(with_cors(app, self._settings.allowed_origins))

    async def close(self) -> None:
        """Closes: requests under way have a second to end."""
        await self.door.close()
        if self._channel is not None:
            await self._channel.close()
