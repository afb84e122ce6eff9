"""A gRPC server that answers with one fixed contact: bare, behind the service's own chain, or after one driver call."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import grpc

from bench import cases
from bench.peers import driver
from multimail.v1 import contact_pb2, contact_service_pb2, contact_service_pb2_grpc
from multimail_server.accounts.caller import Caller
from multimail_server.app import new_id
from multimail_server.commands import loop_factory
from multimail_server.contacts.convert import contact_to_proto
from multimail_server.contacts.store import PROJECTION
from multimail_server.rpc.admission import Admission
from multimail_server.rpc.auth import Auth
from multimail_server.rpc.boundary import Boundary

ANSWER = contact_to_proto(next(cases.people(1, 2)))
UPSERTED = contact_service_pb2.UpsertContactResponse(contact=ANSWER, outcome=contact_pb2.UPSERT_OUTCOME_UPDATED)
CALLER = Caller("bench", "key_x", "bench", frozenset({"read", "write"}))


class Echo(contact_service_pb2_grpc.ContactServiceServicer):
    """Answers at once."""

    async def GetContact(  # noqa: N802
        self, request: contact_service_pb2.GetContactRequest, context: object
    ) -> contact_pb2.Contact:
        """The fixed contact."""
        del request, context
        return ANSWER

    async def UpsertContact(  # noqa: N802
        self, request: contact_service_pb2.UpsertContactRequest, context: object
    ) -> contact_service_pb2.UpsertContactResponse:
        """The fixed contact, as if it had been changed."""
        del request, context
        return UPSERTED


class OneCall(contact_service_pb2_grpc.ContactServiceServicer):
    """Answers with what one plain driver call finds: no auth, no checks, no sharing."""

    def __init__(self, uri: str, database: str) -> None:
        self._contacts = driver.connect(uri, database).contacts

    async def GetContact(  # noqa: N802
        self, request: contact_service_pb2.GetContactRequest, context: object
    ) -> contact_pb2.Contact:
        """The contact with that address."""
        del context
        found: Any = await self._contacts.find_one(driver.by_address(request.email), PROJECTION)
        return contact_to_proto(found)


async def find(key: str) -> Caller:
    """Knows every key."""
    del key
    return CALLER


def chain() -> Boundary:
    """The service's own chain, open."""
    admission = Admission(max_concurrent=1024, rate_per_s=0, clock=time.monotonic)
    boundary = Boundary(Auth(find), admission, 30.0, new_id)
    boundary.open()
    return boundary


async def main(kind: str, *where: str) -> None:
    """Serves until it is killed; prints its port."""
    server = grpc.aio.server(interceptors=[chain()] if kind == "chain" else [])
    servicer = OneCall(*where) if kind == "one-call" else Echo()
    contact_service_pb2_grpc.add_ContactServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(*sys.argv[1:]))
