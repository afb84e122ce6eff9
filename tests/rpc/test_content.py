"""What a mail carries: copies, answers elsewhere, HTML and Markdown made safe, and files that arrive as they were."""

from __future__ import annotations

import hashlib
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.rpc.calls import Bound, delivered, made, refusal, settled, stubs, until
from tests.rpc.relays import Peer, make_due, serving

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_pb2 as mail_pb
from multimail.v1 import mail_service_pb2 as pb
from multimail.v1 import mail_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from email.message import EmailMessage
    from pathlib import Path
    from typing import Any

    from tests.conftest import Account

MIB = 1 << 20


async def arrived(mail: Any, box: str) -> mail_pb.Email:
    """The newest mail in a mailbox of ours, with its bodies."""
    found = (await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box, direction=mail_pb.DIRECTION_INBOUND))).emails
    return await mail.GetEmail(pb.GetEmailRequest(id=found[0].id))


async def refused_fields(mail: Any, box: str, **more: Any) -> tuple[str, ...]:
    """Which fields of a send are refused."""
    refused = await refusal(mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=["a@x.test"], **more)))
    assert "INVALID_ARGUMENT" == refused.code
    return refused.fields


@pytest.fixture(scope="module")
async def relayed(engine_uri: str, tmp_path_factory: Any) -> AsyncIterator[tuple[Account, Peer]]:
    """A service whose mail all goes to a peer that shows what went over the wire."""
    async with Peer().listening() as peer:
        url, folder = f"smtp://127.0.0.1:{peer.port}", tmp_path_factory.mktemp("wire")
        async with serving(engine_uri, folder, "wire", smtp_url=url) as account:
            yield account, peer


async def on_the_wire(relayed: tuple[Account, Peer], name: str, **more: Any) -> EmailMessage:
    """What a peer gets of a mail, read as a mail."""
    account, peer = relayed
    async with stubs(account) as (_, mail):
        await delivered(mail, await made(account, name, display_name="Zoë"), f"{name}@x.test", **more)
    data = peer.of(f"{name}@x.test")[0].data
    return message_from_bytes(data.replace(b"\r\n", b"\n"), policy=policy.default)


async def test_copies_and_answers_elsewhere(account: Account) -> None:
    """Cc and Reply-To arrive, Bcc gets the mail and stands nowhere; an answer goes to Reply-To, or to all."""
    async with stubs(account) as (_, mail):
        one, two, three, four = [await made(account, name) for name in ("one", "two", "three", "four")]
        email = await delivered(mail, one, two, cc=[three], bcc=[four], reply_to=["desk@x.test", "other@x.test"])
        kinds = [mail_pb.RECIPIENT_KIND_TO, mail_pb.RECIPIENT_KIND_CC, mail_pb.RECIPIENT_KIND_BCC]
        assert ([two, three, four], kinds) == (
            [each.address for each in email.recipients], [each.kind for each in email.recipients],
        )  # fmt: skip
        for box in (two, three, four):
            found = await arrived(mail, box)
            assert ([two], [three], [], ["desk@x.test", "other@x.test"]) == (
                list(found.to), list(found.cc), list(found.bcc), list(found.reply_to),
            )  # fmt: skip
        (row,) = await account.running.database.find("emails", {"_id": found.id})
        assert four.encode() not in bytes(row["raw"]), "in the copy of Bcc too"
        answer = (await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=found.id, body="x"))).email
        assert (["desk@x.test"], []) == (list(answer.to), list(answer.cc))
        to_all = (await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=email.id, body="x", reply_all=True))).email
        assert ([two], []) == (list(to_all.to), list(to_all.cc)), "mailboxes of ours need no copy"


