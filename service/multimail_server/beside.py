"""Reading what is large beside the loop, so that others are served meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LARGE_BYTES = 16 << 10


async def read(size_bytes: int, rule: Callable[[], T]) -> T:
    """What a rule makes of an input of this size; a thread, which costs some 100 µs, is worth it for a large one."""
    return rule() if size_bytes < _LARGE_BYTES else await asyncio.to_thread(rule)
