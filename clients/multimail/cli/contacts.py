"""`multimail contacts`: finding, showing and changing them one by one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

import multimail
from multimail.cli import show, values
from multimail.cli.session import Json, Limit, RequestId, Yes, agreed, client, session, some

app = typer.Typer(no_args_is_help=True, help="People: find, show, change, import, export and erase them.")

Who = Annotated[str, typer.Argument(metavar="CONTACT", help="An address, or an id.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", "-w", metavar="CONDITION",
        help="metadata.plan=pro, metadata.open_tickets>=2, last_contacted_before=2026-03-20; may be repeated. "
        "Values are JSON where they parse, so write '\"2\"' for the text 2.",
    ),
]  # fmt: skip
Filter = Annotated[
    str,
    typer.Option("--filter", "-f", metavar="TEXT", help="A condition with AND, OR, NOT and brackets (AIP-160)."),
]
Query = Annotated[
    str, typer.Argument(metavar="QUERY", help="An address, a domain, or the beginnings of a name.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="PATH=VALUE", help="Set plan=pro or address.city=Oslo; may be repeated."),
]
Metadata = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="Merge this JSON object, or that of @FILE.")
]
Name = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="The name.")]


def which(contact: str) -> Any:
    """The arguments that name a contact: an address has an @, an id has none."""
    return {"email": contact} if "@" in contact else {"id": contact}


def row(contact: multimail.Contact) -> tuple[Any, ...]:
    """A contact among others."""
    return contact.email, contact.name, contact.last_contacted, contact.interaction_count, contact.metadata or ""


COLUMNS = ("EMAIL", "NAME", "CONTACTED", "MAILS", "METADATA")


@app.command()
def search(
    ctx: typer.Context,
    query: Query = "",
    where: Where = None,
    filter_: Filter = "",
    email: Annotated[str, typer.Option(metavar="ADDRESS", help="The whole address.")] = "",
    domain: Annotated[str, typer.Option(metavar="DOMAIN", help="The whole domain.")] = "",
    name: Annotated[str, typer.Option(metavar="WORDS", help="Words of the name.")] = "",
    order_by: Annotated[
        str, typer.Option("--order-by", "-o", metavar="FIELDS", help='Such as "last_contacted desc, name".')
    ] = "",
    limit: Limit = 50,
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Tell how they were found.")] = False,
    as_json: Json = False,
) -> None:
    """Find contacts that meet every condition.

    $ multimail contacts search acmecorp.com

    $ multimail contacts search -w metadata.plan=pro -w last_contacted_before=2026-03-20 -o "last_contacted desc"

    $ multimail contacts search --filter 'metadata.plan = "pro" AND NOT has_open_thread' --count
    """
    asked: dict[str, Any] = {
        "query": query, "email": email, "domain": domain, "name": name, "filter": filter_,
        "filters": values.conditions(where or ()),
    }  # fmt: skip
    contacts = client(ctx).contacts
    if count:
        number = contacts.count(**asked)
        show.as_json({"count": number}) if as_json else show.say(str(number))
        return
    found = contacts.search(**asked, order_by=order_by, explain=explain, limit=limit + 1)
    shown, more = some(found, limit)
    if as_json:
        show.as_json({"contacts": shown} | ({"plan": found.plan} if explain else {}))
    else:
        show.table(COLUMNS, map(row, shown))
        if found.plan:
            how = "an index" if found.plan.indexed else "no index served: every contact was looked at"
            show.note(f"Found by {how} ({', '.join(found.plan.indexes)}); {found.plan.examined} looked at.")
    if not shown:
        show.note("Nobody found.")
    elif more:
        show.note(f"There are more than {limit}; see more with --limit, all with multimail contacts export.")


@app.command("show")
def show_contact(ctx: typer.Context, contact: Who, limit: Limit = 20, as_json: Json = False) -> None:
    """Show a person and what happened, newest first.

    $ multimail contacts show elena@acmecorp.com
    """
    contacts = client(ctx).contacts
    about = contacts.context(**which(contact))
    entries, more = some(contacts.interactions(id=about.contact.id, limit=limit + 1), limit)
    if as_json:
        show.as_json(
            {
                "contact": about.contact,
                "suppression": about.suppression,
                "open_threads": about.open_threads,
                "pending": about.pending,
                "interactions": entries,
            }
        )
        return
    person(about.contact)
    if about.suppression:
        show.say(f"Not to be written to: {about.suppression.reason}.", style="red")
    for mail in about.pending:
        show.say(f"Waits ({mail.state}): {mail.subject or 'no subject'}  {mail.id}", style="yellow")
    if about.open_threads:
        show.facts([("open threads", [thread.id for thread in about.open_threads])])
    timeline(entries)
    if more:
        show.note(f"There is more; see it with --limit {limit * 10}.")


def person(contact: multimail.Contact) -> None:
    """A contact by itself."""
    show.facts(
        [
            ("email", contact.email),
            ("name", contact.name),
            ("id", contact.id),
            ("etag", contact.etag),
            ("created", contact.create_time),
            ("last contacted", contact.last_contacted or "never"),
            ("last inbound", contact.last_inbound),
            ("mails", contact.interaction_count),
            ("threads", contact.thread_count),
            ("latest thread", contact.latest_thread_id),
            *show.metadata_facts(contact.metadata),
        ]
    )


def timeline(entries: list[multimail.Interaction]) -> None:
    """A log, newest first."""
    if not entries:
        return
    show.say()
    show.table(
        ("TIME", "", "SUBJECT", "STATE", "BY", "EMAIL"),
        [
            (
                each.time,
                "->" if each.direction == "outbound" else "<-",
                each.subject,
                "replied" if each.replied_at else "read" if each.read_at else each.state,
                "deleted mailbox" if each.mailbox_deleted and not each.agent else each.agent,
                each.email_id,
            )
            for each in entries
        ],
    )


@app.command()
def upsert(
    ctx: typer.Context,
    email: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address, bare.")],
    name: Name = None,
    set_: Set = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="PATH", help="Clear this key; may be repeated.")
    ] = None,
    metadata: Metadata = None,
    last_contacted: Annotated[
        datetime | None,
        typer.Option(
            parser=values.past, metavar="TIME", help="When somebody last wrote to them elsewhere; UTC without a zone."
        ),
    ] = None,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Make a contact, or merge into the one that has the address; what is not given stays.

    $ multimail contacts upsert elena@acmecorp.com --name "Elena Fischer" --set plan=pro --set open_tickets=2
    """
    merged = values.document(metadata, "--metadata") or {}
    for path, value in [*values.valued(set_ or ()).items(), *((path, None) for path in unset or ())]:
        values.put(merged, values.keys_of(path), value)
    _changed(
        client(ctx).contacts.upsert(
            email=email, name=name, metadata=merged, last_contacted=last_contacted, request_id=request_id
        ),
        as_json=as_json,
    )


