"""REST against the real service: contacts and mail as the protos' rules tell, and every refusal in its one form."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api import annotations_pb2
from tests.gateway.web import fields_of, reason_of, web
from tests.rpc.calls import stubs

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail_server.gateway.bindings import bindings_of
from multimail_server.gateway.failures import HTTP_STATUSES, failure_of
from multimail_server.gateway.parts import SERVICES
from multimail_server.rpc.auth import ANY, SCOPES

if TYPE_CHECKING:
    from tests.conftest import Account

JSON = {"content-type": "application/json"}


async def test_contacts(account: Account) -> None:
    """A contact is made, refused with its id, merged, found by metadata and recency, changed, erased and gone."""
    async with web(account) as client:
        given = {"email": "Elena@acme.test", "name": "Elena Ruiz", "metadata": {"plan": "pro", "open_tickets": 2}}
        made = await client.post("/contacts", json=given)
        assert (200, "created") == (made.status_code, made.json()["outcome"])
        contact = made.json()["contact"]
        assert given | {"interaction_count": 0, "thread_count": 0} == {
            name: contact[name] for name in (*given, "interaction_count", "thread_count")
        }
        again = await client.post("/contacts", json=given)
        assert (409, "CONTACT_EXISTS") == (again.status_code, reason_of(again))
        assert contact["id"] == again.json()["error"]["details"][0]["metadata"]["contact_id"]
        merged = await client.post(
            "/contacts", json={"email": given["email"], "upsert": True, "metadata": {"plan": None}}
        )
        assert ("updated", {"open_tickets": 2}) == (merged.json()["outcome"], merged.json()["contact"]["metadata"])
        for query in (
            "metadata.open_tickets=2&last_contacted_before=2026-03-20",
            'metadata.open_tickets={"gte":2}&domain=acme.test',
            "query=elena&page_size=1", "filter=metadata.open_tickets>1", "filters.metadata.open_tickets=2",
        ):  # fmt: skip
            found = await client.get(f"/contacts?{query}")
            assert [contact["id"]] == [each["id"] for each in found.json()["contacts"]], query
        for query in ("metadata.open_tickets=%222%22", "metadata.open_tickets=3", "metadata.plan=pro"):
            assert [] == (await client.get(f"/contacts?{query}")).json()["contacts"], query
        assert 1 == (await client.get("/v1/contacts:count?domain=acme.test")).json()["count"]
        etag = merged.json()["contact"]["etag"]
        changed = await client.patch(
            f"/v1/contacts/{contact['id']}",
            json={"increment": {"open_tickets": 1}, "set": {"a.b": [None]}, "etag": etag},
        )
        assert {"open_tickets": 3, "a": {"b": [None]}} == changed.json()["contact"]["metadata"]
        stale = await client.patch(f"/v1/contacts/{contact['id']}", json={"name": "x", "etag": etag})
        assert (409, "ETAG_MISMATCH") == (stale.status_code, reason_of(stale))
        erased = await client.delete("/contacts/elena@acme.test")
        assert (200, contact["id"], "scrubbing") == (
            erased.status_code, erased.json()["contact_id"], erased.json()["state"],
        )  # fmt: skip
        gone = await client.get("/v1/contacts/by-email/elena@acme.test")
        assert (404, "CONTACT_NOT_FOUND") == (gone.status_code, reason_of(gone))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("a+b@odd.test", "a+b@odd.test"), ("a+b@odd.test", "a%2Bb%40odd.test"), ("a/b@odd.test", "a%2Fb@odd.test"),
        ("a%b@odd.test", "a%25b@odd.test"), ("a%2fb@odd.test", "a%252fb@odd.test"),
        ("ünï@odd.test", "%C3%BCn%C3%AF@odd.test"),
        ("a?b#c@odd.test", "a%3Fb%23c@odd.test"), ("x@bücher.test", "x@b%C3%BCcher.test"),
        ("x{}@odd.test", "x%7B%7D@odd.test"),
    ],
)  # fmt: skip
async def test_any_address_can_stand_in_a_path(account: Account, address: str, path: str) -> None:
    """Addresses with + / % ? # and letters of all the world are found, and erased, by what stands in the path."""
    async with web(account) as client:
        made = (await client.post("/v1/contacts:upsert", json={"email": address})).json()["contact"]
        assert made["id"] == (await client.get(f"/v1/contacts/by-email/{path}")).json()["id"]
        assert made["id"] == (await client.delete(f"/contacts/{path}")).json()["contact_id"]


