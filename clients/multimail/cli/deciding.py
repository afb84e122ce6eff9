"""`multimail pending`, `approve`, `reject` and `resolve`: what people decide about mail."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, get_args

import typer

import multimail
from multimail import words
from multimail.cli import reading, show
from multimail.cli.contacts import timeline
from multimail.cli.sending import standing
from multimail.cli.session import Json, Limit, RequestId, Yes, agreed, client, some

if TYPE_CHECKING:
    from multimail.oversight import DecisionOutcome, HeldEmail

Ids = Annotated[list[str], typer.Argument(metavar="EMAIL", help="Held mails, by id.")]
_RESOLUTIONS = ", ".join(get_args(words.Resolution))


def pending(ctx: typer.Context, mailbox: reading.Box = None, limit: Limit = 50, as_json: Json = False) -> None:
    """List mail that waits for a person, oldest first.

    $ multimail pending --mailbox sales@you.com
    """
    held, more = some(client(ctx).list_held_emails(mailbox=mailbox, limit=limit + 1), limit)
    if as_json:
        show.as_json({"emails": held})
    else:
        show.table(
            ("EMAIL", "EXPIRES", "PEOPLE", "SUBJECT", "BY"),
            [
                (m.id, m.expire_time, ", ".join(m.to) if m.direction == "outbound" else m.from_, m.subject, m.agent)
                for m in (each.email for each in held)
            ],
        )
    if not held:
        show.note("Nothing waits.")
    elif more:
        show.note(f"There are more than {limit}; see more with --limit.")


def approve(
    ctx: typer.Context,
    email_ids: Ids,
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept with each mail.")] = "",
    content_sha256: Annotated[
        str,
        typer.Option(
            metavar="HASH", help="Without showing it: only while this is its content, as pending --json told."
        ),
    ] = "",
    yes: Yes = False,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Let held mail go, exactly as it is shown here: what changes meanwhile is not approved.

    $ multimail approve email_01J…
    """
    _seen(as_json=as_json, unseen=yes or bool(content_sha256))
    service = client(ctx)
    decisions = _decisions(service, email_ids, content_sha256, quiet=as_json, again=bool(request_id))
    agreed(f"Approve {_counted(decisions)}?", yes=yes or bool(content_sha256))
    _told(service.approve_emails(decisions, reason=reason, request_id=request_id), as_json=as_json)


def reject(
    ctx: typer.Context,
    email_ids: Ids,
    reason: Annotated[
        str, typer.Option("--reason", "-r", metavar="TEXT", help="Why; shown to the agent. Asked for on a terminal.")
    ] = "",
    content_sha256: Annotated[
        str, typer.Option(metavar="HASH", help="Without showing it: only while this is its content.")
    ] = "",
    yes: Yes = False,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """End held mail for good: it never goes out, or is never shown.

    $ multimail reject email_01J… --reason "Wrong price"
    """
    _seen(as_json=as_json, unseen=yes or bool(content_sha256))
    if not reason and not sys.stdin.isatty():
        raise typer.BadParameter("Say why with --reason; the agent is shown it.")
    service = client(ctx)
    decisions = _decisions(service, email_ids, content_sha256, quiet=as_json, again=bool(request_id))
    reason = reason or typer.prompt("Why", err=True)
    agreed(f"Reject {_counted(decisions)}?", yes=yes or bool(content_sha256))
    _told(service.reject_emails(decisions, reason=reason, request_id=request_id), as_json=as_json)


def _seen(*, as_json: bool, unseen: bool) -> None:
    """BadParameter where a decision would be asked for about what is not shown."""
    if as_json and not unseen:
        raise typer.BadParameter("With --json nothing is shown to decide about: say --content-sha256 HASH, or --yes.")


def _counted(decisions: list[tuple[str, str]]) -> str:
    return "this mail" if len(decisions) == 1 else f"these {len(decisions)} mails"


def _decisions(
    service: multimail.Client, email_ids: list[str], content_sha256: str, *, quiet: bool, again: bool
) -> list[tuple[str, str]]:
    """Each mail with the hash of what was shown of it; what was decided already the service knows, when asked again."""
    wanted = list(dict.fromkeys(email_ids))
    if content_sha256:
        if len(wanted) > 1:
            raise typer.BadParameter("--content-sha256 is about one mail; name only one.")
        return [(wanted[0], content_sha256)]
    missing = set(wanted)
    held: dict[str, HeldEmail] = {}
    for each in service.list_held_emails():
        if each.email.id in missing:
            held[each.email.id] = each
            missing.discard(each.email.id)
            if not missing:
                break
    decisions = []
    for email_id in wanted:
        if email_id in held:
            mail = held[email_id].email
            if not quiet:
                _show(held[email_id])
        else:
            mail = service.get_email(email_id)
            if not again:
                raise multimail.FailedPreconditionError(
                    f"{email_id} does not wait for a person: it is {mail.state}.", reason="STATE_FORBIDS"
                )
        decisions.append((email_id, mail.content_sha256))
    return decisions


def _show(held: HeldEmail) -> None:
    """What a decision needs: the mail, whom it is about, and what was last written."""
    reading.head(held.email)
    show.facts([("held because", held.email.hold_reason), ("goes out", held.email.send_time)])
    show.say()
    _texts(held.email)
    for person in held.people:
        if person.contact:
            show.say()
            show.facts(
                [
                    ("contact", f"{person.contact.name} <{person.contact.email}>"),
                    ("last contacted", person.contact.last_contacted or "never"),
                    *show.metadata_facts(person.contact.metadata),
                ]
            )
        timeline(person.interactions)
    show.say()


def _texts(mail: multimail.Email) -> None:
    """All that a mail says: mail programs show the HTML, whatever the text beside it says."""
    if mail.body:
        show.body(mail.body)
    if mail.html_body:
        show.say()
        show.say("As HTML, which most people will see instead:", style="bold")
        show.body(mail.html_body)


def _told(outcomes: list[DecisionOutcome], *, as_json: bool) -> None:
    refused = [each for each in outcomes if each.refusal]
    if as_json:
        show.as_json({"outcomes": outcomes})
    else:
        for each in outcomes:
            if each.email:
                show.facts([("email", each.email_id), ("state", each.email.state)])
        for each in refused:
            show.note(f"{each.email_id}: {each.refusal.message if each.refusal else ''}", style="red")
    if refused:
        raise typer.Exit(1)


def resolve(
    ctx: typer.Context,
    email_id: Annotated[str, typer.Argument(metavar="EMAIL", help="A mail that is in_doubt, by id.")],
    resolution: Annotated[str, typer.Argument(metavar="RESOLUTION", help=f"How it ends: {_RESOLUTIONS}.")],
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """End the doubt whether a mail was handed over.

    $ multimail resolve email_01J… sent
    """
    mail = client(ctx).resolve_email(email_id, resolution, request_id=request_id)  # type: ignore[arg-type]
    show.as_json(mail) if as_json else standing(mail)


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (pending, approve, reject, resolve):
        app.command(rich_help_panel="Oversight")(command)
