"""Writes a mail as it goes over the wire, the same bytes every time, and refuses what could smuggle a header."""

from __future__ import annotations

import email
import email.policy
import hashlib
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.aip.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from multimail_server.mail.content import File

MAX_SUBJECT = 998
_PART_HEADERS = 4  # Content-Type, Content-Transfer-Encoding, Content-Disposition, MIME-Version


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a mail says.

    Attributes:
        from_address: The author's address.
        from_name: The author's name; may be empty.
        to: The addresses shown in To, at least one.
        subject: The subject.
        text: The text; lines end with LF or CRLF.
        message_id: The Message-ID with its angle brackets.
        date: When it was accepted.
        in_reply_to: The Message-ID it answers; may be empty.
        references: The Message-IDs before it in the conversation, oldest first.
        cc: The addresses shown in Cc.
        reply_to: The addresses in Reply-To.
        html: The HTML part; empty for none.
        files: The files.
        unsubscribe: The address of List-Unsubscribe; empty for no such header.
        unsubscribe_link: The link to unsubscribe in one click (RFC 8058); empty for none.
    """

    from_address: str
    from_name: str
    to: tuple[str, ...]
    subject: str
    text: str
    message_id: str
    date: datetime
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    html: str = ""
    files: tuple[File, ...] = ()
    unsubscribe: str = ""
    unsubscribe_link: str = ""


def message_id_for(email_id: str, domain: str) -> str:
    """The Message-ID of a mail of ours."""
    return f"<{email_id}@{domain}>"


def needs_smtputf8(outgoing: Outgoing) -> bool:
    """Whether an address has letters before the @ that only SMTPUTF8 can carry."""
    shown = (outgoing.from_address, *outgoing.to, *outgoing.cc, *outgoing.reply_to)
    return not all(address.rpartition("@")[0].isascii() for address in shown)


def compose(outgoing: Outgoing) -> bytes:
    """The mail's bytes, lines ending with CRLF; refuses what does not read back as it was meant."""
    utf8 = needs_smtputf8(outgoing)
    policy = email.policy.SMTPUTF8 if utf8 else email.policy.SMTP
    message = EmailMessage(policy)
    text, html = _lines(outgoing.text), _lines(outgoing.html)
    message.set_content(text, cte=_encoding(text))
    if html:
        message.add_alternative(html, subtype="html", cte=_encoding(html))
    for file in outgoing.files:
        kind, _, subtype = file.content_type.partition("/")
        message.add_attachment(file.data, maintype=kind, subtype=subtype, filename=file.filename)
    _separate(message, outgoing.message_id)
    by_hand = _by_hand(outgoing)
    data = b"".join(by_hand) + message.as_bytes()
    _check(data, outgoing, len(message.keys()) + len(by_hand))
    return data


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separate(message: EmailMessage, seed: str) -> None:
    """Gives every multipart its boundary: a fixed one, so that the mail has the same bytes every time it is tried."""
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary("=_" + hashlib.sha256(f"{seed}\0{number}".encode()).hexdigest()[:40])


def _by_hand(outgoing: Outgoing) -> list[bytes]:
    """The headers the standard library would change.

    It decodes an encoded word in a text, though it may be meant as it stands, folds odd white space away, and makes
    encoded words of long Message-IDs, by which nobody finds the conversation again.
    """
    headers = [
        b"Subject: " + _words(outgoing.subject),
        b"From: " + _named(outgoing.from_name, sendable(outgoing.from_address)),
        b"To: " + _listed(outgoing.to),
        b"Date: " + format_datetime(outgoing.date).encode(),
        b"Message-ID: " + outgoing.message_id.encode(),
    ]
    if outgoing.cc:
        headers.append(b"Cc: " + _listed(outgoing.cc))
    if outgoing.reply_to:
        headers.append(b"Reply-To: " + _listed(outgoing.reply_to))
    if outgoing.unsubscribe:
        ways = [b"<mailto:" + sendable(outgoing.unsubscribe).encode() + b">"]
        if outgoing.unsubscribe_link:
            ways.insert(0, b"<" + outgoing.unsubscribe_link.encode() + b">")
            headers.append(b"List-Unsubscribe-Post: List-Unsubscribe=One-Click")
        headers.append(b"List-Unsubscribe: " + b",\r\n ".join(ways))
    if outgoing.in_reply_to.isascii() and outgoing.in_reply_to:
        headers.append(b"In-Reply-To: " + outgoing.in_reply_to.encode())
    references = [each.encode() for each in outgoing.references if each.isascii()]
    if references:
        headers.append(b"References: " + b"\r\n ".join(references))
    return [header + b"\r\n" for header in headers]


def _listed(addresses: Sequence[str]) -> bytes:
    return b",\r\n ".join(sendable(address).encode() for address in addresses)


def sendable(address: str) -> str:
    """The address as headers and envelopes hold it: the domain as A-label, unless it needs SMTPUTF8 anyway."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{parse_address(address, 'to').domain}" if local.isascii() else f"{local}@{domain}"


def _encoding(text: str) -> str:
    """Plain where every line is short ASCII, else quoted-printable or, for texts mostly not ASCII, base64."""
    if text.isascii() and all(len(line) < 900 for line in text.split("\n")):
        return "7bit"
    odd = sum(not character.isascii() for character in text)
    return "base64" if odd * 3 > len(text) else "quoted-printable"


def _named(name: str, address: str) -> bytes:
    """An address with a name before it: quoted where it is plain, else in encoded words."""
    if not name:
        return address.encode()
    plain = name.isascii() and "=?" not in name
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return (quoted.encode() if plain else _encoded_words(name)) + b" <" + address.encode() + b">"


def _words(text: str) -> bytes:
    """A text as a header's value: plain when it reads back as itself, else encoded words, folded."""
    if text.isascii() and "=?" not in text and len(text) <= 900 and text == text.strip():
        return text.encode()
    return _encoded_words(text)


def _encoded_words(text: str) -> bytes:
    words = []
    piece = ""
    for character in text:
        if len((piece + character).encode()) > 42:
            words.append(_encoded_word(piece))
            piece = ""
        piece += character
    words.append(_encoded_word(piece))
    return b"\r\n ".join(words)


def _encoded_word(piece: str) -> bytes:
    quoted = "".join(
        chr(octet) if chr(octet).isalnum() and octet < 128 else f"={octet:02X}" for octet in piece.encode()
    )
    return f"=?utf-8?q?{quoted}?=".encode()


def _check(data: bytes, outgoing: Outgoing, headers: int) -> None:
    """Reads the mail back: it must have the headers it was given, and say in them what was meant."""
    head = data.partition(b"\r\n\r\n")[0]
    names = [line for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    back = email.message_from_bytes(data, policy=email.policy.default)
    if len(names) != headers or len(back.keys()) != headers:
        raise errors.invalid_field("subject", "would change the headers of the mail")
    for part, file in zip(back.iter_attachments(), outgoing.files, strict=True):
        if part.get_filename() != file.filename or len(part.keys()) > _PART_HEADERS:
            raise errors.invalid_field("attachments", "have a name that would change the headers of the mail")
    if any(len(line) > 998 for line in data.split(b"\r\n")):
        raise errors.invalid_field("body", "has a line that no mail can carry")
    if str(back["Message-ID"]).strip() != outgoing.message_id or len(back["To"].addresses) != len(outgoing.to):
        raise errors.invalid_field("to", "would change the headers of the mail")
