"""The SMTP listener: takes mail for mailboxes of ours, and says 250 only once it is on disk."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, Envelope, Session, syntax

from multimail_server.mail.mime import MAX_RAW_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("multimail.smtp")

MAX_RECIPIENTS = 50
_TIMEOUT_S = 60.0
_FINISHES_WITHIN_S = 1.0


class _Protocol(SMTP):
    """aiosmtpd's protocol with longer lines: mail that breaks the rules there is kept, not lost."""

    line_length_limit = 64 << 10


class Listener:
    """An SMTP server on one port.

    Args:
        accepts: Whether an address is a mailbox of ours.
        take_in: Keeps a mail for one recipient: recipient, envelope sender, bytes. It returns once the mail is on
            disk, and changes nothing for a mail it kept before.
        hostname: What we call ourselves.
        max_bytes: The largest mail, in bytes.
        max_connections: How many peers may be connected.
    """

    def __init__(
        self,
        *,
        accepts: Callable[[str], Awaitable[bool]],
        take_in: Callable[[str, str, bytes], Awaitable[None]],
        hostname: str,
        max_bytes: int = MAX_RAW_BYTES,
        max_connections: int = 100,
    ) -> None:
        self._accepts = accepts
        self._take_in = take_in
        self._hostname = hostname
        self._max_bytes = max_bytes
        self._max_connections = max_connections
        self._connected: set[_Counted] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listens and returns the port, which for port 0 the system chose; `shared` with other processes or alone."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, host, port, reuse_port=shared)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stops listening and cuts those still connected: what was answered with 250 is safe, the rest comes again.

        Whoever is amid a mail has a second to hear how it ended, for else they could not tell whether it was taken.
        """
        if self._server is not None:
            self._server.close()
            for _ in range(round(_FINISHES_WITHIN_S / 0.02)):
                if not any(each.amid_mail for each in self._connected):
                    break
                await asyncio.sleep(0.02)
            for each in list(self._connected):
                if each.transport is not None:
                    each.transport.close()
            await asyncio.sleep(0)

    def _protocol(self) -> asyncio.BaseProtocol:
        return _Counted(
            self,
            self._connected,
            self._max_connections,
            data_size_limit=self._max_bytes,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname=self._hostname,
            ident="Multimail",
            timeout=_TIMEOUT_S,
            loop=asyncio.get_running_loop(),
        )

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Takes a recipient that is a mailbox of ours; never relays."""
        del server, session
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 too many recipients"
        try:
            known = await self._accepts(address)
        except Exception:
            log.exception("a recipient could not be looked up")
            return "451 4.3.0 try again later"
        if not known:
            return "550 5.1.1 no such mailbox here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keeps the mail for every recipient, then says so."""
        del server, session
        content = envelope.content
        raw = content.encode() if isinstance(content, str) else content or b""
        for recipient in dict.fromkeys(envelope.rcpt_tos):
            try:
                await self._take_in(recipient, envelope.mail_from or "", raw)
            except Exception:
                log.exception("a mail could not be kept; the peer will try again")
                return "451 4.3.0 try again later"
        return "250 2.0.0 kept"

    async def handle_exception(self, error: Exception) -> str:
        """What a peer hears when its conversation broke us."""
        log.error("an SMTP conversation failed", exc_info=error)
        return "451 4.3.0 try again later"


class _Counted(_Protocol):
    """A conversation that counts itself, and turns away when there are too many.

    Attributes:
        amid_mail: Whether a mail's content is under way, or its answer.
    """

    amid_mail = False

    def __init__(self, handler: Listener, connected: set[_Counted], most: int, **options: Any) -> None:
        super().__init__(handler, **options)
        self._connected = connected
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins, or says 421."""
        if len(self._connected) >= self._most and isinstance(transport, asyncio.Transport):
            transport.write(b"421 4.7.0 too many connections, try again later\r\n")
            transport.close()
            return
        self._connected.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends."""
        if self in self._connected:
            self._connected.discard(self)
            super().connection_lost(error)

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:
        """Takes a mail's content."""
        self.amid_mail = True
        try:
            await super().smtp_DATA(arg)
        finally:
            self.amid_mail = False
