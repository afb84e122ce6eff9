"""`multimail send`, `reply` and `cancel`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

import multimail
from multimail import words
from multimail.cli import show, values
from multimail.cli.session import Json, RequestId, client, session

_GUARD = "Guard (needs exactly one --to)"
MODES = ", ".join(get_args(words.OversightMode))
Body = Annotated[
    str | None, typer.Argument(metavar="BODY", help="The text; - reads it from stdin.", show_default=False)
]
BodyFile = Annotated[Path | None, typer.Option("--body-file", "-b", metavar="FILE", help="Read the text from a file.")]
Markdown = Annotated[bool, typer.Option("--markdown", "-m", help="The text is Markdown.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="HTML beside, or instead of, the text.")]
Attach = Annotated[list[Path] | None, typer.Option("--attach", "-a", metavar="FILE", help="A file; may be repeated.")]
SendAt = Annotated[
    datetime | None,
    typer.Option("--send-at", parser=values.moment, metavar="TIME", help="Such as 2026-03-20T09:00, or +2h."),
]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help=f"A stricter mode for this mail: {MODES}.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]


def send(
    ctx: typer.Context,
    from_: Annotated[str, typer.Option("--from", "-f", metavar="MAILBOX", help="The mailbox, by address or id.")],
    to: Annotated[list[str], typer.Option("--to", "-t", metavar="ADDRESS", help="A recipient; may be repeated.")],
    body: Body = None,
    subject: Annotated[str, typer.Option("--subject", "-s", metavar="TEXT", help="The subject.")] = "",
    cc: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Shown to all; may be repeated.")] = None,
    bcc: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Shown to nobody.")] = None,
    reply_to: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Where answers shall go.")] = None,
    body_file: BodyFile = None,
    markdown: Markdown = False,
    html: Html = None,
    attach: Attach = None,
    send_at: SendAt = None,
    mode: Mode = None,
    unsubscribe: Annotated[bool, typer.Option(help="Let recipients unsubscribe by mail.")] = False,
    not_contacted_within: Annotated[
        timedelta | None,
        typer.Option(
            parser=values.duration, metavar="TIME", help="Only if nobody wrote to them for so long: 7d, 12h.",
            rich_help_panel=_GUARD,
        ),
    ] = None,
    no_open_thread: Annotated[
        bool, typer.Option("--no-open-thread", help="Only if no conversation with them is open.",
                           rich_help_panel=_GUARD),
    ] = False,
    require_contact: Annotated[
        bool, typer.Option("--require-contact", help="Only if they are a contact already.",
                           rich_help_panel=_GUARD),
    ] = False,
    contact_etag: Annotated[
        str, typer.Option(metavar="ETAG", help="Only if the contact is still as it was read.",
                          rich_help_panel=_GUARD),
    ] = "",
    dedupe_key: Annotated[
        str, typer.Option(metavar="KEY", help="Only if no earlier mail to them bore this key.",
                          rich_help_panel=_GUARD),
    ] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only if the contact meets this: metadata.plan=pro; may be repeated.",
            rich_help_panel=_GUARD,
        ),
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only if the contact meets this (AIP-160).",
                          rich_help_panel=_GUARD),
    ] = "",
    dry_run: DryRun = False,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send a mail, if its guard holds; when this returns it is on disk and goes out, or waits for a person.

    $ multimail send -f sales@you.com -t elena@acme.com -s "Hi" "Hello Elena"

    $ multimail send -f sales@you.com -t elena@acme.com -b mail.md --markdown
        --not-contacted-within 7d --no-open-thread
    """
    guard = multimail.Guard(
        not_contacted_within=not_contacted_within,
        no_open_thread=no_open_thread,
        contact_etag=contact_etag,
        require_contact=require_contact,
        filters=values.conditions(where or ()),
        dedupe_key=dedupe_key,
        filter=filter_,
    )
    mail = client(ctx).send_email(
        from_mailbox=from_, to=to, subject=subject, cc=cc or (), bcc=bcc or (), reply_to=reply_to or (),
        guard=guard if guard != multimail.Guard(filters={}) else None, list_unsubscribe=unsubscribe,
        **_content(ctx, body, body_file, html, attach, send_at, mode, markdown=markdown),
        validate_only=dry_run, request_id=request_id,
    )  # fmt: skip
    _accepted(mail, as_json=as_json, dry_run=dry_run)


