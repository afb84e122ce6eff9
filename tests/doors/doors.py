"""The doors of the service, each asked the same request and heard in one form."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
from tests.cli.run import Cli
from tests.clients.forms import Following, InThreads
from tests.conftest import Account
from tests.doors.said import Refused
from tests.gateway.web import LINES, web
from tests.mcp.talk import talking
from tests.rpc.calls import read_refusal, stubs

import multimail
from multimail import _json
from multimail.mcp.server import TOOLS
from multimail_server.gateway.bindings import bindings_of
from multimail_server.gateway.parts import SERVICES
from multimail_server.gateway.shown import shown, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx2
    from google.protobuf.descriptor import FieldDescriptor
    from tests.doors.table import Row

RPCS = {rpc.name: rpc for service in SERVICES for rpc in service.methods}
FEW = 3  # responses of a stream that does not end


@dataclass(frozen=True)
class KeyedAccount(Account):
    """An account whose every door has one and the same key."""

    kept: str = ""

    async def key(self, *scopes: str) -> str:
        """That key."""
        return self.kept


class Doors:
    """All doors, with one key."""

    def __init__(self, grpc_stubs: tuple[Any, Any], http: httpx2.AsyncClient, sdk: dict[str, Any], talk: Any, cli: Cli):
        self._stubs, self._http, self._sdk, self._talk, self._cli = grpc_stubs, http, sdk, talk, cli

    async def by_grpc(self, method: str, request: Any) -> Any:
        """What gRPC says: for one response its JSON, for a stream a list of them."""
        rpc = RPCS[method]
        call = getattr(self._stubs[rpc.containing_service.name == "MailService"], method)
        try:
            if not rpc.server_streaming:
                return shown(await call(request))
            stream = call(iter([request])) if rpc.client_streaming else call(request)
            return await _taken(rpc, (shown(each) async for each in stream))
        except grpc.aio.AioRpcError as error:
            told = read_refusal(error)
            fields = tuple(sorted(told.fields))
            return Refused(told.reason, told.metadata, fields, told.message, told.retry_delay_s, told.code)

    async def by_rest(self, method: str, request: Any) -> Iterator[tuple[str, Any]]:
        """What every HTTP call says that can stand for the request."""
        return iter([(path, await self._rest(*call)) for path, call in _http_calls(RPCS[method], request)])

    async def _rest(self, rpc: Any, verb: str, path: str, options: dict[str, Any]) -> Any:
        async with self._http.stream(verb, path, **options) as response:
            if response.is_success and rpc.server_streaming:
                return await _taken(rpc, (json.loads(line) async for line in response.aiter_lines() if line))
            body = json.loads(await response.aread())
        if response.is_success:
            return body
        error = body["error"]
        details = {each["@type"].rpartition(".")[2]: each for each in error["details"]}
        info, bad = details["ErrorInfo"], details.get("BadRequest", {})
        assert error["code"] == response.status_code
        retry = details.get("RetryInfo", {}).get("retry_delay")
        assert bool(retry) == ("retry-after" in response.headers)
        fields = tuple(sorted(each["field"] for each in bad.get("field_violations", ())))
        retry_s = float(retry.rstrip("s")) if retry else None
        return Refused(info["reason"], info.get("metadata", {}), fields, error["message"], retry_s, error["code"])

    async def by_sdk(self, form: str, row: Row, request: Any) -> Any:
        """What a form of the library gives, as plain data."""
        target = self._sdk[form]
        *places, name = row.sdk.call.split(".")
        for place in places:
            target = getattr(target, place)
        asked = row.sdk.prepared(given(request, row.sdk.names))
        if isinstance(asked.get("guard"), dict):
            asked["guard"] = multimail.Guard(**asked["guard"])
        streams = RPCS[row.method].server_streaming
        try:
            found = await getattr(target, name)(**row.sdk.fixed, **asked)
            if streams:
                found = await _followed(RPCS[row.method], Following(found))
        except multimail.MultimailError as error:
            return _raised(error)
        return _plain(getattr(found, "items", found))

    async def by_mcp(self, row: Row, request: Any) -> Any:
        """What the tool tells, structured."""
        tool = row.mcp.call
        arguments = {**row.mcp.fixed, **_jsonable(row.mcp.prepared(given(request, row.mcp.names)))}
        result = await self._talk.client.call_tool(tool, arguments)
        if not result.is_error:
            return result.structured_content
        told = result.meta["multimail/error"]
        fields = tuple(sorted(told["fields"]))
        # What is wrong is told by the name that the model has for it.
        assert {head(each)[0] for each in fields} <= TOOLS[tool].arguments.model_fields.keys()
        return Refused(told["reason"], told["metadata"], fields, None, told.get("retry_after"))

    async def by_cli(self, row: Row, request: Any) -> Any:
        """What the command prints as JSON: one value, or a list of its lines for a stream."""
        asked = row.cli.prepared(given(request, row.cli.names))
        for name in [each for each in asked if each.startswith("@")]:
            asked["<" + name] = self._cli.file(name[1:], json.dumps(asked.pop(name)))
        command = [*row.cli.call.split(), *_options(asked, row.cli.fixed)]
        streams = RPCS[row.method].server_streaming and not RPCS[row.method].client_streaming
        done = await self._cli.run(*command, "--json")
        if done.out.strip():
            return [json.loads(line) for line in done.out.splitlines()] if streams else json.loads(done.out)
        if done.code == 0:
            return []
        error = json.loads(done.err.splitlines()[-1])["error"]
        fields = tuple(sorted(each["field"] for each in error["violations"]))
        return Refused(error["reason"], error["metadata"], fields, error["message"], error["retry_after"], done.code)


@asynccontextmanager
async def doors(account: Account, folder: Path, *scopes: str) -> AsyncIterator[Doors]:
    """All doors with a new key of the account."""
    key = await account.key(*scopes)
    keyed = KeyedAccount(account.name, account.running, account.commands, key)
    target = f"127.0.0.1:{account.running.grpc_port}"
    async with AsyncExitStack() as opened:
        pair = await opened.enter_async_context(stubs(keyed))
        http = await opened.enter_async_context(web(keyed))
        talk = await opened.enter_async_context(talking(keyed))
        plain = opened.enter_context(multimail.Client(api_key=key, target=target))
        awaited = await opened.enter_async_context(multimail.AsyncClient(api_key=key, target=target))
        yield Doors(pair, http, {"sync": InThreads(plain), "async": awaited}, talk, Cli(keyed, key, folder))


async def _taken(rpc: Any, responses: AsyncIterator[Any]) -> list[Any]:
    """All responses of a stream that ends, and the first few of one that does not; not those that only say how far."""
    found: list[Any] = []
    endless = rpc.name.startswith("Watch")
    async with asyncio.timeout(15):
        async for each in responses:
            if endless and not (each.get("notification") or each.get("contact_id")):
                continue
            found.append(each)
            if endless and len(found) == FEW:
                break
    return found


async def _followed(rpc: Any, stream: Following) -> list[Any]:
    """The same of a stream of the library."""
    if not rpc.name.startswith("Watch"):
        return await stream.rest()
    try:
        return [await stream.step() for _ in range(FEW)]
    finally:
        await stream.close()


def _raised(error: multimail.MultimailError) -> Refused:
    fields = tuple(sorted(each.field for each in error.violations))
    return Refused(error.reason, error.metadata, fields, error.message, error.retry_after, type(error))


def _plain(value: Any) -> Any:
    """What the library gives as JSON has it; a row's error as the refusal it stands for."""
    if isinstance(value, multimail.MultimailError):
        return {"reason": value.reason, "message": value.message, "metadata": value.metadata}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    made = _json.plain(value)
    if isinstance(made, dict):
        return {name: sorted(each) if isinstance(each, frozenset) else _plain(each) for name, each in made.items()}
    return made


