"""Oversight modes: which of two is stricter, and what each allows."""

from __future__ import annotations

from multimail_server.errors import DomainError, Reason

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


def require_available(mode: str) -> None:
    """Refuses the gated modes: without the approval queue nothing may claim to wait for a person."""
    if mode in _GATED:
        raise DomainError(
            Reason.MODE_NOT_AVAILABLE,
            f"The mode {mode} is not available in this version; nothing was done. Use monitored or read_only.",
            metadata={"oversight_mode": mode},
        )


def require_sending(mode: str) -> None:
    """Refuses to send under this mode unless it lets mail leave at once."""
    require_available(mode)
    if mode == "read_only":
        raise DomainError(
            Reason.MODE_FORBIDS,
            "The oversight mode read_only forbids sending.",
            metadata={"oversight_mode": mode},
        )
