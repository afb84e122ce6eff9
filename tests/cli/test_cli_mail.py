"""Mail on the command line: sent under its guard, read, answered, decided about, followed."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from tests.clients.forms import until
from tests.clients.line import Line

from multimail.cli.reading import _saved

if TYPE_CHECKING:
    from tests.cli.run import Cli
    from tests.conftest import Account

INBOUND = (
    b"From: Bo <bo@person.test>\r\nTo: box@x.test\r\nSubject: Hello\r\nMessage-ID: <in@person.test>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"first =E2=80=AEevil\r\nsecond\r\n"
    b'--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename="../.bashrc"\r\n\r\n'
    b"evil\r\n--b--\r\n"
)


async def made(cli: Cli, account: Account, name: str = "box", *more: str) -> str:
    """A mailbox."""
    return str((await cli.json("mailboxes", "create", account.mailbox(name), *more))["email"])


async def settled(cli: Cli, email_id: str) -> Any:
    """A mail that left."""
    return await until(lambda: cli.json("read", email_id), lambda mail: mail["state"] not in ("queued", "sending"))


async def test_a_mail_and_its_guard(cli: Cli, account: Account) -> None:
    """The text comes from an argument, a file or stdin; a dry run sends nothing; a guard that refuses says why."""
    box = await made(cli, account)
    to = ("--from", box, "--to", "elena@acme.test", "-s", "Hi")
    dry = await cli.json("send", *to, "text", "--dry-run")
    assert (dry["id"], dry["state"]) == ("", "queued")
    assert (await cli.json("contacts", "search", "--count"))["count"] == 0

    first = await cli.json("send", *to, "text", "--cc", "cy@acme.test", "--attach", cli.file("a.txt", "file"),
                           "--request-id", "one")  # fmt: skip
    again = await cli.json("send", *to, "text", "--cc", "cy@acme.test", "--attach", cli.file("a.txt", "file"),
                           "--request-id", "one")  # fmt: skip
    assert again["id"] == first["id"]
    read = await settled(cli, first["id"])
    assert (read["from"], read["body"].strip(), read["attachments"][0]["filename"]) == (box, "text", "a.txt")

    marked = await cli.json("send", *to, "-b", cli.file("b.md", "**bold**"), "--markdown")
    assert "<strong>bold</strong>" in (await cli.json("read", marked["id"]))["html_body"]
    piped = await cli.run("send", *to, "-", "--send-at", "+2h", stdin="from a pipe")
    assert "scheduled" in piped.out
    refused = await cli.run("send", *to, "text", "--not-contacted-within", "7d")
    assert (refused.code, refused.out) == (1, "")
    assert "Nothing was sent." in refused.err
    scheduled = next(line.split()[1] for line in piped.out.splitlines() if line.startswith("email"))
    assert (await cli.json("cancel", scheduled))["state"] == "cancelled"


async def test_what_arrives_is_read_and_answered(cli: Cli, account: Account) -> None:
    """The inbox lists it, reading makes it harmless and saves files in the folder only, a reply joins the thread."""
    box = await made(cli, account)
    async with await account.client() as client:
        mail = await client.ingest_email(mailbox=box, raw=INBOUND)
    assert [each["id"] for each in (await cli.json("inbox", box))["emails"]] == [mail.id]
    assert mail.id in await cli.say("inbox")
    folder = cli.folder / "files"
    done = await cli.run("read", mail.id, "--save", folder)
    assert "first \\u202eevil\nsecond" in done.out
    assert "outside" in done.err
    await cli.say("read", mail.id, "--save", folder)
    saved = sorted(folder.iterdir())
    assert len(saved) == 2
    assert {path.read_text().strip() for path in saved} == {"evil"}
    assert not any(path.name.startswith(".") for path in saved)
    for name in ("\u202e" * 60 + ".pdf", "x" * 300, "ü." + "y" * 300):
        names = [_saved(folder, name, b"").name for _ in range(2)]
        assert len(set(names)) == 2
        assert names[0].endswith(".pdf") == name.endswith(".pdf")
    assert (await cli.run("inbox", box)).err == "Nothing new.\n"

    answer = await cli.json("reply", mail.id, "Thank you")
    assert (answer["subject"], answer["thread_id"]) == ("Re: Hello", mail.thread_id)
    thread = await cli.json("thread", mail.thread_id, "--bodies")
    assert [each["body"].strip().splitlines()[-1] for each in thread["emails"]] == ["second", "Thank you"]
    assert "->" in await cli.say("thread", mail.thread_id)
    listed = await cli.json("threads", "--mailbox", box)
    assert [each["id"] for each in listed["threads"]] == [mail.thread_id]


async def test_people_decide_about_what_they_saw(cli: Cli, overseer: Cli, account: Account) -> None:
    """What is approved is shown and asked about, and is bound to its hash; what is refused makes the command fail."""
    box = await made(overseer, account, "gated", "--mode", "gated_send")

    async def held(text: str) -> str:
        mail = await cli.json("send", "--from", box, "--to", "elena@acme.test", "-s", text, f"body of {text}")
        assert mail["state"] == "held"
        return str(mail["id"])

    first, second, third = [await held(text) for text in ("one", "two", "three")]
    pending = (await overseer.json("pending", "--mailbox", box))["emails"]
    assert [each["email"]["id"] for each in pending] == [first, second, third]
    assert first in await overseer.say("pending")

    no = await overseer.run("approve", first, stdin="n\n")
    assert (no.code, "body of one" in no.out) == (1, True)
    assert (await cli.json("read", first))["state"] == "held"
    await overseer.say("approve", first, "--reason", "fine", stdin="y\n")
    assert (await cli.json("read", first))["decision"]["approved"]

    stale = pending[1]["email"]["content_sha256"]
    async with await account.client() as client:
        await client.update_email(second, body="changed meanwhile")
    refused = await overseer.json("approve", second, "--content-sha256", stale, code=1)
    assert refused["outcomes"][0]["refusal"]["reason"] == "CONTENT_CHANGED"
    both = await overseer.json("reject", second, third, "--reason", "no", "--yes")
    assert {each["email"]["state"] for each in both["outcomes"]} == {"rejected"}
    late = await overseer.run("approve", third, "--yes")
    assert (late.code, "rejected" in late.err) == (1, True)
    assert (await overseer.run("approve", "email_" + "0" * 26, "--yes")).code == 3
    doubt = await overseer.run("resolve", third, "sent")
    assert (doubt.code, doubt.out) == (1, "")


async def test_decisions_and_times_can_be_repeated(cli: Cli, overseer: Cli, account: Account) -> None:
    """With its request id a decision answers as it did at first; a time from now is told so that it stays that time."""
    box = await made(overseer, account, "gated", "--mode", "gated_send")
    mails = [(await cli.json("send", "--from", box, "--to", "elena@acme.test", "x"))["id"] for _ in range(2)]
    for command in (["approve", mails[0]], ["reject", mails[1], "--reason", "no"]):
        for _ in range(2):
            (told,) = (await overseer.json(*command, "--yes", "--request-id", command[0]))["outcomes"]
            assert (told["email"]["id"], told["email"]["decision"]["approved"]) == (command[1], command[0] == "approve")
    other = await overseer.json("approve", mails[1], "--yes", "--request-id", "new", code=1)
    assert other["outcomes"][0]["refusal"]["reason"] == "STATE_FORBIDS"
    for asked in (["--json"], ["--json", "--reason", "x"]):
        blind = await overseer.run("approve", mails[0], *asked)
        assert (blind.code, "--content-sha256" in blind.err) == (2, True)
    assert "--reason" in (await overseer.run("reject", mails[0], "--yes")).err

    async with Line(account.running.grpc_port).up() as line:
        line.mute = True
        later = ("send", "--from", box, "--to", "elena@acme.test", "x", "--send-at")
        lost = await cli.run("--timeout", "1", *later, "+2h", MULTIMAIL_TARGET=f"127.0.0.1:{line.port}")
    option, when, *again = shlex.split(re.search(r"again with (.*), so that", lost.err)[1])  # type: ignore[index]
    assert (option, again[0]) == ("--send-at", "--request-id")
    first, second = [await cli.json(*later, when, *again) for _ in range(2)]
    assert first["id"] == second["id"]


async def test_people_see_the_html_too(cli: Cli, overseer: Cli, account: Account) -> None:
    """Whoever approves is shown the HTML of a mail beside its text, for that is what its readers will see."""
    box = await made(overseer, account, "gated", "--mode", "gated_send")
    html = cli.file("evil.html", "<p>Pay <b>me</b></p>")
    mail = await cli.json("send", "--from", box, "--to", "elena@acme.test", "--html", html, "Hello Elena")
    shown = await overseer.say("approve", mail["id"], code=1, stdin="n\n")
    assert "Hello Elena" in shown
    assert "<p>Pay <b>me</b></p>" in shown


async def test_what_happens_is_followed(cli: Cli, account: Account) -> None:
    """A watch tells each notification, or each change of a contact, once and in order, as lines of JSON."""
    box = await made(cli, account)
    await cli.say("contacts", "upsert", "a@acme.test", "-s", "plan=pro")
    await cli.say("contacts", "upsert", "b@acme.test")
    seen = await cli.lines("watch", "--after-seq", "0", "-n", "3", "--json")
    assert [each["type"] for each in seen] == ["mailbox_created", "contact_created", "contact_created"]
    assert [each["seq"] for each in seen] == sorted({each["seq"] for each in seen})
    rest = await cli.lines("watch", "--after-seq", seen[0]["seq"], "--type", "contact_created", "-n", "1", "--json")
    assert rest == seen[1:2]
    changes = await cli.lines("watch", "--contacts", "-w", "metadata.plan=pro", "--after-seq", "0", "-n", "1", "--json")
    assert (changes[0]["contact"]["email"], changes[0]["matches"]) == ("a@acme.test", True)
    assert (await cli.run("watch", "--where", "metadata.plan=pro")).code == 2
    assert "mailbox_created" in await cli.say("watch", "--mailbox", box, "--after-seq", "0", "-n", "1")


async def test_mailboxes_and_suppressions(overseer: Cli, cli: Cli, account: Account) -> None:
    """Both are made, listed, changed and taken away; a suppressed address is not written to."""
    box = await made(overseer, account, "box", "--name", "Box", "--approval-ttl", "1d12h", "--allow", "acme.test")
    changed = await overseer.json("mailboxes", "update", box, "--mode", "read_only", "--allow-nobody",
                                  "--hold-first-contact")  # fmt: skip
    assert {name: changed[name] for name in ("display_name", "oversight_mode", "allow_list", "approval_ttl",
                                             "hold_first_contact")} == {
        "display_name": "Box", "oversight_mode": "read_only", "allow_list": [], "approval_ttl": "129600s",
        "hold_first_contact": True,
    }  # fmt: skip
    assert [each["email"] for each in (await cli.json("mailboxes", "list"))["mailboxes"]] == [box]
    assert "approval within" in await overseer.say("mailboxes", "update", box, "--mode", "monitored")
    await overseer.say("mailboxes", "delete", box, code=1, stdin="\n")
    await cli.say("suppressions", "add", "no@acme.test")
    assert (await cli.json("suppressions", "list", "--address", "no@acme.test"))["suppressions"][0][
        "reason"
    ] == "manual"
    refused = await cli.run("send", "--from", box, "--to", "no@acme.test", "hi")
    assert (refused.code, refused.out) == (1, "")
    assert (await cli.json("suppressions", "remove", "no@acme.test"))["address"] == "no@acme.test"
    assert (await cli.run("suppressions", "remove", "no@acme.test")).code == 3
    assert (await overseer.json("mailboxes", "delete", box, "--yes"))["delete_time"]
    assert (await cli.json("mailboxes", "list"))["mailboxes"] == []
