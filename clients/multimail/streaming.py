"""Streams of the service that take themselves up again where they broke."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from multimail._wire import Reconnects

T = TypeVar("T")

PATIENCE_S = 300.0


class Place(Protocol[T]):
    """How far a stream is, and how it goes on from there.

    Attributes:
        ends: Whether there is no more when the service ends the stream; else it is taken up again.
    """

    ends: bool

    def request(self) -> Any:
        """What opens the stream that goes on from here."""

    def take(self, response: Any) -> list[T]:
        """What a response holds for the caller: one thing, or nothing."""


class Stream(Generic[T]):
    """What the service streams, each once and in order; a broken connection is taken up again where it broke.

    After an exception out of the wait, such as Ctrl-C, the next step goes on as if nothing had been. A stream belongs
    to one thread at a time; only `close` may be called from another one. Leave it early through `with` or `close`.
    """

    def __init__(self, connect: Callable[[Any], Any], place: Place[T], reconnects: Reconnects) -> None:
        """A stream that begins and goes on where `place` says; `connect` opens it, again as `reconnects` says."""
        self._connect = connect
        self._place = place
        self._reconnects = reconnects
        self._stream: Any = None
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while not self._closed.is_set():
            for item in self._read():
                return item
        raise StopIteration

    def _read(self) -> list[T]:
        """What the next response holds; empty when that is nothing, or the stream broke."""
        ended: grpc.RpcError | None = None
        try:
            response = next(self._opened())
            self._reconnects.heard()
            return self._place.take(response)
        except StopIteration:
            if self._place.ends:
                self._closed.set()
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
        """Ends the stream, also while another thread waits for what comes next."""
        self._closed.set()
        if (stream := self._stream) is not None:
            stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream(Generic[T]):
    """The same for asyncio: `async with`, `async for`; it belongs to one task at a time.

    Giving up a wait loses nothing: bound it with `asyncio.timeout` and go on later.
    """

    def __init__(self, connect: Callable[[Any], Any], place: Place[T], reconnects: Reconnects) -> None:
        """A stream that begins and goes on where `place` says; `connect` opens it, again as `reconnects` says."""
        self._connect = connect
        self._place = place
        self._reconnects = reconnects
        self._stream: Any = None
        self._closed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._closed.is_set():
            for item in await self._read():
                return item
        raise StopAsyncIteration

    async def _read(self) -> list[T]:
        """What the next response holds; empty when that is nothing, or the stream broke."""
        ended: grpc.RpcError | None = None
        try:
            response = await anext(await self._opened())
            self._reconnects.heard()
            return self._place.take(response)
        except StopAsyncIteration:
            if self._place.ends:
                self._closed.set()
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
        """Ends the stream, also while another task waits for what comes next."""
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
