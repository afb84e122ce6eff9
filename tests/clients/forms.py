"""Both clients behind one face, so that one story is told to each."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import multimail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Account

FORMS = ("sync", "async")


class InThreads:
    """The synchronous client, each of its calls in a thread, so that it is awaited like the other one."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not inspect.ismethod(found):
            return InThreads(found)
        return lambda *args, **named: asyncio.to_thread(found, *args, **named)


async def client_of(form: str, account: Account, *scopes: str, agent: str = "tester") -> Any:
    """A client of that form with a new key of the account."""
    if form == "async":
        return await account.client(*scopes, agent=agent)
    key, _ = await account.running.keys.create(account.name, agent, scopes or ("read", "write", "send", "admin"))
    return InThreads(multimail.Client(api_key=key, target=f"127.0.0.1:{account.running.grpc_port}"))


class Following:
    """A watch, or another stream, of either form, taken step by step."""

    def __init__(self, watch: Any) -> None:
        self.watch = watch

    async def step(self, timeout_s: float = 20) -> Any:
        """What comes next."""
        if isinstance(self.watch, multimail.AsyncStream):
            return await asyncio.wait_for(anext(self.watch), timeout_s)
        try:
            return await asyncio.wait_for(asyncio.to_thread(next, self.watch), timeout_s)
        except TimeoutError:
            self.watch.close()  # else its thread would wait for ever, and the run with it
            raise

    async def rest(self) -> list[Any]:
        """All that comes until it ends."""
        if isinstance(self.watch, multimail.AsyncStream):
            return [each async for each in self.watch]
        return await asyncio.to_thread(list, self.watch)

    async def close(self) -> None:
        """Ends it."""
        if isinstance(self.watch, multimail.AsyncStream):
            await self.watch.close()
        else:
            self.watch.close()


async def follow(client: Any, **asked: Any) -> Following:
    """A watch of the client."""
    return Following(await client.notifications.watch(**asked))


async def until(look: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> Any:
    """Looks until it holds, at most ten seconds."""
    for _ in range(200):
        if holds(found := await look()):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"still {found!r}")
