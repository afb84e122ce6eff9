"""Turns HTTP requests into gRPC calls and their answers back, by the rules of google.api.http alone."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from google.protobuf import message_factory
from starlette.requests import Request
from starlette.responses import Response

from multimail_server.errors import DomainError, Reason, invalid_field
from multimail_server.gateway import body, streams
from multimail_server.gateway.bindings import ALL, bindings_of, table_of
from multimail_server.gateway.edge import request_id_of
from multimail_server.gateway.failures import RequestError
from multimail_server.gateway.given import json_of, message_of
from multimail_server.gateway.http_rule import MalformedPathError
from multimail_server.gateway.query import add_path, add_query, parameters_of
from multimail_server.gateway.shown import json_bytes, shown, shown_field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    import grpc
    from google.protobuf.descriptor import ServiceDescriptor
    from google.protobuf.message import Message
    from starlette.types import Receive, Scope, Send

    from multimail_server.gateway.bindings import Binding
    from multimail_server.gateway.http_rule import Found
    from multimail_server.gateway.large import Large

    Check = Callable[[str, Sequence[tuple[str, str | bytes]]], Awaitable[object]]

_TIMEOUT = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,3})?")
_JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json")
_LINES = re.compile(r"application/(x-ndjson|jsonl|x-jsonlines)")
_OTHER_CHARSET = re.compile(r"charset=(?!\"?utf-?8\b)")
# Fields that make a request repeatable, the first that a request has.
_REPEATABLE = ("request_id", "import_id")


class Transcoder:
    """An ASGI application that answers everything the services' HTTP rules tell.

    Args:
        channel: Where the services are.
        services: Their descriptors.
        check: Refuses a caller by the method and the metadata of a call, before anything is read.
        large: What large bodies there are.
    """

    def __init__(
        self, channel: grpc.aio.Channel, services: Iterable[ServiceDescriptor], check: Check, large: Large
    ) -> None:
        self._check = check
        self._large = large
        bindings = bindings_of(services)
        self._table = table_of(bindings)
        self._stubs = {each.grpc_path: _stub(channel, each) for each in bindings}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        found = self._found(request)
        if found is None:
            await Response(None, HTTPStatus.NO_CONTENT, {"allow": self._allowed(request)})(scope, receive, send)
            return
        binding = found.target
        call: dict[str, Any] = {"metadata": _metadata(request), "timeout": _timeout(request)}
        stub = self._stubs[binding.grpc_path]
        if body.told_bytes(request):  # nothing of a stranger's is read
            await self._check(binding.grpc_path, call["metadata"])
        if binding.rpc.client_streaming:
            _require(request, _LINES, "one JSON object per line, content-type: application/x-ndjson")
            first = self._request(found, request, {})
            await streams.exchange(request, stub(**call), binding, streams.Rows(first, self._large), send)
            return
        async with self._large.held(body.told_bytes(request)):
            message = await self._message(found, request)
        if binding.rpc.server_streaming:
            streams.resume(message, request)
            await streams.follow(request, stub(message, **call), binding, send)
            return
        reply: Any = await body.unless_gone(stub(message, **call), body.until_gone(receive))
        value = shown_field(reply, binding.response_body) if binding.response_body else shown(reply)
        await Response(json_bytes(value), media_type="application/json")(scope, receive, send)

    def _found(self, request: Request) -> Found[Binding] | None:
        """What the request leads to; None for a question about what there is, an error else."""
        try:
            method = "GET" if request.method == "HEAD" else request.method
            found = self._table.find(method, _raw_path(request))
            if found is not None and not (request.method == "HEAD" and found.target.rpc.server_streaming):
                return found
            allowed = self._allowed(request)
        except MalformedPathError as error:
            raise DomainError(Reason.MALFORMED_REQUEST, f"{str(error).capitalize()}.") from None
        if not allowed:
            raise RequestError(
                HTTPStatus.NOT_FOUND, "There is nothing at this path; /docs lists what there is.", Reason.METHOD_UNKNOWN
            )
        if method != "OPTIONS":
            raise RequestError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"This path knows no {request.method[:16]}, only {allowed}.",
                Reason.METHOD_UNKNOWN,
                {"allow": allowed},
            )
        return None

    def _allowed(self, request: Request) -> str:
        """The methods this path knows, as the header Allow lists them; empty for none."""
        methods = self._table.methods(_raw_path(request))
        if methods:
            methods += ["OPTIONS"]
        return ", ".join(methods)

    async def _message(self, found: Found[Binding], request: Request) -> Message:
        """The request as the message it stands for."""
        binding = found.target
        raw = await body.whole(request)
        if not binding.body:
            if raw.strip():
                raise invalid_field("the body", "must be empty: this call takes its fields in the query")
        elif raw:
            _require(request, _JSON, "JSON, content-type: application/json")
        return await self._large.read(len(raw), self._read, found, request, raw)

    def _read(self, found: Found[Binding], request: Request, raw: bytes) -> Message:
        binding = found.target
        given: Any = json_of(raw) if raw.strip() else {}
        if binding.body not in ("", ALL):
            given = {binding.body: given} if raw.strip() else {}
        if not isinstance(given, dict):
            raise invalid_field("the body", "must be an object")
        return message_of(binding.rpc.input_type, self._request(found, request, given))

    def _request(self, found: Found[Binding], request: Request, given: dict[str, Any]) -> dict[str, Any]:
        """The request as plain data: what the body gave, and what stands in path, query and headers."""
        binding = found.target
        descriptor = binding.rpc.input_type
        add_path(given, descriptor, found.values)
        parameters = parameters_of(request.scope["query_string"])
        if binding.body == ALL and parameters:
            raise invalid_field(parameters[0][0][:200], "stands in the query; this call takes its fields in the body")
        taken = frozenset({*found.values, binding.body} - {""})
        add_query(given, descriptor, parameters, taken)
        _add_key(given, binding, request.headers.get("idempotency-key", ""))
        return given


def _stub(channel: grpc.aio.Channel, binding: Binding) -> Any:
    rpc = binding.rpc
    kind = f"{_kind(streams=rpc.client_streaming)}_{_kind(streams=rpc.server_streaming)}"
    reply = message_factory.GetMessageClass(rpc.output_type)
    request = message_factory.GetMessageClass(rpc.input_type)
    return getattr(channel, kind)(
        binding.grpc_path, request_serializer=request.SerializeToString, response_deserializer=reply.FromString
    )


def _kind(*, streams: bool) -> str:
    return "stream" if streams else "unary"


def _raw_path(request: Request) -> str:
    """The path as it was sent: decoded, an address with a slash would be two segments."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("latin-1")


