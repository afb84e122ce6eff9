"""Hands one mail to one recipient's next stop: an SMTP relay in one transaction, or a folder of files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    BeforeDot = Callable[[], Awaitable[bool]]

_STEP_TIMEOUT_S = 30.0
_DATA_TIMEOUT_S = 120.0
_MAX_RESPONSE = 500
_LEAVE_TIMEOUT_S = 2.0
_KEPT_S = 20.0
_USED_AT_MOST = 100
_FOR_NOW, _FOR_GOOD, _NO_CODE = 400, 500, 600
_CLOSING = 421
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a hand-over ended.

    Attributes:
        state: `accepted`; `failed`, refused for good; `retry`, not handed over, try later; `in_doubt`, nobody can tell.
        response: What the other side said, or what went wrong; at most 500 characters, from outside.
    """

    state: Literal["accepted", "failed", "retry", "in_doubt"]
    response: str


def _outcome(state: Literal["accepted", "failed", "retry", "in_doubt"], response: str) -> Outcome:
    # Octets that are no UTF-8 come as lone surrogates, which no database keeps.
    text = response.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Outcome(state, _CONTROLS.sub(" ", text)[:_MAX_RESPONSE])


class Carrier(Protocol):
    """Anything that can take a mail over."""

    async def deliver(
        self, *, sender: str, recipient: str, message: bytes, smtputf8: bool, before_dot: BeforeDot
    ) -> Outcome:
        """Hands the message over for one recipient.

        Args:
            sender: The envelope's sender.
            recipient: The envelope's recipient.
            message: The mail, lines ending with CRLF.
            smtputf8: Whether it needs SMTPUTF8.
            before_dot: Awaited once the recipient was accepted and before the content goes out, to mark on disk that
                from now on nobody can tell; if it returns False, nothing goes out and the outcome is `retry`.
        """
        ...


