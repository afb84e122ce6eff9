"""Mails and threads as they change: each change is one operation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from multimail_server import beside, errors
from multimail_server.aip.address import parse_address
from multimail_server.errors import DomainError, Reason
from multimail_server.mail import accepting, arriving, oversight, reporting, waiting
from multimail_server.mail.content import Content
from multimail_server.mail.email import Letter
from multimail_server.mail.guard import Guard, dedupe_mark
from multimail_server.mail.mime import parse_mail
from multimail_server.mail.removal import removal, removal_id
from multimail_server.storage.documents import Need
from multimail_server.storage.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from multimail_server.mail.bounds import Bounds
    from multimail_server.mail.content import File
    from multimail_server.mail.events import Event
    from multimail_server.mail.tags import Tag
    from multimail_server.mail.views import MailViews
    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Draft
    from multimail_server.storage.files import Files
    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.operation import Request

NO_GUARD = Guard()
_NOTHING = Letter("", Content(""))
_UNATTACHED_FOR = timedelta(days=1)
# Refusals behind which a mail may have been accepted all the same.
_UNDECIDED = {
    Reason.CONTENTION,
    Reason.ENGINE_UNAVAILABLE,
    Reason.INTERNAL,
    Reason.OUTCOME_UNKNOWN,
    Reason.OUT_OF_TIME,
    Reason.SHUTTING_DOWN,
}


@dataclass(frozen=True, slots=True)
class Message:
    """What a caller wants to say, before anything is known of mailbox and people.

    Attributes:
        letter: What it says, without its files.
        files: The files, checked.
        mode: The mode asked for; may be empty.
        dry: Whether only the answer is wanted.
    """

    letter: Letter
    files: Sequence[File]
    mode: str
    dry: bool

    def with_letter(self, **changes: Any) -> Message:
        """The same message with its letter changed."""
        return replace(self, letter=replace(self.letter, **changes))


class MailStore:
    """Changes mails and threads.

    A mail, its thread and the logs of its people change in one step, or not at all.

    Args:
        database: The database.
        views: Finds mails.
        committer: Runs the operations.
        files: The files of mails.
        bounds: Bounds on conversations.
        trusted: Ids of the mail servers whose Authentication-Results are believed.
        new_id: Makes an id with the given prefix.
    """

    def __init__(
        self,
        database: Database,
        views: MailViews,
        committer: Committer,
        *,
        files: Files,
        bounds: Bounds,
        trusted: frozenset[str],
        new_id: Callable[[str], str],
    ) -> None:
        self._database = database
        self._views = views
        self._committer = committer
        self._files = files
        self._bounds = bounds
        self._trusted = trusted
        self._new_id = new_id

    async def send(
        self,
        request: Request,
        mailbox: Need,
        targets: Sequence[accepting.Target],
        message: Message,
        *,
        guard: Guard = NO_GUARD,
        answers: str = "",
    ) -> Document:
        """Accepts a mail; once this returns it is on disk and will go out, or wait for its time or a person."""
        letter, email_id = message.letter, ""
        if message.files:
            email_id = self._new_id("email")
            letter = await self._with_files(request, letter, message, email_id)
        sending = accepting.Sending(
            mailbox, targets, letter, guard, self._bounds, mode=message.mode, answers=answers, email_id=email_id
        )

        def rule(draft: Draft) -> Document:
            email = accepting.send(draft, sending)
            if email_id:
                draft.delete("jobs", removal_id(request.account, email_id))
            return email

        needs = sending.needs(request.account)
        if message.dry:
            email = await self._committer.run(request.question(needs, lambda draft: accepting.send(draft, sending)))
            return _unnamed(email) | {"thread": answers and email["thread"]}
        if not email_id:
            return await self._committer.run(request.operation(needs, rule, _email_again))
        needs.append(Need("jobs", "_id", (removal_id(request.account, email_id),)))
        try:
            email = await self._committer.run(request.operation(needs, rule, _email_again))
        except DomainError as error:
            if error.reason not in _UNDECIDED:
                await self._drop_files(request.account, email_id)
            raise
        if email["_id"] != email_id:  # the request was accepted before, with files of its own
            await self._drop_files(request.account, email_id)
        return email

    async def _drop_files(self, account: str, email_id: str) -> None:
        """Lets the job remove files at once that no mail will ever have."""
        due = {"$set": {"due_at": await self._database.now()}}
        await self._database.update_one("jobs", {"_id": removal_id(account, email_id)}, due)

    async def _with_files(self, request: Request, letter: Letter, message: Message, email_id: str) -> Letter:
        """The letter with its files kept; if the mail is never accepted, a job removes them after a day."""
        rows = [
            {
                "filename": file.filename,
                "content_type": file.content_type,
                "size": len(file.data),
                "sha256": hashlib.sha256(file.data).hexdigest(),
                "file": f"{email_id}/{number}",
            }
            for number, file in enumerate(message.files)
        ]
        if not message.dry:
            due_at = await self._database.now() + _UNATTACHED_FOR
            names = [str(row["file"]) for row in rows]
            await self._database.insert_one("jobs", removal(request.account, email_id, names, due_at))
            for row, file in zip(rows, message.files, strict=True):
                await self._files.write(str(row["file"]), file.data)
        return replace(letter, files=rows)

    async def reply(
        self, request: Request, email_id: str, message: Message, *, subject: str | None, to_all: bool
    ) -> Document:
        """Accepts an answer to a mail, to its author, or when it was ours to its recipients again."""
        parent = await self._views.get(request.account, email_id)
        if parent["hidden"]:
            raise errors.not_found("email")
        first = parent["headers"]["subject"]
        if subject is None:
            subject = first if first[:3].lower() == "re:" else f"Re: {first}"[:998].rstrip()
        named = accepting.answered_addresses(parent, ("to", "cc") if to_all else ())
        targets: dict[str, accepting.Target] = {}
        for address, kind in named:
            try:
                parsed = parse_address(address, "email_id")
            except DomainError:
                if kind == "to":
                    raise
                continue  # what the author wrote there is no address; the others are answered
            targets.setdefault(parsed.key, accepting.Target(parsed, kind, "email_id"))
        if to_all:
            for key in await self._own(request.account, list(targets)):
                if targets[key].kind == "cc":
                    del targets[key]
        if len(targets) > accepting.MAX_RECIPIENTS:
            raise errors.invalid_field(
                "reply_all", f"would write to {len(targets)} people; at most {accepting.MAX_RECIPIENTS} may be"
            )
        mailbox = Need("mailboxes", "_id", (parent["mailbox"],))
        message = message.with_letter(subject=subject)
        return await self.send(request, mailbox, list(targets.values()), message, answers=email_id)

    async def _own(self, account: str, keys: Sequence[str]) -> list[str]:
        """Which of the addresses are mailboxes of the account."""
        found = await self._database.find("addresses", {"_id": {"$in": list(keys)}, "account": account})
        return [row["_id"] for row in found]

    async def check(
        self,
        request: Request,
        mailbox: Need,
        targets: Sequence[accepting.Target | DomainError],
        guard: Guard,
        mode: str,
    ) -> list[str | DomainError]:
        """For a mail to each of these people, what would become of it: `queued` or `held`, or why it is refused."""
        sendings = []
        for target in targets:
            if isinstance(target, DomainError):
                continue
            mark = dedupe_mark(target.address.key, guard.dedupe_key)
            letter = replace(_NOTHING, dedupe=mark)
            sendings.append(accepting.Sending(mailbox, [target], letter, guard, self._bounds, mode=mode))
        needs = merged([mailbox, *(need for sending in sendings for need in sending.needs(request.account))])
        question = request.question(needs, lambda draft: accepting.check(draft, mailbox, mode, sendings))
        answers = await self._committer.run(question)
        rows = iter(answers)
        return [target if isinstance(target, DomainError) else next(rows) for target in targets]

    async def take_in(
        self, request: Request, mailbox: Need, raw: bytes, envelope_from: str, tag: Tag | None = None
    ) -> tuple[Document, bool]:
        """Keeps a mail that arrived; returns it, and whether the same had been taken in before."""
        digest = _digest(mailbox.values[0], envelope_from, tag, raw)
        mail = await beside.read(len(raw), lambda: parse_mail(raw))
        arrival = arriving.Arrival(mailbox, mail, raw, envelope_from, digest, tag, self._trusted, self._bounds.open_for)
        operation = request.operation(
            arrival.needs(request.account),
            lambda draft: arriving.take_in(draft, arrival),
            lambda draft, outcome: (_email_again(draft, outcome), True),
        )
        return await self._committer.run(operation._replace(size=len(raw)))

    async def begin(self, request: Request) -> None:
        """Notes what a batch's request_id stands for; see Committer.begin."""
        await self._committer.begin(request)

    async def approve(self, request: Request, email_id: str, digest: str, reason: str) -> Document:
        """Lets a held mail go, for exactly this content."""
        return await self._on(
            request, email_id, lambda draft: waiting.approve(draft, email_id, digest, reason, self._bounds)
        )

    async def reject(self, request: Request, email_id: str, digest: str, reason: str) -> Document:
        """Ends a held mail for good."""
        return await self._on(request, email_id, lambda draft: waiting.reject(draft, email_id, digest, reason))

    async def cancel(self, request: Request, email_id: str) -> Document:
        """Stops a mail as far as it can still be stopped."""
        return await self._on(request, email_id, lambda draft: waiting.cancel(draft, email_id, self._bounds))

    async def edit(
        self, request: Request, email_id: str, *, subject: str | None, content: Content | None, digest: str
    ) -> Document:
        """Changes what a waiting mail says."""
        return await self._on(
            request,
            email_id,
            lambda draft: waiting.edit(draft, email_id, subject=subject, content=content, digest=digest),
        )

    async def resolve(self, request: Request, email_id: str, resolution: str) -> Document:
        """Ends the doubt about a mail: `sent`, `failed` or `send_again`."""
        return await self._on(
            request, email_id, lambda draft: waiting.resolve(draft, email_id, resolution, self._bounds)
        )

    async def _on(self, request: Request, email_id: str, rule: Callable[[Draft], Document]) -> Document:
        return await self._committer.run(request.operation([waiting.need(email_id)], rule, _email_again))

    async def unsubscribe(self, email_id: str, index: int) -> bool:
        """Suppresses a recipient of a mail as they ask; False when no such mail offered it to them.

        They have a sealed link and no key, so the account is the mail's.
        """
        found = await self._database.find("emails", {"_id": email_id}, projection={"account": 1})
        if not found:
            return False

        def rule(draft: Draft) -> bool:
            email = draft.get("emails", email_id)
            return email is not None and reporting.unsubscribe(draft, email, index)

        operation = Operation(found[0]["account"], "unsubscribe", (waiting.need(email_id),), rule)
        return await self._committer.run(operation)

    async def reported(
        self, request: Request, need: Need, address: str, event: Event, at: datetime | None
    ) -> tuple[Document, bool]:
        """Applies a report about a mail's delivery; returns the mail, and whether it had been reported before."""

        def rule(draft: Draft) -> tuple[Document, bool]:
            told = event if event.timed else replace(event, at=draft.now)
            return reporting.reported(draft, need, address, told, at)

        def again(draft: Draft, outcome: Document) -> tuple[Document, bool]:
            return _email_again(draft, outcome), True

        return await self._committer.run(request.operation([need], rule, again))

    async def mark_read(self, request: Request, identifier: str) -> Document:
        """Records an agent's first read of an inbound mail, and returns the mail without its content."""

        def rule(draft: Draft) -> Document:
            email = draft.get("emails", identifier)
            if email is None:
                raise errors.not_found("email")
            if email["read_at"] is not None:
                return email
            draft.put("emails", email := email | {"read_at": draft.now})
            draft.notify(
                "email_read", shown=oversight.is_shown(email["mode"]), email=identifier, mailbox=email["mailbox"]
            )
            return email

        need = Need("emails", "_id", (identifier,))
        return await self._committer.run(request.operation([need], rule, lambda draft, _: rule(draft)))