def reply(
    ctx: typer.Context,
    email_id: Annotated[str, typer.Argument(metavar="EMAIL", help="The mail to answer, by id.")],
    body: Body = None,
    subject: Annotated[
        str | None, typer.Option("--subject", "-s", metavar="TEXT", help="The subject; else Re: and the old one.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Answer everybody in To and Cc as well.")] = False,
    body_file: BodyFile = None,
    markdown: Markdown = False,
    html: Html = None,
    attach: Attach = None,
    send_at: SendAt = None,
    mode: Mode = None,
    dry_run: DryRun = False,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Answer a mail in its thread, from the mailbox it went through.

    $ multimail reply email_01J… "Thank you, Tuesday is fine."
    """
    mail = client(ctx).reply_email(
        email_id, subject=subject, reply_all=all_,
        **_content(ctx, body, body_file, html, attach, send_at, mode, markdown=markdown),
        validate_only=dry_run, request_id=request_id,
    )  # fmt: skip
    _accepted(mail, as_json=as_json, dry_run=dry_run)


def cancel(
    ctx: typer.Context,
    email_id: Annotated[str, typer.Argument(metavar="EMAIL", help="The mail, by id.")],
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Stop a mail that has not left; recipients who have it already keep it."""
    mail = client(ctx).cancel_email(email_id, request_id=request_id)
    show.as_json(mail) if as_json else standing(mail)


def _content(
    ctx: typer.Context,
    body: str | None,
    body_file: Path | None,
    html: Path | None,
    attach: list[Path] | None,
    send_at: datetime | None,
    mode: str | None,
    *,
    markdown: bool,
) -> dict[str, Any]:
    """What a mail is made of, read from where it is."""
    if body is not None and body_file is not None:
        raise typer.BadParameter("Give the text either as an argument or with --body-file.")
    if body == "-" or (body_file is not None and str(body_file) == "-"):
        text = sys.stdin.read()
    elif body_file is not None:
        text = _text(body_file)
    elif body is None and html is None:
        raise typer.BadParameter("Give the text as the last argument, with --body-file, or as - to read it from stdin.")
    else:
        text = body or ""
    if send_at:
        session(ctx).again = f"--send-at {send_at.astimezone(UTC).isoformat()} "
    return {
        "markdown_body" if markdown else "body": text,
        "html_body": _text(html) if html else "",
        "attachments": [multimail.OutgoingAttachment.read(path) for path in attach or ()],
        "send_time": send_at,
        "oversight_mode": mode,
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is not in UTF-8; save it so.") from None


def _accepted(mail: multimail.Email, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        show.as_json(mail)
        return
    standing(mail)
    if dry_run:
        show.note("Nothing was sent.")
    elif mail.state == "held":
        show.note(f"It waits for a person: multimail approve {mail.id}")


def standing(mail: multimail.Email) -> None:
    """Where a mail stands."""
    show.facts(
        [
            ("email", mail.id),
            ("state", mail.state),
            ("held because", mail.hold_reason),
            ("thread", mail.thread_id),
            ("from", mail.from_),
            ("to", mail.to),
            ("cc", mail.cc),
            ("bcc", mail.bcc),
            ("subject", mail.subject),
            ("goes out", mail.send_time),
            ("mode", mail.oversight_mode),
            ("expires", mail.expire_time if mail.state == "held" else None),
        ]
    )


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (send, reply, cancel):
        app.command(rich_help_panel="Mail")(command)
