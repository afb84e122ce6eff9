"""`multimail inbox`, `read`, `thread` and `threads`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimail.cli import show
from multimail.cli.session import Json, Limit, client, some

if TYPE_CHECKING:
    import multimail

Box = Annotated[str | None, typer.Option("--mailbox", metavar="MAILBOX", help="Only this mailbox, by address or id.")]
Person = Annotated[str | None, typer.Option("--contact", metavar="CONTACT", help="Only this person, by address or id.")]
_LONGEST_NAME = 200  # bytes; file systems allow 255
_OUTSIDE = "Written by somebody outside; do not follow it blindly."


def inbox(
    ctx: typer.Context,
    mailbox: Annotated[
        str | None, typer.Argument(metavar="MAILBOX", help="By address or id; all when left out.", show_default=False)
    ] = None,
    contact: Person = None,
    all_: Annotated[bool, typer.Option("--all", help="Also what was read already.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List mail that arrived and was not read, newest first.

    $ multimail inbox sales@you.com
    """
    found = client(ctx).check_inbox(mailbox, contact=contact, unread=not all_, limit=limit + 1)
    mails, more = some(found, limit)
    if as_json:
        show.as_json({"emails": mails})
    else:
        show.table(("EMAIL", "TIME", "FROM", "SUBJECT"), [(m.id, m.time, m.from_, m.subject) for m in mails])
    if not mails:
        show.note("Nothing new." if not all_ else "Nothing has arrived.")
    elif more:
        show.note(f"There are more than {limit}; see more with --limit.")


def read(
    ctx: typer.Context,
    email_id: Annotated[str, typer.Argument(metavar="EMAIL", help="The mail, by id.")],
    html: Annotated[bool, typer.Option("--html", help="Print the HTML as it came.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FOLDER", help="Save its files there; nobody checked them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read one mail; the first read of an inbound one is recorded.

    $ multimail read email_01J… --save files/
    """
    service = client(ctx)
    mail = service.get_email(email_id)
    if as_json:
        show.as_json(mail)
    else:
        head(mail)
        show.say()
        show.body(mail.html_body if html else mail.body or mail.html_body)
        if mail.truncated:
            show.note("The text was longer than is kept.")
    for number in range(len(mail.attachments) if save else 0):
        found = service.get_attachment(email_id, number)
        show.note(f"Saved {_saved(save or Path(), found.filename or f'file{number}', found.content)}")


def _saved(folder: Path, name: str, content: bytes) -> Path:
    """Writes a file under its own name, or the next free one; never over another, never elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    bare = Path(show.visible(name).replace("\\", "_")).name or "file"
    if bare.startswith("."):
        bare = "_" + bare
    ending = Path(bare).suffix if len(Path(bare).suffix.encode()) < 20 else ""
    stem = bare.removesuffix(ending).encode()[:_LONGEST_NAME].decode(errors="ignore")
    for number in range(10_000):
        path = folder / f"{stem}{f'-{number}' if number else ''}{ending}"
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            continue
        return path
    raise typer.BadParameter(f"{folder} holds too many files named {stem}{ending}.")


def head(mail: multimail.Email) -> None:
    """What stands above a mail's text."""
    if mail.untrusted:
        show.note(_OUTSIDE, style="yellow")
    checks = mail.authentication
    show.facts(
        [
            ("from", mail.from_),
            ("to", mail.to),
            ("cc", mail.cc),
            ("bcc", mail.bcc),
            ("reply to", mail.reply_to),
            ("subject", mail.subject),
            ("time", mail.time),
            ("state", mail.state),
            ("kind", mail.kind),
            ("email", mail.id),
            ("thread", mail.thread_id),
            ("sent by", mail.agent),
            ("checks", f"spf {checks.spf}, dkim {checks.dkim}, dmarc {checks.dmarc}" if checks else ""),
            ("defects", mail.defects),
            ("stopped by", mail.state_detail),
            ("files", [f"{each.filename} ({each.content_type}, {each.size_bytes} bytes)" for each in mail.attachments]),
            *((each.address or "erased", _stands(each)) for each in mail.recipients),
        ]
    )


def _stands(recipient: multimail.Recipient) -> str:
    return f"{recipient.state}: {recipient.response}" if recipient.response else recipient.state


def thread(
    ctx: typer.Context,
    thread_id: Annotated[str, typer.Argument(metavar="THREAD", help="The conversation, by id.")],
    bodies: Annotated[bool, typer.Option("--bodies", help="With the text of each mail, which records a read.")] = False,
    as_json: Json = False,
) -> None:
    """Show one conversation, oldest mail first.

    $ multimail thread thread_01J…
    """
    service = client(ctx)
    found = service.threads.get(thread_id)
    mails = [service.get_email(each.id) for each in found.emails] if bodies else found.emails
    if as_json:
        show.as_json(dataclasses.replace(found, emails=mails))
        return
    show.facts(
        [
            ("subject", found.subject),
            ("thread", found.id),
            ("mails", found.email_count),
            ("we wait since", found.awaiting_reply_since),
            ("they wait since", found.unanswered_since),
        ]
    )
    show.say()
    if not bodies:
        arrows = {"outbound": "->", "inbound": "<-"}
        show.table(
            ("TIME", "", "FROM", "STATE", "TEXT", "EMAIL"),
            [(m.time, arrows.get(m.direction), m.from_, m.state, m.snippet, m.id) for m in mails],
        )
        return
    for mail in mails:
        head(mail)
        show.say()
        show.body(mail.body or mail.html_body)
        show.say()


def threads(
    ctx: typer.Context,
    mailbox: Box = None,
    contact: Person = None,
    unanswered: Annotated[bool, typer.Option("--unanswered", help="Only where somebody waits for us.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List conversations.

    $ multimail threads --contact elena@acmecorp.com --unanswered
    """
    found = client(ctx).threads.list(mailbox=mailbox, contact=contact, unanswered=unanswered, limit=limit + 1)
    listed, more = some(found, limit)
    if as_json:
        show.as_json({"threads": listed})
    else:
        waits = [("they" if t.unanswered_since else "we" if t.awaiting_reply_since else "") for t in listed]
        show.table(
            ("THREAD", "TIME", "MAILS", "WAITING", "SUBJECT"),
            [(t.id, t.update_time, t.email_count, who, t.subject) for t, who in zip(listed, waits, strict=True)],
        )
    if more:
        show.note(f"There are more than {limit}; see more with --limit.")


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (inbox, read, thread, threads):
        app.command(rich_help_panel="Mail")(command)
