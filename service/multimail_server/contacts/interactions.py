"""A contact's log: the mails that went to or came from the person, which wrote themselves into it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from multimail_server.storage.newest import newest_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.reads import Reader

_SHOWN = dict.fromkeys(
    ("direction", "at", "mailbox", "thread", "headers.subject", "agent", "state", "replied_at", "read_at"), 1
)


class Interactions:
    """Reads logs. What can still change (state, replies, reads, the mailbox) is joined when it is read."""

    def __init__(self, database: Database, reader: Reader) -> None:
        self._database = database
        self._reader = reader

    async def with_mailboxes(self, account: str, emails: Sequence[Document]) -> list[Document]:
        """These mails, each with `mailbox_deleted`."""
        names = list({email["mailbox"] for email in emails})
        found = await asyncio.gather(*(self._reader.one(account, "mailboxes", "_id", name) for name in names))
        deleted = {
            name for name, mailbox in zip(names, found, strict=True) if mailbox is None or mailbox["delete_time"]
        }
        return [email | {"mailbox_deleted": email["mailbox"] in deleted} for email in emails]

    async def list(self, account: str, contact_id: str, *, before: Sequence[Any] | None, limit: int) -> list[Document]:
        """The contact's mails, newest first, those behind the position `before`, each with `mailbox_deleted`."""
        emails = await newest_first(
            self._database, "emails", {"account": account, "people": contact_id}, {}, before, limit, _SHOWN
        )
        return await self.with_mailboxes(account, emails)
