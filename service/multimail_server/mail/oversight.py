"""Oversight modes: which of two is stricter, and what each allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail_server.errors import DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multimail_server.aip.address import Address

# From loose to strict.
MODES = ("autonomous", "monitored", "gated_send", "gated_all", "read_only")
DEFAULT = "monitored"
_GATED = frozenset({"gated_send", "gated_all"})


def stricter(one: str, other: str) -> str:
    """The stricter of two modes; an empty one asks for nothing."""
    return max(one or MODES[0], other or MODES[0], key=MODES.index)


def is_looser(one: str, other: str) -> bool:
    """Whether `one` gives an agent more freedom than `other`."""
    return MODES.index(one) < MODES.index(other)


def is_shown(mode: str) -> bool:
    """Whether acts under this mode show in the notifications; all are recorded."""
    return mode != "autonomous"


def forbids_sending(mode: str) -> DomainError | None:
    """The refusal to send under a mode that forbids it; None when it does not."""
    if mode != "read_only":
        return None
    return DomainError(
        Reason.MODE_FORBIDS, "The oversight mode read_only forbids sending.", metadata={"oversight_mode": mode}
    )


def require_sending(mode: str) -> None:
    """Refuses to send under a mode that forbids it."""
    if (refused := forbids_sending(mode)) is not None:
        raise refused


def is_gated(mode: str) -> bool:
    """Whether outbound mail waits for a person."""
    return mode in _GATED


def holds_inbound(mode: str) -> bool:
    """Whether mail that arrives waits for a person too."""
    return mode == "gated_all"


def hold_reason(mailbox: Mapping[str, Any], asked: str, recipients: Sequence[Address], *, first_contact: bool) -> str:
    """Why an outbound mail has to wait for a person: `mode` or `first_contact`; empty when it need not.

    Args:
        mailbox: The mailbox it leaves from, with its rules.
        asked: The mode the sender asked for, which no allow-list loosens; may be empty.
        recipients: Everyone it goes to.
        first_contact: Whether somebody among them has never been written to.
    """
    if is_gated(asked):
        return "mode"
    allowed = set(mailbox["allow_list"])
    if allowed and all(address.key in allowed or address.domain in allowed for address in recipients):
        return ""
    if is_gated(mailbox["mode"]):
        return "mode"
    return "first_contact" if mailbox["hold_first_contact"] and first_contact else ""
