"""MailService over a socket, with real SMTP in and out: sending, arriving, threads, logs, oversight, erasure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiosmtplib
import pytest
from tests.rpc.calls import until
from tests.rpc.relays import arrive, letter

import multimail

if TYPE_CHECKING:
    from tests.conftest import Account


async def settled(client: multimail.AsyncClient, email: multimail.Email) -> multimail.Email:
    """The mail when it came to its end."""
    return await until(lambda: client.get_email(email.id), holds=lambda mail: mail.state not in ("queued", "sending"))


async def test_send_makes_the_contact_and_the_log(client: multimail.AsyncClient, account: Account) -> None:
    """A send is accepted, delivered, and stands in the log of the person, who becomes a contact by it."""
    box = await client.mailboxes.create(email=account.mailbox(), display_name="Box")
    sent = await client.send_email(from_mailbox=box.email, to="New@person.test", subject="Hi", body="there")
    assert (sent.state, sent.oversight_mode, sent.agent) == ("queued", "monitored", "tester")
    contact = await client.contacts.get(email="new@person.test")
    assert (1, 1, sent.thread_id, sent.time) == (
        contact.interaction_count, contact.thread_count, contact.latest_thread_id, contact.last_contacted,
    )  # fmt: skip
    done = await settled(client, sent)
    assert ("sent", "accepted", contact.id) == (done.state, done.recipients[0].state, done.recipients[0].contact_id)
    (entry,) = (await client.contacts.interactions(email="new@person.test")).items
    assert ("outbound", sent.id, box.id, "Hi", "tester", "sent", None) == (
        entry.direction, entry.email_id, entry.mailbox_id, entry.subject, entry.agent, entry.state, entry.replied_at,
    )  # fmt: skip


async def test_conversation_by_smtp(client: multimail.AsyncClient, account: Account) -> None:
    """An answer by SMTP joins the thread, marks the sent mail replied, shows as read once read; our reply joins too."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    sent = await client.send_email(from_mailbox=box, to="bo@person.test", subject="Offer", body="x")
    message = letter("Bo <bo@person.test>", box, "Re: Offer – ja ☕", "gern", In_Reply_To=sent.message_id)
    message.add_alternative("<p>gern</p>", subtype="html")
    message.add_attachment(b"12345", maintype="application", subtype="pdf", filename="../../etc/ä.pdf")
    await arrive(account, box.upper(), message)
    (mail,) = (await client.check_inbox(mailbox=box, contact="bo@person.test", unread=True)).items
    assert (sent.thread_id, "Re: Offer – ja ☕", True, "") == (mail.thread_id, mail.subject, mail.untrusted, mail.body)
    read = await client.get_email(mail.id)
    assert (read.body, read.html_body) == ("gern\n", "<p>gern</p>\n")
    assert [(a.filename, a.content_type, a.size_bytes) for a in read.attachments] == [("ä.pdf", "application/pdf", 5)]
    assert read.read_at is not None
    assert (await client.check_inbox(mailbox=box, unread=True)).items == []
    replied = await client.reply_email(mail.id, body="fine")
    assert ("Re: Offer – ja ☕", ["bo@person.test"], sent.thread_id) == (replied.subject, replied.to, replied.thread_id)
    newest, inbound, first = (await client.contacts.interactions(email="bo@person.test")).items
    assert (replied.id, mail.id, sent.id) == (newest.email_id, inbound.email_id, first.email_id)
    assert (mail.time, read.read_at) == (first.replied_at, inbound.read_at)
    thread = await client.threads.get(sent.thread_id)
    assert [sent.id, mail.id, replied.id] == [each.id for each in thread.emails]
    contact = await client.contacts.get(email="bo@person.test")
    assert (3, 1, mail.time, replied.time) == (
        contact.interaction_count, contact.thread_count, contact.last_inbound, contact.last_contacted,
    )  # fmt: skip
    assert [thread.id] == [each.id for each in (await client.threads.list(contact=contact.id)).items]