class Relay:
    """An SMTP server that takes our mail, over connections that are kept and used again.

    Args:
        url: `smtp://[user:password@]host[:port]` or `smtps://…`. STARTTLS is required unless the host is this machine.
        hostname: What we call ourselves in EHLO.
        connections: How many connections to it there may be at once.
    """

    def __init__(self, url: str, hostname: str, *, connections: int = 8) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._tls else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._hostname = hostname
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def deliver(
        self, *, sender: str, recipient: str, message: bytes, smtputf8: bool, before_dot: BeforeDot
    ) -> Outcome:
        """One SMTP transaction; see Carrier.deliver."""
        transaction = _Transaction(sender, recipient, message, smtputf8, before_dot)
        async with self._slots:
            try:
                if (kept := await self._kept()) is not None:
                    return await self._on(kept, transaction)
            except _ConnectionLostError:  # the server did not keep it as long as we did
                kept = None
            try:
                return await self._on(await self._connected(), transaction)
            except _ConnectionLostError as error:
                return _outcome("retry", str(error))

    async def close(self) -> None:
        """Takes leave on every connection that is kept."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.leave() for connection in idle))

    async def _kept(self) -> _Connection | None:
        """A kept connection on which a transaction can begin; takes leave on those that are worn out."""
        while self._idle:
            connection = self._idle.pop()
            fresh = asyncio.get_running_loop().time() - connection.since < _KEPT_S
            if fresh and connection.used < _USED_AT_MOST and await connection.ready():
                return connection
            await connection.leave()
        return None

    async def _connected(self) -> _Connection:
        local = is_loopback(self._host)
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._hostname,
            timeout=_STEP_TIMEOUT_S,
            use_tls=self._tls,
            start_tls=None if self._tls or local else True,
            tls_context=None if local else ssl.create_default_context(),
            validate_certs=not local,
            username=self._user or None,
            password=self._password or None,
        )
        try:
            await client.connect()
        except aiosmtplib.SMTPNotSupported as error:
            client.close()
            raise _ConnectionLostError(f"the mail server offers no STARTTLS or no usable AUTH: {error}") from error
        except aiosmtplib.SMTPResponseException as error:  # whatever it says, it says of us, not of this mail
            client.close()
            raise _ConnectionLostError(f"the mail server refuses us: {error.code} {error.message}") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise _ConnectionLostError(str(error) or type(error).__name__) from error
        except BaseException:
            client.close()
            raise
        return _Connection(client)

    async def _on(self, connection: _Connection, transaction: _Transaction) -> Outcome:
        """Runs the transaction on a connection, and keeps the connection.

        Nothing is said on it between the outcome and its record: whether it is still good shows before its next use.
        """
        try:
            outcome = await transaction.run(connection.client)
        except BaseException:
            connection.client.close()
            raise
        connection.used += 1
        connection.since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        return outcome


class _ConnectionLostError(Exception):
    """The connection is of no use, and nothing was handed over on it."""


@dataclass(slots=True)
class _Connection:
    """A connection, how many transactions it has seen, and since when it waits for the next."""

    client: aiosmtplib.SMTP
    used: int = 0
    since: float = 0.0

    async def ready(self) -> bool:
        """Whether the next transaction can begin on it."""
        if not self.client.is_connected:
            return False
        try:
            await self.client.rset(timeout=_LEAVE_TIMEOUT_S)
        except (aiosmtplib.SMTPException, OSError, ValueError):
            return False
        return True

    async def leave(self) -> None:
        """Says goodbye if anybody listens; what comes after the outcome cannot change it."""
        try:
            if self.client.is_connected:
                await self.client.quit(timeout=_LEAVE_TIMEOUT_S)
        except (aiosmtplib.SMTPException, OSError, ValueError):
            pass
        finally:
            self.client.close()


@dataclass(slots=True)
class _Transaction:
    """One mail for one recipient."""

    sender: str
    recipient: str
    message: bytes
    smtputf8: bool
    before_dot: BeforeDot

    async def run(self, client: aiosmtplib.SMTP) -> Outcome:
        """Hands the mail over.

        Raises:
            _ConnectionLostError: The connection ended before the content went out.
        """
        if self.smtputf8 and not client.supports_extension("SMTPUTF8"):
            return _outcome("failed", "the mail server cannot take addresses with these letters (no SMTPUTF8)")
        encoding = "utf-8" if self.smtputf8 else "ascii"
        try:
            await client.mail(self.sender, options=["SMTPUTF8"] if self.smtputf8 else [], encoding=encoding)
            await client.rcpt(self.recipient, encoding=encoding)
        except aiosmtplib.SMTPResponseException as error:
            if error.code == _CLOSING:
                raise _ConnectionLostError(f"{error.code} {error.message}") from error
            return _read(error, otherwise="retry")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise _ConnectionLostError(str(error) or type(error).__name__) from error
        if not await self.before_dot():
            return _outcome("retry", "stopped before the content went out")
        try:
            reply = await client.data(self.message, timeout=_DATA_TIMEOUT_S)
        except aiosmtplib.SMTPResponseException as error:
            return _read(error, otherwise="in_doubt")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return _outcome("in_doubt", str(error) or type(error).__name__)
        return _outcome("accepted", f"{reply.code} {reply.message}")


def _read(error: aiosmtplib.SMTPResponseException, *, otherwise: Literal["retry", "in_doubt"]) -> Outcome:
    """What a reply says: 5xx is for good, 4xx is for now, and whatever is neither tells nothing."""
    said = f"{error.code} {error.message}"
    if _FOR_NOW <= error.code < _FOR_GOOD:
        return _outcome("retry", said)
    return _outcome("failed" if _FOR_GOOD <= error.code < _NO_CODE else otherwise, said)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Folder:
    """Writes mails as `.eml` files for want of a relay: for trying out, and for tools that pick them up.

    Args:
        folder: Where; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def deliver(
        self, *, sender: str, recipient: str, message: bytes, smtputf8: bool, before_dot: BeforeDot
    ) -> Outcome:
        """Writes one file per mail and recipient; written twice, it is still one. See Carrier.deliver."""
        del sender, smtputf8  # a file has no envelope
        if not await before_dot():
            return _outcome("retry", "stopped before the file was written")
        try:
            path = await asyncio.to_thread(self._write, recipient, message)
        except OSError as error:
            return _outcome("retry", f"could not write to the outbox folder: {error.strerror}")
        return _outcome("accepted", f"written to {path.name}")

    def _write(self, recipient: str, message: bytes) -> Path:
        head = message.partition(b"\r\n\r\n")[0]
        found = re.search(rb"^Message-ID:\s*<([A-Za-z0-9_]+)@", head, re.MULTILINE | re.IGNORECASE)
        name = found.group(1).decode() if found else hashlib.sha256(message).hexdigest()[:32]
        path = self._folder / f"{name}-{hashlib.sha256(recipient.encode()).hexdigest()[:8]}.eml"
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        with draft.open("wb") as file:
            file.write(b"X-Envelope-To: " + recipient.encode() + b"\r\n" + message)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path
