"""Addresses and links that tell which mail they belong to: its envelope sender, and where its unsubscribing goes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Literal

KEY_BYTES = 32
_MAX_LOCAL = 64
_MAC_BYTES = 8
_FORM = re.compile(
    r"(?P<box>.+)\+(?P<kind>[bu])(?P<ulid>[0-9a-hjkmnp-tv-z]{26})(?P<index>[0-9]{2})(?P<mac>[a-z2-7]{13})"
)
_TOKEN = re.compile(r"(?P<ulid>[0-9a-hjkmnp-tv-z]{26})(?P<index>[0-9]{2})(?P<mac>[a-z2-7]{13})")
# What a tag adds; names as long as can be are left room, so it has no separators.
_TAG_BYTES = 2 + 26 + 2 + 13
_KINDS: dict[str, Literal["bounce", "unsubscribe"]] = {"b": "bounce", "u": "unsubscribe"}


@dataclass(frozen=True, slots=True)
class Tag:
    """What a tagged address says.

    Attributes:
        kind: `bounce` or `unsubscribe`.
        email: The id of the mail it belongs to.
        index: Which of its recipients.
        mailbox: The address of the mailbox, without the tag.
    """

    kind: Literal["bounce", "unsubscribe"]
    email: str
    index: int
    mailbox: str


def fits(mailbox: str) -> bool:
    """Whether a mailbox's name leaves room for a tag: at most 21 bytes."""
    return len(mailbox.rpartition("@")[0].encode()) + _TAG_BYTES <= _MAX_LOCAL


class Tags:
    """Makes and reads tagged addresses, `box+u<mail><recipient><seal>@domain`; nobody else can make one.

    Args:
        key: Seals them; another one before `unlock`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def unlock(self, key: bytes) -> None:
        """Uses the key that all processes share."""
        self._key = key

    def bounce(self, mailbox: str, email: str, index: int) -> str:
        """Where reports about the mail's delivery to this recipient go; empty where the mailbox's name is too long."""
        return self._tagged("b", mailbox, email, index)

    def unsubscribe(self, mailbox: str, email: str, index: int) -> str:
        """Where this recipient's unsubscribing goes; empty where the mailbox's name is too long."""
        return self._tagged("u", mailbox, email, index)

    def read(self, address: str) -> Tag | None:
        """What the address says; None when it is not one of ours."""
        local, _, domain = address.rpartition("@")
        found = _FORM.fullmatch(local.lower())
        if found is None:
            return None
        kind, ulid, index = found["kind"], found["ulid"].upper(), int(found["index"])
        if not hmac.compare_digest(found["mac"], self._seal(kind, ulid, index)):
            return None
        return Tag(_KINDS[kind], f"email_{ulid}", index, f"{local[: len(found['box'])]}@{domain}")

    def token(self, email: str, index: int) -> str:
        """What a link ends with by which this recipient of the mail unsubscribes."""
        ulid = email.removeprefix("email_")
        return f"{ulid.lower()}{index:02}{self._seal('u', ulid, index)}"

    def read_token(self, token: str) -> tuple[str, int] | None:
        """The mail and the number of the recipient whose link ends so; None when it is not one of ours."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            return None
        ulid, index = found["ulid"].upper(), int(found["index"])
        return (f"email_{ulid}", index) if hmac.compare_digest(found["mac"], self._seal("u", ulid, index)) else None

    def _tagged(self, kind: str, mailbox: str, email: str, index: int) -> str:
        local, _, domain = mailbox.rpartition("@")
        ulid = email.removeprefix("email_")
        if not fits(mailbox):
            return ""
        return f"{local}+{kind}{ulid.lower()}{index:02}{self._seal(kind, ulid, index)}@{domain}"

    def _seal(self, kind: str, ulid: str, index: int) -> str:
        text = f"{kind}\0{ulid}\0{index}".encode()
        mac = hmac.new(self._key, text, hashlib.sha256).digest()[:_MAC_BYTES]
        return base64.b32encode(mac).decode().rstrip("=").lower()
