"""Bad arguments are refused by name, and a call that is repeated by its key happens once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from tests.mcp.talk import talking
from tests.mcp.test_mcp_scopes import LEAST

import multimail
from multimail.mcp.problems import problem_of
from multimail.mcp.server import TOOLS, server_for

if TYPE_CHECKING:
    from tests.conftest import Account


@pytest.mark.parametrize(
    ("tool", "arguments", "fields"),
    [
        ("send_email", {}, {"from_mailbox", "to"}),
        ("send_email", {"from_mailbox": 1, "to": [2], "subjct": "x"}, {"from_mailbox", "to.0", "subjct"}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"], "guard": {"not_contacted_within": "a week"}},
         {"guard.not_contacted_within"}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"], "guard": {"no_thread": True}},
         {"guard.no_thread"}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"], "send_time": "2026-03-20T10:00:00"},
         {"send_time"}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"], "oversight_mode": "loose"}, {"oversight_mode"}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"],
                        "attachments": [{"filename": "x", "content_base64": "!"}]}, {"attachments.0.content_base64"}),
        ("send_email", {"from_mailbox": "box", "to": ["no address"], "body": "x"}, {"to[0]"}),
        ("manage_contacts", {"limit": 0}, {"limit"}),
        ("manage_contacts", {"limit": 101, "max_tokens": 10}, {"limit", "max_tokens"}),
        ("manage_contacts", {"action": "explode"}, {"action"}),
        ("manage_contacts", {"action": "search", "metadata": {"a": 1}}, {"metadata"}),
        ("manage_contacts", {"action": "delete", "email": "a@b.test", "name": "x", "query": "y"}, {"name", "query"}),
        ("manage_contacts", {"filters": [1]}, {"filters"}),
        ("manage_contacts", {"filters": {"metadata.a": {"near": 1}}}, None),
        ("manage_contacts", {"filter": "metadata.plan = "}, None),
        ("manage_contacts", {"action": "upsert"}, {"email"}),
        ("manage_contacts", {"action": "upsert", "email": "a@b.test", "metadata": {"n": 2**60}}, {"metadata.n"}),
        ("manage_contacts", {"action": "upsert", "email": "a@b.test", "metadata": {"a": "x" * 70_000}}, {"metadata.a"}),
        ("manage_contacts", {"action": "update", "id": "contact_x", "increment": {"n": "much"}}, {"increment.n"}),
        ("check_sends", {"from_mailbox": "a@b.test", "to": []}, {"to"}),
        ("check_sends", {"from_mailbox": "a@b.test", "to": ["a@b.test"], "cursor": "7"}, {"cursor"}),
        ("list_notifications", {"types": ["nonsense"], "after_seq": -1}, {"types.0", "after_seq"}),
        ("read_attachment", {"email_id": "email_x", "index": -1}, {"index"}),
        ("read_email", {"email_id": "x" * 300_000}, {"email_id"}),
        ("manage_suppressions", {"action": "add"}, {"address"}),
        ("cancel_email", {"email_id": "email_x", "idempotency_key": "k" * 9000}, {"idempotency_key"}),
    ],
)  # fmt: skip
async def test_bad_arguments_are_named(
    account: Account, tool: str, arguments: dict[str, Any], fields: set[str] | None
) -> None:
    """Each bad argument is named, with what is wrong, and nothing of what was given is told back."""
    async with talking(account) as talk:
        reason, told, particulars = await talk.refused(tool, **arguments)
        assert reason.startswith("INVALID_"), told
        assert "What to do" in told
        assert len(told) < 2000
        assert fields is None or fields == set(particulars["fields"])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("send_email", {"from_mailbox": "a@b.test", "to": [0] * 100_000}),
        ("send_email", {f"x{n}": 0 for n in range(100_000)}),
        ("send_email", {"y" * 100_000: 0}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"], "attachments": [{}] * 100_000}),
        ("send_email", {"from_mailbox": "a@b.test", "to": ["a@b.test"],
                        "attachments": [{f"x{n}": 0 for n in range(100_000)}]}),
        ("list_emails", {"states": ["x"] * 100_000}),
        ("list_notifications", {"types": ["x"] * 100_000}),
        ("manage_mailboxes", {"action": "create", "mailbox": "a@b.test", "allow_list": [0] * 100_000}),
        ("manage_contacts", {"action": "update", "id": "x", "increment": {f"x{n}": "x" for n in range(100_000)}}),
    ],
)  # fmt: skip
async def test_what_is_wrong_all_over_is_told_within_a_budget(tool: str, arguments: dict[str, Any]) -> None:
    """However much is wrong with the arguments, few of it is looked at, and the error that a model reads is short."""
    checked = TOOLS[tool]
    with pytest.raises(multimail.InvalidArgumentError) as error:
        checked.checked(arguments)
    assert len(error.value.violations) < 60
    result = problem_of(error.value, checked.arguments.model_fields)
    assert len(result.model_dump_json()) < 8_000


async def test_json_that_comes_as_text_is_taken(account: Account) -> None:
    """Objects and lists that a model wrote as text are taken for what they are, and one address for a list of one."""
    async with talking(account) as talk:
        await talk.facts("manage_contacts", action="upsert", email="bo@person.test", metadata='{"plan": "pro"}')
        found = await talk.facts("manage_contacts", filters='{"metadata.plan": "pro"}')
        assert ["bo@person.test"] == [each["email"] for each in found["contacts"]]
        box = account.mailbox()
        await talk.facts("manage_mailboxes", action="create", mailbox=box)
        for to in ("bo@person.test", '["bo@person.test"]', ["bo@person.test"]):
            sent = await talk.facts("send_email", from_mailbox=box, to=to, body="x", validate_only=True)
            assert ["bo@person.test"] == sent["email"]["to"]


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


async def test_nothing_is_an_accident(account: Account) -> None:
    """Arguments of any type in any place get an answer or a refusal that is told, never an accident."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    values = [
        None, True, 0, -1, 1.5, 2**63, 10**400, "", "x", "\x00", "a@b.test", "[", "{", "[" * 9000, [], [None], [[]], {},
        {"": ""}, {"a": None}, _deep(40), _deep(150), "x" * 300_000, "2026-03-20T10:00:00Z", "P7D", "email_x", "ü" * 99,
    ]  # fmt: skip
    async with (
        await account.client() as own,
        await account.client("oversight", "read", "admin", "write") as overseer,
        Client(server_for(lambda _: own)) as agent,
        Client(server_for(lambda _: overseer)) as above,
    ):
        for name, least in LEAST.items():
            tool, _, action = name.partition(" ")
            fields = sorted(TOOLS[tool].arguments.model_fields)
            for _ in range(12):
                arguments = least | ({"action": action} if action else {})
                arguments |= {dice.choice(fields): dice.choice(values) for _ in range(dice.choice((1, 1, 2)))}
                client = above if TOOLS[tool].scope == "oversight" else agent
                result = await client.call_tool(tool, arguments)
                told = result.content[0].text
                assert not result.is_error or (result.meta and len(told) < 5000), (name, arguments, told[:300])
                assert "INTERNAL" not in told, (name, arguments)


