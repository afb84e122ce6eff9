"""What comes from outside without a key: mail by SMTP, and links by which people unsubscribe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.aip.address import parse_address
from multimail_server.errors import DomainError
from multimail_server.storage.documents import SERVICE, Need
from multimail_server.storage.operation import Request

if TYPE_CHECKING:
    from multimail_server.mail.mailboxes import MailboxStore
    from multimail_server.mail.store import MailStore
    from multimail_server.mail.tags import Tags
    from multimail_server.storage.documents import Document


class Inbound:
    """What the SMTP listener asks for, and the page for unsubscribing."""

    def __init__(self, mailboxes: MailboxStore, mail: MailStore, tags: Tags) -> None:
        self._mailboxes = mailboxes
        self._mail = mail
        self._tags = tags

    async def accepts(self, address: str) -> bool:
        """Whether the address is a mailbox of ours, or one that we sealed for a mail of it."""
        return await self._owner(address) is not None

    async def take_in(self, address: str, envelope_from: str, raw: bytes) -> None:
        """Keeps a mail for the mailbox with this address; a second time, it changes nothing."""
        owner = await self._owner(address)
        if owner is None:  # deleted since it was accepted: the peer tries again, and then hears that it is gone
            raise errors.not_found("mailbox")
        request = Request(owner["account"], "smtp", SERVICE)
        need = Need("mailboxes", "_id", (owner["mailbox"],))
        await self._mail.take_in(request, need, raw, envelope_from, self._tags.read(address))

    def is_ours(self, token: str) -> bool:
        """Whether a link ends as those do that we sealed for our mail."""
        return self._tags.read_token(token) is not None

    async def unsubscribe(self, token: str) -> bool:
        """Suppresses whom the link was made for; False when it is not one of ours."""
        found = self._tags.read_token(token)
        return found is not None and await self._mail.unsubscribe(*found)

    async def _owner(self, address: str) -> Document | None:
        tag = self._tags.read(address)
        try:
            key = parse_address(tag.mailbox if tag else address, "recipient").key
        except DomainError:
            return None
        return await self._mailboxes.owner_of(key)
