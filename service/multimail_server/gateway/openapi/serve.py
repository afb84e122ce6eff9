"""Serves the reference: the document at /openapi.json, the page at /docs."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from multimail_server.gateway.openapi.document import document
from multimail_server.gateway.openapi.page import page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_HEADERS = {
    # Nothing but our own files runs or is shown, and nobody frames a page that takes a key.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}


def routes() -> list[BaseRoute]:
    """The document, the page, and what the page loads."""
    return [
        Route("/openapi.json", _document),
        Route("/docs", _page),
        *(Route(f"/docs/assets/{name}", _asset) for name in _ASSETS),
    ]


async def _document(_: Request) -> Response:
    return Response(_document_text(), media_type="application/json", headers=_HEADERS)


async def _page(_: Request) -> Response:
    return Response(_page_text(), media_type="text/html", headers=_HEADERS)


async def _asset(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    return Response(_asset_text(name), media_type=_ASSETS[name], headers=_HEADERS)


@cache
def _document_text() -> str:
    return json.dumps(document(version("multimail")), ensure_ascii=False)


@cache
def _page_text() -> str:
    return page(document(version("multimail")))


@cache
def _asset_text(name: str) -> str:
    return (files("multimail_server.gateway.openapi") / "assets" / name).read_text("utf-8")
