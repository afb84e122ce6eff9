"""Who takes a mail over: the relay that was set, else our own listener for mailboxes here, else a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimail_server.mail.smtp import Folder, Relay

if TYPE_CHECKING:
    from multimail_server.mail.mailboxes import MailboxStore
    from multimail_server.mail.smtp import Carrier
    from multimail_server.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  compared with, not bound to


class Carriers:
    """Chooses a carrier per recipient.

    Attributes:
        local_port: Where our own SMTP listener listens; set once it does.
    """

    local_port = 0

    def __init__(self, settings: Settings, mailboxes: MailboxStore) -> None:
        self._mailboxes = mailboxes
        self._hostname = settings.hostname
        self._local_host = _EVERYWHERE.get(settings.smtp_host, settings.smtp_host)
        relay = settings.smtp_url.get_secret_value()
        self._relay = Relay(relay, settings.hostname) if relay else None
        self._folder = Folder(settings.outbox_folder)

    async def carrier_for(self, key: str) -> Carrier:
        """The carrier for the recipient with this address key."""
        if self._relay is not None:
            return self._relay
        if await self._mailboxes.owner_of(key) is not None:
            return Relay(f"smtp://{self._local_host}:{self.local_port}", self._hostname)
        return self._folder
