"""How many calls may be under way, and how fast one key may call; past it a call is refused, never queued."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from multimail_server.errors import DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["read", "change", "stream"]

_BURST_S = 2.0
_REMEMBERED_KEYS = 10_000


class Admission:
    """Bounds on calls.

    Args:
        max_concurrent: Calls of one class (reads, changes, streams) under way at once. Of the streams, which may last
            for ever, one key can hold a quarter.
        rate_per_s: Calls a second per key, on average over two seconds; 0 for no bound.
        clock: Seconds that only grow.
    """

    def __init__(self, *, max_concurrent: int, rate_per_s: float, clock: Callable[[], float]) -> None:
        self._max_concurrent = max_concurrent
        self._rate_per_s = rate_per_s
        self._clock = clock
        self._under_way = {"read": 0, "change": 0, "stream": 0}
        self._streams: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}

    def admitted(self, key_id: str, kind: Kind) -> _Admitted:
        """A context that counts one call while it lasts; entering raises TOO_BUSY or RATE_LIMITED if it is too many."""
        return _Admitted(self, key_id, kind)

    def enter(self, key_id: str, kind: Kind) -> None:
        """Counts one call more, unless it is one too many."""
        if self._rate_per_s:
            self._spend(key_id)
        if self._under_way[kind] >= self._max_concurrent:
            raise DomainError(Reason.TOO_BUSY, "The service is busy; come back shortly.", retry_after_s=0.5)
        most = max(self._max_concurrent // 4, 1)
        if kind == "stream" and self._streams[key_id] >= most:
            raise DomainError(Reason.TOO_BUSY, f"This key holds {most} streams; end one first.", retry_after_s=0.5)
        self._under_way[kind] += 1
        self._streams[key_id] += kind == "stream"

    def leave(self, key_id: str, kind: Kind) -> None:
        """Counts a call no more."""
        self._under_way[kind] -= 1
        if kind == "stream":
            self._streams[key_id] -= 1
            self._streams += Counter()  # forgets keys without one

    def _spend(self, key_id: str) -> None:
        """Takes one token from the key's bucket."""
        now = self._clock()
        full = max(self._rate_per_s * _BURST_S, 1.0)
        tokens, since = self._buckets.pop(key_id, (full, now))
        tokens = min(full, tokens + (now - since) * self._rate_per_s)
        self._buckets[key_id] = max(tokens - 1, 0) if tokens >= 1 else tokens, now
        if len(self._buckets) > _REMEMBERED_KEYS:
            del self._buckets[next(iter(self._buckets))]
        if tokens < 1:
            wait = (1 - tokens) / self._rate_per_s
            raise DomainError(Reason.RATE_LIMITED, "This key calls faster than it may.", retry_after_s=wait)


@dataclass(frozen=True, slots=True)
class _Admitted:
    """The context of one call; a class, for a generator would cost each call some microseconds."""

    admission: Admission
    key_id: str
    kind: Kind

    def __enter__(self) -> None:
        self.admission.enter(self.key_id, self.kind)

    def __exit__(self, *_: object) -> None:
        self.admission.leave(self.key_id, self.kind)