def given(request: Any, names: dict[str, str]) -> dict[str, Any]:
    """The fields that are set, as Python has them, under the names that a door knows them by."""
    return {names.get(field.name, field.name): _value(field, value) for field, value in request.ListFields()}


def head(path: str) -> tuple[str, str]:
    """The field a path begins with, and the rest of it."""
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    return name, path[len(name) :]


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {key: _single(inner, value[key]) for key in value}
    return [_single(field, each) for each in value] if field.is_repeated else _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return words_of(field.enum_type)[value]
    if field.message_type is None:
        return value
    known = {
        "google.protobuf.Struct": _json.from_struct,
        "google.protobuf.Value": _json.from_value,
        "google.protobuf.Duration": lambda length: length.ToTimedelta(),
        "google.protobuf.Timestamp": lambda moment: moment.ToDatetime(tzinfo=UTC),
    }
    return known.get(field.message_type.full_name, lambda message: given(message, {}))(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_jsonable(each) for each in value]
    if isinstance(value, timedelta):
        return f"PT{value.total_seconds():.0f}S"
    return value.isoformat() if isinstance(value, datetime) else value


def _options(asked: dict[str, Any], fixed: dict[str, str]) -> Iterator[str]:
    """Arguments as they are, options behind their names; a field for which there is neither is an error."""
    for option in (name for name in asked if name.startswith("-")):
        for each in _said(option, asked[option]):
            yield from (option,) if each is True else (option, each)
    for name, value in fixed.items():
        yield from (name, value) if value else (name,)
    for name, value in asked.items():
        if not name.startswith("-"):
            assert name.startswith("<"), f"the command has no option for {name}"
            yield str(value)


