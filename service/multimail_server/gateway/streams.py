"""Streams over HTTP: answers as lines of JSON or as server-sent events, and imports that are answered line by line."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
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
    from collections.abc import AsyncGenerator, AsyncIterator

    from google.protobuf.message import Message
    from starlette.requests import Request
    from starlette.types import Send

    from multimail_server.gateway.bindings import Binding
    from multimail_server.gateway.large import Large

# For so long an error still becomes the answer's status; after that it is the stream's last line.
_ERRS_WITHIN_S = 0.2
# Proxies cut what is silent for a minute.
_BEATS_EVERY_S = 15.0
# What the service sends at once with every stream that it accepts.
_ACCEPTED = "x-request-id"


@dataclass(frozen=True, slots=True)
class _Lines:
    """One JSON object per line; an empty line says that the stream is alive."""

    content_type: str = "application/x-ndjson"
    beat: bytes = b"\n"

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
    if "only_new" in message.DESCRIPTOR.fields_by_name:
        message.ClearField("only_new")


async def follow(request: Request, call: Any, binding: Binding, send: Send) -> None:
    """Answers with what the call streams; the call is cancelled when whoever asked leaves."""
    form = _Events() if "text/event-stream" in request.headers.get("accept", "") else _Lines()
    try:
        async with aclosing(_read(call)) as messages:
            telling = _tell(_Answer(send, form), call, binding, messages)
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
                if answer.begun:
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
        await asyncio.gather(following, return_exceptions=True)


def _said(form: _Lines | _Events, message: Message, binding: Binding) -> bytes:
    value = shown_field(message, binding.response_body) if binding.response_body else shown(message)
    return form.message(value, getattr(message, "seq", None))


async def _read(call: Any) -> AsyncGenerator[Message, None]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


@dataclass(frozen=True, slots=True)
class Rows:
    """How lines become messages.

    Attributes:
        fields: What the URL says of each message. A field `row` is the number of the first line.
        large: What large bodies there are, for a line may be one.
    """

    fields: dict[str, Any]
    large: Large


async def exchange(request: Request, call: Any, binding: Binding, rows: Rows, send: Send) -> None:
    """Sends every line of the body as one message, and answers with what the call streams meanwhile.

    Nothing is kept for one who does not read: no more is taken of him than he takes, and the connection is cut when he
    takes nothing.

    Args:
        request: The request.
        call: The call.
        binding: What it is; its body is the field that a line holds.
        rows: How a line becomes a message.
        send: Where the answer goes.
    """
    forwarding = asyncio.ensure_future(_forward(request, call, binding, rows))

    async def answers() -> AsyncGenerator[Message, None]:
        async for each in _read(call):
            yield each
        await forwarding  # raises what was wrong with a line

    async def left() -> None:
        await asyncio.wait({forwarding})
        if not isinstance(forwarding.exception(), body.GoneError):
            await body.until_gone(request.receive)

    try:
        async with aclosing(answers()) as messages:
            await body.unless_gone(_tell(_Answer(send, _Lines()), call, binding, messages), left())
    finally:
        call.cancel()
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)


async def _forward(request: Request, call: Any, binding: Binding, rows: Rows) -> None:
    """Sends the lines on; what was right before one that is not is still done."""
    descriptor, fields = binding.rpc.input_type, dict(rows.fields)
    first = fields.pop("row", 0) if "row" in descriptor.fields_by_name else None
    number = 0
    try:
        async for line in body.lines(request.receive):
            number += 1
            given = dict(fields) if first is None else {**fields, "row": first + number - 1}
            await call.write(await rows.large.read(len(line), _row, binding, given, line, number))
    except DomainError as error:
        raise _about_line(error, number) from None
    finally:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it has ended, and says itself why
            await call.done_writing()


def _row(binding: Binding, given: dict[str, Any], line: bytes, number: int) -> Message:
    """The message of a line, besides what is given of it already."""
    try:
        found = json_of(line)
    except DomainError as error:
        raise DomainError(error.reason, error.message.replace("The body", f"Line {number}")) from None
    if binding.body == ALL and not isinstance(found, dict):
        raise invalid_field("the line", "must be an object")
    return message_of(binding.rpc.input_type, given | (found if binding.body == ALL else {binding.body: found}))


def _about_line(error: DomainError, number: int) -> DomainError:
    """The refusal, saying which line it is about."""
    if not error.violations:
        return error
    return DomainError(
        error.reason, f"Line {number}: {error.message}", metadata=error.metadata, violations=error.violations
    )
