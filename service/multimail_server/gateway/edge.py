"""The outermost ring of every HTTP request: its id, every error in one form, headers that all answers bear."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

import grpc
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware

from multimail_server.gateway.body import GoneError
from multimail_server.gateway.failures import CUT, failure_of, fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from multimail_server.gateway.door import Door
    from multimail_server.gateway.failures import Failure

log = logging.getLogger("multimail.http")

_ABSOLUTE = re.compile(rb"https?://[^/]*", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# What pages in browsers may send and see.
_GIVEN = ("authorization", "content-type", "idempotency-key", "last-event-id", "x-request-id", "x-request-timeout")
_TOLD = ("retry-after", "x-request-id")
_MCP = ("mcp-session-id", "mcp-protocol-version")
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, for pages of these origins as well; `*` stands for all of them."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
        allow_headers=[*_GIVEN, *_MCP],
        expose_headers=[*_TOLD, *_MCP],
    )


def request_id_of(scope: Scope) -> str:
    """The id under which this request is known, here and in the service's log."""
    found: str = scope["state"]["request_id"]
    return found


class Edge:
    """Runs an application inside.

    Args:
        app: The application.
        new_id: Makes an id with the given prefix.
        door: Where requests come from: it may be leaving, or be crowded.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[str], str], door: Door) -> None:
        self._app = app
        self._new_id = new_id
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        scope["app"] = self  # so that routes raise what they refuse
        if absolute := _ABSOLUTE.match(scope["raw_path"]):  # RFC 9112, 3.2.2
            scope["raw_path"] = scope["raw_path"][absolute.end() :] or b"/"
            scope["path"] = unquote(scope["raw_path"].decode("ascii"))
        exchange = _Exchange(scope, receive, send, ends=lambda: self._door.leaving or self._door.crowded)
        try:
            self._door.let_in()
            await self._app(scope, exchange.receive, exchange.send)
        except GoneError:
            return
        except (Exception, asyncio.CancelledError) as error:
            failure = _failure(error, request_id)
            if exchange.started:
                raise  # the connection is cut, by which the reader knows that the answer is not whole
            await failure.response()(scope, exchange.receive, exchange.send)


def _failure(error: BaseException, request_id: str) -> Failure:
    """How an error is answered; noted in the log, unless it was a call's, which has a line of its own."""
    if isinstance(error, asyncio.CancelledError):  # by the stop of the service, which can wait no longer
        error = CUT
    failure = failure_of(error)
    if failure is None:
        log.error("a request failed: request_id=%s", request_id, exc_info=error)
        return fault(request_id)
    if not isinstance(error, grpc.aio.AioRpcError):
        log.info("http status=%d reason=%s request_id=%s", failure.status, failure.reason, request_id)
    return failure


class _Exchange:
    """One request and its answer, as they pass the edge.

    Attributes:
        started: Whether the answer has begun.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, ends: Callable[[], bool]) -> None:
        self._id = request_id_of(scope)
        self._receive = receive
        self._send = send
        self._ends = ends
        self._unread = _has_body(scope)
        self.started = False

    async def receive(self) -> Message:
        """The next piece of the request."""
        message = await self._receive()
        self._unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Sends the next piece of the answer, its head with what all answers bear."""
        if message["type"] == "http.response.start":
            self.started = True
            self._complete(MutableHeaders(raw=message["headers"]), message["status"])
        await self._send(message)

    def _complete(self, headers: MutableHeaders, status: int) -> None:
        headers["x-request-id"] = self._id
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self._ends() or (self._unread and status >= HTTPStatus.BAD_REQUEST):
            headers["connection"] = "close"


def _has_body(scope: Scope) -> bool:
    """Whether a body comes with the request; one that is refused unread must not be taken for the next request."""
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
