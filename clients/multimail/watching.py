"""Following the account's history: a stream that takes itself up again where it broke."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import grpc

from multimail._wire import closed
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

    def take(self, response: pb.WatchNotificationsResponse) -> Notification | None:
        """The notification of a response; None when it only says how far the stream is."""
        self.known, self.seq = True, response.seq
        return notification_from(response.notification) if response.HasField("notification") else None


class Watch:
    """The notifications that pass a filter as they happen: each once, in order, without a gap. It never ends by itself.

    A broken connection is taken up again where it broke. `seq` is how far the watch is: a later
    `watch(after_seq=seq)` goes on behind the notification that was yielded last.

    Args:
        connect: Opens the stream of a request.
        request: Where to begin, and what to show.
        reconnects: When to try again.
    """

    def __init__(
        self,
        connect: Callable[[pb.WatchNotificationsRequest], Any],
        request: pb.WatchNotificationsRequest,
        reconnects: Reconnects,
    ) -> None:
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
            if self._stream is None:
                self._reconnects.begins()
                self._stream = self._connect(self._place.request())
                if self._closed.is_set():  # by a thread that did not see the stream yet
                    self._stream.cancel()
            response = next(self._stream)
        except StopIteration:
            pass
        except grpc.RpcError as error:
            ended = error
        except ValueError as error:  # grpc's way to say that the channel is closed
            raise closed() from error
        else:
            self._reconnects.heard()
            found = self._place.take(response)
            return [found] if found is not None else []
        self._stream = None
        if not self._closed.is_set():
            self._closed.wait(self._reconnects.after(ended))
        return []

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
    """The same for asyncio: `async for`. Cancelling a wait for the next notification loses none."""

    def __init__(
        self,
        connect: Callable[[pb.WatchNotificationsRequest], Any],
        request: pb.WatchNotificationsRequest,
        reconnects: Reconnects,
    ) -> None:
        self._connect = connect
        self._place = _Place(request)
        self._reconnects = reconnects
        self._stream: Any = None
        self._responses: AsyncIterator[Any] | None = None
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
            if self._responses is None:
                self._reconnects.begins()
                self._stream = self._connect(self._place.request())
                self._responses = aiter(self._stream)
            response = await anext(self._responses)
        except StopAsyncIteration:
            pass
        except grpc.RpcError as error:
            ended = error
        except grpc.aio.UsageError as error:
            raise closed() from error
        except asyncio.CancelledError:
            # The caller's own wish, unless it is how grpc says that the stream was cancelled by whomever.
            self._responses = None
            if is_cancelled():
                raise
        else:
            self._reconnects.heard()
            found = self._place.take(response)
            return [found] if found is not None else []
        self._responses = None
        if not self._closed.is_set():
            pause = self._reconnects.after(ended)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), pause)
        return []

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
