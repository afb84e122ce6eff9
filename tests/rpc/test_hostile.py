"""Hostile input to every RPC: whatever a message holds, the answer is a reply or a refusal, never an accident."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import duration_pb2, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from tests.rpc.calls import stubs
from tests.rpc.stage import staged

from multimail.v1 import contact_service_pb2
from multimail_server.rpc.auth import SCOPES

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tests.conftest import Account

ROUNDS = 60
NEVER_OK = {"GetAttachment", "ResolveEmail"}  # the stage has no file, and no doubt
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
        if dice.random() < 0.65:
            set_field(message, field, dice)


def set_field(message: Message, field: FieldDescriptor, dice: random.Random) -> None:
    """Sets one field to something."""
    message.ClearField(field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        fill_map(getattr(message, field.name), field.message_type.fields_by_name["value"], dice)
    elif field.is_repeated:
        getattr(message, field.name).extend(one(field, dice) for _ in range(dice.randrange(4)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(one(field, dice))
    else:
        setattr(message, field.name, one(field, dice))


def damaged(good: Message, dice: random.Random) -> Message:
    """A good request with one or two fields that hold something else."""
    request = type(good)()
    request.CopyFrom(good)
    for field in dice.sample(list(good.DESCRIPTOR.fields), min(len(good.DESCRIPTOR.fields), dice.randrange(1, 3))):
        set_field(request, field, dice)
    return request


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
    """Hostile requests get replies and refusals: such as hold anything at all, and good ones with a field gone bad."""
    name = method.rpartition("/")[2]
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with stubs(account) as (contacts, mail), stubs(account, "oversight", "read") as (_, overseer):
        stage = await staged(account, contacts, mail, overseer)
        good = stage.good(name)
        there = [stage.box, stage.sent.id, stage.sent.thread_id, stage.sent.recipients[0].contact_id, "bo@person.test"]
        answered = 0
        for number in range(ROUNDS):
            request = damaged(good, dice) if number % 2 else type(good)()
            if not number % 2:
                fill(request, dice)
                name_what_is_there(request, dice, there)
            sent = request if number else good
            answered += await answer(stage.call(name)(iter([sent]) if name == "ImportContacts" else sent))
        assert answered or name in NEVER_OK
        await contacts.UpsertContact(contact_service_pb2.UpsertContactRequest(email="still@alive.test"))


async def answer(call: Any) -> bool:
    """Whether a call is answered, at once or by a stream that goes on; what refuses it must be no accident."""
    try:
        if isinstance(call, grpc.aio.UnaryStreamCall | grpc.aio.StreamStreamCall):  # it would never end by itself
            await asyncio.wait_for(call.read(), 0.05)
        else:
            await call
    except TimeoutError:
        call.cancel()
    except grpc.aio.AioRpcError as refused:
        assert refused.code() not in ACCIDENTS, refused.details()
        return False
    return True