async def test_parent_may_come_after_its_answer(client: multimail.AsyncClient, account: Account) -> None:
    """Mail that arrives in the wrong order still becomes one conversation."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    for raw in (
        letter("a@out.test", box, Message_ID="<c@x>", In_Reply_To="<b@x>", References="<a@x> <b@x>"),
        letter("a@out.test", box, Message_ID="<a@x>"),
        letter("a@out.test", box, Message_ID="<b@x>", In_Reply_To="<a@x>"),
    ):
        await client.ingest_email(mailbox=box, raw=raw.as_bytes())
    mails = (await client.check_inbox(mailbox=box)).items
    assert (len(mails), len({mail.thread_id for mail in mails})) == (3, 1)


async def test_local_mail_goes_over_our_own_listener(client: multimail.AsyncClient, account: Account) -> None:
    """Mail from one mailbox to another arrives there by SMTP, in the same thread."""
    one, two = account.mailbox("one"), account.mailbox("two")
    await client.mailboxes.create(email=one)
    await client.mailboxes.create(email=two)
    sent = await settled(
        client, await client.send_email(from_mailbox=one, to=two, subject="=?utf-8?q?hello?=", body=".")
    )
    assert sent.recipients[0].response[:3] == "250"
    (mail,) = (await client.check_inbox(mailbox=two)).items
    assert (sent.thread_id, "=?utf-8?q?hello?=", one) == (mail.thread_id, mail.subject, mail.from_)
    assert (await client.get_email(mail.id)).body == ".\n"


async def test_unknown_sender_becomes_known_later(client: multimail.AsyncClient, account: Account) -> None:
    """Mail from a stranger makes no contact; once there is one, the earlier mail becomes part of its log."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    await arrive(account, box, letter("late@person.test", box))
    with pytest.raises(multimail.NotFoundError):
        await client.contacts.get(email="late@person.test")
    made = await client.contacts.upsert(email="late@person.test")
    contact = await until(lambda: client.contacts.get(id=made.id), holds=lambda found: found.interaction_count == 1)
    assert (contact.thread_count, contact.last_inbound is not None) == (1, True)
    assert len((await client.contacts.interactions(id=made.id)).items) == 1


async def test_not_ours_is_refused_by_smtp(client: multimail.AsyncClient, account: Account) -> None:
    """The listener refuses who is no mailbox here with 550, so it relays for nobody."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    with pytest.raises(aiosmtplib.SMTPRecipientRefused) as refused:
        await arrive(account, "someone@elsewhere.test", letter("a@out.test", box))
    assert refused.value.code == 550


async def test_same_delivery_twice_is_one_mail(client: multimail.AsyncClient, account: Account) -> None:
    """A peer that missed our answer and sends the same mail again changes nothing."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    raw = letter("a@out.test", box, Message_ID="<same@x>").as_bytes()
    for _ in range(3):
        await arrive(account, box, raw)
    assert len((await client.check_inbox(mailbox=box)).items) == 1


BROKEN = [
    b"",
    b"\x00\xff\xfe garbage",
    b"Subject: =?utf-8?b?!!!?=\r\n\r\nx",
    b'From: "unclosed <a@b.test\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nno end',
    b"Content-Type: text/plain; charset=no-such\r\nFrom: a@b.test\r\n\r\n\xe4\xf6",
    b"From: a@b.test\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%",
    b"Subject: =?utf-8?q?a=0D=0ABcc=3A_x@y.test?=\r\nFrom: a@b.test\r\n\r\nx",
]


@pytest.mark.parametrize("raw", BROKEN[1:])
async def test_broken_mail_is_kept(client: multimail.AsyncClient, account: Account, raw: bytes) -> None:
    """Whatever a mail's bytes are, it is kept and shown, with what was wrong where something was."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    kept = await client.ingest_email(mailbox=box, raw=raw)
    shown = await client.get_email(kept.id)
    assert kept.id == shown.id
    assert shown.defects or shown.from_
    assert not set("\r\n") & set(shown.subject)


@pytest.mark.parametrize("field", ["subject", "display_name"])
@pytest.mark.parametrize(
    "text",
    ["a\r\nBcc: x@y.test", "a\nb", "a\rb", "a\tb", "a\x00b", "=?utf-8?q?a=0D=0ABcc=3Ax?=", "=?utf-8?b?YQ0KQmNjOiB4?=",
     "=?utf-7?q?+AA0-?=", "a\u2028b", "x\x85y"],
)  # fmt: skip
async def test_header_injection_is_refused(
    client: multimail.AsyncClient, account: Account, field: str, text: str
) -> None:
    """A text that would break out of its header, plain or by decoding, is refused with the field's path."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        if field == "subject":
            await client.send_email(from_mailbox=box, to="a@b.test", subject=text)
        else:
            await client.mailboxes.update(box, display_name=text)
    assert [field] == [violation.field for violation in refused.value.violations]


async def test_recipients_are_checked(client: multimail.AsyncClient, account: Account) -> None:
    """Recipients that are none, twice there or injected are refused by their place, and nothing is sent."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.send_email(from_mailbox=box, to=["a@b.test", "A@b.test", "x@y.test\r\nBcc: z@z.test"])
    assert {"to[1]", "to[2]"} == {violation.field for violation in refused.value.violations}
    with pytest.raises(multimail.InvalidArgumentError):
        await client.send_email(from_mailbox=box, to=[])
    assert (await client.list_emails()).items == []


async def test_one_request_id_one_mail(client: multimail.AsyncClient, account: Account) -> None:
    """Fifty concurrent callers with one request_id make one mail, and each gets it."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    mails = await asyncio.gather(
        *(client.send_email(from_mailbox=box, to="a@b.test", subject="s", request_id="once") for _ in range(50))
    )
    assert len({mail.id for mail in mails}) == 1
    assert (await client.contacts.get(email="a@b.test")).interaction_count == 1
    with pytest.raises(multimail.InvalidArgumentError):
        await client.send_email(from_mailbox=box, to="a@b.test", subject="other", request_id="once")


