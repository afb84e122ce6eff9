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
        self._connections = settings.smtp_connections
        self._relay = Relay(relay, settings.hostname, connections=self._connections) if relay else None
        self._local: Relay | None = None
        self._folder = Folder(settings.outbox_folder)

    async def carrier_for(self, key: str) -> Carrier:
        """The carrier for the recipient with this address key."""
        if self._relay is not None:
            return self._relay
        if await self._mailboxes.owner_of(key) is not None:
            if self._local is None:
                url = f"smtp://{self._local_host}:{self.local_port}"
                self._local = Relay(url, self._hostname, connections=self._connections)
            return self._local
        return self._folder

    async def close(self) -> None:
        """Takes leave of every mail server."""
        for relay in (self._relay, self._local):
            if relay is not None:
                await relay.close()
