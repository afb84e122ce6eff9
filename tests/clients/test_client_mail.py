"""Mail through both clients against a real service: sending, guarding, deciding, reporting, suppressing, reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
from tests.clients.forms import FORMS, client_of, until
from tests.rpc.relays import HANG_UP, Peer, serving

import multimail

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Account

both = pytest.mark.parametrize("form", FORMS)


def letter(author: str, to: str, **headers: str) -> bytes:
    """A mail from outside."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = author, to, "hello"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("hi")
    return message.as_bytes()


@both
async def test_a_mail_with_everything(account: Account, tmp_path: Path, form: str) -> None:
    """A scheduled mail shows all that it was given, its file comes back whole, and it can be changed and stopped."""
    client = await client_of(form, account)
    box = await client.mailboxes.create(email=account.mailbox())
    (tmp_path / "list.csv").write_bytes(b"a,b\r\n\x00")
    files = [multimail.OutgoingAttachment.read(tmp_path / "list.csv")]
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    wanted = {
        "from_mailbox": box.id, "to": "to@b.test", "cc": "cc@b.test", "bcc": ["bcc@b.test"], "reply_to": "re@b.test",
        "subject": "s", "markdown_body": "*hi*", "attachments": files,
        "send_time": due, "list_unsubscribe": True,
    }  # fmt: skip
    asked = await client.send_email(**wanted, validate_only=True)
    assert ("", "scheduled", []) == (asked.id, asked.state, (await client.list_emails()).items)
    sent = await client.send_email(**wanted)
    mail = await client.get_email(sent.id)
    assert ("scheduled", due, ["to@b.test"], ["cc@b.test"], ["bcc@b.test"], ["re@b.test"]) == (
        mail.state, mail.send_time, mail.to, mail.cc, mail.bcc, mail.reply_to,
    )  # fmt: skip
    assert [("to", "to@b.test"), ("cc", "cc@b.test"), ("bcc", "bcc@b.test")] == [
        (each.kind, each.address) for each in mail.recipients
    ]
    assert ("*hi*", "<em>hi</em>" in mail.html_body, None, []) == (
        mail.body.strip(), True, mail.decision, mail.events,
    )  # fmt: skip
    (shown,) = mail.attachments
    assert ("list.csv", "text/csv", 6, b"") == (shown.filename, shown.content_type, shown.size_bytes, shown.content)
    assert b"a,b\r\n\x00" == (await client.get_attachment(sent.id)).content
    with pytest.raises(multimail.NotFoundError):
        await client.get_attachment(sent.id, 1)
    changed = await client.update_email(sent.id, subject="t", content_sha256=mail.content_sha256)
    assert ("t", False) == (changed.subject, changed.content_sha256 == mail.content_sha256)
    with pytest.raises(multimail.FailedPreconditionError) as refused:
        await client.update_email(sent.id, body="x", content_sha256=mail.content_sha256)
    assert ("CONTENT_CHANGED", changed.content_sha256) == (
        refused.value.reason, refused.value.metadata["content_sha256"],
    )  # fmt: skip
    stopped = await client.cancel_email(sent.id)
    assert ("cancelled", {"cancelled"}) == (stopped.state, {each.state for each in stopped.recipients})
    with pytest.raises(multimail.FailedPreconditionError):
        await client.cancel_email(sent.id)


@both
async def test_a_refusing_guard_says_why_and_until_when(account: Account, form: str) -> None:
    """A guard that refuses names rule, mail, thread, agent and time, in the error and in the check of many."""
    client = await client_of(form, account, agent="first")
    box = await client.mailboxes.create(email=account.mailbox())
    await client.contacts.upsert(email="pro@b.test", metadata={"plan": "pro"})
    guard = multimail.Guard(not_contacted_within=timedelta(days=3), filters={"metadata.plan": "pro"})
    sent = await client.send_email(from_mailbox=box.id, to="pro@b.test", guard=guard)
    with pytest.raises(multimail.GuardRefusedError) as refused:
        await client.send_email(from_mailbox=box.id, to="pro@b.test", guard=guard)
    error = refused.value
    assert ("GUARD_REFUSED", "not_contacted_within", sent.id, sent.thread_id, "first") == (
        error.reason, error.rule, error.email_id, error.thread_id, error.agent,
    )  # fmt: skip
    assert error.retry_time == sent.time + timedelta(days=3)
    assert 0 < error.retry_after <= timedelta(days=3).total_seconds()
    with pytest.raises(multimail.GuardRefusedError) as unmet:
        await client.send_email(from_mailbox=box.id, to="new@b.test", guard=multimail.Guard(require_contact=True))
    assert ("require_contact", "", "", "", None) == (
        unmet.value.rule, unmet.value.email_id, unmet.value.thread_id, unmet.value.agent, unmet.value.retry_time,
    )  # fmt: skip
    checks = await client.check_sends(
        from_mailbox=box.id, to=["new@b.test", "pro@b.test"], guard=multimail.Guard(no_open_thread=True)
    )
    assert [("new@b.test", "queued", None), ("pro@b.test", "", "no_open_thread")] == [
        (each.address, each.state, each.refusal and each.refusal.metadata["rule"]) for each in checks
    ]
    assert ("GUARD_REFUSED", sent.id) == (checks[1].refusal.reason, checks[1].refusal.metadata["email_id"])