def _said(option: str, value: Any) -> list[Any]:
    """What stands behind an option, each time it is given."""
    if isinstance(value, dict) and option == "--rename":
        return [f"{old}={new}" for old, new in value.items()]
    if isinstance(value, dict) and option != "--metadata":
        return [f"{path}={json.dumps(each)}" for path, each in value.items()]
    if isinstance(value, list):
        return value
    if isinstance(value, timedelta):
        return [f"{value.total_seconds():.0f}s"]
    if isinstance(value, datetime):
        return [value.isoformat()]
    return [json.dumps(value) if isinstance(value, dict) else value if value is True else str(value)]


def _http_calls(rpc: Any, request: Any) -> Iterator[tuple[str, Any]]:
    """Every binding whose path the request can fill, as method, path and what goes with it."""
    message, key = shown(request), {}
    if "request_id" in message:
        key = {"idempotency-key": message.pop("request_id")} if message["request_id"] else {}
        message.pop("request_id", None)
    for binding in (each for each in bindings_of(SERVICES) if each.rpc is rpc):
        named = [each.field for each in binding.template.variables]
        if any(name not in message for name in named):
            continue
        path = binding.path
        for name in named:
            path = path.replace(f"{{{name}}}", quote(str(message[name]), safe=""))
        rest = {name: value for name, value in message.items() if name not in named}
        options: dict[str, Any] = {"headers": key}
        if rpc.client_streaming:
            contact = {name: each for name, each in message["contact"].items() if each}
            options = {"headers": LINES, "content": json.dumps(contact), "params": {"import_id": message["import_id"]}}
        elif binding.body:
            options["json"] = rest
        else:
            options["params"] = [pair for name, value in rest.items() for pair in _parameters(name, value)]
        yield f"{binding.http_method} {binding.path}", (rpc, binding.http_method, path, options)


def _parameters(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner, each in value.items():
            yield f"{name}.{inner}", each if isinstance(each, str) else json.dumps(each)
    elif isinstance(value, list):
        yield from ((name, str(each)) for each in value)
    elif value not in ("", 0, False):
        yield name, str(value).lower() if isinstance(value, bool) else str(value)
