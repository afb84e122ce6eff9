"""Lists within a budget: as many whole results as fit, and a cursor that goes on exactly behind them."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from multimail.mcp.told import Outside, Shown, room, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from multimail.mcp.tool import Paged
    from multimail.paging import AsyncResults

T = TypeVar("T")
S = TypeVar("S", bound=Shown)


async def listed(
    results: AsyncResults[T],
    given: Paged,
    show: Callable[[T], tuple[S, list[Outside]]],
    shorten: Callable[[T, int], tuple[S, list[Outside]]] | None = None,
    *,
    taken: int = 0,
) -> dict[str, Any]:
    """The results that fit, what outsiders wrote on them, and the cursor of the rest, as `items` and fields of Page.

    Where not all of a page fit, a shorter one is asked for, so that the cursor is the service's own and nothing is left
    out or told twice, whatever changes between two calls.

    Args:
        results: The list, of which nothing was asked yet.
        given: What was asked for.
        show: How a result is shown.
        shorten: How one is shown that does not fit by itself, in that many bytes.
        taken: Bytes of the answer that are taken already.
    """
    most, wanted = room(given.max_tokens) - taken, given.limit
    while True:
        page = await results.page(given.cursor, wanted)
        shown = [show(each) for each in page.items]
        sums = accumulate(size([item, *texts]) for item, texts in shown)
        fitting = sum(1 for total in sums if total <= most)
        if fitting < len(shown) and len(shown) == 1 and shorten:
            shown, fitting = [shorten(page.items[0], most)], 1
        if fitting == len(shown) or wanted == 1:
            break
        wanted = max(fitting, 1)
    return {
        "items": [item for item, _ in shown],
        "untrusted": [text for _, texts in shown for text in texts],
        "next_cursor": page.next_page_token,
    }
