"""The protocol's official client, as a test talks with it over either transport."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account


class Talk:
    """One connection of the official client.

    Attributes:
        client: That client.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    async def tools(self) -> dict[str, Any]:
        """The tools that are listed, by name."""
        return {each.name: each for each in (await self.client.list_tools()).tools}

    async def call(self, tool: str, **arguments: Any) -> Any:
        """A tool's answer, which is none of an error; the facts of its first block are the structured ones."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content[0].text
        return result

    async def facts(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers, structured."""
        found: dict[str, Any] = (await self.call(tool, **arguments)).structured_content
        return found

    async def refused(self, tool: str, **arguments: Any) -> tuple[str, str, dict[str, Any]]:
        """The reason of an error, what is told of it, and its particulars."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.content[0].text
        particulars = result.meta["multimail/error"]
        return particulars["reason"], result.content[0].text, particulars


def environment(key: str, port: int) -> dict[str, str]:
    """The environment of a process that serves over standard input and output."""
    return {"MULTIMAIL_API_KEY": key, "MULTIMAIL_TARGET": f"127.0.0.1:{port}", "PATH": os.environ["PATH"]}


def program(transport: str = "stdio") -> list[str]:
    """What starts it: the module, or the command line."""
    if transport == "command":
        return [str(Path(sys.executable).parent / "multimail"), "mcp"]
    return [sys.executable, "-m", "multimail.mcp"]


@asynccontextmanager
async def talking(account: Account, *scopes: str, transport: str = "http", era: str = "auto") -> AsyncIterator[Talk]:
    """A connection with a new key of the account; one that may do all that an agent may when no scope is named."""
    key = await account.key(*scopes)
    if transport != "http":
        command, *rest = program(transport)
        server = StdioServerParameters(command=command, args=rest, env=environment(key, account.running.grpc_port))
        async with Client(server, mode=era) as client:
            yield Talk(client)
        return
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=30, verify=False) as http,
        Client(streamable_http_client(url(account), http_client=http), mode=era) as client,
    ):
        yield Talk(client)


def url(account: Account) -> str:
    """Where the HTTP port serves the tools."""
    return f"http://127.0.0.1:{account.running.http_port}/mcp"
