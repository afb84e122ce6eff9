"""What kind of mail arrived: a report about delivery (RFC 3464), an automatic answer (RFC 3834), or a person's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimail_server.mail.events import MAX_DETAIL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from email.message import Message

_MAX_REPORTS = 100
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MAX_HEAD_BYTES = 64 << 10
_MESSAGE_ID_LINE = re.compile(r"^Message-ID:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,900}>")
_STATUS = re.compile(r"([245])\.\d{1,3}\.\d{1,3}")
_RESULT = re.compile(r"\s*(spf|dkim|dmarc)\s*(?:/\s*\d+\s*)?=\s*([A-Za-z]+)", re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]*\)")


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one recipient.

    Attributes:
        addresses: Their address, as the report names it, then the one it was written to, which a forwarding may hide.
        action: `failed`, `delayed`, `delivered`, `relayed` or `expanded`.
        permanent: Whether a failure is for good.
        detail: What was said.
    """

    addresses: tuple[str, ...]
    action: str
    permanent: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Authentication:
    """What one mail server found out about the author (RFC 8601); each is empty when it was not checked."""

    authserv_id: str
    spf: str = ""
    dkim: str = ""
    dmarc: str = ""


def is_report(message: Message[Any, Any]) -> bool:
    """Whether the mail is a report about the delivery of another."""
    if message.get_content_type() != "multipart/report":
        return False
    return str(message.get_param("report-type", "")).lower() == "delivery-status"


def is_automatic(message: Message[Any, Any]) -> bool:
    """Whether no person wrote the mail, by the headers that say so."""
    submitted = str(message.get("Auto-Submitted", "no")).partition(";")[0].strip().lower()
    precedence = str(message.get("Precedence", "")).strip().lower()
    answers = any(message.get(name) is not None for name in ("X-Autoreply", "X-Autorespond"))
    # Machines ask others not to answer; what they ask about receipts says nothing.
    asks = {each.strip().lower() for each in str(message.get("X-Auto-Response-Suppress", "")).split(",")}
    silent = not asks.isdisjoint(("all", "oof", "autoreply"))
    return submitted not in ("", "no") or precedence in ("bulk", "junk", "list", "auto_reply") or answers or silent


def reports_in(message: Message[Any, Any]) -> list[Report]:
    """What a report says about each recipient."""
    found = []
    for part in message.walk():
        if part.get_content_type() == "message/delivery-status" and part.is_multipart():
            blocks: Any = part.get_payload()
            found += [report for block in blocks if (report := _report(block)) is not None]
    return found[:_MAX_REPORTS]


def _report(block: Message[Any, Any]) -> Report | None:
    named = (str(block.get(name, "")) for name in ("Final-Recipient", "Original-Recipient"))
    addresses = (each.rpartition(";")[2].strip().strip("<>")[:320] for each in named)
    given = tuple(dict.fromkeys(each for each in addresses if each))
    action = str(block.get("Action", "")).strip().lower()
    if not given or not action:
        return None
    status = _STATUS.search(str(block.get("Status", "")))
    said = str(block.get("Diagnostic-Code", "") or block.get("Status", ""))
    permanent = action == "failed" and (status is None or status[1] == "5")
    return Report(given, action, permanent, _CONTROLS.sub(" ", said).strip()[:MAX_DETAIL])


def reported_id(message: Message[Any, Any]) -> str:
    """The Message-ID of the mail a report is about; empty when it does not say."""
    for part in message.walk():
        kind = part.get_content_type()
        text = ""
        if kind == "message/rfc822" and part.is_multipart():
            inner: Any = part.get_payload(0)
            text = str(inner.get("Message-ID", ""))
        elif kind == "text/rfc822-headers":
            data = part.get_payload(decode=True)
            head = data[:_MAX_HEAD_BYTES].decode("latin-1") if isinstance(data, bytes) else ""
            line = _MESSAGE_ID_LINE.search(head)
            text = line[1] if line else ""
        if found := _MESSAGE_ID.search(_CONTROLS.sub(" ", text)):
            return found.group()
    return ""


def authentications_in(values: Sequence[str]) -> tuple[Authentication, ...]:
    """What the Authentication-Results headers say, the topmost first: of several servers only some can be trusted."""
    return tuple(found for value in values[:20] if (found := _authentication(value)) is not None)


def _authentication(value: str) -> Authentication | None:
    head, *results = _without_comments(_CONTROLS.sub(" ", value)[:8_000]).split(";")
    authserv_id = head.split()[0].lower() if head.split() else ""
    if not authserv_id:
        return None
    found: dict[str, str] = {}
    for method, result in _results(results):
        if found.get(method) != "pass":  # of several signatures one that passes is enough
            found[method] = result
    return Authentication(authserv_id[:253], found.get("spf", ""), found.get("dkim", ""), found.get("dmarc", ""))


def _results(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        if match := _RESULT.match(part):
            yield match[1].lower(), match[2].lower()[:20]


def _without_comments(text: str) -> str:
    for _ in range(20):
        shorter = _COMMENT.sub(" ", text)
        if shorter == text:
            break
        text = shorter
    return text
