"""The tools over streamable HTTP: an ASGI application, to be mounted in a server of whoever serves it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from multimail.aio import AsyncClient
from multimail.errors import MultimailError, ResourceExhaustedError, UnauthenticatedError
from multimail.mcp.server import server_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from typing import Any

    from starlette.types import Message, Receive, Scope, Send

MAX_BODY_BYTES = 16 << 20
_BODY_WITHIN_S = 60.0
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_CLIENT, _CALLER = "multimail.client", "multimail.caller"


class App:
    """Answers the protocol's POSTs, each with the key it bears. `running()` must be entered while it is served.

    There are no sessions: every request stands by itself and is answered as JSON, so that any worker can answer it, and
    no request can use what another key began.

    Args:
        target: `host:port` of the service, or `unix:` and a socket's path.
        allowed_hosts: Names by which it may be reached, such as `mail.example.com`, besides those of this machine; `*`
            for all. A page in a browser that has its own name lead to this machine is so kept out.
        allowed_origins: Origins of web pages that may call, such as `https://app.example.com`, besides those of this
            machine; `*` for all. What is no web page sends no origin.
        tls: Whether the connection to the service is encrypted; see AsyncClient.
        max_body_bytes: How large a request may be.
    """

    def __init__(
        self,
        target: str,
        *,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        tls: bool | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._target = target
        self._tls = tls
        self._hosts = frozenset(allowed_hosts) | _LOCAL
        self._origins = frozenset(allowed_origins)
        self._line: AsyncClient | None = None
        self._manager = StreamableHTTPSessionManager(
            server_for(
                lambda context: context.request.scope[_CLIENT],  # type: ignore[union-attr]
                lambda context: context.request.scope[_CALLER],  # type: ignore[union-attr]
            ),
            json_response=True,
            stateless=True,
            max_request_body_size=max_body_bytes,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What must be entered once, before the first request, and left after the last one."""
        async with self._manager.run():
            try:
                yield
            finally:
                if self._line is not None:
                    await self._line.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._misplaced(scope["method"], headers)
        if refused:
            await _refuse(send, *refused)
            return
        try:
            client = self._client(headers.get("authorization", ""))
            caller = await client.get_caller()
        except UnauthenticatedError as error:
            challenge = 'Bearer realm="multimail"' + (
                "" if error.reason == "KEY_MISSING" else ', error="invalid_token"'
            )
            await _refuse(send, 401, str(error), {"www-authenticate": challenge})
        except ResourceExhaustedError as error:
            await _refuse(send, 429, str(error), {"retry-after": str(max(1, round(error.retry_after or 1)))})
        except MultimailError:
            await _refuse(send, 503, "The service does not answer now; come back in a second.", {"retry-after": "1"})
        else:
            await self._answer({**scope, _CLIENT: client, _CALLER: caller}, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request whose key is good; its body has a minute to come."""
        loop = asyncio.get_running_loop()
        ends, more = loop.time() + _BODY_WITHIN_S, True

        async def take() -> Message:
            nonlocal more
            message = await (asyncio.wait_for(receive(), ends - loop.time()) if more else receive())
            more = message.get("more_body", False)
            return message

        try:
            await self._manager.asgi_app(scope, take, send)
        except TimeoutError:
            await _refuse(send, 408, "The body came too slowly.", {"connection": "close"})

    def _misplaced(self, method: str, headers: Mapping[str, str]) -> tuple[int, str, dict[str, str]] | None:
        """Why a request is refused whatever key it bears; None when it is not."""
        if not self._hosts & {_host_of(f"//{headers.get('host', '')}"), "*"}:
            return 421, "It is not reached by this name; MULTIMAIL_PUBLIC_URL says by which.", {}
        origin = headers.get("origin", "")
        if origin and not self._origins & {origin, "*"} and _host_of(origin) not in _LOCAL:
            return 403, "Pages of this origin may not call; the service's settings say which may.", {}
        if method != "POST":
            return 405, "Send a POST: this server keeps no sessions and pushes nothing.", {"allow": "POST"}
        return None

    def _client(self, authorization: str) -> AsyncClient:
        """A client with this request's key, over the one connection of all."""
        scheme, _, key = authorization.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise UnauthenticatedError("Give an API key: Authorization: Bearer mm_live_….", reason="KEY_MISSING")
        if self._line is None:
            self._line = AsyncClient(key, self._target, tls=self._tls)
        return self._line.with_key(key)


def _host_of(url: str) -> str:
    """The name of the host in a URL; empty when it is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _refuse(send: Send, status: int, message: str, headers: Mapping[str, str]) -> None:
    """Refuses a request, in the protocol's form of an error."""
    error: dict[str, Any] = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}}
    body = json.dumps(error).encode()
    told = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in told.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