async def test_mail(account: Account) -> None:
    """Mail is sent once per Idempotency-Key, listed by repeated parameters, and its bytes come and go as base64."""
    box, there = account.mailbox(), account.mailbox("there")
    async with web(account) as client:
        for each in (box, there):
            made = (await client.post("/v1/mailboxes", json={"email": each, "oversight_mode": "monitored"})).json()
            assert "monitored" == made["oversight_mode"]
        letter = {
            "from_mailbox_email": box, "to": [there], "subject": "Hi", "body": "x",
            "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "AP8="}],
            "guard": {"not_contacted_within": "7d", "no_open_thread": True},
        }  # fmt: skip
        sent = [
            (await client.post("/v1/emails:send", json=letter, headers={"idempotency-key": "one"})).json()["email"]
            for _ in range(2)
        ]
        assert sent[0]["id"] == sent[1]["id"]
        assert ("outbound", "monitored") == (sent[0]["direction"], sent[0]["oversight_mode"])
        guarded = await client.post("/v1/emails:send", json=letter)
        assert (400, "GUARD_REFUSED") == (guarded.status_code, reason_of(guarded))
        assert 6 * 86_400 < int(guarded.headers["retry-after"]) <= 7 * 86_400
        other = await client.post("/v1/emails:send", json=letter | {"subject": "Y"}, headers={"idempotency-key": "one"})
        assert (400, "REQUEST_ID_REUSED") == (other.status_code, reason_of(other))
        both = await client.post("/v1/emails:send", json=letter | {"request_id": "a"}, headers={"idempotency-key": "b"})
        assert ["request_id"] == fields_of(both)
        for _ in range(100):
            listed = await client.get(f"/v1/emails?mailbox_email={there}&states=received&states=sent")
            if listed.json()["emails"]:
                break
            await asyncio.sleep(0.05)
        (arrived,) = listed.json()["emails"]
        assert ("inbound", "received") == (arrived["direction"], arrived["state"])
        file = (await client.get(f"/v1/emails/{arrived['id']}/attachments/0")).json()
        assert b"\0\xff" == base64.b64decode(file["content"])
        reply = await client.post(f"/v1/emails/{arrived['id']}:reply", json={"body": "yes"})
        assert arrived["thread_id"] == reply.json()["email"]["thread_id"]
        entries = (await client.get(f"/v1/contacts/by-email/{there}/interactions")).json()["interactions"]
        assert ["outbound"] == list({each["direction"] for each in entries})


async def test_another_accounts_things_are_not_there(account: Account) -> None:
    """What belongs to somebody else, and what nobody has, is refused in the same words."""
    async with web(account) as client:
        mine = (await client.post("/contacts", json={"email": "mine@x.test"})).json()["contact"]["id"]
        stranger, _ = await account.running.keys.create(account.name + "-other", "t", ("read", "write"))
        asked = [
            await client.get(f"/v1/contacts/{each}", headers={"authorization": f"Bearer {stranger}"})
            for each in (mine, "contact_01AAAAAAAAAAAAAAAAAAAAAAAA")
        ]
        assert [404, 404] == [each.status_code for each in asked]
        assert asked[0].json() == asked[1].json()


async def test_who_may(account: Account) -> None:
    """Without a key 401 with how to give one, with a bad one too, with too few scopes 403; each is told apart."""
    async with web(account, "read") as client:
        for key in ("", "Bearer", "Basic x", "Bearer mm_live_x", "Bearer \xe9", "Bearer " + "x" * 5000):
            refused = await client.get("/contacts", headers={"authorization": key.encode("latin-1")})
            assert (401, 'Bearer realm="multimail"') == (refused.status_code, refused.headers["www-authenticate"])
            assert reason_of(refused) in ("KEY_MISSING", "KEY_INVALID"), key
        forbidden = await client.post("/contacts", json={"email": "a@b.test"})
        assert (403, "SCOPE_MISSING") == (forbidden.status_code, reason_of(forbidden))
        assert 200 == (await client.get("/contacts")).status_code


