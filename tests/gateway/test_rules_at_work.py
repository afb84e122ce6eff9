"""What HttpRule has and our protos do not use, over the wire: a service of the tests' own behind the same gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import httpx2
import pytest
from tests.gateway import library
from tests.gateway.web import LINES, fields_of, lines, reason_of

from multimail_server.gateway.door import Door
from multimail_server.gateway.edge import Edge
from multimail_server.gateway.gateway import private_target
from multimail_server.gateway.large import Large
from multimail_server.gateway.parts import app_of
from multimail_server.gateway.transcoder import Transcoder
from multimail_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Book, Shown = library.kind("Book"), library.kind("Shown")
ACCEPTED = (("x-request-id", "r"),)


async def same(request: Any, _: Any) -> Any:
    """Answers with what it was asked."""
    return request


async def shown(request: Any, _: Any) -> Any:
    """Answers with what a Change held."""
    return Shown(book=request.book, dry=request.dry, mode=request.mode)


async def watched(request: Any, context: Any) -> AsyncIterator[Any]:
    """Streams as many as there are pages, then fails when it is sold."""
    await context.send_initial_metadata(ACCEPTED)
    for number in range(request.pages):
        yield Book(name=request.name, author={"name": str(number)} if number else None, seq=number)
    if request.sold:
        await context.abort(grpc.StatusCode.ABORTED, "torn")


async def poured(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    """Streams back what comes."""
    await context.send_initial_metadata(ACCEPTED)
    async for request in requests:
        yield request


async def anybody(*_: Any) -> None:
    """Refuses nobody."""


def handlers() -> Any:
    """The library's methods."""
    kinds = {
        "Watch": (grpc.unary_stream_rpc_method_handler, watched),
        "Pour": (grpc.stream_stream_rpc_method_handler, poured),
        "Change": (grpc.unary_unary_rpc_method_handler, shown),
        "Replace": (grpc.unary_unary_rpc_method_handler, shown),
    }
    made = {}
    for method in library.SERVICE.methods:
        handler, does = kinds.get(method.name, (grpc.unary_unary_rpc_method_handler, same))
        request, reply = library.kind(method.input_type.name), library.kind(method.output_type.name)
        made[method.name] = handler(does, request.FromString, reply.SerializeToString)
    return grpc.method_handlers_generic_handler("library.Library", made)


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """The library behind the gateway."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(),))
    door = Door(Settings(http_port=0))
    door.reserve()
    with private_target() as target:
        server.add_insecure_port(target)
        await server.start()
        async with grpc.aio.insecure_channel(target) as channel:
            app = app_of([], Transcoder(channel, [library.SERVICE], anybody, Large()))
            await door.open(Edge(app, lambda prefix: f"{prefix}_1", door))
            try:
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as made:
                    yield made
            finally:
                await door.close()
                await server.stop(0)


async def test_rules_at_work(client: httpx2.AsyncClient) -> None:
    """Bodies that are a field, answers that are one, deep variables, other methods and additional paths all work."""
    found = (await client.get("/v1/shelves/a%2Fb/books/c%20d?pages=3")).json()
    assert ("shelves/a%2Fb/books/c d", 3) == (found["name"], found["pages"])
    browsed = (await client.get("/v1/authors/ann/books?author.born=3&pages=2")).json()
    assert ("ann", 3, 2) == (browsed["author"]["name"], browsed["author"]["born"], browsed["pages"])
    assert "files/x/y" == (await client.get("/v1/files/x/y:raw")).json()["name"]
    changed = await client.patch(
        "/v1/shelves/s/books/b?dry=true&mode=m", json={"pages": 7}, headers={"idempotency-key": '"k"'}
    )
    assert ("shelves/s/books/b", 7) == (changed.json()["name"], changed.json()["pages"])
    assert "book" not in changed.json(), "response_body"
    replaced = (await client.put("/v1/books/ann/12", json={"dry": True, "book": {"name": "n"}})).json()
    assert ("n", 12, "ann", True) == (
        replaced["book"]["name"], replaced["book"]["pages"], replaced["book"]["author"]["name"], replaced["dry"],
    )  # fmt: skip
    for method in ("GET", "DELETE", "LOCK"):
        assert "x" == (await client.request(method, "/any/x")).json()["name"]
    assert "y" == (await client.request("REPORT", "/books/y")).json()["name"]
    assert "REPORT, OPTIONS" == (await client.get("/books/y")).headers["allow"]
    query = "author.name=ann&tags=a&tags=b&ranks=low&ranks=2&counts.x=3&rating=2.5&mask=a,b&ids=18446744073709551615"
    searched = (await client.get(f"/books?{query}")).json()
    assert ("ann", ["a", "b"], ["low", "very_high"], {"x": 3}, 2.5, "a,b", ["18446744073709551615"]) == (
        searched["author"]["name"], searched["tags"], searched["ranks"], searched["counts"], searched["rating"],
        searched["mask"], searched["ids"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "bad"),
    [
        ("PATCH", "/v1/shelves/s/books/b", {"name": "other"}, ["book.name"]),
        ("PATCH", "/v1/shelves/s/books/b?book.pages=1", {}, ["book.pages"]),
        ("PATCH", "/v1/shelves/s/books/b", {"pages": "x"}, ["book.pages"]),
        ("PATCH", "/v1/shelves/s/books/b?request_id=a", {}, ["request_id"]),
        ("PUT", "/v1/books/ann/many", {}, ["book.pages"]),
        ("PUT", "/v1/books/ann/1?dry=true", {}, ["dry"]),
        ("GET", "/books?filters.x=1", None, ["filters.x"]),
        ("GET", "/books", {"name": "x"}, ["the body"]),
        ("GET", "/v1/authors/ann/books?author.name=bea", None, ["author.name"]),
    ],
)
async def test_what_contradicts_itself_is_refused(
    client: httpx2.AsyncClient, method: str, path: str, body: Any, bad: list[str]
) -> None:
    """Path, query, body and headers may not say different things, and each says only what is its own."""
    refused = await client.request(method, path, json=body, headers={"idempotency-key": "b"})
    assert (400, "INVALID_FIELD", bad) == (refused.status_code, reason_of(refused), fields_of(refused))


async def test_streams_of_fields(client: httpx2.AsyncClient) -> None:
    """A stream answers a field where its rule says so, null where it is absent, and an error is its last line."""
    found = lines((await client.get("/books:watch?pages=2&name=x")).text)
    assert [None, "1"] == [each and each["name"] for each in found]
    torn = lines((await client.get("/books:watch?pages=1&sold=true")).text)
    assert [None, "ABORTED"] == [torn[0], torn[1]["error"]["status"]]
    refused = await client.get("/books:watch?sold=true")
    assert (409, "ABORTED") == (refused.status_code, refused.json()["error"]["status"])
    events = (await client.get("/books:watch?pages=2", headers={"accept": "text/event-stream"})).text
    assert "id: 0\ndata: null\n\n" == events[:18]
    poured = await client.post("/books:pour", content=b'{"name":"a"}\n\n{"name":"b"}', headers=LINES)
    assert [("a", 0), ("b", 1)] == [(each["name"], each["row"]) for each in lines(poured.text)]
