"""Every tool: what it does for those who may, and how it says no."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.mcp.talk import Talk, talking
from tests.rpc.calls import until

if TYPE_CHECKING:
    from tests.conftest import Account

    import multimail

GUARD = {"not_contacted_within": "P7D", "no_open_thread": True}
RAW = b"From: Bo <bo@person.test>\r\nTo: x@y.test\r\nSubject: Question\r\nMessage-ID: <%d@q>\r\n\r\nHow are you?\r\n"
MIXED = (
    b"From: bo@person.test\r\nSubject: Files\r\nMessage-ID: <f@q>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSee these.\r\n'
    b'--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename="a.csv"\r\n\r\nname,n\r\nBo,1\r\n'
    b'--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename="b.png"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b--\r\n"
)


async def made(talk: Talk, account: Account, name: str = "box", **rules: Any) -> str:
    """A new mailbox of the account."""
    box = account.mailbox(name)
    await talk.facts("manage_mailboxes", action="create", mailbox=box, **rules)
    return box


async def test_contacts_are_managed_by_one_tool(account: Account) -> None:
    """manage_contacts makes, merges, finds, reads, changes and erases a contact; named no action it searches."""
    async with talking(account) as talk:
        facts = {"plan": "pro", "tags": ["lead"], "old": ["a", "b"], "open_tickets": 2}
        made_ = await talk.facts("manage_contacts", action="upsert", email="Bo@person.test", name="Bo", metadata=facts)
        assert "created" == made_["contacts"][0]["outcome"]
        changed = await talk.facts(
            "manage_contacts", action="update", email="bo@person.test", increment={"open_tickets": 1},
            add_to_set={"tags": "vip"}, remove={"old": "a"}, metadata={"plan": None, "city": "Oslo"},
            etag=made_["contacts"][0]["etag"],
        )  # fmt: skip
        now = {"tags": ["lead", "vip"], "old": ["b"], "open_tickets": 3, "city": "Oslo"}
        assert now == changed["contacts"][0]["metadata"]
        for search in (
            {"query": "bo"}, {"filters": {"metadata.city": "Oslo", "last_contacted_before": "2026-03-20"}},
            {"filter": "metadata.open_tickets > 2 AND NOT has_open_thread", "order_by": "name desc"},
        ):  # fmt: skip
            found = (await talk.facts("manage_contacts", **search))["contacts"]
            assert [("Bo@person.test", "Bo", now, 0)] == [
                (each["email"], each["name"], each["metadata"], each["interaction_count"]) for each in found
            ]
        got = await talk.facts("manage_contacts", action="get", id=found[0]["id"])
        assert found == got["contacts"]
        gone = await talk.facts("manage_contacts", action="delete", email="bo@person.test")
        assert (found[0]["id"], []) == (gone["erasure"]["contact_id"], gone["contacts"])
        assert {"contacts": []} == await talk.facts("manage_contacts", query="bo")
        reason, told, _ = await talk.refused("manage_contacts", action="get", email="bo@person.test")
        assert ("CONTACT_NOT_FOUND", True) == (reason, "action search" in told)


async def test_an_outdated_etag_is_no_reason_to_write_blindly(account: Account) -> None:
    """A change by an outdated etag changes nothing; the error asks to read again and gives no new etag away."""
    async with talking(account) as talk:
        old = (await talk.facts("manage_contacts", action="upsert", email="bo@person.test"))["contacts"][0]["etag"]
        new = (await talk.facts("manage_contacts", action="upsert", email="bo@person.test", name="Bo"))["contacts"][0]
        for action in ("update", "delete"):
            more = {"name": "Other"} if action == "update" else {}
            reason, told, _ = await talk.refused("manage_contacts", action=action, id=new["id"], etag=old, **more)
            assert ("ETAG_MISMATCH", True) == (reason, "read it again" in told)
            assert new["etag"] not in told
        assert "Bo" == (await talk.facts("manage_contacts", action="get", id=new["id"]))["contacts"][0]["name"]


async def test_a_guard_lets_one_of_many_through(account: Account) -> None:
    """Of eight agents that send to one person at once one gets through; the others hear who, and until when."""
    async with talking(account) as talk:
        box = await made(talk, account)
        send = {"from_mailbox": box, "to": ["bo@person.test"], "subject": "Offer", "body": "Hello", "guard": GUARD}
        results = await asyncio.gather(*(talk.client.call_tool("send_email", send) for _ in range(8)))
        won = [each.structured_content["email"]["id"] for each in results if not each.is_error]
        lost = [each for each in results if each.is_error]
        assert (1, 7) == (len(won), len(lost))
        for each in lost:
            told = each.content[0].text
            assert "GUARD_REFUSED" == each.meta["multimail/error"]["reason"]
            assert all(word in told for word in (won[0], "tester", "not_contacted_within", "Before 20"))
        checks = await talk.facts("check_sends", from_mailbox=box, to=["bo@person.test", "cy@person.test"], guard=GUARD)
        assert [("GUARD_REFUSED", None), (None, "queued")] == [
            (each.get("reason"), each.get("state")) for each in checks["checks"]
        ]
        assert won[0] == checks["checks"][0]["facts"]["email_id"]


async def test_suppressed_people_are_left_alone(account: Account) -> None:
    """A suppressed address is listed and not written to; an agent that may not lift it is told to leave them alone."""
    async with talking(account) as talk, talking(account, "read", "write", "send") as agent:
        box = await made(talk, account)
        await agent.facts("manage_suppressions", action="add", address="bo@person.test")
        assert "manual" == (await agent.facts("manage_suppressions"))["suppressions"][0]["reason"]
        reason, told, _ = await agent.refused("send_email", from_mailbox=box, to=["bo@person.test"], body="Hi")
        assert ("SUPPRESSED", True) == (reason, "Do not write to this person" in told)
        assert (
            "SCOPE_MISSING" == (await agent.refused("manage_suppressions", action="lift", address="bo@person.test"))[0]
        )
        await talk.facts("manage_suppressions", action="lift", address="bo@person.test")
        assert (
            "SUPPRESSION_NOT_FOUND"
            == (await talk.refused("manage_suppressions", action="lift", address="bo@person.test"))[0]
        )
        assert (
            "queued"
            == (await agent.facts("send_email", from_mailbox=box, to=["bo@person.test"], body="Hi"))["email"]["state"]
        )


async def test_mail_is_read_and_answered(account: Account, client: multimail.AsyncClient) -> None:
    """Mail that arrived is in the inbox until it is read; the answer goes into its conversation, which shows both."""
    async with talking(account) as talk:
        box = await made(talk, account)
        await talk.facts("manage_contacts", action="upsert", email="bo@person.test")
        arrived = await client.ingest_email(mailbox=box, raw=RAW % 1)
        assert [arrived.id] == [each["id"] for each in (await talk.facts("check_inbox", mailbox=box))["emails"]]
        assert [arrived.thread_id] == [
            each["id"] for each in (await talk.facts("list_threads", unanswered=True))["threads"]
        ]
        read = await talk.facts("read_email", email_id=arrived.id)
        assert ("bo@person.test", True) == (read["email"]["from"], "How are you?" in read["untrusted"][0]["text"])
        assert [] == (await talk.facts("check_inbox", mailbox=box))["emails"]
        assert [arrived.id] == [
            each["id"] for each in (await talk.facts("check_inbox", mailbox=box, unread=False))["emails"]
        ]
        reply = (await talk.facts("reply_email", email_id=arrived.id, body="Fine, thank you."))["email"]
        thread = await talk.facts("get_thread", thread_id=arrived.thread_id)
        assert (2, [reply["id"], arrived.id]) == (
            thread["thread"]["email_count"], [each["id"] for each in thread["emails"]],
        )  # fmt: skip
        log = await talk.facts("list_interactions", email="bo@person.test")
        assert [reply["id"], arrived.id] == [each["email_id"] for each in log["interactions"]]
        context = await talk.facts("get_contact_context", email="bo@person.test")
        assert "Fine, thank you." in context["text"]
        assert "How are you?" not in context["text"]
        assert any("How are you?" in each["text"] for each in context["untrusted"])
        assert [reply["id"]] == [
            each["id"] for each in (await talk.facts("list_emails", mailbox=box, direction="outbound"))["emails"]
        ]
        for tool, arguments, reason in (
            ("reply_email", {"email_id": "email_x", "body": "x"}, "EMAIL_NOT_FOUND"),
            ("read_email", {"email_id": "email_x"}, "EMAIL_NOT_FOUND"),
            ("get_thread", {"thread_id": "thread_x"}, "THREAD_NOT_FOUND"),
            ("list_interactions", {"email": "no@person.test"}, "CONTACT_NOT_FOUND"),
            ("get_contact_context", {"id": "contact_x"}, "CONTACT_NOT_FOUND"),
            ("check_inbox", {"mailbox": "no@person.test"}, "MAILBOX_NOT_FOUND"),
        ):
            assert reason == (await talk.refused(tool, **arguments))[0]


async def test_files_travel_both_ways(account: Account, client: multimail.AsyncClient) -> None:
    """A file that is text is read as text from outside, another is refused with a sentence, and files can be sent."""
    async with talking(account) as talk:
        box = await made(talk, account)
        arrived = await client.ingest_email(mailbox=box, raw=MIXED)
        read = await talk.facts("read_email", email_id=arrived.id)
        assert [0, 1] == [each["index"] for each in read["email"]["attachments"]]
        assert "a.csv" not in str(read["email"])
        first = await talk.facts("read_attachment", email_id=arrived.id)
        assert "a.csv (text/csv)\nname,n\r\nBo,1" in first["untrusted"][0]["text"]
        assert "NOT_TEXT" == (await talk.refused("read_attachment", email_id=arrived.id, index=1))[0]
        assert "ATTACHMENT_NOT_FOUND" == (await talk.refused("read_attachment", email_id=arrived.id, index=2))[0]
        files = [{"filename": "c.txt", "content_base64": base64.b64encode(b"hello").decode()}]
        sent = await talk.facts("send_email", from_mailbox=box, to=["bo@person.test"], body="x", attachments=files)
        got = await client.get_attachment(sent["email"]["id"])
        assert ("c.txt", b"hello") == (got.filename, got.content)


async def test_held_mail_is_decided_about(account: Account) -> None:
    """Mail of a gated mailbox waits, is shown whole to the overseer, and goes only by the content that was read."""
    async with talking(account) as agent, talking(account, "oversight", "read") as overseer:
        box = await made(agent, account, oversight_mode="gated_send")
        first, second, third = [
            await agent.facts("send_email", from_mailbox=box, to=["bo@person.test"], subject=f"S{n}", body=f"Body {n}")
            for n in range(3)
        ]
        assert ("held", True) == (first["email"]["state"], "Do not send it again" in first["note"])
        pending = (await overseer.facts("list_pending", mailbox=box))["emails"]
        assert ["Body 0", "Body 1", "Body 2"] == [each["body"] for each in pending]
        assert ["bo@person.test"] == [each["email"] for each in pending[0]["people"]]
        await agent.facts("update_email", email_id=pending[0]["id"], body="Other")
        decision = {"email_id": pending[0]["id"], "content_sha256": pending[0]["content_sha256"]}
        reason, told, _ = await overseer.refused("approve_email", **decision)
        changed = (await overseer.facts("read_email", email_id=pending[0]["id"]))["email"]
        assert ("CONTENT_CHANGED", True) == (reason, "read_email" in told)
        assert changed["content_sha256"] not in told
        decision["content_sha256"] = changed["content_sha256"]
        approved = await overseer.facts("approve_email", **decision, reason="fine")
        assert "queued" == approved["email"]["state"]
        assert "STATE_FORBIDS" == (await overseer.refused("approve_email", **decision))[0]
        decision = {"email_id": pending[1]["id"], "content_sha256": pending[1]["content_sha256"]}
        assert "rejected" == (await overseer.facts("reject_email", **decision, reason="pushy"))["email"]["state"]
        seen = (await agent.facts("read_email", email_id=second["email"]["id"]))["email"]["decision"]
        assert (False, "pushy") == (seen.get("approved", False), seen["reason"])
        assert "cancelled" == (await agent.facts("cancel_email", email_id=third["email"]["id"]))["email"]["state"]
        for tool, more in (("cancel_email", {}), ("update_email", {"body": "x"})):
            assert "STATE_FORBIDS" == (await agent.refused(tool, email_id=third["email"]["id"], **more))[0]
        assert [] == (await overseer.facts("list_pending", mailbox=box))["emails"]
        assert (
            "STATE_FORBIDS"
            == (await overseer.refused("resolve_email", email_id=third["email"]["id"], resolution="sent"))[0]
        )


async def test_a_doubt_is_ended(account: Account) -> None:
    """Mail in doubt is found by its state, and an overseer's word ends the doubt."""
    async with talking(account) as agent, talking(account, "oversight", "read") as overseer:
        box = await made(agent, account)
        sent = (await agent.facts("send_email", from_mailbox=box, to=["bo@person.test"], body="x"))["email"]["id"]
        emails = account.running.database
        await until(
            lambda: agent.facts("read_email", email_id=sent), holds=lambda told: told["email"]["state"] == "sent"
        )
        (row,) = await emails.find("emails", {"_id": sent})
        recipients = [each | {"state": "in_doubt"} for each in row["recipients"]]
        await emails.update_one("emails", {"_id": sent}, {"$set": {"state": "in_doubt", "recipients": recipients}})
        found = await overseer.facts("list_emails", states=["in_doubt"], mailbox=box)
        assert [sent] == [each["id"] for each in found["emails"]]
        ended = await overseer.facts("resolve_email", email_id=sent, resolution="sent")
        assert "sent" == ended["email"]["state"]


