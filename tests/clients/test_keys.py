"""Other keys over one connection, what a key may do, and pages of a walk that goes on elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import multimail

if TYPE_CHECKING:
    from tests.conftest import Account


async def test_a_client_learns_whose_key_it_has(account: Account) -> None:
    """Both clients are told account, agent and scopes of their own key, also of one taken over the same connection."""
    target = f"127.0.0.1:{account.running.grpc_port}"
    reader, sender = await account.key("read"), await account.key("send", "write")
    async with multimail.AsyncClient(api_key=reader, target=target) as client:
        for of, scopes in ((client, {"read"}), (client.with_key(sender), {"send", "write"})):
            told = await of.get_caller()
            assert (account.name, "tester", scopes) == (told.account, told.agent, told.scopes)
        with pytest.raises(multimail.PermissionDeniedError):
            await client.contacts.upsert(email="a@b.test")
        await client.with_key(sender).contacts.upsert(email="a@b.test")

    def synchronous() -> frozenset[str]:
        with multimail.Client(api_key=reader, target=target) as client:
            return client.with_key(sender).get_caller().scopes

    assert {"send", "write"} == await asyncio.to_thread(synchronous)


async def test_a_connection_ends_with_who_opened_it(account: Account) -> None:
    """Closing a client with another key closes nothing; closing the one it was made from ends both."""
    target = f"127.0.0.1:{account.running.grpc_port}"
    first = multimail.AsyncClient(api_key=await account.key("read"), target=target)
    second = first.with_key(await account.key("read"))
    await second.close()
    await second.get_caller()
    await first.close()
    for client in (first, second):
        with pytest.raises(multimail.CancelledError, match="closed"):
            await client.get_caller()
    with pytest.raises(multimail.UnauthenticatedError):
        first.with_key("mm_live_ä")


async def test_pages_of_different_sizes_are_one_walk(client: multimail.AsyncClient) -> None:
    """Pages asked for one by one, each of another size, hold every result once; no limit of 0 asks anything itself."""
    made = [(await client.contacts.upsert(email=f"p{number:02}@walk.test")).email for number in range(12)]
    found = await client.contacts.search(domain="walk.test", limit=0)
    assert [] == found.items
    seen, token = [], ""
    for size in (1, 4, 2, 500):
        page = await found.page(token, size)
        assert len(page.items) <= size
        seen += [each.email for each in page.items]
        token = page.next_page_token
    assert (made, "") == (seen, token)
