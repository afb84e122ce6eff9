"""Listens for HTTP on this process's own event loop: opens, lets a worker leave cutting hardly anybody, closes."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from multimail_server.errors import DomainError, Reason
from multimail_server.gateway.failures import refusal
from multimail_server.gateway.shown import json_bytes
from multimail_server.ports import bound

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from multimail_server.settings import Settings

_MAX_HEAD_BYTES = 64 << 10
_MAX_CONNECTIONS = 4096
# Longer than the 60 seconds after which common load balancers drop an idle connection: so they drop it, not we.
_KEEP_ALIVE_S = 75
_FINISHES_WITHIN_S = 1  # the calls themselves have had their time before
# Whoever begins a request has so long for its head.
_HEAD_WITHIN_S = 15.0
# Whoever is answered takes so much in so long, or has gone.
_TAKES_BYTES, _TAKES_WITHIN_S = 64 << 10, 60.0
# A peer that went without a word is noticed though it is told nothing: after silence, asked every so often, so often.
_SILENT_S, _ASKED_EVERY_S, _ASKED_TIMES = 60, 20, 2


class _Connection(H11Protocol):
    """A connection; who leaves it open without asking anything, or without taking the answer, is cut."""

    _too_late: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(1)  # paused means: not all was taken
        self._too_late = self.loop.call_later(_HEAD_WITHIN_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """Takes what was sent."""
        super().data_received(data)
        awaits_head = self.conn.their_state is h11.IDLE
        if awaits_head and self.conn.trailing_data[0] and self._too_late is None:
            self._too_late = self.loop.call_later(_HEAD_WITHIN_S, self.transport.close)
        elif not awaits_head:
            self._in_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._in_time()
        self._taken()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            refused = DomainError(Reason.MALFORMED_REQUEST, f"{msg} Its head may hold {_MAX_HEAD_BYTES >> 10} KiB.")
            failure = refusal(refused, headers={"connection": "close", "content-type": "application/json"})
            events: list[Any] = [
                h11.Response(status_code=failure.status, headers=list(failure.headers.items())),
                h11.Data(data=json_bytes(failure.body)),
                h11.EndOfMessage(),
            ]
            self.transport.write(b"".join(self.conn.send(each) or b"" for each in events))
        self.transport.close()

    def pause_writing(self) -> None:
        """Waits for the other side to take what is written; also when the connection is to end behind it."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """Goes on: all was taken."""
        self._taken()
        super().resume_writing()

    def _await_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._untaken = self.loop.call_later(_TAKES_WITHIN_S, self._cut_unless_taken, left)

    def _cut_unless_taken(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < _TAKES_BYTES:
            self.transport.abort()  # to close it would wait for ever
        else:
            self._await_taking()

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _in_time(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


class Door:
    """The HTTP port. Reserved early, so that a taken one ends the start before anything else was done.

    Args:
        settings: Where it listens, with which certificate, and whether other workers share the port.

    Attributes:
        port: The port, once it is reserved.
        leaving: Whether it accepts no more.
        most: How many connections there may be; requests on more of them are refused.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.port = 0
        self.leaving = False
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # the engine's and the mails' connections are some, too
        self.most = _MAX_CONNECTIONS if files < 0 else min(_MAX_CONNECTIONS, files // 2)

    @property
    def crowded(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self.connections) > self.most

    def let_in(self) -> None:
        """Refuses a request when there are too many connections."""
        if self.crowded:
            raise DomainError(Reason.TOO_BUSY, "Too many connections are open; come back in a second.", retry_after_s=1)

    @property
    def connections(self) -> set[Any]:
        """The connections there are."""
        return self._server.server_state.connections if self._server else set()

    def reserve(self) -> None:
        """Takes the port, or ends with a message that says who may have it; nobody is answered yet."""
        host, port = self._settings.http_host, self._settings.http_port
        try:
            self._socket = bound(host, port, shared=self._settings.workers > 1)
        except OSError as error:
            raise self._taken(error) from None
        self.port = self._socket.getsockname()[1]
        _notice_silence(self._socket)

    def release(self) -> None:
        """Gives the port back."""
        if self._socket is not None:
            self._socket.close()

    def _taken(self, error: OSError) -> SystemExit:
        return SystemExit(
            f"multimail-server: the port {self._settings.http_host}:{self._settings.http_port} cannot be had "
            f"({error.strerror}), perhaps another service runs. Stop it first, or choose another port with "
            "MULTIMAIL_HTTP_PORT."
        )

    async def open(self, app: ASGIApp) -> None:
        """Answers requests from now on; the port must be reserved."""
        if self._socket is None:
            raise RuntimeError("the port is not reserved yet")
        settings = self._settings
        config = uvicorn.Config(
            app,
            http=_Connection,  # by h11, the parser that bounds what a head may hold
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,  # each call has its line already, without addresses
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_FINISHES_WITHIN_S,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        config.load()
        # Its `serve` would take the signals over; these are its parts without that.
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        try:
            await server.startup(sockets=[self._socket])
        except OSError as error:  # of two that held the port at once, the other listens
            raise self._taken(error) from None
        except SystemExit:  # its own, which says nothing
            raise RuntimeError("a part that HTTP serves did not start") from None
        self._server, self._ticking = server, asyncio.create_task(server.main_loop(), name="http")

    def leave(self) -> None:
        """Accepts no new connection; those there are end with their next answer."""
        self.leaving = True
        for each in self._server.servers if self._server else ():
            each.close()

    async def close(self) -> None:
        """Closes: requests under way have a second to end."""
        self.leave()
        if self._server is not None and self._ticking is not None:
            self._server.should_exit = True
            await self._ticking
            await self._server.shutdown()
        self.release()


def _notice_silence(listening: socket.socket) -> None:
    """Has connections that are accepted there, for they are set as it is, end when the other side went silently."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": _SILENT_S, "TCP_KEEPINTVL": _ASKED_EVERY_S, "TCP_KEEPCNT": _ASKED_TIMES}
    for name, value in options.items():
        if hasattr(socket, name):  # not all systems can be told
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
