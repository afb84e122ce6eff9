"""Who makes the call under way."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from multimail_server.errors import DomainError, Reason


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of an API key.

    Attributes:
        account: The account everything this caller sees belongs to.
        key_id: The key's id, `key_…`; never the key.
        agent: The agent's name as it shows in logs.
        scopes: What the key may do.
    """

    account: str
    key_id: str
    agent: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raises SCOPE_MISSING unless the key has the scope."""
        if scope not in self.scopes:
            raise DomainError(
                Reason.SCOPE_MISSING,
                f"This API key lacks the scope {scope}; use one that has it.",
                metadata={"scope": scope},
            )


_CALLER: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the call under way; the boundary has set it before any servicer runs."""
    return _CALLER.get()


def set_caller(caller: Caller) -> None:
    """Makes this the caller for the rest of the call under way."""
    _CALLER.set(caller)
