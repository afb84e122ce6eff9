"""What the HTTP port serves: a list of parts, each its routes and what must run while they are served."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.routing import Route, Router

from multimail.v1 import contact_service_pb2, mail_service_pb2
from multimail_server.gateway import health, unsubscribing
from multimail_server.gateway.body import MAX_BODY_BYTES
from multimail_server.gateway.large import Bounded, Large
from multimail_server.gateway.openapi import serve
from multimail_server.gateway.transcoder import Transcoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    import grpc
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from multimail_server.gateway.transcoder import Check
    from multimail_server.gateway.unsubscribing import Links
    from multimail_server.settings import Settings


SERVICES = (
    contact_service_pb2.DESCRIPTOR.services_by_name["ContactService"],
    mail_service_pb2.DESCRIPTOR.services_by_name["MailService"],
)


@dataclass(frozen=True, slots=True)
class Part:
    """Something that the HTTP port serves.

    Attributes:
        routes: Its routes; the first of all parts that fits a request has it.
        running: What must run meanwhile, entered before the port answers and left after the last request.
    """

    routes: Sequence[BaseRoute]
    running: Sequence[AbstractAsyncContextManager[object]] = field(default=())


def app_for(settings: Settings, target: str, channel: grpc.aio.Channel, check: Check, links: Links) -> ASGIApp:
    """The application of every part; what none has a route for is asked of the transcoder.

    Args:
        settings: How the service runs.
        target: Where its gRPC is reached inside this machine, for parts with a client of their own.
        channel: A channel to it.
        check: Refuses a caller before much is read; see Transcoder.
        links: What links for unsubscribing lead to.
    """
    large = Large()
    parts = [
        Part(health.routes(channel)),
        Part(serve.routes(SERVICES)),
        *_tools(settings, target, large),
        Part(unsubscribing.routes(links)),
    ]
    return app_of(parts, Transcoder(channel, SERVICES, check, large))


def _tools(settings: Settings, target: str, large: Large) -> list[Part]:
    """The door for models, where what it needs is installed: the extra mcp."""
    if find_spec("mcp") is None:
        return []
    from multimail.mcp.http import App  # noqa: PLC0415  there only with the extra

    app = App(
        target,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        tls=False,
        max_body_bytes=MAX_BODY_BYTES,
    )
    return [Part([Route("/mcp", Bounded(app, large))], [app.running()])]


def app_of(parts: Sequence[Part], otherwise: ASGIApp) -> ASGIApp:
    """The application of these parts, and of what answers requests that they have no route for."""

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in parts:
                for each in part.running:
                    await stack.enter_async_context(each)
            yield

    routes = [route for part in parts for route in part.routes]
    return Router(routes, redirect_slashes=False, default=otherwise, lifespan=lifespan)