async def test_a_recipient_stands_once_and_there_are_fifty(account: Account) -> None:
    """An address in To may not stand in Cc or Bcc too, and all three hold fifty together."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        assert ("cc[0]", "bcc[0]") == await refused_fields(mail, box, cc=["A@x.test"], bcc=["a@X.test"])
        many = [f"p{number}@x.test" for number in range(50)]
        assert ("to",) == await refused_fields(mail, box, bcc=many)
        assert ("reply_to",) == await refused_fields(mail, box, reply_to=[f"p{n}@x.test" for n in range(11)])


HOSTILE = {
    "script": "<script>steal()</script>",
    "handler": '<img src="https://x.test/a.png" onerror="steal()"><p onclick="steal()">x</p>',
    "javascript": '<a href="javascript:steal()">x</a><a href="jAvA&#115;cript:steal()">x</a>',
    "data": '<a href="data:text/html,steal()">x</a>',
    "form": '<form action="https://evil.test"><input name="steal"><button>x</button></form>',
    "frame": '<iframe src="https://evil.test/steal"></iframe><object data="steal"></object><embed src="steal">',
    "style": '<style>p{background:url(//e.test/steal)}</style><p style="position:fixed;display:none">x</p>',
    "meta": '<meta http-equiv="refresh" content="0;url=https://evil.test/steal"><base href="https://evil.test/steal">',
    "svg": '<svg><script>steal()</script><animate onbegin="steal()"/></svg><math><mi xlink:href="steal">x</mi></math>',
    "broken": "<p><<script>steal()//<</script><img src=x onerror=steal()//",
    "comment": "<!--[if mso]><script>steal()</script><![endif]--><!-- steal -->",
}
FORBIDDEN = ("steal", "<script", "javascript:", "<form", "<input", "<iframe", "<style", "<meta", "<base", "onerror",
             "onclick", "position", "display", "<svg")  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_html_is_made_safe(account: Account, name: str) -> None:
    """What could harm a reader is not in what is kept nor in what arrives; what they should read is."""
    html = f"{HOSTILE[name]}<p>Dear <b>you</b></p>"
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        email = await delivered(
            mail, box, there, html_body=html if name != "broken" else f"<p>Dear <b>you</b></p>{html}"
        )
        found = await arrived(mail, there)
    for shown in (email.html_body, found.html_body):
        assert [] == [each for each in FORBIDDEN if each in shown.lower()], shown
        assert "Dear <b>you</b>" in shown
    assert email.html_body.strip() == found.html_body.strip()
    assert "Dear you" in found.body


async def test_good_html_stays(relayed: tuple[Account, Peer]) -> None:
    """Links, lists, tables, images by https and quiet styles stay; text and HTML go as alternatives of one mail."""
    html = (
        '<h1 style="color:red">Hi</h1><ul><li>one</li></ul><table><tbody><tr><td>cell</td></tr></tbody></table>'
        '<a href="https://x.test/?a=1&amp;b=2">link</a> <a href="mailto:a@x.test">write</a><img src="https://x.test/p.png">'
    )
    message = await on_the_wire(relayed, "good", html_body=html)
    assert "multipart/alternative" == message.get_content_type()
    text, page = (part.get_content() for part in message.iter_parts())
    for each in (
        'style="color:red"',
        "<li>one</li>",
        "<td>cell</td>",
        "https://x.test/?a=1&amp;b=2",
        "mailto:a@x.test",
        "p.png",
    ):
        assert each in page
    for each in ("Hi", "one", "cell", "link <https://x.test/?a=1&b=2>"):
        assert each in text
    assert "<" not in text.replace("<http", "").replace("<mailto", "")


async def test_text_beside_html_stays_as_it_is(relayed: tuple[Account, Peer]) -> None:
    """With both given, each is its own part; a text alone is one part and no HTML is made of it."""
    both = await on_the_wire(relayed, "both", body="as <it> is", html_body="<p>other</p>")
    assert ["as <it> is\n", "<p>other</p>\n"] == [part.get_content() for part in both.iter_parts()]
    alone = await on_the_wire(relayed, "alone", body="<b>plain</b>\n.\n..\nFrom here")
    assert ("text/plain", "<b>plain</b>\n.\n..\nFrom here\n") == (alone.get_content_type(), alone.get_content())


async def test_markdown_is_text_and_html(relayed: tuple[Account, Peer]) -> None:
    """Markdown is the text part as it stands, and HTML with headings, tables and links, none of it smuggled in."""
    markdown = (
        "# Hi *you*\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[link](https://x.test) [bad](javascript:steal) "
        "<script>steal()</script>\n\n![i](https://x.test/p.png)\n"
    )
    message = await on_the_wire(relayed, "markdown", markdown_body=markdown)
    text, page = (part.get_content() for part in message.iter_parts())
    assert markdown == text
    for each in ("<h1>Hi <em>you</em></h1>", "<td>1</td>", 'href="https://x.test"', "<img"):
        assert each in page
    assert "<script" not in page
    assert 'href="javascript' not in page.lower()


async def test_bodies_are_bounded(account: Account) -> None:
    """A body of 256 KiB is sent whole; one byte more, a NUL, or Markdown beside another body is refused."""
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        for field in ("body", "html_body", "markdown_body"):
            assert (field,) == await refused_fields(mail, box, **{field: "é" * (128 << 10) + "x"})
            assert (field,) == await refused_fields(mail, box, **{field: "a\0b"})
        assert ("markdown_body",) == await refused_fields(mail, box, markdown_body="x", html_body="x")
        whole = "é" * (128 << 10)
        email = await delivered(mail, box, there, body=whole)
        found = await arrived(mail, there)
        assert (whole, whole) == (email.body, found.body[: len(whole)])


async def test_ten_mebibytes_arrive_byte_by_byte(account: Account) -> None:
    """Files of 10 MiB together are kept, read back, and arrive over SMTP exactly as they were, names and types too."""
    small = bytes(range(256)) + b"\r\n.\r\n\n\r"
    large = hashlib.shake_256(b"seed").digest(10 * MIB - len(small))
    files = [
        pb.OutgoingAttachment(filename="ä ☕.bin", content=large),
        pb.OutgoingAttachment(filename="small.csv", content_type="Text/CSV", content=small),
    ]
    expected = [("ä ☕.bin", "application/octet-stream", large), ("small.csv", "text/csv", small)]
    address, options = f"127.0.0.1:{account.running.grpc_port}", [("grpc.max_receive_message_length", 16 * MIB)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        mail = Bound(mail_service_pb2_grpc.MailServiceStub(channel), await account.key(), 40)
        box, there = await made(account), await made(account, "there")
        email = await delivered(mail, box, there, markdown_body="*see*", attachments=files)
        found = await arrived(mail, there)
        for each in (email, found):
            for number, (name, kind, content) in enumerate(expected):
                file = await mail.GetAttachment(pb.GetAttachmentRequest(email_id=each.id, index=number))
                assert (name, kind, len(content)) == (
                    file.attachment.filename, file.attachment.content_type, file.attachment.size_bytes,
                )  # fmt: skip
                assert content == file.content
            assert 2 == len(each.attachments)
        missing = await refusal(mail.GetAttachment(pb.GetAttachmentRequest(email_id=email.id, index=2)))
        assert ("NOT_FOUND", "ATTACHMENT_NOT_FOUND") == (missing.code, missing.reason)
        assert "<em>see</em>" in found.html_body


async def test_files_are_bounded(account: Account) -> None:
    """Over 10 MiB together, over a hundred, or with a name or type no file can have, they are refused and not kept."""
    half = pb.OutgoingAttachment(filename="a.bin", content=bytes(5 * MIB))
    one = pb.OutgoingAttachment(filename="b.bin", content=b"x")
    async with stubs(account, timeout_s=40) as (_, mail):
        box = await made(account)
        assert ("attachments",) == await refused_fields(mail, box, attachments=[half, half, one])
        assert ("attachments",) == await refused_fields(mail, box, attachments=[one] * 101)
        for name in ("", "x" * 256, "../a", "a\\b", "a\nb", "a\u2028b"):
            bad = pb.OutgoingAttachment(filename=name, content=b"x")
            assert ("attachments[1].filename",) == await refused_fields(mail, box, attachments=[one, bad])
        for kind in ("pdf", "multipart/mixed", "message/rfc822", "text/plain; x=y", "a/b\r\nX: y"):
            bad = pb.OutgoingAttachment(filename="a", content_type=kind, content=b"x")
            assert ("attachments[0].content_type",) == await refused_fields(mail, box, attachments=[bad])
        assert [] == await account.running.database.find("jobs", {"account": account.name})


async def files_of(account: Account, names: list[str]) -> list[str]:
    """Which of these files are kept."""
    found = await account.running.database.files().find({"_id": {"$in": names}}).to_list(None)
    return [each["_id"] for each in found]


async def test_files_nobody_refers_to_go(account: Account) -> None:
    """Files of a refused send go at once; those of an accepted mail stay, and a repetition leaves no second copy."""
    file = pb.OutgoingAttachment(filename="a.bin", content=b"x" * 100)
    database = account.running.database

    async def done() -> bool:
        return not await database.find("jobs", {"account": account.name, "type": "remove_files"})

    async with stubs(account) as (_, mail):
        box = await made(account)
        await mail.AddSuppression(pb.AddSuppressionRequest(address="no@x.test"))
        request = pb.SendEmailRequest(from_mailbox_email=box, to=["no@x.test"], attachments=[file])
        assert "SUPPRESSED" == (await refusal(mail.SendEmail(request))).reason
        await until(done)
        accepted = pb.SendEmailRequest(
            from_mailbox_email=box, to=["yes@x.test"], attachments=[file], request_id="once", subject="s"
        )
        email = (await mail.SendEmail(accepted)).email
        for _ in range(3):
            assert email.id == (await mail.SendEmail(accepted)).email.id
        await until(done)
        content = (await mail.GetAttachment(pb.GetAttachmentRequest(email_id=email.id))).content
        assert file.content == content


async def test_asking_first_keeps_no_file(account: Account) -> None:
    """With validate_only nothing is kept, files neither."""
    file = pb.OutgoingAttachment(filename="a.bin", content=b"x")
    async with stubs(account) as (_, mail):
        box = await made(account)
        request = pb.SendEmailRequest(from_mailbox_email=box, to=["a@x.test"], attachments=[file], validate_only=True)
        answer = (await mail.SendEmail(request)).email
        assert ("", 1) == (answer.id, len(answer.attachments))
        assert [] == await account.running.database.find("jobs", {"account": account.name})


async def test_erasure_removes_files(account: Account) -> None:
    """Erasing a person removes the files of mail that was theirs alone; those of mail shared with others stay."""
    file = pb.OutgoingAttachment(filename="a.bin", content=b"secret")
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        alone = await delivered(mail, box, "gone@x.test", attachments=[file])
        shared = await delivered(mail, box, "gone@x.test", cc=["stays@x.test"], attachments=[file])
        await contacts.DeleteContact(contact_pb.DeleteContactRequest(email="gone@x.test"))

        async def gone() -> bool:
            return not await files_of(account, [f"{alone.id}/0"])

        await until(gone)
        refused = await refusal(mail.GetAttachment(pb.GetAttachmentRequest(email_id=alone.id)))
        assert "ATTACHMENT_NOT_FOUND" == refused.reason
        left = await mail.GetAttachment(pb.GetAttachmentRequest(email_id=shared.id))
        assert b"secret" == left.content


async def test_a_file_that_is_gone_fails_the_mail(engine_uri: str, tmp_path: Path) -> None:
    """A mail whose file is not there any more is not sent without it: it fails and says so."""
    async with Peer().listening() as peer:
        peer.say("RCPT", b"450 later\r\n")
        url = f"smtp://127.0.0.1:{peer.port}"
        async with serving(engine_uri, tmp_path, "lostfile", smtp_url=url) as account, stubs(account) as (_, mail):
            box = await made(account)
            file = pb.OutgoingAttachment(filename="a.bin", content=b"x")
            request = pb.SendEmailRequest(from_mailbox_email=box, to=["a@x.test"], attachments=[file])
            email = (await mail.SendEmail(request)).email

            async def put_off() -> bool:
                (found,) = await account.running.database.find("emails", {"_id": email.id})
                return found["state"] == "queued" and found["attempts"] == 1

            await until(put_off)
            await account.running.database.files().delete(f"{email.id}/0")
            await make_due(account, email.id)
            done = await settled(mail, email.id)
    assert (mail_pb.EMAIL_STATE_FAILED, True, []) == (
        done.state, "file" in done.recipients[0].response, peer.deliveries,
    )  # fmt: skip


async def test_anothers_file_is_not_there(account: Account) -> None:
    """A file of another account's mail is NOT_FOUND like one that never was."""
    other = type(account)(f"{account.name}other", account.running, account.commands)
    file = pb.OutgoingAttachment(filename="a.bin", content=b"x")
    async with stubs(account) as (_, mail), stubs(other) as (_, theirs):
        email = await delivered(theirs, await made(other), "a@x.test", attachments=[file])
        words = {
            (refused.code, refused.reason, refused.message)
            for identifier in (email.id, "email_00000000000000000000000000")
            if (refused := await refusal(mail.GetAttachment(pb.GetAttachmentRequest(email_id=identifier))))
        }
        assert [("NOT_FOUND", "EMAIL_NOT_FOUND")] == [each[:2] for each in words]
