"""Reads a mail that came from anywhere: whatever its bytes are, something is shown and nothing is raised."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING

from multimail_server.mail import reports
from multimail_server.mail.html import text_from_html

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from typing import Any, Literal, TypeVar

    from multimail_server.mail.reports import Authentication, Report

    T = TypeVar("T")

# What 10 MiB of files, the most we send, become in base64, with bodies; and what still fits into one document.
MAX_RAW_BYTES = 14 << 20
MAX_BODY_BYTES = 256 << 10
MAX_PARTS = 1_000
MAX_LINES = 500_000
MAX_DEPTH = 20
MAX_REFERENCES = 50
MAX_ADDRESSES = 500
_MAX_HEADER = 4_000
_MAX_ADDRESS_HEADER = 64_000
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BODY_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,900}>")
_ADDRESS = re.compile(r"[^\s<>@,;:\"()\[\]]{1,64}@[^\s<>@,;:\"()\[\]]{1,253}")


@dataclass(frozen=True, slots=True)
class AttachmentInfo:
    """One file: its name without path, its media type, its decoded size in bytes."""

    filename: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ParsedMail:
    """What could be read of a mail.

    Attributes:
        from_address: The author's bare address; empty when there is none.
        from_name: The author's name.
        reply_to: Bare addresses of Reply-To.
        to: Bare addresses of To.
        cc: Bare addresses of Cc.
        subject: The subject, decoded, on one line.
        message_id: With angle brackets; empty when missing or unreadable.
        in_reply_to: The first Message-ID of In-Reply-To.
        references: Message-IDs of References, oldest first, the newest 50.
        date: The Date header; None when unreadable.
        text: The text, at most 256 KiB in UTF-8; made from the HTML when there is no text part.
        html: The HTML part, at most 256 KiB.
        attachments: The files.
        defects: What was wrong, in words.
        truncated: Whether a body was cut.
        kind: Whether a person wrote it, as far as can be told.
        reports: For `delivery_status`, what became of each recipient.
        reported_id: For `delivery_status`, the Message-ID of the mail it is about; may be empty.
        authentications: What mail servers on its way found out about the author, the last one first.
    """

    from_address: str = ""
    from_name: str = ""
    reply_to: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str = ""
    message_id: str = ""
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    date: datetime | None = None
    text: str = ""
    html: str = ""
    attachments: tuple[AttachmentInfo, ...] = ()
    defects: tuple[str, ...] = ()
    truncated: bool = False
    kind: Literal["personal", "auto_reply", "delivery_status"] = "personal"
    reports: tuple[Report, ...] = ()
    reported_id: str = ""
    authentications: tuple[Authentication, ...] = ()


def parse_mail(raw: bytes) -> ParsedMail:
    """Reads a mail; never raises."""
    defects: list[str] = []
    if raw.count(b"\n") > MAX_LINES:
        defects.append(f"it has more than {MAX_LINES} lines; the rest was not read")
    message = _guarded(lambda: _read(raw), None, defects, "the mail")
    if message is None:
        return ParsedMail(defects=tuple(defects), text=_clean(raw.decode("utf-8", "replace"))[:MAX_BODY_BYTES])
    if not message.keys():
        defects.append("it has no headers")
    authors = _addresses(message, "From", defects)
    if not authors:
        defects.append("it names no author")
    bodies = _Bodies(defects)
    _guarded(lambda: bodies.collect(message), None, defects, "the body")
    text, html, cut = bodies.cut()
    references = _ids(message, "References", defects)
    report = _guarded(lambda: reports.is_report(message), False, defects, "the report")
    automatic = report or _guarded(lambda: reports.is_automatic(message), False, defects, "Auto-Submitted")
    return ParsedMail(
        from_address=authors[0][1] if authors else "",
        from_name=authors[0][0] if authors else "",
        reply_to=_bare(_addresses(message, "Reply-To", defects)),
        to=_bare(_addresses(message, "To", defects)),
        cc=_bare(_addresses(message, "Cc", defects)),
        subject=_header(message, "Subject", defects),
        message_id=next(iter(_ids(message, "Message-ID", defects)), ""),
        in_reply_to=next(iter(_ids(message, "In-Reply-To", defects)), ""),
        references=references[-MAX_REFERENCES:],
        date=_date(message, defects),
        text=text,
        html=html,
        attachments=tuple(bodies.attachments),
        defects=tuple(dict.fromkeys(defects)),
        truncated=cut,
        kind="delivery_status" if report else "auto_reply" if automatic else "personal",
        reports=tuple(_guarded(lambda: reports.reports_in(message), [], defects, "the report")) if report else (),
        reported_id=_guarded(lambda: reports.reported_id(message), "", defects, "the report") if report else "",
        authentications=reports.authentications_in(_values(message, "Authentication-Results")),
    )


def file_in(raw: bytes, index: int) -> bytes:
    """The bytes of the file that `parse_mail` lists under this number; raises IndexError when there is none."""
    bodies = _Bodies([])
    bodies.collect(_read(raw))
    return bodies.files[index]()


class _Part(Message):
    """A part that knows how deep it lies; below MAX_DEPTH nothing is divided further, for that costs by depth."""

    _depth = 0

    def attach(self, payload: Any) -> None:
        """Takes one part in."""
        payload._depth = self._depth + 1  # noqa: SLF001  one of its own kind
        super().attach(payload)

    def get_boundary(self, failobj: Any = None) -> Any:
        """What divides its parts."""
        return super().get_boundary(failobj) if self._depth < MAX_DEPTH else failobj


def _read(raw: bytes) -> Message[Any, Any]:
    """The mail's parts, as far as its first MAX_LINES lines go: what comes of more is the work of a minute."""
    if raw.count(b"\n") > MAX_LINES:
        raw = b"\n".join(raw.split(b"\n", MAX_LINES)[:MAX_LINES])
    return email.message_from_bytes(raw, _Part, policy=email.policy.compat32)


