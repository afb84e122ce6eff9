"""Bodies of requests: read within bounds of size and time, whole or line by line."""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from multimail_server.errors import Reason
from multimail_server.gateway.failures import RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from starlette.requests import Request
    from starlette.types import Receive

T = TypeVar("T")

MAX_BODY_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 20
# Between two pieces, and for all of a body that is read whole: who sends more slowly holds a connection for nothing.
_PIECE_S = 20.0
_WHOLE_S = 120.0


class GoneError(Exception):
    """Whoever asked is not there any more."""


def told_bytes(request: Request) -> float:
    """How large the body is, as the request says; without end where it does not say."""
    if "transfer-encoding" in request.headers:
        return math.inf
    told = request.headers.get("content-length", "0")
    return int(told) if told.isdecimal() else math.inf


async def whole(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """A request's body; 413 before it is read when it says that it is larger, and as soon as it is."""
    if most < told_bytes(request) < math.inf:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_WHOLE_S):
            async for piece in _pieces(request.receive):
                size += len(piece)
                if size > most:
                    raise _too_large(most)
                parts.append(piece)
    except TimeoutError:
        raise _too_slow() from None
    return b"".join(parts)


async def lines(receive: Receive) -> AsyncIterator[bytes]:
    """A body's lines, without the empty ones, as they come."""
    rest = bytearray()  # of a line that may come in drops: each byte of it is touched once
    async for piece in _pieces(receive):
        end, *later = piece.split(b"\n")
        rest += end
        for each in later:
            if rest.strip():
                yield bytes(rest)
            rest = bytearray(each)
        if len(rest) > MAX_LINE_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A line is longer than {MAX_LINE_BYTES >> 20} MiB."
            )
    if rest.strip():
        yield bytes(rest)


async def until_gone(receive: Receive) -> None:
    """Returns once whoever asked has left; what is left of the body is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(work: Awaitable[T], leaving: Awaitable[object]) -> T:
    """What the work comes to; it is cancelled, and GoneError raised, when whoever asked leaves before.

    Args:
        work: What is done.
        leaving: Ends when whoever asked has left.
    """
    working, left = asyncio.ensure_future(work), asyncio.ensure_future(leaving)
    try:
        await asyncio.wait({working, left}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise GoneError
    finally:
        working.cancel()
        left.cancel()
        await asyncio.gather(working, left, return_exceptions=True)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), _PIECE_S)
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] == "http.disconnect":
            raise GoneError
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            yield piece


def _too_large(most: int) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {most >> 20} MiB.")


def _too_slow() -> RequestError:
    return RequestError(HTTPStatus.REQUEST_TIMEOUT, "The body came too slowly.", Reason.OUT_OF_TIME)