async def test_one_key_one_mail(account: Account) -> None:
    """Calls with one idempotency_key, raced and repeated, send one mail; with other content the key is refused."""
    async with talking(account) as talk:
        box = account.mailbox()
        await talk.facts("manage_mailboxes", action="create", mailbox=box)
        send = {"from_mailbox": box, "to": ["bo@person.test"], "body": "once", "idempotency_key": "k1"}
        told = await asyncio.gather(*(talk.facts("send_email", **send) for _ in range(6)))
        told.append(await talk.facts("send_email", **send))
        assert 1 == len({each["email"]["id"] for each in told})
        assert 1 == len((await talk.facts("list_emails", mailbox=box))["emails"])
        reason, advice, _ = await talk.refused("send_email", **send | {"body": "twice"})
        assert ("REQUEST_ID_REUSED", True) == (reason, "leave it out" in advice)
        for _ in range(2):
            await talk.facts("send_email", **{name: send[name] for name in ("from_mailbox", "to", "body")})
        assert 3 == len((await talk.facts("list_emails", mailbox=box))["emails"])


async def test_an_unknown_outcome_names_the_key_to_repeat_with(account: Account) -> None:
    """A change whose answer was lost is told with a key, by which it happens once, whether it had happened or not."""
    async with talking(account) as talk:
        box = account.mailbox()
        await talk.facts("manage_mailboxes", action="create", mailbox=box)
        key, target = await account.key(), f"127.0.0.1:{account.running.grpc_port}"
        lost = 0
        for timeout in (0.001, 0.005, 0.01, 0.02, 0.04):
            send = {"from_mailbox": box, "to": ["bo@person.test"], "body": f"once {timeout}"}
            async with (
                multimail.AsyncClient(key, target, timeout=timeout) as hasty,
                Client(server_for(lambda _, hasty=hasty: hasty)) as client,
            ):
                result = await client.call_tool("send_email", send)
            if not result.is_error:
                continue
            lost += 1
            told = result.content[0].text
            assert "It may or may not have happened" in told
            named = told.partition('idempotency_key="')[2].partition('"')[0]
            first = await talk.facts("send_email", **send, idempotency_key=named)
            again = await talk.facts("send_email", **send, idempotency_key=named)
            assert first["email"]["id"] == again["email"]["id"]
        assert lost
        bodies = sorted(each["snippet"] for each in (await talk.facts("list_emails", mailbox=box))["emails"])
        assert ["once 0.001", "once 0.005", "once 0.01", "once 0.02", "once 0.04"] == bodies
