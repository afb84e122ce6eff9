"""Pages: how many, and where the next one starts, as tokens that nobody can read, forge or use elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from multimail_server.errors import DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    class Paged(Message, Protocol):  # type: ignore[misc]
        """A request with the two fields of AIP-158."""

        page_size: int
        page_token: str


D = TypeVar("D")
M = TypeVar("M", bound="Message")

DEFAULT_SIZE = 50
MAX_SIZE = 500
KEY_BYTES = 32
MAX_PAGE_BYTES = 3 << 20
_NONCE_BYTES = 12
_VERSION = "1"  # part of what a token is bound to, so that old tokens fail when their form changes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Page:
    """One page that was asked for.

    Attributes:
        size: How many entries it holds, 1 to 500.
        position: Sort keys of the last entry shown before; None on the first page.
    """

    size: int
    position: list[Any] | None
    _seal: Callable[[Sequence[Any]], str]

    def fill(
        self,
        found: Sequence[D],
        to_message: Callable[[D], M],
        position_of: Callable[[D], Sequence[Any]],
        *,
        behind: Sequence[Any] | None = None,
    ) -> tuple[list[M], str]:
        """The page's messages, and the token of the next page; empty on the last.

        A page is cut short where its messages would pass 3 MiB, for a client takes 4 unless told otherwise.

        Args:
            found: What there is, one more than the page holds if there is more.
            to_message: Makes the message of one entry.
            position_of: The sort keys of one entry.
            behind: Where to go on behind everything found, for a search that was ended early.
        """
        messages: list[M] = []
        room = MAX_PAGE_BYTES
        for entry in found[: self.size]:
            message = to_message(entry)
            room -= message.ByteSize()
            if messages and room < 0:
                break
            messages.append(message)
        if len(messages) < len(found):
            behind = position_of(found[len(messages) - 1])
        return messages, self._seal(behind) if behind else ""


class PageTokens:
    """Seals positions into tokens bound to account, method and query; `unlock` it before its first use.

    Args:
        randomness: Returns that many random bytes.
    """

    _cipher: AESGCM

    def __init__(self, randomness: Callable[[int], bytes]) -> None:
        self._randomness = randomness

    def unlock(self, key: bytes) -> None:
        """Takes the key: 32 bytes, the same in every process."""
        self._cipher = AESGCM(key)

    def open_page(self, account: str, request: Paged) -> Page:
        """The page a request asks for; INVALID_PAGE_TOKEN when its token is not of this caller, call and query."""
        bound = _bound(account, request)
        position = self._open(request.page_token, bound) if request.page_token else None
        size = min(request.page_size, MAX_SIZE) or DEFAULT_SIZE
        return Page(size, position, lambda position: self._sealed(position, bound))

    def _sealed(self, position: Sequence[Any], bound: bytes) -> str:
        nonce = self._randomness(_NONCE_BYTES)
        text = json.dumps([_plain(each) for each in position], ensure_ascii=False).encode()
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text, bound)).decode()

    def _open(self, token: str, bound: bytes) -> list[Any]:
        try:
            data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
            nonce, sealed = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
            return [_restored(each) for each in json.loads(self._cipher.decrypt(nonce, sealed, bound))]
        except (InvalidTag, ValueError):
            raise DomainError(
                Reason.INVALID_PAGE_TOKEN,
                "This page_token is damaged or belongs to another call; start again without one.",
            ) from None


def _bound(account: str, request: Paged) -> bytes:
    """What a token is bound to: the caller's account, the call, and every field but the paging ones."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_size")
    query.ClearField("page_token")
    head = f"{_VERSION}\0{account}\0{request.DESCRIPTOR.full_name}\0".encode()
    return hashlib.sha256(head + query.SerializeToString(deterministic=True)).digest()


def _plain(value: Any) -> Any:
    return {"ms": (value - _EPOCH) // _MILLISECOND} if isinstance(value, datetime) else value


def _restored(value: Any) -> Any:
    return _EPOCH + value["ms"] * _MILLISECOND if isinstance(value, dict) else value
