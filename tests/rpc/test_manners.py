"""What any gRPC client may expect: health, both reflections, details of errors, pings, and retries as they are told."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.clients.line import Line
from tests.rpc.calls import read_refusal
from tests.rpc.relays import serving

import multimail
from multimail import _channel, _wire
from multimail.v1 import contact_service_pb2 as pb
from multimail.v1 import contact_service_pb2_grpc, mail_service_pb2_grpc
from multimail.v1 import mail_service_pb2 as mail_pb
from multimail_server import app
from multimail_server.rpc.auth import SCOPES
from multimail_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account

BIN = Path(sys.executable).parent
SERVING = health_pb2.HealthCheckResponse.SERVING
CONFIG = json.loads(_channel._CONFIG)


async def run(*command: str) -> tuple[int, str]:
    """Exit code and output of a program."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.fixture
async def health(account: Account) -> AsyncIterator[Any]:
    """Health as a client without a key asks for it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{account.running.grpc_port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def test_health_lists_what_it_knows(health: Any) -> None:
    """List says of the whole and of each service what Check says of it."""
    listed = (await health.List(health_pb2.HealthListRequest())).statuses
    assert dict.fromkeys(("", *app.SERVICES), SERVING) == {name: each.status for name, each in listed.items()}


async def test_health_is_watched(health: Any) -> None:
    """Watch says at once how a service is; one that is not known is told as such, and the watch goes on."""
    for service, status in (("", SERVING), (app.SERVICES[0], SERVING), ("nope", 3)):
        watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
        assert status == (await asyncio.wait_for(watch.read(), 5)).status
        following = asyncio.ensure_future(watch.read())
        assert set() == (await asyncio.wait({following}, timeout=0.1))[0]
        watch.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
async def test_both_reflections(account: Account, protocol: str) -> None:
    """By either version of reflection a client finds the services, without a key, and makes a call."""
    url = f"http://127.0.0.1:{account.running.grpc_port}"
    curl = (str(BIN / "buf"), "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--reflect-protocol", protocol)
    code, said = await run(*curl, "--list-services", url)
    assert (0, True) == (code, {*app.SERVICES, "grpc.reflection.v1.ServerReflection"} <= set(said.split())), said
    key = await account.key()
    call = (*curl, "-d", "{}", f"{url}/multimail.v1.MailService/ListMailboxes")
    assert (0, "{}\n") == await run(*call, "-H", f"authorization: Bearer {key}")
    code, said = await run(*call)
    assert (True, True) == (code != 0, "unauthenticated" in said), said


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_itself(account: Account, version: str) -> None:
    """Grpcurl describes each version of reflection, whose types are its own."""
    target, name = f"127.0.0.1:{account.running.grpc_port}", f"grpc.reflection.{version}.ServerReflection"
    code, said = await run(str(BIN / "grpcurl"), "-plaintext", target, "describe", name)
    assert (0, True) == (code, f".grpc.reflection.{version}.ServerReflectionRequest" in said), said


async def test_every_kind_of_detail_is_decoded(client: multimail.AsyncClient, engine_uri: str, tmp_path: Path) -> None:
    """The client's errors hold what ErrorInfo, BadRequest, ResourceInfo and RetryInfo say."""
    made = await client.contacts.create(email="a@b.test")
    with pytest.raises(multimail.AlreadyExistsError) as taken:
        await client.contacts.create(email="a@b.test")
    known = taken.value
    assert ("CONTACT_EXISTS", made.id) == (known.reason, known.metadata["contact_id"])
    assert ("multimail.v1.Contact", made.id) == (known.resource_type, known.resource_name)
    with pytest.raises(multimail.NotFoundError) as missing:
        await client.get_email("email_x")
    assert ("multimail.v1.Email", "") == (missing.value.resource_type, missing.value.resource_name)
    with pytest.raises(multimail.InvalidArgumentError) as wrong:
        await client.contacts.create(email="nobody")
    assert (["email"], "") == ([each.field for each in wrong.value.violations], wrong.value.resource_type)
    async with serving(engine_uri, tmp_path, "slow", rate_per_s=0.1) as account, await account.client() as hurried:
        hurried._caller._endpoint = _wire.Endpoint(
            hurried._caller._endpoint.target, hurried._caller._endpoint.api_key, timeout=2, tls=False
        )
        with pytest.raises(multimail.ResourceExhaustedError) as refused:
            for _ in range(3):
                await hurried.contacts.search(limit=1)
    assert ("RATE_LIMITED", True) == (refused.value.reason, 2 < (refused.value.retry_after or 0) <= 10)


def test_the_service_config_knows_every_method() -> None:
    """Reads come again when nobody answered, changes when refused for now; only streams have no deadline."""
    reads, streams, rest = CONFIG["methodConfig"]

    def names(block: Any) -> set[str]:
        return {f"/{each['service']}/{each.get('method', '')}" for each in block["name"]}

    streaming = {
        f"/{service.full_name}/{method.name}"
        for module in (pb, mail_pb)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.client_streaming or method.server_streaming
    }
    assert streaming == names(streams)
    only_read = {method for method, scope in SCOPES.items() if scope == "read"}
    unlike = {"/multimail.v1.MailService/ListHeldEmails", "/multimail.v1.ContactService/GetCaller"}  # by their scope
    assert (only_read | unlike) - streaming == names(reads)
    assert {f"/{service}/" for service in app.SERVICES} == names(rest)
    deadline = f"{Settings.model_fields['deadline_s'].default:.0f}s"
    assert (deadline, None, deadline) == (reads["timeout"], streams.get("timeout"), rest["timeout"])
    assert (["RESOURCE_EXHAUSTED"], True) == (
        rest["retryPolicy"]["retryableStatusCodes"],
        reads["retryPolicy"] == streams["retryPolicy"],
    )


