"""Following the account's history: a stream that takes itself up again where it broke."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import grpc

from multimail.notifications import notification_from
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from multimail._wire import Reconnects
    from multimail.notifications import Notification

PATIENCE_S = 300.0


class _Place:
    """How far a watch is, and how it goes on from there."""

    def __init__(self, request: pb.WatchNotificationsRequest) -> None:
        self._request = request
        self.known = not request.only_new
        self.seq = request.after_seq

    def request(self) -> pb.WatchNotificationsRequest:
        """The request that goes on from here."""
        again = pb.WatchNotificationsRequest()
        again.CopyFrom(self._request)
        if self.known:
            again.after_seq, again.only_new = self.seq, False
        return again

    def take(self, response: pb.WatchNotificationsResponse) -> list[Notification]:
        """The notification of a response; empty when it only says how far the stream is."""
        found = [notification_from(response.notification)] if response.HasField("notification") else []
        self.known, self.seq = True, response.seq
        return found


class Watch:
    """Notifications as they happen: each once, in order, without a gap; made by `client.notifications.watch`.

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

    def __init__(
        self,
        connect: Callable[[pb.WatchNotificationsRequest], Any],
        request: pb.WatchNotificationsRequest,
        reconnects: Reconnects,
    ) -> None:
        """A watch that opens its streams with `connect`, first for `request`, again as `reconnects` says."""
        self._connect = connect
        self._place = _Place(request)
        self._reconnects = reconnects
        self._stream: Any = None
        self._closed = threading.Event()
        self._first: list[Notification] = []

    @property
    def seq(self) -> int:
        """The number up to which everything that passes the filter was yielded."""
        return self._place.seq

    def start(self) -> None:
        """Waits until it is known where the watch begins."""
        while not self._place.known and not self._closed.is_set():
            self._first += self._read()

    def __iter__(self) -> Iterator[Notification]:
        return self

    def __next__(self) -> Notification:
        if self._first:
            return self._first.pop()
        while not self._closed.is_set():
            for notification in self._read():
                return notification
        raise StopIteration

    def _read(self) -> list[Notification]:
        """The notification of the next response; empty when there is none in it, or the stream broke."""
        ended: grpc.RpcError | None = None
        try:
            response = next(self._opened())
            self._reconnects.heard()
            return self._place.take(response)
        except StopIteration:
            pass
        except grpc.RpcError as error:
            ended = error
        except BaseException:  # out of a signal handler for instance; a new stream goes on where this one was
            self._forget()
            raise
        self._forget()
        if not self._closed.is_set():
            self._closed.wait(self._reconnects.after(ended))
        return []

    def _opened(self) -> Any:
        """The stream, opened where there is none."""
        if self._stream is None:
            self._stream = self._connect(self._place.request())
            if self._closed.is_set():  # by a thread that did not see the stream yet
                self._stream.cancel()
            self._reconnects.opened(self._stream.initial_metadata())
        return self._stream

    def _forget(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def close(self) -> None:
        """Ends the watch, also while another thread waits for its next notification."""
        self._closed.set()
        if (stream := self._stream) is not None:
            stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncWatch:
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

    def __init__(
        self,
        connect: Callable[[pb.WatchNotificationsRequest], Any],
        request: pb.WatchNotificationsRequest,
        reconnects: Reconnects,
    ) -> None:
        """A watch that opens its streams with `connect`, first for `request`, again as `reconnects` says."""
        self._connect = connect
        self._place = _Place(request)
        self._reconnects = reconnects
        self._stream: Any = None
        self._closed = asyncio.Event()
        self._first: list[Notification] = []

    @property
    def seq(self) -> int:
        """The number up to which everything that passes the filter was yielded."""
        return self._place.seq

    async def start(self) -> None:
        """Waits until it is known where the watch begins."""
        while not self._place.known and not self._closed.is_set():
            self._first += await self._read()

    def __aiter__(self) -> AsyncIterator[Notification]:
        return self

    async def __anext__(self) -> Notification:
        if self._first:
            return self._first.pop()
        while not self._closed.is_set():
            for notification in await self._read():
                return notification
        raise StopAsyncIteration

    async def _read(self) -> list[Notification]:
        """The notification of the next response; empty when there is none in it, or the stream broke."""
        ended: grpc.RpcError | None = None
        try:
            response = await anext(await self._opened())
            self._reconnects.heard()
            return self._place.take(response)
        except StopAsyncIteration:
            pass
        except grpc.RpcError as error:
            ended = error
        except BaseException as error:
            self._forget()
            # A CancelledError is the caller's own wish, unless it is how grpc says that the stream was cancelled.
            if is_cancelled() or not isinstance(error, asyncio.CancelledError):
                raise
        self._forget()
        if not self._closed.is_set():
            pause = self._reconnects.after(ended)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), pause)
        return []

    async def _opened(self) -> AsyncIterator[Any]:
        """The responses of the stream, which is opened where there is none."""
        if self._stream is None:
            self._stream = self._connect(self._place.request())
            self._reconnects.opened(await self._stream.initial_metadata())
        return aiter(self._stream)

    def _forget(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    async def close(self) -> None:
        """Ends the watch, also while another task waits for its next notification."""
        self._closed.set()
        if self._stream is not None:
            self._stream.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def is_cancelled() -> bool:
    """Whether the running task was told to end; else a CancelledError is grpc's word for a call that was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
