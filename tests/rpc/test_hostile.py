"""Hostile input to every RPC: whatever a message holds, the answer is a reply or a refusal, never an accident."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import duration_pb2, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor

from multimail.v1 import contact_service_pb2, mail_service_pb2
from multimail_server.rpc.auth import SCOPES

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tests.conftest import Account

ROUNDS = 60
ACCIDENTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
TEXTS = [
    "", " ", "\0", "\x1f", "a", "a@b.test", "A@B.test", "contact_x", "$where", "a.b", '"a', "metadata.", "metadata.a",
    "last_contacted_before", "created_after", "never_contacted", "2026-03-20", "9999-12-31T23:59:59-23:59",
    "0001-01-01",
    "\U0010ffff", "é" * 300, "x" * 5_000, "%00", "{}", "a\r\nb", "=?utf-8?q?=0A?=", "\u202e", "-1", "1e999", "İ@ı.test",
    "x@" + "a." * 120 + "test", "(" * 200, "[" * 200,
]  # fmt: skip
NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31)]
WIDE = [0, 1, 2**63 - 1, 2**53]
DOUBLES = [0.0, -0.0, 1.5, 1e308, -1e308, float("nan"), float("inf"), 2.0**53, 5e-324]
MAILS = [
    b"", b"\0", b"\xff" * 100, b"From: a@b.test\r\n\r\nx", b"\r\n" * 500,
    b"Content-Type: multipart/x; boundary=\r\n\r\n--\r\n",
]  # fmt: skip


def value_of(dice: random.Random, depth: int = 0) -> struct_pb2.Value:
    """Some JSON value, now and then a nasty one."""
    value = struct_pb2.Value()
    kind = dice.randrange(7 if depth < 12 else 5)
    if kind == 0:
        value.null_value = struct_pb2.NULL_VALUE
    elif kind == 1:
        value.number_value = dice.choice(DOUBLES)
    elif kind == 2:
        value.bool_value = dice.random() < 0.5
    elif kind == 3:
        value.string_value = dice.choice(TEXTS)
    elif kind == 5:
        value.list_value.values.extend(value_of(dice, depth + 1) for _ in range(dice.randrange(3)))
    elif kind == 6:
        for _ in range(dice.randrange(3)):
            name = dice.choice([*TEXTS, "gt", "lt", "in", "exists", "prefix", "ne"])
            value.struct_value.fields[name].CopyFrom(value_of(dice, depth + 1))
    return value


def fill(message: Message, dice: random.Random) -> None:
    """Sets some of a request's fields to something."""
    for field in message.DESCRIPTOR.fields:
        if dice.random() < 0.35:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fill_map(getattr(message, field.name), field.message_type.fields_by_name["value"], dice)
        elif field.is_repeated:
            getattr(message, field.name).extend(one(field, dice) for _ in range(dice.randrange(4)))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(one(field, dice))
        else:
            setattr(message, field.name, one(field, dice))


def name_what_is_there(request: Message, dice: random.Random, there: list[str]) -> None:
    """Makes some of the request's texts name something that exists, so that it gets further."""
    for field in request.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and dice.random() < 0.3:
            setattr(request, field.name, dice.choice(there))
        elif field.name == "to" and dice.random() < 0.7:
            del request.to[:]  # type: ignore[attr-defined]
            request.to.append("a@b.test")  # type: ignore[attr-defined]


def fill_map(target: Any, value: FieldDescriptor, dice: random.Random) -> None:
    """Sets some entries of a map."""
    for _ in range(dice.randrange(4)):
        key = dice.choice(TEXTS)
        if value.message_type is not None:
            target[key].CopyFrom(value_of(dice))
        else:
            target[key] = one(value, dice)


def one(field: FieldDescriptor, dice: random.Random) -> Any:
    """One value for a field."""
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Timestamp":
            return timestamp_pb2.Timestamp(
                seconds=dice.choice([0, 1, -1, 2**62, -(2**62), 253402300800]), nanos=dice.choice([0, 999999999, -5])
            )
        if field.message_type.full_name == "google.protobuf.Duration":
            return duration_pb2.Duration(seconds=dice.choice([0, 1, -1, 2**62, 3600]), nanos=dice.choice([0, 5, -5]))
        if field.message_type.full_name.startswith("multimail."):
            nested = message_factory.GetMessageClass(field.message_type)()
            fill(nested, dice)
            return nested
        struct = struct_pb2.Struct()
        for _ in range(dice.randrange(4)):
            struct.fields[dice.choice(TEXTS)].CopyFrom(value_of(dice))
        return struct
    pools: dict[int, list[Any]] = {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_BYTES: MAILS,
        FieldDescriptor.TYPE_BOOL: [True, False],
        FieldDescriptor.TYPE_INT32: NUMBERS,
        FieldDescriptor.TYPE_INT64: WIDE,
        FieldDescriptor.TYPE_DOUBLE: DOUBLES,
        FieldDescriptor.TYPE_ENUM: [0, 1, 2, 3, 5, 99],
    }
    return dice.choice(pools[field.type])


@pytest.mark.parametrize("method", sorted(SCOPES))
async def test_nothing_is_an_accident(account: Account, method: str) -> None:
    """Random hostile requests get replies and refusals, and the service still answers a good one afterwards."""
    key = await account.key("read", "write", "admin", "oversight" if SCOPES[method] == "oversight" else "send")
    name = method.rpartition("/")[2]
    module = contact_service_pb2 if "Contact" in method.partition("/")[2].partition("/")[0] else mail_service_pb2
    kind = getattr(module, name + "Request")
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    client = await account.client()
    box = await client.mailboxes.create(email=account.mailbox())
    sent = await client.send_email(from_mailbox=box.id, to="a@b.test")
    there = [box.id, box.email, sent.id, sent.thread_id, sent.recipients[0].contact_id, "a@b.test"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{account.running.grpc_port}") as channel:
        streams = mail_service_pb2.DESCRIPTOR.services_by_name["MailService"].methods_by_name.get(name)
        made = channel.unary_stream if streams is not None and streams.server_streaming else channel.unary_unary
        call = made(method, request_serializer=kind.SerializeToString)
        for _ in range(ROUNDS):
            request = kind()
            fill(request, dice)
            name_what_is_there(request, dice, there)
            under_way = call(request, metadata=[("authorization", f"Bearer {key}")], timeout=30)
            try:
                if isinstance(under_way, grpc.aio.UnaryStreamCall):  # accepted, it would never end by itself
                    await asyncio.wait_for(under_way.read(), 0.05)
                else:
                    await under_way
            except TimeoutError:
                under_way.cancel()
            except grpc.aio.AioRpcError as refused:
                assert refused.code() not in ACCIDENTS, (refused.details(), request)
    await client.contacts.upsert(email="still@alive.test")
    await client.close()
