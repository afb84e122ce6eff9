"""Plain words for enum values and refusals, and the fields that name a mailbox or a contact."""

from __future__ import annotations

from typing import Any

from multimail.errors import InvalidArgumentError, Refusal
from multimail.v1 import error_reason_pb2


def word(enum: Any, value: int) -> Any:
    """An enum value as its plain word, see multimail.words: `OVERSIGHT_MODE_MONITORED` is `monitored`.

    A value that only a newer service knows is `unknown_` and its number.
    """
    if value not in enum.values():
        return f"unknown_{value}"
    name: str = enum.Name(value)
    return name.removeprefix(_prefix(enum)).lower()


def told(enum: Any, value: int) -> Any:
    """The same where a value may be left out: empty then."""
    return word(enum, value) if value else ""


def choice(enum: Any, given: str | None, field: str) -> Any:
    """An enum value by its plain word; none for none."""
    if not given:
        return 0
    words = {name.removeprefix(_prefix(enum)).lower(): value for name, value in enum.items() if value}
    if given not in words:
        raise InvalidArgumentError(f"{field}: {given!r} is none of {', '.join(words)}.", reason="INVALID_FIELD")
    return words[given]


def _prefix(enum: Any) -> str:
    name = "".join("_" + letter if letter.isupper() else letter.upper() for letter in enum.DESCRIPTOR.name)
    return name.lstrip("_") + "_"


def ref(given: str, id_field: str, email_field: str) -> Any:
    """The field that names a mailbox or contact: an address has an @, an id has none."""
    return {email_field if "@" in given else id_field: given}


def refs(mailbox: str | None, contact: str | None = None) -> Any:
    """The fields that limit a list to a mailbox, a contact, or both."""
    chosen = ref(mailbox, "mailbox_id", "mailbox_email") if mailbox else {}
    return chosen | (ref(contact, "contact_id", "contact_email") if contact else {})


def refusal_from(message: error_reason_pb2.Refusal) -> Refusal:
    """The refusal of a message."""
    reason = word(error_reason_pb2.ErrorReason, message.reason).upper()
    return Refusal(reason, message.message, dict(message.metadata))