def _guarded(read: Callable[[], T], fallback: T, defects: list[str], what: str) -> T:
    """What `read` returns, or the fallback and a defect: the standard library fails on some mails in many ways."""
    try:
        return read()
    except Exception:  # noqa: BLE001  whatever it is, the mail is kept
        defects.append(f"{what} could not be read")
        return fallback


def _values(message: Message[Any, Any], name: str) -> list[str]:
    """The raw values of a header, unfolded; bytes that are no ASCII read as UTF-8, else as Latin-1."""
    values: list[str] = []
    for header, value in message.raw_items():
        if header.lower() == name.lower():
            data = str(value).encode("utf-8", "surrogateescape")
            try:
                values.append(data.decode())
            except UnicodeDecodeError:
                values.append(data.decode("latin-1"))
    return values


def _decoded(value: str) -> str:
    """A header value with its encoded words decoded; an unreadable one stays as it is."""
    parts: list[str] = []
    for part, charset in decode_header(value[:_MAX_HEADER]):
        if isinstance(part, str):
            parts.append(part)
        else:
            parts.append(_text_of(part, charset or "utf-8"))
    return "".join(parts)


def _text_of(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except (LookupError, UnicodeError, ValueError):
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")


def _line(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join(_CONTROLS.sub(" ", _whole(text)).split())


def _whole(text: str) -> str:
    """The text with half characters replaced, so that it can be stored."""
    return text.encode("utf-8", "replace").decode()


def _header(message: Message[Any, Any], name: str, defects: list[str]) -> str:
    values = _values(message, name)
    if not values:
        return ""
    return _guarded(lambda: _line(_decoded(values[0])), _line(values[0][:_MAX_HEADER]), defects, name)


def _addresses(message: Message[Any, Any], name: str, defects: list[str]) -> list[tuple[str, str]]:
    """Names and bare addresses of an address header, those that have the form of one."""
    found: list[tuple[str, str]] = []
    for value in _values(message, name):
        for person, address in _pairs(value[:_MAX_ADDRESS_HEADER])[:MAX_ADDRESSES]:
            match = _ADDRESS.fullmatch(address.strip())
            if match:
                shown = _guarded(partial(_decoded, person), person, defects, name)
                found.append((_line(shown), _whole(match.group())))
    return found[:MAX_ADDRESSES]


def _pairs(value: str) -> list[tuple[str, str]]:
    """Names and addresses; where the standard library gives up, everything that looks like an address."""
    try:
        pairs = [pair for pair in getaddresses([_CONTROLS.sub(" ", value)]) if "@" in pair[1]]
    except Exception:  # noqa: BLE001  it fails on some headers in many ways
        pairs = []
    return pairs or [("", found) for found in _ADDRESS.findall(value)]


def _bare(pairs: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for _, address in pairs))


def _ids(message: Message[Any, Any], name: str, defects: list[str]) -> tuple[str, ...]:
    values = _values(message, name)
    ids = [each for value in values for each in _MESSAGE_ID.findall(_CONTROLS.sub(" ", value))]
    if values and not ids and name == "Message-ID":
        defects.append("its Message-ID is unreadable")
    return tuple(dict.fromkeys(_whole(each) for each in ids))


def _date(message: Message[Any, Any], defects: list[str]) -> datetime | None:
    values = _values(message, "Date")
    return _guarded(lambda: parsedate_to_datetime(values[0]), None, defects, "Date") if values else None


class _Bodies:
    """The text, HTML and files found in a mail's parts."""

    def __init__(self, defects: list[str]) -> None:
        self._defects = defects
        self._texts: list[str] = []
        self._htmls: list[str] = []
        self.attachments: list[AttachmentInfo] = []
        self.files: list[Callable[[], bytes]] = []

    def collect(self, message: Message[Any, Any]) -> None:
        """Looks at every part, outermost first, up to a bound."""
        for number, part in enumerate(_parts(message)):
            if number >= MAX_PARTS:
                self._defects.append(f"it has more than {MAX_PARTS} parts; the rest was not read")
                return
            if part.is_multipart() and part.get_content_maintype() == "multipart":
                continue
            _guarded(partial(self._take, part), None, self._defects, "a part")

    def _take(self, part: Message[Any, Any]) -> None:
        kind = part.get_content_type()
        filename = part.get_filename()
        is_file = filename is not None or part.get_content_disposition() == "attachment"
        if kind in ("text/plain", "text/html") and not is_file:
            data = part.get_payload(decode=True)
            charset = part.get_content_charset() or "utf-8"
            text = _clean(_text_of(data if isinstance(data, bytes) else b"", charset))
            (self._texts if kind == "text/plain" else self._htmls).append(text)
            return
        name = _line(_decoded(str(filename or ""))).replace("\\", "/").rpartition("/")[2]
        self.attachments.append(AttachmentInfo(name[:255], _line(kind)[:127], len(_bytes(part))))
        self.files.append(partial(_bytes, part))

    def cut(self) -> tuple[str, str, bool]:
        """Text and HTML within their bounds, and whether one was cut."""
        html = "\n".join(self._htmls)
        text = "\n".join(self._texts)
        if not text.strip() and html:
            text = _guarded(lambda: text_from_html(html[:MAX_BODY_BYTES]), "", self._defects, "the HTML")
        short_text, short_html = _shortened(text), _shortened(html)
        return short_text, short_html, (short_text, short_html) != (text, html)


def _parts(message: Message[Any, Any]) -> Iterator[Message[Any, Any]]:
    """Every part; those inside an attached mail belong to it."""
    stack = [message]
    while stack:
        part = stack.pop()
        yield part
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            payload = part.get_payload()
            stack.extend(each for each in reversed(payload) if not isinstance(each, str))  # type: ignore[arg-type]


def _bytes(part: Message[Any, Any]) -> bytes:
    if part.is_multipart():
        return part.as_bytes()
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _clean(text: str) -> str:
    return _BODY_CONTROLS.sub("", _whole(text).replace("\r\n", "\n").replace("\r", "\n"))


def _shortened(text: str) -> str:
    """At most 256 KiB of the text, never half a character."""
    if len(text) * 4 <= MAX_BODY_BYTES:
        return text
    return text.encode()[:MAX_BODY_BYTES].decode("utf-8", "ignore")