async def test_mailboxes_are_managed(account: Account) -> None:
    """Mailboxes are made, listed, read, changed and deleted; loosening one needs an overseer."""
    async with talking(account) as talk:
        box = await made(talk, account, display_name="Sales", oversight_mode="gated_send", approval_ttl="PT2H")
        shown = (await talk.facts("manage_mailboxes"))["mailboxes"][0]
        assert (box, "Sales", "gated_send", "PT2H") == tuple(
            shown[name] for name in ("email", "display_name", "oversight_mode", "approval_ttl")
        )
        assert "ADDRESS_TAKEN" == (await talk.refused("manage_mailboxes", action="create", mailbox=box))[0]
        assert (
            "SCOPE_MISSING"
            == (await talk.refused("manage_mailboxes", action="update", mailbox=box, oversight_mode="autonomous"))[0]
        )
        changed = await talk.facts(
            "manage_mailboxes", action="update", mailbox=shown["id"], display_name="", oversight_mode="read_only",
            hold_first_contact=True, etag=shown["etag"],
        )  # fmt: skip
        assert ("read_only", True, None) == tuple(
            changed["mailboxes"][0].get(name) for name in ("oversight_mode", "hold_first_contact", "display_name")
        )
        reason, told, _ = await talk.refused("send_email", from_mailbox=box, to=["bo@person.test"], body="x")
        assert ("MODE_FORBIDS", True) == (reason, "Do not try again" in told)
        spare = await made(talk, account, "spare")
        assert "delete_time" in (await talk.facts("manage_mailboxes", action="delete", mailbox=spare))["mailboxes"][0]
        assert "MAILBOX_NOT_FOUND" == (await talk.refused("manage_mailboxes", action="get", mailbox=spare))[0]
        assert "mailbox" in (await talk.refused("manage_mailboxes", action="get"))[2]["fields"]


