"""Following what happens by its number: a stream that never ends and has no gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from multimail.streaming import AsyncStream, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from multimail._wire import Call, Reconnects

T = TypeVar("T")


class _Numbered(Generic[T]):
    """How far a watch is: up to a number, which is known once it began or was told where to."""

    ends = False

    def __init__(self, call: Call[T | None]) -> None:
        self._request = cast("Any", call.request)
        self._convert = call.convert
        self.known: bool = not self._request.only_new

    @property
    def seq(self) -> int:
        """The number."""
        return int(self._request.after_seq)

    def request(self) -> Any:
        """The request that goes on from here."""
        return self._request

    def take(self, response: Any) -> list[T]:
        """What the response tells; empty when it only says how far the stream is."""
        told = self._convert(response)
        self.known, self._request.after_seq, self._request.only_new = True, response.seq, False
        return [] if told is None else [told]


class Watch(Stream[T]):
    """What happens, as it happens: each once, in order, without a gap; made by the calls named `watch`.

    Iterating waits for the next one and never ends by itself. A broken connection is taken up again where it broke;
    after an exception out of the wait, such as Ctrl-C, the next step goes on as if nothing had been. A watch belongs to
    one thread at a time; only `close` may be called from another one, which is also how a wait is bounded.

    Attributes:
        seq: The number up to which everything that passes the filter was yielded; a later `watch(after_seq=seq)` goes
            on behind it.

    Example:
        with client.notifications.watch(types=["email_held"], after_seq=kept) as watch:
            bound = threading.Timer(60, watch.close)  # at most a minute in all
            bound.start()
            for notification in watch:
                print(notification.email_id)
    """

    def __init__(self, connect: Callable[[Any], Any], call: Call[T | None], reconnects: Reconnects) -> None:
        """A watch that opens its streams with `connect`, first for the call's request, again as `reconnects` says."""
        self._number = _Numbered(call)
        super().__init__(connect, self._number, reconnects)
        self._first: list[T] = []

    @property
    def seq(self) -> int:
        """The number up to which everything that passes the filter was yielded."""
        return self._number.seq

    def start(self) -> None:
        """Waits until it is known where the watch begins."""
        while not self._number.known and not self._closed.is_set():
            self._first += self._read()

    def __next__(self) -> T:
        return self._first.pop() if self._first else super().__next__()


class AsyncWatch(AsyncStream[T]):
    """The same for asyncio: `async with`, `async for`; it belongs to one task at a time.

    Giving up a wait loses nothing: bound it with `asyncio.timeout` and go on later.

    Attributes:
        seq: The number up to which everything that passes the filter was yielded; a later `watch(after_seq=seq)` goes
            on behind it.

    Example:
        async with await client.notifications.watch(types=["email_held"], after_seq=kept) as watch:
            async with asyncio.timeout(60):
                notification = await anext(watch)
    """

    def __init__(self, connect: Callable[[Any], Any], call: Call[T | None], reconnects: Reconnects) -> None:
        """A watch that opens its streams with `connect`, first for the call's request, again as `reconnects` says."""
        self._number = _Numbered(call)
        super().__init__(connect, self._number, reconnects)
        self._first: list[T] = []

    @property
    def seq(self) -> int:
        """The number up to which everything that passes the filter was yielded."""
        return self._number.seq

    async def start(self) -> None:
        """Waits until it is known where the watch begins."""
        while not self._number.known and not self._closed.is_set():
            self._first += await self._read()

    async def __anext__(self) -> T:
        return self._first.pop() if self._first else await super().__anext__()