async def test_modes(client: multimail.AsyncClient, account: Account) -> None:
    """The stricter of mailbox and request holds, and read_only forbids sending: nothing is kept, nobody made."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    with pytest.raises(multimail.FailedPreconditionError) as refused:
        await client.send_email(from_mailbox=box, to="a@b.test", oversight_mode="read_only")
    assert "MODE_FORBIDS" == refused.value.reason
    await client.mailboxes.update(box, oversight_mode="read_only")
    with pytest.raises(multimail.FailedPreconditionError):
        await client.send_email(from_mailbox=box, to="a@b.test", oversight_mode="autonomous")
    assert (await client.list_emails()).items == []
    with pytest.raises(multimail.NotFoundError):
        await client.contacts.get(email="a@b.test")


async def test_loosening_needs_oversight(client: multimail.AsyncClient, account: Account) -> None:
    """An autonomous mailbox, or a looser mode, needs a key with the scope oversight."""
    overseer = await account.client("read", "admin", "oversight")
    box = await client.mailboxes.create(email=account.mailbox(), oversight_mode="read_only")
    for attempt in (
        client.mailboxes.create(email=account.mailbox("free"), oversight_mode="autonomous"),
        client.mailboxes.update(box.id, oversight_mode="monitored"),
    ):
        with pytest.raises(multimail.PermissionDeniedError) as refused:
            await attempt
        assert (refused.value.reason, refused.value.metadata["scope"]) == ("SCOPE_MISSING", "oversight")
    assert (await overseer.mailboxes.update(box.id, oversight_mode="monitored")).oversight_mode == "monitored"
    free = await overseer.mailboxes.create(email=account.mailbox("free"), oversight_mode="autonomous")
    sent = await client.send_email(from_mailbox=free.id, to="a@b.test")
    assert sent.oversight_mode == "autonomous"
    await settled(client, sent)
    shown = [each async for each in await client.notifications.list()]
    assert sent.id not in {each.email_id for each in shown}


async def test_notifications_tell_what_happened(client: multimail.AsyncClient, account: Account) -> None:
    """A monitored mailbox's acts show in order, numbered, with who did them and without personal data."""
    box = await client.mailboxes.create(email=account.mailbox())
    sent = await client.send_email(from_mailbox=box.id, to="a@b.test", subject="secret")
    await settled(client, sent)
    shown = await until(
        client.notifications.list, holds=lambda found: any(n.type == "email_settled" for n in found.items)
    )
    kinds = [(each.type, each.email_state) for each in shown.items]
    assert kinds == [("mailbox_created", ""), ("contact_created", ""), ("email_queued", ""), ("email_settled", "sent")]
    assert [each.agent for each in shown.items] == ["tester", "tester", "tester", ""]
    numbers = [each.seq for each in shown.items]
    assert sorted(set(numbers)) == numbers
    assert [kinds[-1][0]] == [each.type for each in (await client.notifications.list(after_seq=numbers[-2])).items]
    assert "secret" not in repr(shown.items)
    assert "a@b.test" not in repr(shown.items)


async def test_deleted_mailbox_flags_its_entries(client: multimail.AsyncClient, account: Account) -> None:
    """Deleting a mailbox frees its address, refuses mail, and flags its log entries when they are read."""
    box = await client.mailboxes.create(email=account.mailbox())
    sent = await client.send_email(from_mailbox=box.id, to="a@b.test")
    gone = await client.mailboxes.delete(box.email)
    assert gone.delete_time is not None
    assert (await settled(client, sent)).state == "sent"
    (entry,) = (await client.contacts.interactions(email="a@b.test")).items
    assert (True, box.id) == (entry.mailbox_deleted, entry.mailbox_id)
    with pytest.raises(multimail.NotFoundError):
        await client.send_email(from_mailbox=box.id, to="a@b.test")
    with pytest.raises(multimail.NotFoundError):
        await client.mailboxes.get(box.email)
    assert box.id == (await client.mailboxes.get(box.id)).id
    assert (await client.mailboxes.list()).items == []
    await client.mailboxes.create(email=account.mailbox())


