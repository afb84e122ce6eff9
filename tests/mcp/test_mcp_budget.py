"""Answers keep to their budget, and cursors lead through everything once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.mcp.talk import Talk, talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import Account

    import multimail


def fits(result: Any, tokens: int) -> None:
    """An answer's blocks take no more than four bytes a token."""
    taken = sum(len(block.text.encode()) for block in result.content)
    assert taken <= tokens * 4, taken


async def walked(
    talk: Talk, tool: str, key: str, tokens: int, between: Callable[[], Awaitable[Any]] | None = None, **arguments: Any
) -> AsyncIterator[Any]:
    """Everything that a tool lists, page by page, each within the budget."""
    cursor = ""
    while True:
        result = await talk.call(tool, max_tokens=tokens, **({"cursor": cursor} if cursor else {}), **arguments)
        fits(result, tokens)
        for each in result.structured_content[key]:
            yield each
        cursor = result.structured_content.get("next_cursor", "")
        if not cursor:
            return
        if between:
            await between()


@pytest.mark.parametrize("tokens", [1000, 4000, 50_000])
async def test_contacts_are_walked_within_the_budget(
    account: Account, client: multimail.AsyncClient, tokens: int
) -> None:
    """Contacts with little and much metadata are each listed once, in order; what is too long alone says so."""
    rows = [{"email": f"p{n:03}@walk.test", "metadata": {"n": n, "text": "ü" * (n * n * 9 % 8000)}} for n in range(40)]
    await client.contacts.upsert_many(rows)
    async with talking(account, "read") as talk:
        found = [
            each async for each in walked(talk, "manage_contacts", "contacts", tokens, query="walk.test", limit=100)
        ]
    assert [each["email"] for each in rows] == [each["email"] for each in found]
    for row, each in zip(rows, found, strict=True):
        assert each.get("metadata_left_out") or row["metadata"] == each["metadata"]
    left_out = sum(each.get("metadata_left_out", False) for each in found)
    assert (left_out > 0) == (tokens == 1000)


async def test_mail_that_arrives_during_a_walk_disturbs_nothing(
    account: Account, client: multimail.AsyncClient
) -> None:
    """A walk through an inbox with long subjects tells every mail that was there once, whatever arrives meanwhile."""
    box = account.mailbox()
    await client.mailboxes.create(email=box)
    numbers = iter(range(1000))

    async def arrive() -> str:
        number = next(numbers)
        head = f"From: p{number}@person.test\r\nSubject: {'Wort ' * (number % 60)}\r\nMessage-ID: <{number}@w>\r\n"
        return (await client.ingest_email(mailbox=box, raw=f"{head}\r\nHi {number}\r\n".encode())).id

    there = [await arrive() for _ in range(40)]
    async with talking(account, "read") as talk:
        found = [
            each["id"]
            async for each in walked(talk, "check_inbox", "emails", 1000, between=arrive, mailbox=box, limit=13)
        ]
    assert [*reversed(there)] == found


async def test_other_lists_are_walked_too(account: Account, client: multimail.AsyncClient) -> None:
    """Mailboxes, notifications, logs, threads, suppressions and checks are each told once, a few at a time."""
    boxes = [account.mailbox(f"b{n}") for n in range(12)]
    allowed = [f"d{n}.allowed.test" for n in range(900)]
    overseer = await account.client("oversight", "admin", "read")
    rules = {"oversight_mode": "autonomous", "allow_list": allowed}
    await asyncio.gather(*(overseer.mailboxes.create(email=box, **rules) for box in boxes))
    await overseer.close()
    people = [f"p{n}@person.test" for n in range(30)]
    await asyncio.gather(*(client.suppressions.add(person) for person in people))
    mail = {"from_mailbox": boxes[0], "to": "bo@other.test", "body": "x"}
    await asyncio.gather(*(client.send_email(**mail, subject=f"{'S' * 900} {number}") for number in range(15)))
    async with talking(account, "read") as talk:
        for tool, key, arguments, expected in (
            ("manage_mailboxes", "mailboxes", {}, 12),
            ("manage_suppressions", "suppressions", {}, 30),
            ("list_interactions", "interactions", {"email": "bo@other.test"}, 15),
            ("list_threads", "threads", {"mailbox": boxes[0]}, 15),
            ("list_emails", "emails", {"mailbox": boxes[0]}, 15),
            ("list_notifications", "notifications", {"types": ["suppression_added"]}, 30),
            (
                "check_sends",
                "checks",
                {"from_mailbox": boxes[0], "to": people + [f"q{n}@x.test" for n in range(10)]},
                40,
            ),
        ):
            found = [each async for each in walked(talk, tool, key, 1000, limit=7, **arguments)]
            names = [each.get("id") or each.get("email_id") or each.get("address") or each["seq"] for each in found]
            assert (expected, expected) == (len(found), len(set(map(str, names)))), tool