def _unnamed(email: Document) -> Document:
    """A mail that is none yet, without the ids it would get only when it is accepted."""
    recipients = [each | {"contact": ""} for each in email["recipients"]]
    return email | {"_id": "", "headers": email["headers"] | {"message_id": ""}, "recipients": recipients}


def merged(needs: Iterable[Need]) -> list[Need]:
    """The same needs, one for each place that is looked in."""
    values: dict[tuple[str, str], dict[str, None]] = {}
    for need in needs:
        values.setdefault((need.collection, need.field), {}).update(dict.fromkeys(need.values))
    return [Need(collection, field, tuple(wanted)) for (collection, field), wanted in values.items()]


def _digest(mailbox: str, envelope_from: str, tag: Tag | None, raw: bytes) -> str:
    """What tells a second delivery of the same mail: the mailbox and its tag, the envelope's sender, every byte."""
    said = f"{tag.kind}/{tag.email}/{tag.index}\0" if tag is not None else ""
    head = f"{mailbox}\0{said}{envelope_from}\0".encode()
    return "in/" + hashlib.sha256(head + raw).hexdigest()


def _email_again(draft: Draft, outcome: Document) -> Document:
    """The answer to a repeated request: the mail as it is now."""
    email = draft.get("emails", outcome["email"])
    if email is None:
        raise errors.not_found("email")
    return email