async def test_the_audit_tells_who_did_what(account: Account) -> None:
    """Notifications name agent, key and mail of every act, go on behind a number, and can be limited to types."""
    async with talking(account) as talk:
        box = await made(talk, account)
        sent = (await talk.facts("send_email", from_mailbox=box, to=["bo@person.test"], body="x"))["email"]["id"]
        seen = (await talk.facts("list_notifications"))["notifications"]
        queued = next(each for each in seen if each["type"] == "email_queued")
        assert ("tester", sent, True) == (queued["agent"], queued["email_id"], queued["key_id"].startswith("key_"))
        later = await talk.facts("list_notifications", after_seq=queued["seq"] - 1, types=["email_queued"])
        assert [queued] == later["notifications"]
        assert "INVALID_FIELD" == (await talk.refused("list_notifications", after_seq=10**9))[0]


@pytest.mark.parametrize("tool", ["send_email", "reply_email"])
async def test_only_saying_what_would_happen(account: Account, client: multimail.AsyncClient, tool: str) -> None:
    """With validate_only a mail is judged and not sent, and the answer says so."""
    async with talking(account) as talk:
        box = await made(talk, account)
        arrived = await client.ingest_email(mailbox=box, raw=RAW % 2)
        what = {"email_id": arrived.id} if tool == "reply_email" else {"from_mailbox": box, "to": ["bo@person.test"]}
        told = await talk.facts(tool, body="x", validate_only=True, **what)
        assert ("queued", True) == (told["email"]["state"], "Nothing was sent" in told["note"])
        assert [] == (await talk.facts("list_emails", direction="outbound"))["emails"]


