"""A server that answers GetContact with one fixed contact: bare, or behind the service's own chain."""

from __future__ import annotations

import asyncio
import sys
import time

import grpc

from multimail.v1 import contact_pb2, contact_service_pb2_grpc
from multimail_server.accounts.caller import Caller
from multimail_server.app import new_id
from multimail_server.commands import loop_factory
from multimail_server.rpc.admission import Admission
from multimail_server.rpc.auth import Auth
from multimail_server.rpc.boundary import Boundary

ANSWER = contact_pb2.Contact(id="contact_x", email="p1@company1.test", name="Person 1")
ANSWER.metadata.update({"plan": "pro", "open_tickets": 2, "company": "Company 1"})
CALLER = Caller("bench", "key_x", "bench", frozenset({"read"}))


class Echo(contact_service_pb2_grpc.ContactServiceServicer):
    """Answers at once."""

    async def GetContact(self, request: object, context: object) -> contact_pb2.Contact:  # noqa: N802, ARG002
        """The fixed contact."""
        return ANSWER


async def find(key: str) -> Caller:
    """Knows every key."""
    del key
    return CALLER


async def main(kind: str) -> None:
    """Serves until it is killed; prints its port."""
    chain = Boundary(Auth(find), Admission(max_concurrent=1024, rate_per_s=0, clock=time.monotonic), 30.0, new_id)
    chain.open()
    server = grpc.aio.server(interceptors=[chain] if kind == "chain" else [])
    contact_service_pb2_grpc.add_ContactServiceServicer_to_server(Echo(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(sys.argv[1]))
