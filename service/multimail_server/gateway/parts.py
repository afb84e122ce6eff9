"""What the HTTP port serves: a list of parts, each its routes and what must run while they are served."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from multimail_server.gateway import health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    import grpc
    from starlette.routing import BaseRoute

    from multimail_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Part:
    """Something that the HTTP port serves.

    Attributes:
        routes: Its routes; the first of all parts that fits a request has it.
        running: What must run meanwhile, entered before the port answers and left after the last request.
    """

    routes: Sequence[BaseRoute]
    running: Sequence[AbstractAsyncContextManager[object]] = field(default=())


def parts_of(settings: Settings, target: str, channel: grpc.aio.Channel) -> list[Part]:
    """Every part, in the order in which they are asked.

    Args:
        settings: How the service runs.
        target: Where its gRPC is reached inside this machine, for parts with a client of their own.
        channel: A channel to it.
    """
    del settings, target
    return [Part(health.routes(channel))]


def app_of(parts: Sequence[Part]) -> Starlette:
    """The application of these parts."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in parts:
                for each in part.running:
                    await stack.enter_async_context(each)
            yield

    app = Starlette(routes=[route for part in parts for route in part.routes], lifespan=lifespan)
    app.router.redirect_slashes = False
    return app
