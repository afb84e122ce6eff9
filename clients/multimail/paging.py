"""Results of searches and lists: the first page that holds any at once, the rest as it is walked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from multimail.contacts import SearchPlan

T = TypeVar("T")

PAGE_SIZE = 100
MAX_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, the token of the next, which is empty on the last, and how the page was found if that was asked."""

    items: list[T]
    next_page_token: str
    plan: SearchPlan | None = None

    @property
    def passes(self) -> bool:
        """Whether a filter let nothing of this page through, and there are more."""
        return not self.items and self.next_page_token != ""


def first_size(limit: int | None) -> int:
    """How large the first page should be to serve a limit in few calls."""
    return PAGE_SIZE if limit is None else max(1, min(limit, MAX_PAGE_SIZE))


def _within(limit: int | None, seen: int, items: list[T]) -> list[T]:
    return items if limit is None else items[: max(limit - seen, 0)]


class Results(Generic[T]):
    """What a search or list found; true when it found anything.

    Iterating yields everything up to the limit and fetches pages as needed. There is no `len`: how many there are is
    known when all were walked, as by `len(list(results))`.

    Attributes:
        items: The first page, a list; empty only when nothing was found.
        plan: How `contacts.search(explain=True)` found the first page; else None.
    """

    def __init__(self, fetch: Callable[[str, int], Page[T]], limit: int | None) -> None:
        """Results up to the limit, if any, of pages that `fetch` gets by their token and wanted size."""
        self._fetch = fetch
        self._limit = limit
        self._first = fetch("", first_size(limit)) if limit != 0 else Page([], "")
        while self._first.passes:
            self._first = fetch(self._first.next_page_token, first_size(limit))
        self.items: list[T] = _within(limit, 0, self._first.items)
        self.plan = self._first.plan

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

    def page(self, token: str, size: int) -> Page[T]:
        """One page, for a walk that goes on elsewhere: its items, and the `next_page_token` of the page behind it.

        Args:
            token: Where it starts: `next_page_token` of the page before; empty for the first page.
            size: How many results it may hold, 1 to 500; pages of one walk may differ.
        """
        found = self._fetch(token, size)
        while found.passes:
            found = self._fetch(found.next_page_token, size)
        return found

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page

    def __bool__(self) -> bool:
        return bool(self.items)


class AsyncResults(Generic[T]):
    """The same for asyncio: `async for`, and `pages()` as an async iterator; true when anything was found.

    Attributes:
        items: The first page, a list; empty only when nothing was found.
        plan: How `contacts.search(explain=True)` found the first page; else None.
    """

    def __init__(self, fetch: Callable[[str, int], Awaitable[Page[T]]], limit: int | None, first: Page[T]) -> None:
        """Results up to the limit, if any, of pages that `fetch` gets, the first of which was fetched."""
        self._fetch = fetch
        self._limit = limit
        self._first = first
        self.items: list[T] = _within(limit, 0, first.items)
        self.plan = first.plan

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

    async def page(self, token: str, size: int) -> Page[T]:
        """One page, for a walk that goes on elsewhere: its items, and the `next_page_token` of the page behind it.

        Args:
            token: Where it starts: `next_page_token` of the page before; empty for the first page.
            size: How many results it may hold, 1 to 500; pages of one walk may differ.
        """
        found = await self._fetch(token, size)
        while found.passes:
            found = await self._fetch(found.next_page_token, size)
        return found

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in page:
                yield item

    def __bool__(self) -> bool:
        return bool(self.items)