async def test_addresses_are_claimed_across_accounts(client: multimail.AsyncClient, account: Account) -> None:
    """Two mailboxes never share an address, whatever their accounts, and one account sees nothing of the other's."""
    box = await client.mailboxes.create(email=account.mailbox())
    other = await type(account)("other-" + account.name, account.running, account.commands).client()
    with pytest.raises(multimail.AlreadyExistsError):
        await other.mailboxes.create(email=account.mailbox())
    sent = await client.send_email(from_mailbox=box.id, to="a@b.test")
    for look in (
        lambda: other.mailboxes.get(box.id), lambda: other.get_email(sent.id),
        lambda: other.threads.get(sent.thread_id),
        lambda: other.send_email(from_mailbox=box.id, to="x@y.test"), lambda: other.reply_email(sent.id),
        lambda: other.ingest_email(mailbox=box.email, raw=b"x"), lambda: other.mailboxes.delete(box.id),
        lambda: other.list_emails(mailbox=box.id),
    ):  # fmt: skip
        with pytest.raises(multimail.NotFoundError):
            await look()
    assert [] == (await other.list_emails()).items == (await other.threads.list()).items
    assert (await other.notifications.list()).items == []


async def test_list_filters_and_pages(client: multimail.AsyncClient, account: Account) -> None:
    """Mails are listed newest first by mailbox, contact, direction, state and thread, page by page, each once."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    sent = [await client.send_email(from_mailbox=box, to=f"p{n % 2}@b.test", subject=str(n)) for n in range(7)]
    await arrive(account, box, letter("p0@b.test", box))
    from multimail import mail

    walked, token = [], ""
    while True:
        page = await client._caller.run(mail.list_emails(box, None, "outbound", [], "", token, 3, unread=False))
        walked += [each.id for each in page.items]
        if not (token := page.next_page_token):
            break
    assert [each.id for each in reversed(sent)] == walked
    by_contact = (await client.list_emails(contact="p1@b.test")).items
    assert [each.subject for each in by_contact] == ["5", "3", "1"]
    for each in sent:
        await settled(client, each)
    assert len((await client.list_emails(states=["sent"])).items) == 7
    assert len((await client.list_emails(states=["received"], mailbox=box)).items) == 1
    assert [sent[0].id] == [each.id for each in (await client.list_emails(thread_id=sent[0].thread_id)).items]


async def test_erasure_scrubs_mail(client: multimail.AsyncClient, account: Account) -> None:
    """Erasing scrubs the person's own mail whole, and their address, name and headers from mail shared with others."""
    box = (await client.mailboxes.create(email=account.mailbox())).email
    await client.contacts.upsert(email="gone@b.test", name="Gone Girl")
    own = await client.send_email(from_mailbox=box, to="gone@b.test", subject="own", body="private")
    shared = await client.send_email(from_mailbox=box, to=["gone@b.test", "stays@b.test"], subject="both", body="kept")
    await settled(client, own)
    await settled(client, shared)
    await arrive(account, box, letter("Gone Girl <gone@b.test>", box, "from gone", "words", In_Reply_To=own.message_id))
    other = letter("stays@b.test", box, "about", "kept too")
    other["Cc"] = "Gone Girl <gone@b.test>, third@b.test"
    await arrive(account, box, other)
    await client.contacts.delete(email="gone@b.test")
    again = await client.contacts.upsert(email="gone@b.test")  # the scrub is still to come
    await until(lambda: client.get_email(own.id), holds=lambda mail: mail.body == "")
    mails = {each.id: await client.get_email(each.id) for each in (await client.list_emails()).items}
    assert "gone" not in repr(mails).lower()
    assert (mails[shared.id].subject, mails[shared.id].body) == ("both", "kept")
    assert mails[shared.id].to == ["stays@b.test"]
    (about,) = [mail for mail in mails.values() if mail.subject == "about"]
    assert (about.cc, about.body) == (["third@b.test"], "kept too\n")
    await until(lambda: account.running.database.find("jobs", {"account": account.name}), holds=lambda jobs: not jobs)
    assert (await client.contacts.get(id=again.id)).interaction_count == 0
    raw = await account.running.database.find("emails", {"account": account.name})
    assert b"gone" not in repr(raw).lower().encode()
    with pytest.raises(multimail.FailedPreconditionError):
        await client.reply_email(
            next(mail.id for mail in mails.values() if mail.direction == "inbound" and not mail.subject)
        )


async def test_two_accounts_race_for_an_address(client: multimail.AsyncClient, account: Account) -> None:
    """Of two accounts that claim one address at the same moment exactly one gets it, every time."""
    other = await type(account)("racer-" + account.name, account.running, account.commands).client()
    for number in range(10):
        email = account.mailbox(f"race{number}")
        results = await asyncio.gather(
            client.mailboxes.create(email=email), other.mailboxes.create(email=email), return_exceptions=True
        )
        assert {multimail.Mailbox, multimail.AlreadyExistsError} == {type(each) for each in results}
