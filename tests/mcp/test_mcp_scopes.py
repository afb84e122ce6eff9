"""What a key may do is what it is shown, and nothing else works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.mcp.talk import talking

from multimail.mcp.server import TOOLS

if TYPE_CHECKING:
    from tests.conftest import Account

SCOPES = {"read", "write", "send", "admin", "oversight"}
# The least each tool, or each of its actions, takes for an argument.
LEAST: dict[str, dict[str, Any]] = {
    "manage_contacts search": {}, "manage_contacts get": {"id": "x"}, "manage_contacts upsert": {"email": "a@b.test"},
    "manage_contacts update": {"id": "x", "name": "n"}, "manage_contacts delete": {"id": "x"},
    "get_contact_context": {"id": "x"}, "list_interactions": {"id": "x"},
    "check_sends": {"from_mailbox": "x", "to": ["a@b.test"]}, "send_email": {"from_mailbox": "x", "to": ["a@b.test"]},
    "reply_email": {"email_id": "x"}, "update_email": {"email_id": "x"}, "cancel_email": {"email_id": "x"},
    "check_inbox": {}, "read_email": {"email_id": "x"}, "read_attachment": {"email_id": "x"}, "list_emails": {},
    "get_thread": {"thread_id": "x"}, "list_threads": {}, "list_pending": {},
    "approve_email": {"email_id": "x", "content_sha256": "00"},
    "reject_email": {"email_id": "x", "content_sha256": "00", "reason": "r"},
    "resolve_email": {"email_id": "x", "resolution": "sent"}, "manage_mailboxes list": {},
    "manage_mailboxes get": {"mailbox": "x"}, "manage_mailboxes create": {"mailbox": "a@b.test"},
    "manage_mailboxes update": {"mailbox": "x"}, "manage_mailboxes delete": {"mailbox": "x"},
    "manage_suppressions list": {}, "manage_suppressions add": {"address": "a@b.test"},
    "manage_suppressions lift": {"address": "a@b.test"}, "list_notifications": {},
}  # fmt: skip


def scope_of(name: str) -> str:
    """The scope that a tool, or one of its actions, says it takes."""
    tool, _, action = name.partition(" ")
    return TOOLS[tool].actions[action].scope if action else TOOLS[tool].scope


def test_every_tool_and_action_is_tried_here() -> None:
    """The table of these tests holds every tool and every action."""
    every = {f"{tool.name} {action}".strip() for tool in TOOLS.values() for action in (tool.actions or {"": ""})}
    assert set(LEAST) == every


@pytest.mark.parametrize(
    "scopes", [("read",), ("write",), ("send",), ("admin",), ("oversight",), ("read", "send"), ("read", "oversight")]
)
async def test_a_key_is_shown_what_it_may_do(account: Account, scopes: tuple[str, ...]) -> None:
    """A key is listed exactly the tools, and of these the actions, that one of its scopes allows."""
    async with talking(account, *scopes) as talk:
        listed = set()
        for name, tool in (await talk.tools()).items():
            actions = tool.input_schema["properties"].get("action", {}).get("enum", [""])
            listed |= {f"{name} {action}".strip() for action in actions}
            if TOOLS[name].actions and scopes == ("read",):
                assert tool.annotations.read_only_hint
    assert {name for name in LEAST if scope_of(name) in scopes} == listed


async def test_what_is_not_shown_is_refused(account: Account) -> None:
    """Every tool and action is refused for the lack of the very scope it says it takes, whatever others a key has."""
    tried = set()
    for lacking in sorted(SCOPES):
        having = SCOPES - {lacking} - ({"oversight"} if lacking != "oversight" else {"send"})
        async with talking(account, *having) as talk:
            for name, arguments in LEAST.items():
                if scope_of(name) != lacking:
                    continue
                tool, _, action = name.partition(" ")
                reason, told, particulars = await talk.refused(
                    tool, **arguments, **({"action": action} if action else {})
                )
                assert ("SCOPE_MISSING", lacking) == (reason, particulars["metadata"]["scope"]), name
                assert "Do not try again" in told
                tried.add(name)
    assert set(LEAST) == tried