@both
async def test_people_decide_about_held_mail(account: Account, form: str) -> None:
    """The queue shows mail and people; each decision binds to what was read, counts once, and tells its outcome."""
    client = await client_of(form, account)
    people = await client_of(form, account, "read", "oversight", agent="human")
    box = await client.mailboxes.create(email=account.mailbox(), oversight_mode="gated_send")
    sent = [await client.send_email(from_mailbox=box.id, to=f"p{n}@b.test", body=f"text {n}") for n in range(4)]
    queue = (await people.list_held_emails(mailbox=box.email)).items
    assert [(each.id, "held", f"text {n}") for n, each in enumerate(sent)] == [
        (held.email.id, held.email.state, held.email.body.strip()) for held in queue
    ]
    (person,) = queue[0].people
    assert ("p0@b.test", [sent[0].id]) == (person.contact.email, [each.email_id for each in person.interactions])
    assert ("mode", True) == (queue[0].email.hold_reason, queue[0].email.expire_time > datetime.now(UTC))
    await client.update_email(sent[2].id, body="changed")
    outcomes = await people.approve_emails(
        [queue[0], queue[1].email, (queue[2].email.id, queue[2].email.content_sha256)], reason="fine"
    )
    assert [each.id for each in sent[:3]] == [each.email_id for each in outcomes]
    assert [None, None, "CONTENT_CHANGED"] == [each.refusal and each.refusal.reason for each in outcomes]
    decision = outcomes[0].email.decision
    assert (True, "fine", "human", sent[0].content_sha256, None) == (
        decision.approved, decision.reason, decision.agent, decision.content_sha256, outcomes[2].email,
    )  # fmt: skip
    (again,) = await people.approve_emails([queue[0]])
    assert ("STATE_FORBIDS", None) == (again.refusal.reason, again.email)
    (rejected,) = await people.reject_emails([queue[3]], reason="no")
    shown = await client.get_email(sent[3].id)
    assert ("rejected", "rejected", False, "no") == (
        rejected.email.state, shown.state, shown.decision.approved, shown.decision.reason,
    )  # fmt: skip
    assert [sent[2].id] == [held.email.id for held in (await people.list_held_emails()).items]
    with pytest.raises(multimail.PermissionDeniedError):
        await client.approve_emails([queue[2]])


@both
async def test_reports_and_suppressions(account: Account, form: str) -> None:
    """A hard bounce shows on the mail once however often it is told, and its address is refused until it is lifted."""
    client = await client_of(form, account)
    box = await client.mailboxes.create(email=account.mailbox())
    sent = await client.send_email(from_mailbox=box.id, to="gone@b.test")
    await until(lambda: client.get_email(sent.id), lambda mail: mail.state == "sent")
    when = datetime(2026, 3, 20, 12, tzinfo=UTC)
    told = {"message_id": sent.message_id, "permanent": True, "time": when, "detail": "550 no such user"}
    first = await client.ingest_event("bounced", **told)
    second = await client.ingest_event("bounced", **told)
    assert ((False, "bounced"), (True, "bounced")) == tuple(
        (each.duplicate, each.recipients[0].state) for each in (first, second)
    )
    assert [multimail.DeliveryEvent("bounced", "gone@b.test", when, True, "550 no such user")] == second.events
    opened = await client.ingest_event("opened", email_id=sent.id, address="gone@b.test", time=when)
    assert when == opened.recipients[0].open_time
    (row,) = (await client.suppressions.list(address="gone@b.test")).items
    assert ("gone@b.test", "bounced", sent.id) == (row.address, row.reason, row.email_id)
    with pytest.raises(multimail.FailedPreconditionError) as refused:
        await client.send_email(from_mailbox=box.id, to="gone@b.test")
    assert ("SUPPRESSED", "bounced") == (refused.value.reason, refused.value.metadata["suppression"])
    added = await client.suppressions.add("other@b.test")
    assert ("manual", 2) == (added.reason, len((await client.suppressions.list()).items))
    assert "bounced" == (await client.suppressions.remove("gone@b.test")).reason
    with pytest.raises(multimail.NotFoundError):
        await client.suppressions.remove("gone@b.test")
    assert ["other@b.test"] == [each.address for each in (await client.suppressions.list()).items]
    assert (await client.send_email(from_mailbox=box.id, to="gone@b.test")).id


