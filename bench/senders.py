"""How a case becomes one call: by gRPC, by HTTP, or by the driver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import orjson

from bench import cases
from bench.peers import driver
from multimail.v1 import contact_service_pb2, mail_service_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from google.protobuf.message import Message

CONTACT_SERVICE = "/multimail.v1.ContactService/"
MAIL_SERVICE = "/multimail.v1.MailService/"
DEADLINE_S = 30.0  # as the SDK brings along


class Sender(Protocol):
    """Makes calls; a call that is refused raises."""

    async def send(self, number: int) -> None:
        """Makes one call; no number comes twice."""


class Grpc:
    """Calls by a raw stub: one channel for all callers, requests made as needed, answers not read.

    Args:
        target: `host:port`.
        key: The API key.
        case: The case's name.
        contacts: How many contacts there are.
    """

    def __init__(self, target: str, key: str, case: str, contacts: int) -> None:
        method, self._request = _requests(contacts)[case]
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._channel = grpc.aio.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])
        self._call = self._channel.unary_unary(method)

    async def send(self, number: int) -> None:
        """Makes one call."""
        await self._call(self._request(number).SerializeToString(), metadata=self._metadata, timeout=DEADLINE_S)


def _upsert(email: str, metadata: dict[str, Any], request_id: str = "") -> contact_service_pb2.UpsertContactRequest:
    request = contact_service_pb2.UpsertContactRequest(email=email, request_id=request_id)
    request.metadata.update(metadata)
    return request


def _batch(rows: Iterator[tuple[str, dict[str, Any]]]) -> Message:
    return contact_service_pb2.BatchUpsertContactsRequest(contacts=[_upsert(*row) for row in rows])


def _search() -> Message:
    request = contact_service_pb2.SearchContactsRequest(page_size=cases.PAGE)
    request.filters["metadata.plan"].string_value = "pro"
    request.filters["last_contacted_before"].string_value = cases.BEFORE
    return request


def _requests(contacts: int) -> dict[str, tuple[str, Callable[[int], Message]]]:
    def one(number: int) -> str:
        return cases.address(number % contacts)

    upsert, batch = CONTACT_SERVICE + "UpsertContact", CONTACT_SERVICE + "BatchUpsertContacts"
    return {
        cases.GET.name: (
            CONTACT_SERVICE + "GetContact",
            lambda n: contact_service_pb2.GetContactRequest(email=one(n)),
        ),
        cases.UPSERT_EXISTING.name: (upsert, lambda n: _upsert(one(n), cases.change(n))),
        cases.UPSERT_REPEATABLE.name: (upsert, lambda n: _upsert(one(n), cases.change(n), f"request-{n}")),
        cases.UPSERT_NEW.name: (upsert, lambda n: _upsert(cases.fresh(n), cases.details(n))),
        cases.APPEND.name: (
            MAIL_SERVICE + "IngestEmail",
            lambda n: mail_service_pb2.IngestEmailRequest(mailbox_email=cases.MAILBOX, raw=cases.mail(n, contacts)),
        ),
        cases.SEARCH.name: (CONTACT_SERVICE + "SearchContacts", lambda _: _search()),
        cases.BATCH_EXISTING.name: (batch, lambda n: _batch(cases.existing_rows(n, contacts))),
        cases.BATCH_NEW.name: (batch, lambda n: _batch(cases.new_rows(n))),
    }


class Http:
    """Calls by HTTP/1.1 written by hand, so that the load costs little: a connection kept open for each caller."""

    def __init__(self, target: str, key: str, case: str, contacts: int) -> None:
        self._host, _, self._port = target.partition(":")
        self._key = key
        self._request = _paths(contacts)[case]
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, number: int) -> None:
        """Makes one call."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, int(self._port))
        verb, path, body = self._request(number)
        head = (
            f"{verb} {path} HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(length)
        if b" 200 " not in answer[:16]:
            raise RuntimeError(f"{answer[:40]!r} {content[:200]!r}")
        self._idle.append((reader, writer))


def _paths(contacts: int) -> dict[str, Callable[[int], tuple[str, str, bytes]]]:
    def given(email: str, metadata: dict[str, Any]) -> dict[str, Any]:
        return {"email": email, "metadata": metadata}

    def post(path: str, content: object) -> tuple[str, str, bytes]:
        return "POST", path, orjson.dumps(content)

    def batch(rows: Iterator[tuple[str, dict[str, Any]]]) -> tuple[str, str, bytes]:
        return post("/contacts/batch", {"contacts": [given(*row) for row in rows]})

    filters = {"metadata.plan": "pro", "last_contacted_before": cases.BEFORE}
    return {
        cases.GET.name: lambda n: ("GET", f"/contacts/{cases.address(n % contacts)}", b""),
        cases.UPSERT_EXISTING.name: lambda n: post("/contacts", given(cases.address(n % contacts), cases.change(n))),
        cases.UPSERT_NEW.name: lambda n: post("/contacts", given(cases.fresh(n), cases.details(n))),
        cases.APPEND.name: lambda n: ("POST", "/emails", cases.mail(n, contacts)),
        cases.SEARCH.name: lambda _: post("/contacts/search", {"filters": filters, "limit": cases.PAGE}),
        cases.BATCH_EXISTING.name: lambda n: batch(cases.existing_rows(n, contacts)),
        cases.BATCH_NEW.name: lambda n: batch(cases.new_rows(n)),
    }


class Driver:
    """Calls by the driver itself: here the load is what is measured."""

    def __init__(self, target: str, database: str, case: str, contacts: int) -> None:
        self._call: Callable[[int], Awaitable[object]] = driver.calls(driver.connect(target, database), contacts)[case]

    async def send(self, number: int) -> None:
        """Makes one call."""
        await self._call(number)


SENDERS: dict[str, Callable[[str, str, str, int], Sender]] = {"grpc": Grpc, "http": Http, "driver": Driver}