async def test_another_accounts_things_are_not_there(account: Account, client: multimail.AsyncClient) -> None:
    """Every tool that takes an id or address says of another account's what it says of none."""
    async with talking(account) as talk:
        box = await made(talk, account)
        arrived = await client.ingest_email(mailbox=box, raw=RAW % 3)
        contact = (await talk.facts("manage_contacts", action="upsert", email="bo@person.test"))["contacts"][0]["id"]
    stranger = replace(account, name=f"{account.name}o")
    async with talking(stranger) as spy, talking(stranger, "oversight", "read") as overseer:
        own = await made(spy, stranger)
        for who, tool, arguments, known, unknown in (
            (spy, "read_email", {}, {"email_id": arrived.id}, {"email_id": "email_x"}),
            (spy, "read_attachment", {}, {"email_id": arrived.id}, {"email_id": "email_x"}),
            (spy, "cancel_email", {}, {"email_id": arrived.id}, {"email_id": "email_x"}),
            (spy, "update_email", {"body": "x"}, {"email_id": arrived.id}, {"email_id": "email_x"}),
            (spy, "reply_email", {"body": "x"}, {"email_id": arrived.id}, {"email_id": "email_x"}),
            (spy, "get_thread", {}, {"thread_id": arrived.thread_id}, {"thread_id": "thread_x"}),
            (spy, "get_contact_context", {}, {"id": contact}, {"id": "contact_x"}),
            (spy, "list_interactions", {}, {"id": contact}, {"id": "contact_x"}),
            (spy, "manage_contacts", {"action": "get"}, {"id": contact}, {"id": "contact_x"}),
            (spy, "manage_contacts", {"action": "delete"}, {"id": contact}, {"id": "contact_x"}),
            (spy, "manage_contacts", {"action": "update", "name": "x"}, {"id": contact}, {"id": "contact_x"}),
            (spy, "manage_mailboxes", {"action": "get"}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (spy, "manage_mailboxes", {"action": "delete"}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (spy, "check_inbox", {}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (spy, "list_emails", {}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (spy, "list_threads", {}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (spy, "list_notifications", {}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (spy, "send_email", {"to": [own], "body": "x"}, {"from_mailbox": box}, {"from_mailbox": "no@x.test"}),
            (spy, "check_sends", {"to": [own]}, {"from_mailbox": box}, {"from_mailbox": "no@x.test"}),
            (overseer, "list_pending", {}, {"mailbox": box}, {"mailbox": "no@x.test"}),
            (overseer, "approve_email", {"content_sha256": "00"}, {"email_id": arrived.id}, {"email_id": "email_x"}),
            (overseer, "reject_email", {"content_sha256": "00", "reason": "x"}, {"email_id": arrived.id},
             {"email_id": "email_x"}),
            (overseer, "resolve_email", {"resolution": "sent"}, {"email_id": arrived.id}, {"email_id": "email_x"}),
        ):  # fmt: skip
            theirs, nobodys = (
                await who.refused(tool, **arguments, **known),
                await who.refused(tool, **arguments, **unknown),
            )
            assert theirs == nobodys, tool
            assert theirs[0].endswith("_NOT_FOUND"), (tool, theirs)