async def test_rest_and_grpc_say_the_same(account: Account) -> None:
    """A refusal has over HTTP the code, reason, text and fields that it has over gRPC, and one id in both logs."""
    async with web(account) as client, stubs(account) as (contacts, _):
        refused = await client.post(
            "/v1/contacts:upsert", json={"email": "no", "name": "x" * 600}, headers={"x-request-id": "t.1"}
        )
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await contacts.UpsertContact(contact_pb.UpsertContactRequest(email="no", name="x" * 600))
        error = refused.json()["error"]
        assert (told.value.code().name, told.value.details()) == (error["status"], error["message"])
        assert ["email", "name"] == fields_of(refused)
        assert "t.1" == refused.headers["x-request-id"]
        for odd in ("a b", "x" * 65, "é"):
            response = await client.get("/contacts", headers={"x-request-id": odd.encode()})
            assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("content", "headers", "status", "reason"),
    [
        (b"", {}, 400, "INVALID_FIELD"),
        (b"{", JSON, 400, "MALFORMED_REQUEST"),
        (b"[]", JSON, 400, "INVALID_FIELD"),
        (b'{"email": "a@b.test", "email": "c@d.test"}', JSON, 400, "MALFORMED_REQUEST"),
        (b'{"email": "a@b.test", "metadata": {"x": NaN}}', JSON, 400, "MALFORMED_REQUEST"),
        (b'{"email": "a@b.test", "metadata": {"x": 1e999}}', JSON, 400, "INVALID_FIELD"),
        (b'{"email": "a@b.test", "metadata": ' + b'{"a":' * 200 + b"1" + b"}" * 201, JSON, 400, "INVALID_FIELD"),
        (b"[" * 200_000, JSON, 400, "MALFORMED_REQUEST"),
        (b'{"email": "\xff"}', JSON, 400, "MALFORMED_REQUEST"),
        (b'{"email": "\\ud800"}', JSON, 400, "INVALID_FIELD"),
        (b'{"email": "a@b.test", "metadata": {"\\u0000": 1}}', JSON, 400, "INVALID_FIELD"),
        (b'{"email": "a@b.test", "request_id": "a b"}', JSON, 400, "INVALID_FIELD"),
        (b"email=a@b.test", {"content-type": "application/x-www-form-urlencoded"}, 415, "MALFORMED_REQUEST"),
        (b"{}", {"content-type": "application/json; charset=latin-1"}, 415, "MALFORMED_REQUEST"),
        (b"{}", JSON | {"x-request-timeout": "soon"}, 400, "INVALID_FIELD"),
        (b"{}", JSON | {"x-request-timeout": "0"}, 400, "INVALID_FIELD"),
        (b'{"email": "a@b.test"}', JSON | {"x-request-timeout": "0.001"}, 504, "OUT_OF_TIME"),
        (b'{"email": "a@b.test"}', JSON | {"idempotency-key": "x" * 200}, 400, "INVALID_FIELD"),
    ],
)  # fmt: skip
async def test_bad_requests_are_refused(
    account: Account, content: bytes, headers: Any, status: int, reason: str
) -> None:
    """Whatever is wrong with a body or a header is refused with its reason, and nothing happens."""
    async with web(account) as client:
        refused = await client.post("/v1/contacts:upsert", content=content, headers=headers)
        assert (status, reason) == (refused.status_code, reason_of(refused))
        assert [] == (await client.get("/contacts")).json()["contacts"]


async def test_what_json_may_be_called(account: Account) -> None:
    """JSON is taken under its own name, that of a dialect, with its charset, with a mark before it, or unnamed."""
    async with web(account) as client:
        for number, kind in enumerate(
            ("application/json", 'Application/JSON; charset="UTF-8"', "application/x+json", "")
        ):
            content = b"\xef\xbb\xbf" * (number % 2) + json.dumps({"email": f"p{number}@x.test"}).encode()
            made = await client.post(
                "/v1/contacts:upsert", content=content, headers={"content-type": kind} if kind else {}
            )
            assert 200 == made.status_code, kind


@pytest.mark.parametrize(
    ("query", "reason", "said"),
    [
        ("pagesize=3", "INVALID_FIELD", "did you mean page_size?"),
        ("plan=pro", "INVALID_FILTER", "metadata.plan"),
        ("last_contacted_befor=2026-03-20", "INVALID_FILTER", "did you mean last_contacted_before?"),
        ("page_size=x", "INVALID_FIELD", "must be a number"),
        ("page_size=99999999999", "INVALID_FIELD", "must be from"),
        ("metadata.plan=a&metadata.plan=b", "INVALID_FIELD", "twice"),
        ("metadata.plan=12345678901234567890", "INVALID_FIELD", "send it as a text"),
        ("query=%FF", "INVALID_FIELD", "UTF-8"),
        ("filters=x", "INVALID_FIELD", "JSON"),
        ("page_token=x", "INVALID_PAGE_TOKEN", ""),
    ],
)
async def test_bad_queries_are_refused(account: Account, query: str, reason: str, said: str) -> None:
    """A parameter that nobody knows is named with the nearest; one that cannot be read says what it must be."""
    async with web(account) as client:
        refused = await client.get(f"/contacts?{query}")
        assert (400, reason) == (refused.status_code, reason_of(refused))
        assert said in refused.json()["error"]["message"]


