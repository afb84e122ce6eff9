"""The page a List-Unsubscribe link leads to: it changes nothing by being looked at, and needs one click (RFC 8058)."""

from __future__ import annotations

import email
import email.policy
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from starlette.responses import HTMLResponse
from starlette.routing import Route

from multimail_server.errors import Reason
from multimail_server.gateway import body
from multimail_server.gateway.failures import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_MAX_FORM_BYTES = 4096
_WANTED = ("List-Unsubscribe", "One-Click")
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Unsubscribe</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 15vh auto; padding: 0 1rem; }}
button {{ font: inherit; padding: .6rem 1.2rem; }}
</style>
<h1>{title}</h1>
{content}
</html>
"""
_ASK = _PAGE.format(
    title="Unsubscribe",
    content="""<p>You will get no more mail from this sender.</p>
<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>Unsubscribe</button>
</form>""",
)
_DONE = _PAGE.format(title="You are unsubscribed", content="<p>You will get no more mail from this sender.</p>")
_POLICY = ("default-src 'none'", "style-src 'unsafe-inline'", "form-action 'self'", "frame-ancestors 'none'")
_HEADERS = {"content-security-policy": "; ".join(_POLICY)}


class Links(Protocol):
    """What such links lead to."""

    def is_ours(self, token: str) -> bool:
        """Whether a link of ours ends so."""

    async def unsubscribe(self, token: str) -> bool:
        """Unsubscribes whom the link was made for; False when there is no such link."""


def routes(links: Links) -> list[BaseRoute]:
    """`/u/TOKEN`: a page with a button on GET, and what it does on POST. The token is all that is needed."""

    async def ask(request: Request) -> Response:
        if not links.is_ours(request.path_params["token"]):
            raise _no_such_link()
        return HTMLResponse(_ASK, headers=_HEADERS)

    async def do(request: Request) -> Response:
        sent = await body.whole(request, _MAX_FORM_BYTES)
        if _WANTED not in _fields(sent, request.headers.get("content-type", "")):
            raise RequestError(HTTPStatus.BAD_REQUEST, "Send List-Unsubscribe=One-Click, as RFC 8058 says.")
        if not await links.unsubscribe(request.path_params["token"]):
            raise _no_such_link()
        return HTMLResponse(_DONE, headers=_HEADERS)

    return [Route("/u/{token}", ask, methods=["GET"]), Route("/u/{token}", do, methods=["POST"])]


def _no_such_link() -> RequestError:
    return RequestError(HTTPStatus.NOT_FOUND, "There is no such link to unsubscribe.", Reason.METHOD_UNKNOWN)


def _fields(sent: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields of a form, in either of the two encodings that mail programs use."""
    if not content_type.lower().startswith("multipart/form-data"):
        return parse_qsl(sent.decode("latin-1"))
    head = f"content-type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    form = email.message_from_bytes(head + sent, policy=email.policy.HTTP)
    return [
        (str(part.get_param("name", "", "content-disposition")), str(part.get_payload()).strip())
        for part in form.walk()
        if not part.is_multipart()
    ]
