"""The outermost ring of every call: request id, deadline, one log line, and every error in its wire form."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from multimail_server.accounts.caller import set_caller
from multimail_server.errors import DomainError, Reason
from multimail_server.rpc.auth import ANY, SCOPES, is_open
from multimail_server.rpc.status import CODES, trailing_metadata
from multimail_server.rpc.validation import validate
from multimail_server.storage.gather import set_asker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message

    from multimail_server.accounts.caller import Caller
    from multimail_server.rpc.admission import Admission
    from multimail_server.rpc.auth import Auth

    _Handler = grpc.RpcMethodHandler[Any, Any]

log = logging.getLogger("multimail.rpc")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_USEFUL_S = 0.005
# How often a stream looks whether it may go on.
_LOOK_S = 0.5


@dataclass(slots=True, eq=False)
class _Call:
    """What the log line says of one call."""

    method: str
    request_id: str
    started: float
    key_id: str = "-"
    code: str = "OK"
    reason: str = "-"


@dataclass(slots=True)
class Boundary(grpc.aio.ServerInterceptor):
    """Runs every call through boundary, auth, admission and validation, in this order, then the servicer.

    One interceptor, so that the order stands in one place (`_stages`) and a call pays for one.

    Attributes:
        auth: Finds the caller.
        admission: Bounds on calls.
        deadline_s: The deadline of a call that brings none, in seconds.
        new_id: Makes an id with the given prefix.
    """

    auth: Auth
    admission: Admission
    deadline_s: float
    new_id: Callable[[str], str]
    _handlers: dict[str, _Handler] = field(default_factory=dict)
    _closed: DomainError | None = field(
        default_factory=lambda: DomainError(
            Reason.ENGINE_UNAVAILABLE, "The service is starting; try again shortly.", retry_after_s=1
        )
    )
    _under_way: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """The method's handler with everything around it; made once per method."""
        method = handler_call_details.method
        wrapped = self._handlers.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None:
            return self._wrapped(method, None)
        if (handler.request_streaming or handler.response_streaming) and is_open(method):
            return handler
        made = self._streamed if handler.response_streaming else self._wrapped
        self._handlers[method] = wrapped = made(method, handler)
        return wrapped

    def _wrapped(self, method: str, handler: _Handler | None) -> _Handler:
        async def behaviour(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._answer(method, handler, raw, context)

        # No deserializer: garbage must be met inside, behind auth, and answered as what it is.
        return grpc.unary_unary_rpc_method_handler(
            behaviour, response_serializer=handler.response_serializer if handler else None
        )

    def _streamed(self, method: str, handler: _Handler) -> _Handler:
        async def behaviour(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            metadata = context.invocation_metadata() or ()
            call = _Call(method, self._request_id(metadata), time.perf_counter())
            replies = self._stream(call, handler, raw, metadata, context)
            async with _Answering(self, call, context), contextlib.aclosing(replies):
                async for reply in replies:
                    yield reply

        made = grpc.unary_stream_rpc_method_handler
        if handler.request_streaming:
            made = grpc.stream_stream_rpc_method_handler
        return made(behaviour, response_serializer=handler.response_serializer)

    def open(self) -> None:
        """Lets calls in; before, only health and reflection answer."""
        self._closed = None

    async def drain(self, grace_s: float) -> None:
        """Refuses new calls and waits for those under way, at most `grace_s` seconds."""
        self._closed = DomainError(Reason.SHUTTING_DOWN, "The service is stopping; try again shortly.", retry_after_s=1)
        self._idle.clear()
        if self._under_way:
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("%d calls did not finish in time", self._under_way)

    async def _answer(
        self,
        method: str,
        handler: _Handler | None,
        raw: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        metadata = context.invocation_metadata() or ()
        call = _Call(method, self._request_id(metadata), time.perf_counter())
        async with _Answering(self, call, context):
            return await self._stages(call, handler, raw, metadata, context)

    def began(self) -> None:
        """Counts a call."""
        self._under_way += 1

    def ended(self) -> None:
        """Counts a call no more."""
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def _stages(
        self,
        call: _Call,
        handler: _Handler | None,
        raw: bytes,
        metadata: Any,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        left = context.time_remaining()
        if left is not None and left < _USEFUL_S:
            raise DomainError(Reason.OUT_OF_TIME, "The call's deadline leaves no time to do anything.")
        if is_open(call.method):
            handler = _known(handler)
            return await _served(handler, _parsed(handler, raw), context)
        async with asyncio.timeout(self.deadline_s if left is None else None):
            caller = await self._caller(call, metadata)
            set_asker(call)
            handler = _known(handler)
            with self.admission.admitted(caller.key_id, "read" if SCOPES[call.method] in ("read", ANY) else "change"):
                request = _parsed(handler, raw)
                validate(request)
                return await _served(handler, request, context)

    async def _caller(self, call: _Call, metadata: Any) -> Caller:
        """The caller, unless the service takes no calls."""
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        caller = await self.auth.caller(call.method, metadata)
        call.key_id = caller.key_id
        set_caller(caller)
        return caller

    async def _stream(
        self, call: _Call, handler: Any, raw: Any, metadata: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[Any, None]:
        """The same for a stream: it has no deadline of ours, but ends when its key is revoked or the service stops.

        `raw` is the request's bytes, or an iterator of many requests' bytes.
        """
        caller = await self._caller(call, metadata)
        with self.admission.admitted(caller.key_id, "stream"):
            replies = _stream_of(handler, raw, context)
            # At once: who follows a quiet account sees that the stream stands.
            await context.send_initial_metadata((("x-request-id", call.request_id),))
            following: asyncio.Future[Any] | None = None
            try:
                while True:
                    following = asyncio.ensure_future(anext(replies))
                    while not (await asyncio.wait({following}, timeout=_LOOK_S))[0]:
                        await self._caller(call, metadata)
                    try:
                        yield following.result()
                    except StopAsyncIteration:
                        return
                    await self._caller(call, metadata)
            finally:
                if following is not None:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                await replies.aclose()

    def _request_id(self, metadata: Any) -> str:
        for name, value in metadata:
            if name == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
                return value
        return self.new_id("req")


@dataclass(slots=True)
class _Answering:
    """Counts and logs the call inside, and turns whatever it raises into its wire form.

    A class, for a generator would cost each call some microseconds.
    """

    boundary: Boundary
    call: _Call
    context: grpc.aio.ServicerContext[Any, Any]

    async def __aenter__(self) -> None:
        self.boundary.began()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                await self._failed(error)
        finally:
            self.boundary.ended()
            _log(self.call)

    async def _failed(self, error: BaseException) -> None:
        call = self.call
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            call.code = "CANCELLED"
        elif isinstance(error, grpc.aio.AbortError):
            call.code = "ABORTED_BY_SERVICER"
        elif isinstance(error, DomainError):
            await self._refuse(error)
        elif isinstance(error, TimeoutError):
            await self._refuse(DomainError(Reason.OUT_OF_TIME, "The call took too long."))
        elif isinstance(error, Exception):
            log.error("a call failed: method=%s request_id=%s", call.method, call.request_id, exc_info=error)
            await self._refuse(_internal(call.request_id))

    async def _refuse(self, error: DomainError) -> None:
        call = self.call
        call.code, call.reason = CODES[error.reason].name, error.reason.value
        left = self.context.time_remaining()
        trailing = trailing_metadata(error, call.request_id, self.boundary.deadline_s if left is None else left)
        await self.context.abort(CODES[error.reason], error.message, trailing_metadata=trailing)


def _known(handler: _Handler | None) -> _Handler:
    if handler is None:
        raise DomainError(Reason.METHOD_UNKNOWN, "This service has no such method.")
    return handler


async def _served(handler: Any, request: Message, context: Any) -> Any:
    """What the servicer answers; grpc's types know only its synchronous form."""
    return await handler.unary_unary(request, context)


def _stream_of(handler: Any, raw: Any, context: Any) -> AsyncGenerator[Any, None]:
    """What the servicer streams as its answer to one request, or to many."""
    if handler.request_streaming:
        replies: AsyncGenerator[Any, None] = handler.stream_stream(_checked_each(handler, raw), context)
        return replies
    return handler.unary_stream(_checked(handler, raw), context)  # type: ignore[no-any-return]


async def _checked_each(handler: _Handler, raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for raw in raws:
        yield _checked(handler, raw)


def _checked(handler: _Handler, raw: bytes) -> Any:
    request = _parsed(handler, raw)
    validate(request)
    return request


def _parsed(handler: _Handler, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)  # type: ignore[misc]
    except (DecodeError, ValueError, UnicodeDecodeError):
        raise DomainError(Reason.MALFORMED_REQUEST, "The bytes of this request are no message of this call.") from None


def _internal(request_id: str) -> DomainError:
    return DomainError(
        Reason.INTERNAL,
        f"Something went wrong inside; the log tells more under request id {request_id}.",
        metadata={"request_id": request_id},
    )


def _log(call: _Call) -> None:
    """One line per call: never a body, never an address."""
    if is_open(call.method):
        return
    log.info(
        "method=%s code=%s reason=%s ms=%.1f key=%s request_id=%s",
        call.method.rpartition("/")[2][:64],
        call.code,
        call.reason,
        (time.perf_counter() - call.started) * 1000,
        call.key_id,
        call.request_id,
    )