async def test_pages_are_walked(account: Account) -> None:
    """The token of each page leads to the next, until it is empty."""
    async with web(account) as client:
        rows = [{"email": f"p{number}@x.test"} for number in range(5)]
        done = await client.post("/v1/contacts:batchUpsert", json={"contacts": rows})
        assert ["created"] * 5 == [each["upserted"]["outcome"] for each in done.json()["outcomes"]]
        seen, token = [], ""
        while True:
            page = (await client.get("/contacts", params={"page_size": 2, "page_token": token})).json()
            seen += [each["email"] for each in page["contacts"]]
            token = page["next_page_token"]
            if not token:
                break
        assert [each["email"] for each in rows] == seen


async def test_methods(account: Account) -> None:
    """HEAD is GET without its body, OPTIONS tells the methods, another method is 405 with them, no path is 404."""
    async with web(account) as client:
        got, headed = await client.get("/contacts"), await client.head("/contacts")
        assert (got.status_code, got.headers["content-length"], b"") == (
            headed.status_code, headed.headers["content-length"], headed.content,
        )  # fmt: skip
        asked = await client.options("/v1/contacts/x")
        assert (204, "DELETE, GET, PATCH, OPTIONS") == (asked.status_code, asked.headers["allow"])
        wrong = await client.put("/contacts", json={})
        assert (405, "GET, POST, OPTIONS", "METHOD_UNKNOWN") == (
            wrong.status_code, wrong.headers["allow"], reason_of(wrong),
        )  # fmt: skip
        for method, path, allowed in (("PUT", "/healthz", "GET, HEAD"), ("POST", "/docs", "GET, HEAD")):
            other = await client.request(method, path)
            assert (405, "METHOD_UNKNOWN", allowed) == (
                other.status_code, reason_of(other), ", ".join(sorted(other.headers["allow"].split(", "))),
            ), path  # fmt: skip
        for path in ("/", "/v2/contacts", "/v1/contacts/", "/v1//contacts", "/%00"):
            nowhere = await client.get(path)
            assert (404, "METHOD_UNKNOWN") == (nowhere.status_code, reason_of(nowhere)), path
        broken = await client.request("GET", "/v1/contacts/%FF")
        assert (400, "MALFORMED_REQUEST") == (broken.status_code, reason_of(broken))


async def test_every_rpc_has_its_http_call(account: Account) -> None:
    """Each binding of each RPC leads to that RPC: a key with no scope for it is refused by the RPC's own scope."""
    async with web(account, "read") as reader, web(account, "write") as writer:
        for binding in bindings_of(SERVICES):
            scope = SCOPES[binding.grpc_path]
            client = writer if scope == "read" else reader
            path = "/" + "/".join("0" if each == "*" else each for each in binding.template.segments)
            path += f":{binding.template.verb}" if binding.template.verb else ""
            refused = await client.request(binding.http_method, path)
            if scope == ANY:
                assert (200, ["read"]) == (refused.status_code, refused.json()["scopes"])
                continue
            assert (403, scope) == (
                refused.status_code, refused.json()["error"]["details"][0]["metadata"]["scope"],
            ), path  # fmt: skip


async def test_a_target_may_name_the_host(account: Account) -> None:
    """A request may name scheme and host before its path, as proxies do."""
    key, port = await account.key("read"), account.running.http_port
    for path in ("/contacts?page_size=1", "/healthz", "/v1/contacts/nobody@x.test"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET http://x{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode())
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert said.startswith(b"HTTP/1.1 404" if "nobody" in path else b"HTTP/1.1 200"), said
        assert b"METHOD_UNKNOWN" not in said


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, 503, "OUTCOME_UNKNOWN"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "OUT_OF_TIME"),
    ],
)
def test_a_call_without_an_answer_is_repeated_by_its_key(code: grpc.StatusCode, status: int, reason: str) -> None:
    """Where the service itself said nothing the change may have happened: the error says by what to repeat it."""
    failure = failure_of(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata()))
    assert failure is not None
    assert (status, reason) == (failure.status, failure.reason)
    assert "same Idempotency-Key" in failure.body["error"]["message"]


def test_every_rpc_has_a_rule() -> None:
    """No RPC was forgotten, and every code of gRPC's has its HTTP status."""
    for service in SERVICES:
        for rpc in service.methods:
            assert rpc.GetOptions().HasExtension(annotations_pb2.http), rpc.full_name
    known = set(HTTP_STATUSES) | {grpc.StatusCode.OK}
    assert {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS} == set(
        grpc.StatusCode
    ) - known
