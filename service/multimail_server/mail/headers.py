"""What a text must not hold to stand in a header: nothing in it may end the header or hide another one."""

from __future__ import annotations

import unicodedata
from email.errors import MessageError
from email.header import decode_header

from multimail_server import errors

_LINE_SEPARATORS = "\u2028\u2029"


def check_header_text(text: str, field: str) -> None:
    """Refuses a text that could break out of its header: control characters, plain or by decoding.

    Args:
        text: A subject, a display name or the name of a file.
        field: Its path in the request.
    """
    if _holds_control(text):
        raise errors.invalid_field(field, "holds a control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise errors.invalid_field(field, "holds half a character (a lone surrogate)") from None
    if "=?" in text and _holds_control(_decoded(text)):
        raise errors.invalid_field(field, "holds an encoded word that hides a control character")


def _holds_control(text: str) -> bool:
    return any(unicodedata.category(c) == "Cc" or c in _LINE_SEPARATORS for c in text)


def _decoded(text: str) -> str:
    """The text as a reader that decodes encoded words would see it; unreadable ones count as hostile."""
    parts = []
    try:
        for part, charset in decode_header(text):
            parts.append(part if isinstance(part, str) else part.decode(charset or "ascii", "replace"))
    except (LookupError, ValueError, MessageError):
        return "\0"
    return "".join(parts)
