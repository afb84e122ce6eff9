"""Follows an account's history on many streams, from a process of its own; prints the numbers each of them saw."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc

from multimail.v1 import mail_service_pb2 as pb
from multimail.v1 import mail_service_pb2_grpc


async def main(port: str, key: str, streams: str, count: str) -> None:
    """Reads so many responses on so many streams of one connection."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        mail = mail_service_pb2_grpc.MailServiceStub(channel)
        metadata = [("authorization", f"Bearer {key}")]
        calls = [
            mail.WatchNotifications(pb.WatchNotificationsRequest(), metadata=metadata) for _ in range(int(streams))
        ]

        async def read(call: grpc.aio.UnaryStreamCall) -> list[int]:
            async with asyncio.timeout(20):
                return [(await call.read()).notification.seq for _ in range(int(count))]

        print(json.dumps(await asyncio.gather(*(read(call) for call in calls))))
        for call in calls:
            call.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
