"""E-mail addresses: what counts as one, and the key by which two spellings are the same person."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import email_validator

from multimail_server import errors

# The library's documented switch: .test, .local, .internal and their like are fine here.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

_PLAIN = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_MAX_LENGTH = 254
_MAX_LOCAL_OCTETS = 64


@dataclass(frozen=True, slots=True)
class Address:
    """One address.

    Attributes:
        display: As given, white space around it removed: for showing and for sending.
        key: What makes two spellings one: local part in NFC and lower case, domain as A-label (IDNA 2008, UTS 46
            non-transitional).
        domain: The domain as A-label, in lower case.
    """

    display: str
    key: str
    domain: str


def parse_address(text: str, field: str) -> Address:
    """Reads a bare addr-spec.

    Args:
        text: The address; white space around it is dropped.
        field: Its path in the request, for the violation.

    Raises:
        DomainError: INVALID_FIELD when it is no address mail could be sent to.
    """
    parsed = _parse(text.strip())
    if isinstance(parsed, str):
        raise errors.invalid_field(field, parsed)
    return parsed


def parse_domain(text: str, field: str) -> str:
    """Reads a domain and returns it as A-label in lower case; refuses what no address could have."""
    parsed = _parse("x@" + text.strip())
    if isinstance(parsed, str):
        raise errors.invalid_field(field, f"is not a domain: {text.strip()[:80]!r}")
    return parsed.domain


@lru_cache(maxsize=20_000)
def _parse(text: str) -> Address | str:
    """The address, or in words what is wrong with it."""
    if len(text) > _MAX_LENGTH:
        return f"is longer than {_MAX_LENGTH} characters"
    local = text.rpartition("@")[0]
    if len(local.encode("utf-8", "surrogatepass")) > _MAX_LOCAL_OCTETS:
        return f"has more than {_MAX_LOCAL_OCTETS} octets before the @"
    if _PLAIN.fullmatch(text) and "--" not in text.rpartition("@")[2]:
        return Address(text, text, text.rpartition("@")[2])
    try:
        found = email_validator.validate_email(
            text,
            check_deliverability=False,
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            globally_deliverable=False,
        )
    except (email_validator.EmailNotValidError, UnicodeError, ValueError) as error:
        return f"is not an e-mail address: {error}"
    domain = found.ascii_domain.lower()
    if "." not in domain:
        return "is not an e-mail address: the domain has a single label"
    key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", found.local_part).lower())
    return Address(text, f"{key}@{domain}", domain)
