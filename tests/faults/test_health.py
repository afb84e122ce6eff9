"""Health is true: NOT_SERVING until the engine answers, SERVING then, NOT_SERVING while it is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.faults.test_kill import free_port
from tests.store.proxy import CuttingProxy

import multimail
from multimail_server.app import SERVICES, Service
from multimail_server.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

NOT_SERVING, SERVING = health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING


async def all_say(stub: health_pb2_grpc.HealthStub, status: int) -> bool:
    """Whether the whole and each service come to this status within 20 seconds."""
    for _ in range(200):
        try:
            answers = [await stub.Check(health_pb2.HealthCheckRequest(service=each)) for each in ("", *SERVICES)]
        except grpc.aio.AioRpcError:  # not listening yet
            answers = []
        if {status} == {answer.status for answer in answers}:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_health_follows_the_engine(engine_uri: str, tmp_path: Path) -> None:
    """While the engine cannot be reached calls are UNAVAILABLE and health says so; when it comes, both serve."""
    port, engine_port = free_port(), free_port()
    settings = Settings(
        mongodb_uri=f"mongodb://127.0.0.1:{engine_port}/?directConnection=true", data=tmp_path, port=port, smtp_port=0,
        http_port=0, database="health", hostname="here.test",
    )  # fmt: skip
    service = Service(settings)
    starting = asyncio.create_task(service.__aenter__())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert await all_say(stub, NOT_SERVING)
        async with multimail.AsyncClient(api_key="mm_live_" + "x" * 43, target=f"127.0.0.1:{port}", timeout=1) as early:
            with pytest.raises(multimail.UnavailableError) as refused:
                await early.contacts.search()
        assert "ENGINE_UNAVAILABLE" == refused.value.reason
        async with CuttingProxy(engine_uri, engine_port):
            running = await starting
            assert await all_say(stub, SERVING)
            key, _ = await running.keys.create("health", "tester", ["read"])
            async with multimail.AsyncClient(api_key=key, target=f"127.0.0.1:{port}") as client:
                assert [] == (await client.contacts.search()).items
        assert await all_say(stub, NOT_SERVING)
        async with CuttingProxy(engine_uri, engine_port):
            assert await all_say(stub, SERVING)
            await service.__aexit__(None, None, None)
