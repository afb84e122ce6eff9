"""Streams over HTTP: answers as lines of JSON or as server-sent events, and imports that are answered line by line."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from multimail_server.errors import DomainError, invalid_field
from multimail_server.gateway import body
from multimail_server.gateway.bindings import ALL
from multimail_server.gateway.failures import RequestError, failure_of
from multimail_server.gateway.given import json_of, message_of
from multimail_server.gateway.shown import json_bytes, shown, shown_field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message
    from starlette.requests import Request
    from starlette.types import Send

    from multimail_server.gateway.bindings import Binding

# For so long an error still becomes the answer's status; after that it is the stream's last line.
_ERRS_WITHIN_S = 0.2
# Proxies cut what is silent for a minute.
_BEATS_EVERY_S = 15.0
# How many outcomes of an import are kept for one who does not read them while he sends.
_MAX_UNREAD = 500_000
# What the service sends at once with every stream that it accepts.
_ACCEPTED = "x-request-id"


@dataclass(frozen=True, slots=True)
class _Lines:
    """One JSON object per line."""

    content_type: str = "application/x-ndjson"
    beat: bytes = b""

    def message(self, value: Any, position: Any) -> bytes:
        """One message."""
        del position
        return json_bytes(value) + b"\n"

    def error(self, value: Any) -> bytes:
        """How the stream failed."""
        return json_bytes(value) + b"\n"


@dataclass(frozen=True, slots=True)
class _Events:
    """Server-sent events, whose ids tell where to take the stream up again."""

    content_type: str = "text/event-stream"
    beat: bytes = b":\n\n"

    def message(self, value: Any, position: Any) -> bytes:
        """One message."""
        begin = b"" if position is None else f"id: {position}\n".encode()
        return begin + b"data: " + json_bytes(value) + b"\n\n"

    def error(self, value: Any) -> bytes:
        """How the stream failed."""
        return b"event: error\ndata: " + json_bytes(value) + b"\n\n"


def resume(message: Any, request: Request) -> None:
    """Has a stream go on where the header Last-Event-ID says: browsers send it when they come again.

    They ask with the same query as the first time, so the header goes before it.
    """
    last = request.headers.get("last-event-id", "")
    if not last or "after_seq" not in message.DESCRIPTOR.fields_by_name:
        return
    if not last.isdecimal() or int(last) >= 2**63:
        raise invalid_field("Last-Event-ID", "must be the id of an event of this stream")
    message.after_seq = int(last)
    message.only_new = False


async def follow(request: Request, call: Any, binding: Binding, send: Send) -> None:
    """Answers with what the call streams; the call is cancelled when whoever asked leaves."""
    form = _Events() if "text/event-stream" in request.headers.get("accept", "") else _Lines()
    try:
        telling = _tell(_Answer(send, form), call, binding, _read(call))
        await body.unless_gone(telling, body.until_gone(request.receive))
    finally:
        call.cancel()


class _Answer:
    """An answer that is streamed; it begins when there is something to say."""

    def __init__(self, send: Send, form: _Lines | _Events) -> None:
        self._send = send
        self.form = form
        self.begun = False

    async def begin(self) -> None:
        """Sends the status and the headers, unless they were."""
        if not self.begun:
            self.begun = True
            headers = [(b"content-type", self.form.content_type.encode()), (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self.say(b"")

    async def say(self, data: bytes, *, more: bool = True) -> None:
        """Sends some bytes."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


async def _tell(answer: _Answer, call: Any, binding: Binding, messages: AsyncIterator[Message]) -> None:
    """Streams the messages; an error before anything was said is raised, a later one is the last line."""
    following: asyncio.Future[Message] = asyncio.ensure_future(anext(messages))
    try:
        accepted = any(name == _ACCEPTED for name, _ in await call.initial_metadata() or ())
        if accepted:
            await asyncio.wait({following}, timeout=_ERRS_WITHIN_S)
        while True:
            if answer.begun or (accepted and not following.done()):
                await answer.begin()
            while not (await asyncio.wait({following}, timeout=_BEATS_EVERY_S))[0]:
                if answer.begun and answer.form.beat:
                    await answer.say(answer.form.beat)
            message = following.result()
            await answer.begin()
            await answer.say(_said(answer.form, message, binding))
            following = asyncio.ensure_future(anext(messages))
    except StopAsyncIteration:
        await answer.begin()
        await answer.say(b"", more=False)
    except (grpc.aio.AioRpcError, DomainError, RequestError) as error:
        failure = failure_of(error)
        if not answer.begun or failure is None:
            raise
        await answer.say(answer.form.error(failure.body), more=False)
    finally:
        following.cancel()


def _said(form: _Lines | _Events, message: Message, binding: Binding) -> bytes:
    value = shown_field(message, binding.response_body) if binding.response_body else shown(message)
    return form.message(value, getattr(message, "seq", None))


async def _read(call: Any) -> AsyncIterator[Message]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


async def exchange(request: Request, call: Any, binding: Binding, fields: dict[str, Any], send: Send) -> None:
    """Sends every line of the body as one message, and answers with what the call streams meanwhile.

    Args:
        request: The request.
        call: The call.
        binding: What it is; its body is the field that a line holds.
        fields: What the URL says of each message. A field `row` is the number of the first line.
        send: Where the answer goes.
    """
    unread: asyncio.Queue[Message | Exception | None] = asyncio.Queue(_MAX_UNREAD)
    forwarding = asyncio.ensure_future(_forward(request, call, binding, fields))

    async def answers() -> AsyncIterator[Message]:
        while (each := await unread.get()) is not None:
            if isinstance(each, Exception):
                raise each
            yield each
        await forwarding  # raises what was wrong with a line

    async def left() -> None:
        await asyncio.wait({forwarding})
        if not isinstance(forwarding.exception(), body.GoneError):
            await body.until_gone(request.receive)

    collecting = asyncio.ensure_future(_collect(call, unread))
    try:
        await body.unless_gone(_tell(_Answer(send, _Lines()), call, binding, answers()), left())
    finally:
        call.cancel()
        forwarding.cancel()
        collecting.cancel()
        await asyncio.gather(forwarding, collecting, return_exceptions=True)


async def _collect(call: Any, unread: asyncio.Queue[Message | Exception | None]) -> None:
    """Takes what is answered, read or not: else one who sends all before he reads would wait for ever."""
    try:
        async for message in _read(call):
            await unread.put(message)
        await unread.put(None)
    except grpc.aio.AioRpcError as error:
        await unread.put(error)


async def _forward(request: Request, call: Any, binding: Binding, fields: dict[str, Any]) -> None:
    """Sends the lines on; what was right before one that is not is still done."""
    descriptor = binding.rpc.input_type
    first = fields.pop("row", 0) if "row" in descriptor.fields_by_name else None
    number = 0
    try:
        async for line in body.lines(request.receive):
            number += 1
            given = dict(fields) if first is None else {**fields, "row": first + number - 1}
            given |= _line(line, number) if binding.body == ALL else {binding.body: _line(line, number)}
            await call.write(message_of(descriptor, given))
    except DomainError as error:
        raise _about_line(error, number) from None
    finally:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it has ended, and says itself why
            await call.done_writing()


def _line(line: bytes, number: int) -> Any:
    try:
        return json_of(line)
    except DomainError as error:
        raise DomainError(error.reason, error.message.replace("The body", f"Line {number}")) from None


def _about_line(error: DomainError, number: int) -> DomainError:
    """The refusal, saying which line it is about."""
    if not error.violations:
        return error
    return DomainError(
        error.reason, f"Line {number}: {error.message}", metadata=error.metadata, violations=error.violations
    )
