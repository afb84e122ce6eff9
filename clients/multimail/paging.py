"""Results of searches and lists: the first page at once, the rest as it is walked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

T = TypeVar("T")

PAGE_SIZE = 100
MAX_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, and the token of the next; empty on the last."""

    items: list[T]
    next_page_token: str


def first_size(limit: int | None) -> int:
    """How large the first page should be to serve a limit in few calls."""
    return PAGE_SIZE if limit is None else max(1, min(limit, MAX_PAGE_SIZE))


def _within(limit: int | None, seen: int, items: list[T]) -> list[T]:
    return items if limit is None else items[: max(limit - seen, 0)]


class Results(Generic[T]):
    """What a search or list found.

    Iterating yields everything up to the limit, fetching pages as needed; `items` is the first page.

    Args:
        fetch: Fetches a page: its token, and how many entries it should hold.
        limit: How many results there may be in all; None for no limit.
    """

    def __init__(self, fetch: Callable[[str, int], Page[T]], limit: int | None) -> None:
        self._fetch = fetch
        self._limit = limit
        self._first = fetch("", first_size(limit)) if limit != 0 else Page([], "")
        self.items: list[T] = _within(limit, 0, self._first.items)

    def pages(self) -> Iterator[list[T]]:
        """The pages, each a list; the last one is cut to the limit."""
        page, seen = self._first, 0
        while True:
            items = _within(self._limit, seen, page.items)
            seen += len(items)
            if items:
                yield items
            if not page.next_page_token or seen == self._limit:
                return
            left = None if self._limit is None else self._limit - seen
            page = self._fetch(page.next_page_token, first_size(left))

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page

    def __len__(self) -> int:
        """How many results the first page holds."""
        return len(self.items)


class AsyncResults(Generic[T]):
    """The same for asyncio: `async for`, and `pages()` as an async iterator; `items` is the first page."""

    def __init__(self, fetch: Callable[[str, int], Awaitable[Page[T]]], limit: int | None, first: Page[T]) -> None:
        self._fetch = fetch
        self._limit = limit
        self._first = first
        self.items: list[T] = _within(limit, 0, first.items)

    async def pages(self) -> AsyncIterator[list[T]]:
        """The pages, each a list; the last one is cut to the limit."""
        page, seen = self._first, 0
        while True:
            items = _within(self._limit, seen, page.items)
            seen += len(items)
            if items:
                yield items
            if not page.next_page_token or seen == self._limit:
                return
            left = None if self._limit is None else self._limit - seen
            page = await self._fetch(page.next_page_token, first_size(left))

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in page:
                yield item

    def __len__(self) -> int:
        """How many results the first page holds."""
        return len(self.items)