def _require(request: Request, form: re.Pattern[str], words: str) -> None:
    told = request.headers.get("content-type", "").lower()
    if told and (not form.fullmatch(told.partition(";")[0].strip()) or _OTHER_CHARSET.search(told)):
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the body as {words}.")


def _metadata(request: Request) -> list[tuple[str, str]]:
    """What the call carries: the caller's own key, and the request's id."""
    metadata = [("x-request-id", request_id_of(request.scope))]
    key = request.headers.get("authorization", "")
    if not (key.isascii() and key.isprintable()):
        raise DomainError(Reason.KEY_INVALID, "The header authorization holds characters no key has.")
    return [*metadata, ("authorization", key)] if key else metadata


def _timeout(request: Request) -> float | None:
    """How long the call may take, in seconds; None for the service's own bound."""
    told = request.headers.get("x-request-timeout", "")
    if told and not (_TIMEOUT.fullmatch(told) and float(told) > 0):
        raise invalid_field("X-Request-Timeout", "must be a number of seconds above 0, such as 2.5")
    return float(told) if told else None


def _add_key(given: dict[str, Any], binding: Binding, key: str) -> None:
    """Takes the header Idempotency-Key for the field that makes the request repeatable; reads have none."""
    if len(key) > 1 and key[0] == key[-1] == '"':  # as its draft would have it
        key = key[1:-1]
    name = next((each for each in _REPEATABLE if each in binding.rpc.input_type.fields_by_name), "")
    if not key or not name:
        return
    given[name] = given.get(name) or key
    if given[name] != key:
        raise invalid_field(name, "is not what the header Idempotency-Key says; give one of them")