@both
async def test_the_inbox_holds_what_nobody_read(account: Account, form: str) -> None:
    """The inbox shows unread mail until it is read, all of it when asked; the same bytes twice are one mail."""
    client = await client_of(form, account)
    box = (await client.mailboxes.create(email=account.mailbox())).email
    raw = letter("Bo <bo@b.test>", box, Message_ID="<1@b.test>", Cc="cc@b.test")
    first = await client.ingest_email(mailbox=box, raw=raw, envelope_from="bo@b.test")
    again = await client.ingest_email(mailbox=box, raw=raw, envelope_from="bo@b.test")
    assert (first.id, False, True, "personal") == (again.id, first.duplicate, again.duplicate, first.kind)
    note = await client.ingest_email(mailbox=box, raw=letter("bo@b.test", box, Auto_Submitted="auto-replied"))
    assert "auto_reply" == note.kind
    assert [note.id, first.id] == [each.id for each in (await client.check_inbox(box)).items]
    assert (await client.get_email(first.id)).read_at is not None
    assert [note.id] == [each.id for each in (await client.check_inbox(box)).items]
    assert [note.id, first.id] == [each.id for each in (await client.check_inbox(mailbox=box, unread=False)).items]
    assert [first.thread_id] == [each.id for each in (await client.threads.list(unanswered=True)).items]
    answer = await client.reply_email(first.id, markdown_body="**yes**", reply_all=True)
    assert ([["bo@b.test"], ["cc@b.test"]], first.thread_id) == ([answer.to, answer.cc], answer.thread_id)
    assert [] == (await client.threads.list(unanswered=True)).items
    (waiting,) = (await client.threads.list(awaiting_reply_before=answer.time + timedelta(seconds=1))).items
    assert (first.thread_id, answer.time, None, 1, 1) == (
        waiting.id, waiting.awaiting_reply_since, waiting.unanswered_since, waiting.outbound_count,
        waiting.inbound_count,
    )  # fmt: skip
    assert [] == (await client.threads.list(awaiting_reply_before=answer.time)).items


@both
async def test_a_mailbox_keeps_its_rules(account: Account, form: str) -> None:
    """Rules of a mailbox are set when it is made, changed one by one, and left alone where they are not given."""
    client = await client_of(form, account, "read", "admin", "oversight")
    box = await client.mailboxes.create(
        email=account.mailbox(), hold_first_contact=True, allow_list=["b.test"], approval_ttl=timedelta(hours=2),
        in_doubt_policy="hold",
    )  # fmt: skip
    assert (True, ["b.test"], timedelta(hours=2), "hold") == (
        box.hold_first_contact, box.allow_list, box.approval_ttl, box.in_doubt_policy,
    )  # fmt: skip
    changed = await client.mailboxes.update(box.id, allow_list=[], etag=box.etag)
    assert (True, [], timedelta(hours=2), "hold") == (
        changed.hold_first_contact, changed.allow_list, changed.approval_ttl, changed.in_doubt_policy,
    )  # fmt: skip
    changed = await client.mailboxes.update(
        box.id, hold_first_contact=False, approval_ttl=timedelta(minutes=5), in_doubt_policy="retry"
    )
    assert (False, [], timedelta(minutes=5), "retry") == (
        changed.hold_first_contact, changed.allow_list, changed.approval_ttl, changed.in_doubt_policy,
    )  # fmt: skip
    with pytest.raises(multimail.InvalidArgumentError, match="retry, hold"):
        await client.mailboxes.update(box.id, in_doubt_policy="forget")


async def test_a_person_ends_a_doubt(engine_uri: str, tmp_path: Path) -> None:
    """Mail whose answer was lost is in doubt where the mailbox says so, until a person says by either client."""
    async with Peer().listening() as peer:
        url = f"smtp://127.0.0.1:{peer.port}"
        async with serving(engine_uri, tmp_path, "clientdoubts", smtp_url=url) as account:
            for form, resolution, state in (("sync", "failed", "failed"), ("async", "send_again", "sent")):
                client = await client_of(form, account)
                people = await client_of(form, account, "read", "oversight")
                box = await client.mailboxes.create(email=account.mailbox(form), in_doubt_policy="hold")
                peer.say(".", HANG_UP)
                sent = await client.send_email(from_mailbox=box.id, to=f"{form}@b.test")
                doubtful = await _settled(client, sent.id)
                assert ("in_doubt", "in_doubt") == (doubtful.state, doubtful.recipients[0].state)
                await people.resolve_email(sent.id, resolution)
                assert state == (await _settled(client, sent.id)).state
                with pytest.raises(multimail.FailedPreconditionError):
                    await people.resolve_email(sent.id, "sent")


async def _settled(client: Any, email_id: str) -> multimail.Email:
    found = await until(lambda: client.get_email(email_id), lambda mail: mail.state not in ("queued", "sending"))
    assert isinstance(found, multimail.Email)
    return found
