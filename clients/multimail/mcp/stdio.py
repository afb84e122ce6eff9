"""The tools over standard input and output, for a model's host that starts us itself."""

from __future__ import annotations

import asyncio
import signal
import sys

from mcp.server.stdio import stdio_server

from multimail.aio import AsyncClient
from multimail.errors import MultimailError
from multimail.mcp.server import server_for


async def serve(client: AsyncClient) -> None:
    """Serves until standard input ends; nothing but the protocol goes to standard output.

    Args:
        client: Whose key decides what may be done; closed in the end.
    """
    server = server_for(lambda _: client)
    async with client, stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


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
