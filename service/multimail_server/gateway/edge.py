"""The outermost ring of every HTTP request: its id, every error in one form, headers that all answers bear."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import grpc
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware

from multimail_server.gateway.body import GoneError
from multimail_server.gateway.failures import failure_of, fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("multimail.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Whoever does not take a piece of the answer for so long has gone.
_TAKES_WITHIN_S = 60.0
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
        is_leaving: Whether connections are to end with their next answer.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[str], str], is_leaving: Callable[[], bool]) -> None:
        self._app = app
        self._new_id = new_id
        self._is_leaving = is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        scope["app"] = self  # so that routes raise what they refuse
        started, unread = False, _has_body(scope)

        async def take() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message["headers"])
                self._complete(headers, request_id)
                if self._is_leaving() or (unread and message["status"] >= HTTPStatus.BAD_REQUEST):
                    headers["connection"] = "close"
            try:
                async with asyncio.timeout(_TAKES_WITHIN_S):
                    await send(message)
            except TimeoutError:
                raise GoneError from None

        try:
            await self._app(scope, take, answer)
        except GoneError:
            return
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                log.exception("a request failed: request_id=%s", request_id)
                failure = fault(request_id)
            if started:
                raise  # the connection is cut, by which the reader knows that the answer is not whole
            if not isinstance(error, grpc.aio.AioRpcError):  # a call has a line of its own
                log.info("http status=%d reason=%s request_id=%s", failure.status, failure.reason, request_id)
            await failure.response()(scope, receive, answer)

    @staticmethod
    def _complete(headers: MutableHeaders, request_id: str) -> None:
        headers["x-request-id"] = request_id
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)


def _has_body(scope: Scope) -> bool:
    """Whether a body comes with the request; one that is refused unread must not be taken for the next request."""
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
