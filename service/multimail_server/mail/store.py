"""Mails and threads in the database: each change as one operation, each read as one query."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.aip.address import parse_address
from multimail_server.mail import accepting
from multimail_server.mail.mime import parse_mail
from multimail_server.storage.documents import Need
from multimail_server.storage.newest import newest_first
from multimail_server.storage.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Draft
    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.operation import Request
    from multimail_server.storage.reads import Reader

# What lists and look-ups of many leave out.
WITHOUT_CONTENT = {"body": 0, "raw": 0}
THREAD_EMAILS = 100
_LARGE_BYTES = 32 << 10


class MailStore:
    """Reads and changes mails and threads.

    A mail, its thread and the logs of its people change in one step, or not at all.
    """

    def __init__(self, database: Database, reader: Reader, committer: Committer) -> None:
        self._database = database
        self._reader = reader
        self._committer = committer

    async def send(self, request: Request, sending: accepting.Sending) -> Document:
        """Accepts a mail; once this returns it is on disk and will go out."""
        operation = request.operation(
            sending.needs(request.account), lambda draft: accepting.send(draft, sending), _email_again
        )
        return await self._committer.run(operation)

    async def reply(self, request: Request, email_id: str, *, text: str, subject: str | None, mode: str) -> Document:
        """Accepts an answer to a mail, to its author, or when it was ours to its recipients again."""
        parent = await self.get(request.account, email_id)
        to = [parse_address(address, "email_id") for address in accepting.answered_addresses(parent)]
        if subject is None:
            first = parent["headers"]["subject"]
            subject = first if first[:3].lower() == "re:" else f"Re: {first}"[:998].rstrip()
        sending = accepting.Sending(
            mailbox=Need("mailboxes", "_id", (parent["mailbox"],)),
            to=to,
            subject=subject,
            text=text,
            mode=mode,
            answers=email_id,
        )
        return await self.send(request, sending)

    async def take_in(self, request: Request, mailbox: Need, raw: bytes, envelope_from: str) -> tuple[Document, bool]:
        """Keeps a mail that arrived; returns it, and whether the same had been taken in before."""
        digest = _digest(mailbox.values[0], envelope_from, raw)
        # A large mail takes long to read; meanwhile others are served.
        mail = parse_mail(raw) if len(raw) < _LARGE_BYTES else await asyncio.to_thread(parse_mail, raw)
        arrival = accepting.Arrival(mailbox, mail, raw, envelope_from, digest)
        operation = Operation(
            account=request.account,
            method=request.method,
            needs=tuple(arrival.needs(request.account)),
            rule=lambda draft: accepting.take_in(draft, arrival),
            actor=request.actor,
            size=len(raw),
        )
        return await self._committer.run(operation)

    async def get(self, account: str, identifier: str) -> Document:
        """The mail without its content, or EMAIL_NOT_FOUND."""
        found = await self._reader.one(account, "emails", "_id", identifier)
        if found is None:
            raise errors.not_found("email")
        return found

    async def get_with_content(self, account: str, identifier: str) -> Document:
        """The mail with its bodies, or EMAIL_NOT_FOUND."""
        found = await self._database.find("emails", {"_id": identifier, "account": account}, projection={"raw": 0})
        if not found:
            raise errors.not_found("email")
        return found[0]

    async def mark_read(self, request: Request, identifier: str) -> Document:
        """Records an agent's first read of an inbound mail, and returns the mail without its content."""

        def rule(draft: Draft) -> Document:
            email = draft.get("emails", identifier)
            if email is None:
                raise errors.not_found("email")
            if email["read_at"] is not None:
                return email
            draft.put("emails", email := email | {"read_at": draft.now})
            draft.notify("email_read", shown=email["mode"] != "autonomous", email=identifier, mailbox=email["mailbox"])
            return email

        need = Need("emails", "_id", (identifier,))
        return await self._committer.run(request.operation([need], rule, lambda draft, _: rule(draft)))

    async def list_emails(
        self,
        account: str,
        *,
        equal: Mapping[str, Any],
        rest: Mapping[str, Any],
        before: Sequence[Any] | None,
        limit: int,
    ) -> list[Document]:
        """Mails, newest first, without content.

        Args:
            account: Whose.
            equal: Any of `people`, `thread`, `mailbox`; one of them leads the query.
            rest: Other conditions.
            before: Position behind which to go on, `[at, _id]`.
            limit: At most so many.
        """
        conditions = dict(equal)
        leading = next((name for name in ("thread", "people", "mailbox") if name in conditions), None)
        first = {"account": account} | ({leading: conditions.pop(leading)} if leading else {})
        return await newest_first(
            self._database, "emails", first, {**rest, **conditions}, before, limit, WITHOUT_CONTENT
        )

    async def get_thread(self, account: str, identifier: str) -> tuple[Document, list[Document]]:
        """The thread and its newest mails, oldest of them first, or THREAD_NOT_FOUND."""
        found = await self._reader.one(account, "threads", "_id", identifier)
        if found is None:
            raise errors.not_found("thread")
        emails = await self.list_emails(
            account, equal={"thread": identifier}, rest={}, before=None, limit=THREAD_EMAILS
        )
        return found, emails[::-1]

    async def list_threads(self, account: str, *, equal: Mapping[str, Any], after: str, limit: int) -> list[Document]:
        """Threads in order of id, those behind the id `after`; `equal` holds any of `people`, `mailboxes`."""
        conditions = dict(equal)
        leading = next(iter(conditions), None)
        first = {"account": account} | ({leading: conditions.pop(leading)} if leading else {})
        return await self._database.aggregate(
            "threads",
            [
                {"$match": {**first, "_id": {"$gt": after}}},
                {"$match": conditions},
                {"$sort": {"_id": 1}},
                {"$limit": limit},
            ],
        )


def _digest(mailbox: str, envelope_from: str, raw: bytes) -> str:
    """What tells a second delivery of the same mail: the mailbox, the envelope's sender and every byte."""
    head = f"{mailbox}\0{envelope_from}\0".encode()
    return "in/" + hashlib.sha256(head + raw).hexdigest()


def _email_again(draft: Draft, outcome: Document) -> Document:
    """The answer to a repeated request: the mail as it is now."""
    email = draft.get("emails", outcome["email"])
    if email is None:
        raise errors.not_found("email")
    return email