def _changed(contact: multimail.Contact, *, as_json: bool) -> None:
    if as_json:
        show.as_json(contact)
        return
    person(contact)
    show.note({"created": "Made.", "updated": "Changed.", "unchanged": "It was so already."}.get(contact.outcome, ""))


@app.command()
def update(
    ctx: typer.Context,
    contact: Who,
    name: Name = None,
    set_: Set = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="PATH", help="Remove it; may be repeated.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="Move a value; may be repeated.")
    ] = None,
    increment: Annotated[
        list[str] | None, typer.Option("--increment", metavar="PATH=NUMBER", help="Add to a number.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="PATH=VALUE", help="Add to an array unless it is there.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="PATH=VALUE", help="Take out of an array.")
    ] = None,
    metadata: Metadata = None,
    replace: Annotated[bool, typer.Option("--replace", help="Let --metadata be all there is.")] = False,
    etag: Annotated[str, typer.Option(metavar="ETAG", help="Only while this is its version.")] = "",
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Change a known contact; all parts apply together or not at all.

    $ multimail contacts update elena@acmecorp.com --set plan=pro --increment open_tickets=1 --add tags=vip
    """
    _changed(
        client(ctx).contacts.update(
            **which(contact), name=name, metadata=values.document(metadata, "--metadata"), replace_metadata=replace,
            set=values.valued(set_ or ()), unset=unset or (), rename=dict(map(values.pair, rename or ())),
            increment=values.valued(increment or ()), add_to_set=values.valued(add or ()),
            remove=values.valued(remove or ()), etag=etag, request_id=request_id,
        ),
        as_json=as_json,
    )  # fmt: skip


@app.command()
def delete(
    ctx: typer.Context,
    contact: Who,
    etag: Annotated[str, typer.Option(metavar="ETAG", help="Only while this is its version.")] = "",
    yes: Yes = False,
    request_id: RequestId = None,
    as_json: Json = False,
) -> None:
    """Erase a person for good: contact, metadata and log at once, their mail within 24 hours.

    $ multimail contacts delete elena@acmecorp.com
    """
    contacts = client(ctx).contacts
    if not yes:
        found = contacts.get(**which(contact))
        named = f"{found.name} <{found.email}>" if found.name else found.email
        agreed(show.one_line(f"Erase {named}, with {found.interaction_count} mails, for good?"), yes=False)
        etag = etag or found.etag
        session(ctx).again = f"--yes --etag '{etag}' "
    erasure = contacts.delete(**which(contact), etag=etag, request_id=request_id)
    if as_json:
        show.as_json(erasure)
    else:
        show.facts([("erasure", erasure.id), ("state", erasure.state), ("mail scrubbed by", erasure.scrub_by)])
