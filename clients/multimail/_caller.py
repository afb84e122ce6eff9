"""How the clients call: one channel, one way to try again, one way to walk through pages."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from multimail._wire import Attempts, Call, Reconnects, closed, minted
from multimail.bulk import AsyncImport, Exported, Import
from multimail.errors import MultimailError
from multimail.paging import AsyncResults, Page, Results, first_size
from multimail.streaming import AsyncStream, Stream, is_cancelled
from multimail.v1 import contact_service_pb2_grpc, mail_service_pb2_grpc
from multimail.watching import AsyncWatch, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    from multimail._wire import Endpoint
    from multimail.bulk import AsyncRows, Rows
    from multimail.contacts import Contact

T = TypeVar("T")


def _stubs(channel: grpc.Channel | grpc.aio.Channel) -> dict[str, Any]:
    return {
        "ContactService": contact_service_pb2_grpc.ContactServiceStub(channel),
        "MailService": mail_service_pb2_grpc.MailServiceStub(channel),
    }


class Caller:
    """Makes calls over one channel: its own, or that of the caller it was made from."""

    def __init__(self, where: Endpoint, owner: Caller | None = None) -> None:
        self._endpoint = where
        self._owner = owner or self
        self.is_closed = False
        if owner is None:
            self._channel = where.channel()
            self._stubs: dict[str, Any] = _stubs(self._channel)

    def with_key(self, api_key: str) -> Caller:
        """The same with another key, over the same channel."""
        return Caller(self._endpoint.with_key(api_key), self._owner)

    def run(self, call: Call[T]) -> T:
        """One logical call, tried again where that is safe."""
        attempts = Attempts(self._endpoint, call.request, time.monotonic)
        while True:
            try:
                reply = self._invoke(call.service, call.method, call.request, attempts.left)
            except grpc.RpcError as error:
                time.sleep(attempts.after(error))
            else:
                return call.convert(reply)

    def results(self, page: Callable[[str, int], Call[Page[T]]], limit: int | None) -> Results[T]:
        """The results of a list call, page by page."""
        return Results(lambda token, size: self.run(page(token, size)), limit)

    def run_all(self, calls: Iterable[Call[list[T]]]) -> list[T]:
        """What several calls answer, one after the other."""
        return [each for call in calls for each in self.run(call)]

    def export(self, call: Call[Contact], patience: float) -> Stream[Contact]:
        """All that a streaming call answers."""
        return Stream(self._opener(call.service, call.method), Exported(call), self._reconnects(patience))

    def import_(self, rows: Rows, import_id: str | None, patience: float) -> Import:
        """An import, named anew unless it has a name."""
        opens = self._opener("ContactService", "ImportContacts")
        return Import(opens, rows, minted(import_id), self._reconnects(patience))

    def watch(self, call: Call[T | None], patience: float) -> Watch[T]:
        """A watch that is ready: it is known where it begins."""
        watch = Watch(self._opener(call.service, call.method), call, self._reconnects(patience))
        watch.start()
        return watch

    def _opener(self, service: str, method: str) -> Callable[[Any], Any]:
        return functools.partial(self._invoke, service, method)

    def _reconnects(self, patience: float) -> Reconnects:
        return Reconnects(self._endpoint, patience, time.monotonic)

    def _invoke(self, service: str, method: str, request: Message, timeout: float | None = None) -> Any:
        stub = self._owner.stub(service)
        try:
            return getattr(stub, method)(request, timeout=timeout, metadata=self._endpoint.metadata)
        except ValueError:
            if not self._owner.is_closed:
                raise
            raise closed(request) from None

    def stub(self, service: str) -> Any:
        """A service's stub."""
        return self._stubs[service]

    def close(self) -> None:
        """Closes the channel, if it is its own."""
        if self._owner is self:
            self.is_closed = True
            self._channel.close()


class AsyncCaller:
    """The same for asyncio; its channel belongs to the loop it is first used on."""

    def __init__(self, where: Endpoint, owner: AsyncCaller | None = None) -> None:
        self._endpoint = where
        self._owner = owner or self
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stubs: dict[str, Any] = {}
        self.is_closed = False

    def with_key(self, api_key: str) -> AsyncCaller:
        """The same with another key, over the same channel."""
        return AsyncCaller(self._endpoint.with_key(api_key), self._owner)

    async def run(self, call: Call[T]) -> T:
        """One logical call, tried again where that is safe."""
        attempts = Attempts(self._endpoint, call.request, time.monotonic)
        while True:
            try:
                reply = await self._invoke(call.service, call.method, call.request, attempts.left)
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.after(error))
            except asyncio.CancelledError:
                # Closing the channel cancels the calls under way; that is no cancellation of the task that waits.
                if self._owner.is_closed and not is_cancelled():
                    raise closed(call.request) from None
                raise
            else:
                return call.convert(reply)

    async def results(self, page: Callable[[str, int], Call[Page[T]]], limit: int | None) -> AsyncResults[T]:
        """The results of a list call: the first page that holds any now, the rest as it is walked."""

        async def fetch(token: str, size: int) -> Page[T]:
            return await self.run(page(token, size))

        first = await fetch("", first_size(limit)) if limit != 0 else Page([], "")
        while first.passes:
            first = await fetch(first.next_page_token, first_size(limit))
        return AsyncResults(fetch, limit, first)

    async def run_all(self, calls: Iterable[Call[list[T]]]) -> list[T]:
        """What several calls answer, one after the other."""
        return [each for call in calls for each in await self.run(call)]

    def export(self, call: Call[Contact], patience: float) -> AsyncStream[Contact]:
        """All that a streaming call answers."""
        return AsyncStream(self._opener(call.service, call.method), Exported(call), self._reconnects(patience))

    def import_(self, rows: AsyncRows, import_id: str | None, patience: float) -> AsyncImport:
        """An import, named anew unless it has a name."""
        opens = self._opener("ContactService", "ImportContacts")
        return AsyncImport(opens, rows, minted(import_id), self._reconnects(patience))

    async def watch(self, call: Call[T | None], patience: float) -> AsyncWatch[T]:
        """A watch that is ready: it is known where it begins."""
        watch = AsyncWatch(self._opener(call.service, call.method), call, self._reconnects(patience))
        await watch.start()
        return watch

    def _opener(self, service: str, method: str) -> Callable[[Any], Any]:
        return functools.partial(self._invoke, service, method)

    def _reconnects(self, patience: float) -> Reconnects:
        return Reconnects(self._endpoint, patience, time.monotonic)

    def _invoke(self, service: str, method: str, request: Message, timeout: float | None = None) -> Any:
        stub = self._owner.stub(service, request)
        return getattr(stub, method)(request, timeout=timeout, metadata=self._endpoint.metadata)

    def stub(self, service: str, request: Message) -> Any:
        """A service's stub, on the channel that is made with the first call."""
        if self.is_closed:
            raise closed(request)
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop, self._channel = loop, self._endpoint.aio_channel()
            self._stubs = _stubs(self._channel)
        if self._loop is not loop:
            raise MultimailError(
                "This AsyncClient belongs to another event loop, the one it was first used on.",
                reason="WRONG_LOOP",
                hint="Make one inside each asyncio.run, or use multimail.Client.",
            )
        return self._stubs[service]

    async def close(self) -> None:
        """Closes the channel, if it is its own."""
        if self._owner is self:
            self.is_closed = True
            if self._channel is not None:
                await self._channel.close()
