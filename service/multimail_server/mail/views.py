"""Mails and threads as they are looked up and listed: each read is one query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.contacts.contact import NEVER
from multimail_server.mail import thread
from multimail_server.mail.mime import file_in
from multimail_server.storage.newest import newest_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from multimail_server.storage.files import Files
    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.reads import Reader

# What lists and look-ups of many leave out.
WITHOUT_CONTENT = {"body": 0, "raw": 0}
_THREAD_EMAILS = 100
_AROUND_EMAILS, _AROUND_THREADS, _AROUND_WAITING = 100, 50, 20


class MailViews:
    """Reads mails and threads: one, its files, the inbox, what was sent, what waits, conversations.

    Args:
        database: The database.
        reader: Shares look-ups.
        files: The files of mails.
    """

    def __init__(self, database: Database, reader: Reader, files: Files) -> None:
        self._database = database
        self._reader = reader
        self._files = files

    async def get(self, account: str, identifier: str, *, hidden_too: bool = True) -> Document:
        """The mail without its content, or EMAIL_NOT_FOUND; `hidden_too` for mail that waits for a person."""
        found = await self._reader.one(account, "emails", "_id", identifier)
        if found is None or (found["hidden"] and not hidden_too):
            raise errors.not_found("email")
        return found

    async def get_with_content(self, account: str, identifier: str, *, hidden_too: bool) -> Document:
        """The mail with its bodies, or EMAIL_NOT_FOUND."""
        found = await self._database.find("emails", {"_id": identifier, "account": account}, projection={"raw": 0})
        if not found or (found[0]["hidden"] and not hidden_too):
            raise errors.not_found("email")
        return found[0]

    async def list_held(self, account: str, *, mailbox: str, after: Sequence[Any] | None, limit: int) -> list[Document]:
        """Mails that wait for a person, with their content, oldest first, those behind the position `[at, _id]`."""
        behind: dict[str, Any] = {}
        first: dict[str, Any] = {"account": account, "state": "held"}
        if after:
            at, identifier = after
            first["at"] = {"$gte": at}
            behind = {"$or": [{"at": {"$gt": at}}, {"_id": {"$gt": identifier}}]}
        return await self._database.aggregate(
            "emails",
            [
                {"$match": first},
                {"$match": behind | ({"mailbox": mailbox} if mailbox else {})},
                {"$sort": {"at": 1, "_id": 1}},
                {"$limit": limit},
                {"$project": {"raw": 0}},
            ],
        )

    async def attachment(self, account: str, email_id: str, index: int, *, hidden_too: bool) -> tuple[Document, bytes]:
        """One file of a mail and what is known of it, or EMAIL_NOT_FOUND, or ATTACHMENT_NOT_FOUND."""
        email = await self.get(account, email_id, hidden_too=hidden_too)
        if not 0 <= index < len(email["attachments"]):
            raise errors.not_found("attachment")
        row = email["attachments"][index]
        if email["direction"] == "outbound":
            data = await self._files.read(row["file"])
        else:
            found = await self._database.find("emails", {"_id": email_id, "account": account}, projection={"raw": 1})
            raw = found[0]["raw"] if found else None
            data = await asyncio.to_thread(file_in, raw, index) if raw else None
        if data is None:
            raise errors.not_found("attachment")
        return row, data

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
            equal: Any of `people`, `thread`, `mailbox`, `state`; one of them leads the query.
            rest: Other conditions.
            before: Position behind which to go on, `[at, _id]`.
            limit: At most so many.
        """
        conditions = dict(equal)
        leading = next((name for name in ("thread", "people", "mailbox", "state") if name in conditions), None)
        first = {"account": account} | ({leading: conditions.pop(leading)} if leading else {})
        return await newest_first(
            self._database, "emails", first, {**rest, **conditions}, before, limit, WITHOUT_CONTENT
        )

    async def around(
        self, account: str, contact: Mapping[str, Any], *, now: datetime, open_for: timedelta
    ) -> tuple[list[Document], list[Document], list[Document]]:
        """A person's newest mails, their open conversations (the latest first), and mail to them that waits."""
        emails = await self.list_emails(
            account, equal={"people": contact["_id"]}, rest={"hidden": False}, before=None, limit=_AROUND_EMAILS
        )
        held = [row["email"] for row in contact["held"][:_AROUND_WAITING]]
        waiting = [row["thread"] for row in (*contact["held"], *contact["unanswered"])]
        threads = list(dict.fromkeys([*waiting, *(each["thread"] for each in emails)]))[:_AROUND_THREADS]
        found, pending = await asyncio.gather(
            self._each(account, "threads", threads), self._each(account, "emails", held)
        )
        open_ones = [each for each in found if each["_id"] in waiting or thread.is_open(each, now, open_for)]
        open_ones.sort(key=lambda each: (each["latest_at"], each["_id"]), reverse=True)
        return emails, open_ones, pending

    async def _each(self, account: str, collection: str, ids: Sequence[str]) -> list[Document]:
        """The documents with these ids, those that are there."""
        found = await asyncio.gather(*(self._reader.one(account, collection, "_id", each) for each in ids))
        return [each for each in found if each is not None]

    async def get_thread(self, account: str, identifier: str) -> tuple[Document, list[Document]]:
        """The thread and its newest mails, oldest of them first, or THREAD_NOT_FOUND."""
        found = await self._reader.one(account, "threads", "_id", identifier)
        if found is None:
            raise errors.not_found("thread")
        emails = await self.list_emails(
            account, equal={"thread": identifier}, rest={"hidden": False}, before=None, limit=_THREAD_EMAILS
        )
        return found, emails[::-1]

    async def list_threads(
        self,
        account: str,
        *,
        equal: Mapping[str, Any],
        awaiting_before: datetime | None,
        unanswered: bool,
        after: str,
        limit: int,
    ) -> list[Document]:
        """Threads in order of id, those behind the id `after`.

        Args:
            account: Whose.
            equal: Any of `people`, `mailboxes`.
            awaiting_before: Only those in which we have waited for an answer since before this time.
            unanswered: Only those in which somebody waits for our answer.
            after: The id behind which to go on; may be empty.
            limit: At most so many.
        """
        conditions = dict(equal)
        spans: dict[str, Any] = {}
        if awaiting_before is not None:
            spans["awaiting_since"] = {"$lt": awaiting_before, "$gt": NEVER}
        if unanswered:
            spans["unanswered_since"] = {"$gt": NEVER}
        leading = next(iter(conditions or spans), "_id")
        first = conditions if leading in conditions else spans
        lead = {leading: first.pop(leading)} if first else {}
        return await self._database.aggregate(
            "threads",
            [
                {"$match": {"account": account, **lead}},
                {"$match": conditions | spans | {"_id": {"$gt": after}}},
                {"$sort": {"_id": 1}},
                {"$limit": limit},
            ],
        )
