"""API keys: their form, their scopes, and what is stored of them."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from multimail_server import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

SCOPES = ("read", "write", "send", "admin", "oversight")
PREFIX = "mm_live_"
SECRET_BYTES = 32
_FORM = re.compile(r"mm_live_[A-Za-z0-9_-]{43}")
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_AGENT = 64


def key_from(randomness: bytes) -> str:
    """The key made of 32 random bytes: `mm_live_` and 43 characters."""
    return PREFIX + urlsafe_b64encode(randomness).rstrip(b"=").decode()


def is_well_formed(key: str) -> bool:
    """Whether the text has the form of a key."""
    return _FORM.fullmatch(key) is not None


def key_hash(key: str) -> str:
    """What is stored of a key. A fast hash will do: nobody guesses 256 random bits, however fast they try."""
    return hashlib.sha256(key.encode()).hexdigest()


def parse_scopes(scopes: Iterable[str]) -> list[str]:
    """The scopes, each once, in their usual order; refuses unknown ones, and send together with oversight."""
    given = {scope.strip() for scope in scopes if scope.strip()}
    if not given:
        raise errors.invalid_field("scopes", "are empty; choose from " + ", ".join(SCOPES))
    for scope in sorted(given - set(SCOPES)):
        raise errors.invalid_field("scopes", f"hold {scope!r}, which is none; choose from " + ", ".join(SCOPES))
    if {"send", "oversight"} <= given:
        raise errors.invalid_field("scopes", "hold both send and oversight: who sends must not approve; make two keys")
    return [scope for scope in SCOPES if scope in given]


def check_account(account: str) -> None:
    """Refuses an account name that is not 1 to 64 letters, digits, dots, dashes or underscores."""
    if not _ACCOUNT.fullmatch(account):
        raise errors.invalid_field("account", "must be 1 to 64 letters, digits, dots, dashes or underscores")


def check_agent(agent: str) -> None:
    """Refuses an agent name that is not 1 to 64 printable characters."""
    if not 1 <= len(agent) <= _MAX_AGENT or not agent.isprintable():
        raise errors.invalid_field("agent", f"must be 1 to {_MAX_AGENT} printable characters")
