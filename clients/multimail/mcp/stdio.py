"""The tools over standard input and output, for a model's host that starts us itself."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from mcp.server.stdio import stdio_server

from multimail.aio import AsyncClient
from multimail.errors import MultimailError
from multimail.mcp.server import server_for

if TYPE_CHECKING:
    from pathlib import Path


async def serve(client: AsyncClient) -> None:
    """Serves until standard input ends; nothing but the protocol goes to standard output.

    Args:
        client: Whose key decides what may be done; closed in the end.
    """
    server = server_for(lambda _: client)
    async with client, stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def main(
    api_key: str | None = None,
    target: str | None = None,
    *,
    tls: bool | None = None,
    ca: str | Path | bytes | None = None,
) -> None:
    """Serves as a program of its own, and ends it with a sentence where there is no key.

    Args:
        api_key: The key; MULTIMAIL_API_KEY when left out. So for all: see AsyncClient.
        target: `host:port` of the service.
        tls: Whether the connection is encrypted.
        ca: Certificates to trust.
    """
    try:
        client = AsyncClient(api_key, target, tls=tls, ca=ca)
    except MultimailError as error:
        sys.exit(f"multimail mcp: {error}")
    # Ends at once: Python's own way would wait for the next line of input.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(serve(client))
