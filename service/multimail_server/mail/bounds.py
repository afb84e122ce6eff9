"""The bounds that an operator may set for how mail moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds on conversations.

    Attributes:
        open_for: How long a thread counts as open after its newest mail.
        approval_ttl: How long held mail waits for a person, where the mailbox does not say.
        thread_per_hour: How many mails may go out in one thread within an hour; more look like a loop.
        pair_per_hour: How many may go from one mailbox to one person within an hour.
    """

    open_for: timedelta = timedelta(days=14)
    approval_ttl: timedelta = timedelta(hours=24)
    thread_per_hour: int = 30
    pair_per_hour: int = 60
