"""Facets: everything about a contact that search can find, as strings that one index keeps in order.

A facet is `account␟path␟type␟value`, ␟ being U+001F. Types: `s` a string, `h` the digest of a string over 256 bytes
(equality only), `n` a number as 16 hexadecimal digits that sort as the number does, `b` true or false, `z` null,
`e` the mark that the path is there.
"""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SEPARATOR = "\x1f"
MAX_TEXT_BYTES = 256
_SURELY_SHORT = MAX_TEXT_BYTES // 4  # characters; none takes more than four bytes
_double = struct.Struct(">d")
_whole = struct.Struct(">Q")

PRESENCE = "e"
DOMAIN = "domain"
WORD = "word"


def facets_of(account: str, domains: Iterable[str], name: str, metadata: Mapping[str, Any]) -> list[str]:
    """Every facet of a contact, sorted, each once."""
    found = {equality(account, DOMAIN, domain) for domain in domains}
    found.update(equality(account, WORD, word) for word in words_of(name))
    for key, value in metadata.items():
        _collect(found, account, (key,), value)
    return sorted(found)


def _collect(found: set[str], account: str, keys: tuple[str, ...], value: Any) -> None:
    """Adds the facets of what is at a path of the metadata, at any depth."""
    path = metadata_path(keys)
    found.add(presence(account, path))
    if isinstance(value, dict):
        for key, item in value.items():
            _collect(found, account, (*keys, key), item)
    elif isinstance(value, list):
        for item in value:
            _collect(found, account, keys, item)
    else:
        found.add(equality(account, path, value))


@lru_cache(maxsize=256)  # a key may be 64 KiB long
def metadata_path(keys: tuple[str, ...]) -> str:
    """The path of a metadata key as one string that no other path shares; a long one by its digest."""
    text = "metadata." + ".".join(
        key.replace("\\", "\\\\").replace(".", "\\.").replace(SEPARATOR, "\\_") for key in keys
    )
    if len(text.encode()) <= MAX_TEXT_BYTES:
        return text
    return "metadata#" + hashlib.sha256(text.encode()).hexdigest()


def facet(account: str, path: str, kind: str, text: str = "") -> str:
    """The facet of one account at one path, its type and text as `encoded` gives them."""
    return f"{account}{SEPARATOR}{path}{SEPARATOR}{kind}{SEPARATOR}{text}"


def equality(account: str, path: str, value: Any) -> str:
    """The facet a contact has when the value, or an element of the array, at the path is this scalar."""
    return facet(account, path, *encoded(value))


def presence(account: str, path: str) -> str:
    """The facet a contact has when anything is at the path."""
    return facet(account, path, PRESENCE)


def encoded(value: Any) -> tuple[str, str]:
    """Type and text of a scalar."""
    if value is None:
        return "z", ""
    if isinstance(value, bool):
        return "b", "true" if value else "false"
    if isinstance(value, str):
        if len(value) <= _SURELY_SHORT or len(data := value.encode()) <= MAX_TEXT_BYTES:
            return "s", value
        return "h", hashlib.sha256(data).hexdigest()
    return "n", _sortable(float(value))


def _sortable(number: float) -> str:
    """A double as hexadecimal digits that sort as the numbers do: negative ones have all bits turned."""
    (bits,) = _whole.unpack(_double.pack(number + 0.0))
    return f"{bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63):016x}"


def behind(text: str) -> str:
    """The first string, by code point, behind all that begin with this one; it must have a character that has a next.

    Surrogates are no characters, so they are passed over.
    """
    head = text.rstrip("\U0010ffff")
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)


@lru_cache(maxsize=512)
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, case and accents folded away."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    return tuple("".join(c if c.isalnum() else " " for c in bare).split())
