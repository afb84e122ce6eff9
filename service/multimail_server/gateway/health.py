"""Whether this process lives, and whether it can answer: what load balancers and orchestrators ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_TIMEOUT_S = 2.0


def routes(channel: grpc.aio.Channel) -> list[BaseRoute]:
    """`/healthz`: the process lives; `/readyz`: it serves, as gRPC's own health check says, else 503."""
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types know no methods

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status).lower()
        except grpc.aio.AioRpcError:
            status = "unreachable"
        return JSONResponse({"status": status}, 200 if status == "serving" else 503)

    return [Route("/healthz", live), Route("/readyz", ready)]
