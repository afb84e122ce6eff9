"""Health as gRPC defines it: Check and Watch are its library's, List is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_STATUS = health_pb2.HealthCheckResponse


class Health(health.aio.HealthServicer):
    """Says the same of every service, and of the whole under the empty name; at first that it does not serve.

    Args:
        services: Full names of the services.
    """

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        self._server_status = dict.fromkeys(self._services, _STATUS.NOT_SERVING)

    async def say(self, *, serves: bool) -> None:
        """Says from now on that all serve, or that none does."""
        for service in self._services:
            await self.set(service, _STATUS.SERVING if serves else _STATUS.NOT_SERVING)

    # The published types of health_pb2 do not know List yet.
    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  gRPC's names
        """What is said of each service now."""
        statuses = {name: _STATUS(status=status) for name, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]
