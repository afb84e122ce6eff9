"""The tools over standard input and output, for a model's host that starts us itself."""

from __future__ import annotations

import asyncio
import signal
import sys

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import as_request_id, coerce_request_id
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from multimail.aio import AsyncClient
from multimail.errors import MultimailError
from multimail.mcp.server import server_for

_LAST_ANSWERS_WITHIN_S = 10.0
"""How long the end of the input waits for answers to what was asked before it."""


class _Unanswered:
    """The ids of requests without an answer yet: the server drops those under way as soon as its input ends."""

    def __init__(self) -> None:
        self._ids: set[str | int] = set()
        self._none = asyncio.Event()
        self._none.set()

    def see(self, item: SessionMessage | Exception) -> None:
        """Takes note of a message of either side."""
        match item.message if isinstance(item, SessionMessage) else None:
            case JSONRPCRequest(id=asked):
                self._ids.add(coerce_request_id(asked))
            case (
                JSONRPCResponse(id=told)
                | JSONRPCError(id=told)
                | JSONRPCNotification(method="notifications/cancelled", params={"requestId": told})
            ) if (settled := as_request_id(told)) is not None:
                self._ids.discard(coerce_request_id(settled))
        if self._ids:
            self._none.clear()
        else:
            self._none.set()

    async def none(self) -> None:
        """Waits until there are none."""
        await self._none.wait()


async def serve(client: AsyncClient) -> None:
    """Serves until standard input ends and what it asked is answered; only the protocol goes to standard output.

    Args:
        client: Whose key decides what may be done; closed in the end.
    """
    server = server_for(lambda _: client)
    unanswered = _Unanswered()
    to_server, asked = anyio.create_memory_object_stream[SessionMessage | Exception]()
    answers, from_server = anyio.create_memory_object_stream[SessionMessage]()
    async with client, stdio_server() as (incoming, outgoing), anyio.create_task_group() as tasks:

        async def ask() -> None:
            async with to_server, incoming:
                async for item in incoming:
                    unanswered.see(item)
                    await to_server.send(item)
                with anyio.move_on_after(_LAST_ANSWERS_WITHIN_S):
                    await unanswered.none()

        async def answer() -> None:
            async with outgoing, from_server:
                async for item in from_server:
                    await outgoing.send(item)
                    unanswered.see(item)

        tasks.start_soon(ask)
        tasks.start_soon(answer)
        await server.run(asked, answers, server.create_initialization_options())


def run(client: AsyncClient) -> None:
    """Serves with a client until the input ends."""
    # Ends at once: Python's own way would wait for the next line of input.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(serve(client))


def main() -> None:
    """Serves as a program of its own, with the key and the target of the environment."""
    try:
        client = AsyncClient()
    except MultimailError as error:
        sys.exit(f"multimail mcp: {error}")
    run(client)