async def test_a_long_mail_is_read_in_parts(account: Account, client: multimail.AsyncClient) -> None:
    """The parts of a long mail, from outside or of ours, put together are its text, each within the budget."""
    box = account.mailbox()
    await client.mailboxes.create(email=box)
    text = "".join(f'Zeile {n}: "Grüße" \\ 你好 🎉\n' for n in range(900))
    raw = b"From: a@b.test\r\nSubject: Long\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode()
    arrived = await client.ingest_email(mailbox=box, raw=raw)
    sent = await client.send_email(from_mailbox=box, to="a@b.test", subject="Long", body=text)
    async with talking(account, "read") as talk:
        for email in (arrived.id, sent.id):
            whole, cursor = "", ""
            while True:
                result = await talk.call("read_email", email_id=email, max_tokens=3000, cursor=cursor)
                fits(result, 3000)
                facts = result.structured_content
                part = facts["email"].get("body") or "".join(
                    each["text"].partition("Text:\n")[2].rpartition("\n")[0] for each in facts["untrusted"]
                )
                whole += part
                cursor = facts.get("next_cursor", "")
                assert bool(cursor) == facts["email"].get("cut", False)
                if not cursor:
                    break
            assert (await client.get_email(email)).body == whole
        wrong = f"{'0' * 12}.10"
        for cursor in (wrong, "x", "12.-1", f"{sent.content_sha256[:12]}.{len(text) + 1}", "9" * 5000):
            reason, told, _ = await talk.refused("read_email", email_id=sent.id, cursor=cursor)
            assert ("INVALID_PAGE_TOKEN", True) == (reason, "What to do" in told)


async def test_long_held_mail_and_contexts_keep_to_it(account: Account, client: multimail.AsyncClient) -> None:
    """A held mail too long for the budget is cut and says so; a context is cut too, and both stay within it."""
    box = account.mailbox()
    await client.mailboxes.create(email=box, oversight_mode="gated_send")
    await client.contacts.upsert(email="bo@x.test", metadata={"text": "å" * 9000})
    people = ["bo@x.test", *(f"someone-with-a-long-name-{n}@person.test" for n in range(20))]
    for number in range(3):
        await client.send_email(from_mailbox=box, to=people, subject="Long", body=f"{number}" + "ß" * 50_000)
    async with talking(account, "oversight", "read") as talk:
        held = [each async for each in walked(talk, "list_pending", "emails", 4000)]
        assert ["0", "1", "2"] == [each["body"][0] for each in held]
        assert all(each["cut"] for each in held)
        for tokens in (1000, 2000):
            result = await talk.call("get_contact_context", email="bo@x.test", max_tokens=tokens)
            fits(result, tokens)
            assert result.structured_content["truncated"]


async def test_who_decides_reads_the_html(account: Account, client: multimail.AsyncClient) -> None:
    """A held mail is told with its HTML, which readers see; however long it is, read_email leads to its end."""
    box = account.mailbox()
    await client.mailboxes.create(email=box, oversight_mode="gated_send")
    html = "<p>x</p>" * 1000 + "<p>Pay <b>me</b></p>"
    short, long = [
        await client.send_email(from_mailbox=box, to="bo@x.test", body="Hello", html_body=each)
        for each in ("<p>Pay <b>me</b></p>", html)
    ]
    async with talking(account, "oversight", "read") as talk:
        first, second = [each async for each in walked(talk, "list_pending", "emails", 1000)]
        assert (short.id, long.id) == (first["id"], second["id"])
        assert first["body"].startswith("Hello\n\n[The same mail as HTML")
        assert first["body"].endswith("<p>Pay <b>me</b></p>")
        assert second["cut"]
        whole, cursor = "", ""
        while not whole or cursor:
            told = await talk.facts("read_email", email_id=long.id, max_tokens=1000, cursor=cursor)
            whole, cursor = whole + told["email"]["body"], told.get("next_cursor", "")
        assert whole.endswith(html)


async def test_a_cursor_goes_with_its_own_question(account: Account, client: multimail.AsyncClient) -> None:
    """A cursor beside other arguments, of another tool, or of another account is refused, and told how to go on."""
    await client.contacts.upsert_many([{"email": f"p{n}@walk.test"} for n in range(5)])
    async with talking(account, "read") as talk:
        cursor = (await talk.facts("manage_contacts", query="walk.test", limit=2))["next_cursor"]
        for tool, arguments in (
            ("manage_contacts", {"query": "other.test"}),
            ("manage_contacts", {"query": "walk.test", "order_by": "name"}),
            ("check_inbox", {}),
            ("manage_mailboxes", {}),
            ("list_notifications", {}),
        ):
            reason, told, _ = await talk.refused(tool, cursor=cursor, **arguments)
            assert ("INVALID_PAGE_TOKEN", True) == (reason, "very arguments" in told)
    async with talking(replace(account, name=f"{account.name}c"), "read") as spy:
        assert "INVALID_PAGE_TOKEN" == (await spy.refused("manage_contacts", query="walk.test", cursor=cursor))[0]


async def test_long_lists_within_one_thing_are_cut_and_say_so(account: Account) -> None:
    """A mail to fifty people, and a mailbox with a long allow-list, keep to the budget, and are whole with more."""
    overseer = await account.client("oversight", "admin", "read")
    box, allowed = account.mailbox(), [f"d{n}.allowed.test" for n in range(600)]
    await overseer.mailboxes.create(email=box, oversight_mode="autonomous", allow_list=allowed)
    await overseer.close()
    people = [f"someone-with-a-rather-long-name-{n}@person.test" for n in range(50)]
    async with talking(account) as talk:
        sent = await talk.facts("send_email", from_mailbox=box, to=people, subject="x", body="y" * 3000)
        for tool, arguments in (
            ("read_email", {"email_id": sent["email"]["id"]}),
            ("manage_mailboxes", {"action": "get", "mailbox": box}),
        ):
            for tokens, whole in ((1000, False), (20_000, True)):
                result = await talk.call(tool, max_tokens=tokens, **arguments)
                fits(result, tokens)
                facts = result.structured_content
                told = facts["email"]["to"] if tool == "read_email" else facts["mailboxes"][0]["allow_list"]
                assert whole == (told in (people, allowed))
                assert whole != ("more max_tokens" in facts.get("note", ""))
