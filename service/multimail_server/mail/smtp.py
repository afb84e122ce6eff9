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
_FOR_GOOD = 500
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
    return Outcome(state, _CONTROLS.sub(" ", response)[:_MAX_RESPONSE])


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
    """An SMTP server that takes our mail.

    Args:
        url: `smtp://[user:password@]host[:port]` or `smtps://…`. STARTTLS is required unless the host is this machine.
        hostname: What we call ourselves in EHLO.
    """

    def __init__(self, url: str, hostname: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._tls else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._hostname = hostname

    async def deliver(
        self, *, sender: str, recipient: str, message: bytes, smtputf8: bool, before_dot: BeforeDot
    ) -> Outcome:
        """One SMTP transaction; see Carrier.deliver."""
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._hostname,
            timeout=_STEP_TIMEOUT_S,
            use_tls=self._tls,
            start_tls=None if self._tls or is_loopback(self._host) else True,
            tls_context=ssl.create_default_context() if not is_loopback(self._host) else None,
            validate_certs=not is_loopback(self._host),
            username=self._user or None,
            password=self._password or None,
        )
        handing_over = False
        try:
            await client.connect()
            if smtputf8 and not client.supports_extension("SMTPUTF8"):
                return _outcome("failed", "the mail server cannot take addresses with these letters (no SMTPUTF8)")
            options = ["SMTPUTF8"] if smtputf8 else []
            encoding = "utf-8" if smtputf8 else "ascii"
            await client.mail(sender, options=options, encoding=encoding)
            await client.rcpt(recipient, encoding=encoding)
            if not await before_dot():
                return _outcome("retry", "stopped before the content went out")
            handing_over = True
            reply = await client.data(message, timeout=_DATA_TIMEOUT_S)
        except aiosmtplib.SMTPResponseException as error:
            return _outcome("failed" if error.code >= _FOR_GOOD else "retry", f"{error.code} {error.message}")
        except aiosmtplib.SMTPNotSupported as error:
            return _outcome("retry", f"the mail server offers no STARTTLS or no usable AUTH: {error}")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return _outcome("in_doubt" if handing_over else "retry", str(error) or type(error).__name__)
        finally:
            await _leave(client)
        return _outcome("accepted", f"{reply.code} {reply.message}")


async def _leave(client: aiosmtplib.SMTP) -> None:
    """Says goodbye if anybody listens; what comes after the outcome cannot change it."""
    try:
        if client.is_connected:
            await client.quit(timeout=2)
    except (aiosmtplib.SMTPException, OSError):
        client.close()


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
