"""Serves the reference: the document at /openapi.json, the page at /docs."""

from __future__ import annotations

import asyncio
import json
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from multimail_server.gateway.openapi.document import document
from multimail_server.gateway.openapi.page import page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from google.protobuf.descriptor import ServiceDescriptor
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_HEADERS = {
    # Nothing but our own files runs or is shown, and nobody frames a page that takes a key.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
}


def routes(services: Sequence[ServiceDescriptor]) -> list[BaseRoute]:
    """The document, the page, and what the page loads; made when somebody first asks."""

    @cache
    def made() -> dict[str, Any]:
        return document(services, version("multimail"))

    texts = {
        "/openapi.json": ("application/json", cache(lambda: json.dumps(made(), ensure_ascii=False))),
        "/docs": ("text/html", cache(lambda: page(made()))),
        "/docs/assets/page.css": ("text/css", cache(partial(_asset, "page.css"))),
        "/docs/assets/page.js": ("text/javascript", cache(partial(_asset, "page.js"))),
    }
    return [Route(path, _answers(*told)) for path, told in texts.items()]


def _answers(media_type: str, text: Callable[[], str]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        # Making it takes a moment the first time, which others need not wait for.
        return Response(await asyncio.to_thread(text), media_type=media_type, headers=_HEADERS)

    return answer


def _asset(name: str) -> str:
    return (files("multimail_server.gateway.openapi") / "assets" / name).read_text("utf-8")