def stubs_on(port: int, key: str) -> tuple[Any, Any, dict[str, Any]]:
    """The channel as users of the bare stubs make it, the contact stub on it, and what a call carries."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=multimail.channel_options())
    metadata = {"metadata": [("authorization", f"Bearer {key}")]}
    return channel, contact_service_pb2_grpc.ContactServiceStub(channel), metadata


async def test_bare_stubs_come_back_when_they_are_told(engine_uri: str, tmp_path: Path) -> None:
    """With the options we ship, bare stubs that call too fast come back when told to, if the deadline allows."""
    request = pb.SearchContactsRequest(page_size=1)
    async with serving(engine_uri, tmp_path, "paced", rate_per_s=5) as account:
        channel, contacts, call = stubs_on(account.running.grpc_port, await account.key())
        async with channel:
            await asyncio.gather(*(contacts.SearchContacts(request, **call) for _ in range(13)))
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asyncio.gather(*(contacts.SearchContacts(request, timeout=0.3, **call) for _ in range(13)))
            assert ("RATE_LIMITED", True) == (read_refusal(refused.value).reason, time.monotonic() - began < 2)


async def test_bare_stubs_repeat_reads_only(account: Account) -> None:
    """With the options we ship, a read whose connection breaks is sent again; a change is not: it may have happened."""
    async with Line(account.running.grpc_port).up() as line:
        channel, contacts, call = stubs_on(line.port, await account.key())

        async def broken(asks: Any) -> Any:
            """What becomes of a call whose line goes dead, breaks, and is mended."""
            line.dead = True
            answer = asyncio.ensure_future(asks)
            await asyncio.sleep(0.2)
            await line.cut()
            line.dead = False
            return await answer

        async with channel:
            await contacts.UpsertContact(pb.UpsertContactRequest(email="a@b.test"), **call)
            found = await broken(contacts.GetContact(pb.GetContactRequest(email="a@b.test"), **call))
            assert "a@b.test" == found.email
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await broken(contacts.UpsertContact(pb.UpsertContactRequest(email="c@b.test"), **call))
            assert grpc.StatusCode.UNAVAILABLE == failed.value.code()


def test_both_sides_agree_on_pings() -> None:
    """The client pings less often than the server allows, by a margin, and doubts a line in time to call again."""
    ours, theirs = dict(_channel._LIMITS), dict(app._SERVER_OPTIONS)
    assert 1.4 * theirs["grpc.http2.min_ping_interval_without_data_ms"] <= ours["grpc.keepalive_time_ms"]
    noticed = ours["grpc.keepalive_time_ms"] + ours["grpc.keepalive_timeout_ms"]
    assert noticed + 5_000 <= _wire.DEFAULT_TIMEOUT_S * 1000
    assert ours["grpc.keepalive_timeout_ms"] == ours["grpc.http2.ping_timeout_ms"]


def hurried(options: Any, factor: int) -> list[tuple[str, Any]]:
    """Options whose times of pings are shorter by a factor."""
    times = ("keepalive", "ping_timeout", "ping_interval")
    return [(name, value // factor if any(each in name for each in times) else value) for name, value in options]


async def test_quiet_clients_are_not_sent_away(
    engine_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an eighth of the time: a quiet watch keeps its connection; one that pings twice as often loses it."""
    monkeypatch.setattr(app, "_SERVER_OPTIONS", hurried(app._SERVER_OPTIONS, 8))
    async with serving(engine_uri, tmp_path, "quiet") as account:
        key = await account.key()

        async def cuts(factor: int) -> int:
            async with Line(account.running.grpc_port).up() as line:
                options = hurried(_channel._LIMITS, factor)
                async with grpc.aio.insecure_channel(f"127.0.0.1:{line.port}", options=options) as channel:
                    watch = mail_service_pb2_grpc.MailServiceStub(channel).WatchNotifications(
                        mail_pb.WatchNotificationsRequest(only_new=True),
                        metadata=[("authorization", f"Bearer {key}")],
                    )
                    await watch.initial_metadata()
                    await asyncio.sleep(8)  # for four pings: three that come too early are too many
                    return line.cuts

        polite, rude = await asyncio.gather(cuts(8), cuts(15))
    assert (0, True) == (polite, rude > 0)


async def test_a_call_on_a_dead_line_is_made_again(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fifteenth of the time: a call whose line carries nothing any more fails by its pings, and is made again."""
    monkeypatch.setattr(_wire, "OWN_OPTIONS", hurried(_wire.OWN_OPTIONS, 15))
    async with Line(account.running.grpc_port).up() as line:
        client = multimail.AsyncClient(api_key=await account.key(), target=f"127.0.0.1:{line.port}", timeout=20)
        async with client:
            await client.contacts.upsert(email="a@b.test")
            line.silence()
            answer = asyncio.create_task(client.contacts.get(email="a@b.test"))
            assert "a@b.test" == (await asyncio.wait_for(answer, 10)).email
