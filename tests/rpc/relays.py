"""A mail server that answers by script, with TLS and AUTH where a test wants them, and services that relay to it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import defaultdict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING

import aiosmtplib
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.conftest import Account, Commands, settings_for

from multimail_server.app import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

HANG_UP = b""


@dataclass
class Session:
    """One connection as the peer saw it."""

    number: int
    tls: bool = False
    user: str = ""
    password: str = ""
    commands: list[bytes] = field(default_factory=list)
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    options: bytes = b""


@dataclass(frozen=True)
class Delivery:
    """One message whose content arrived, whatever was answered to it."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    session: Session
    options: bytes
    answer: bytes


class Peer:
    """A mail server that takes everything, except what its script says.

    Attributes:
        script: For a verb (`MAIL`, `RCPT`, `DATA`, `.`, `EHLO`, `220`) or a verb and a recipient or sender
            (`RCPT a@b.test`), answers to give, each once; `HANG_UP` closes the connection.
        sessions: Every connection there was.
        deliveries: Every content that arrived, in order.
        open: How many connections there are.
        peak: The largest number of them at once.
        waiting: How many contents wait for their answer.
        gate: Contents are answered only while it is set.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, implicit: bool = False, utf8: bool = True) -> None:
        self.script: dict[str, deque[bytes]] = defaultdict(deque)
        self.sessions: list[Session] = []
        self.deliveries: list[Delivery] = []
        self.open = self.peak = self.waiting = 0
        self.port = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._tls, self._implicit, self._utf8 = tls, implicit, utf8

    def say(self, step: str, *answers: bytes) -> None:
        """Adds answers to the script."""
        self.script[step].extend(answers)

    def of(self, recipient: str) -> list[Delivery]:
        """The contents that arrived for somebody."""
        return [each for each in self.deliveries if recipient in each.recipients]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Peer]:
        """Listens on a port of this machine."""
        context = self._tls if self._implicit else None
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=32 << 20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.gate.set()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(len(self.sessions), tls=self._implicit)
        self.sessions.append(session)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            writer.write(self._answer("220", session) or b"220 peer.test\r\n")
            while line := await reader.readline():
                session.commands.append(line.strip())
                answer = await self._on(line.strip(), session, reader, writer)
                if answer == HANG_UP:
                    break
                writer.write(answer)
                await writer.drain()
                if answer[:3] in (b"421", b"221"):
                    break
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def _answer(self, step: str, session: Session) -> bytes | None:
        person = session.recipients[-1] if session.recipients else ""
        for name in (f"{step} {person}", f"{step} {session.sender}", step):
            if self.script[name]:
                return self.script[name].popleft()
        return None

    async def _on(
        self, line: bytes, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        verb = line.split(b" ")[0].split(b":")[0].upper().decode("latin-1")
        if verb == "MAIL":
            session.sender, session.recipients = _address(line), []
            session.options = line.rpartition(b">")[2]
        if verb == "RCPT":
            session.recipients.append(_address(line))
        said = self._answer(verb, session)
        if said is not None and said[:3] not in (b"250", b"354"):
            return said
        if verb == "EHLO":
            return said or self._hello(session)
        if verb == "STARTTLS" and self._tls and not session.tls:
            writer.write(b"220 go ahead\r\n")
            await writer.drain()
            await writer.start_tls(self._tls)
            session.tls = True
            session.commands.append(b"(TLS)")
            line = (await reader.readline()).strip()
            session.commands.append(line)
            return await self._on(line, session, reader, writer)
        if verb == "AUTH":
            _, session.user, session.password = base64.b64decode(line.split(b" ")[2]).decode().split("\0")
            return b"235 welcome\r\n"
        if verb == "DATA":
            return await self._content(session, reader, writer)
        return b"221 bye\r\n" if verb == "QUIT" else b"250 ok\r\n"

    def _hello(self, session: Session) -> bytes:
        offers = [b"peer.test", b"8BITMIME"]
        offers += [b"SMTPUTF8"] if self._utf8 else []
        offers += [b"STARTTLS"] if self._tls and not session.tls else [b"AUTH PLAIN"]
        return b"".join(b"250-" + each + b"\r\n" for each in offers[:-1]) + b"250 " + offers[-1] + b"\r\n"

    async def _content(self, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"354 go\r\n")
        await writer.drain()
        data = await reader.readuntil(b"\r\n.\r\n")
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        answer = self._answer(".", session)
        answer = b"250 2.0.0 taken\r\n" if answer is None else answer
        plain = data.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
        self.deliveries.append(
            Delivery(session.sender, tuple(session.recipients), plain, session, session.options, answer)
        )
        return answer


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context with a self-signed certificate for the names, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / "peer.pem", folder / "peer.key"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return context, path


@asynccontextmanager
async def serving(uri: str, folder: Path, database: str, **settings: Any) -> AsyncIterator[Account]:
    """A service of its own on a database of its own, as an account of the same name."""
    commands = Commands()
    made = settings_for(uri, folder, database=database, **settings)
    async with Service(made, listeners=[commands]) as running:
        yield Account(database, running, commands)


async def make_due(account: Account, email_id: str) -> None:
    """Makes a mail's time come now, as if its wait were over."""
    now = await account.running.database.now()
    await account.running.database.update_one("emails", {"_id": email_id}, {"$set": {"due_at": now}})


async def arrive(
    account: Account, to: str | list[str], message: EmailMessage | bytes, sender: str = "p@out.test"
) -> None:
    """Delivers a mail by SMTP to the service's listener."""
    raw = message if isinstance(message, bytes) else message.as_bytes()
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=account.running.smtp_port) as client:
        await client.mail(sender)
        for recipient in [to] if isinstance(to, str) else to:
            await client.rcpt(recipient)
        await client.data(raw)


def letter(author: str, to: str, subject: str = "hello", text: str = "hi", **headers: str) -> EmailMessage:
    """A mail from outside."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = author, to, subject
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message
