"""The tools over standard input and output, for a model's host that starts us itself."""

from __future__ import annotations

import asyncio
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


def main(api_key: str | None = None, target: str | None = None) -> None:
    """Serves with a key and a target; by default those of MULTIMAIL_API_KEY and MULTIMAIL_TARGET.

    Args:
        api_key: The key.
        target: `host:port` of the service.
    """

    async def run() -> None:
        await serve(AsyncClient(api_key, target))

    try:
        asyncio.run(run())
    except MultimailError as error:
        sys.exit(f"multimail mcp: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
