from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.gateway.web import lines, web

from multimail_server.gateway.openapi.document import document
from multimail_server.gateway.openapi.examples import EXAMPLES
from multimail_server.gateway.parts import SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2
    from tests.conftest import Account

DOCUMENT = document(SERVICES, "1.2.3")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
SEED = 20260320
# They answer until somebody leaves.
ENDLESS = {"WatchContacts", "WatchNotifications"}


@schemathesis.serializer("application/x-ndjson")
def lines_of(_: Any, value: Any) -> bytes:
    """One line of JSON."""
    return json.dumps(value).encode()


class Caller:
    """Calls operations by their names, with the key their scope needs, and checks the answers by the document."""

    def __init__(self, agent: httpx2.AsyncClient, overseer: httpx2.AsyncClient) -> None:
        self._agent = agent
        self._overseer = overseer
        self._ways = {
            operation["operationId"]: (verb, path, operation)
            for path, verbs in DOCUMENT["paths"].items()
            for verb, operation in verbs.items()
        }

    async def __call__(self, name: str, body: Any = None, query: Any = None, **variables: str) -> Any:
        """The answer, which must be what the document says of a call that went well."""
        verb, path, operation = self._ways[name]
        sent = {}
        if body is not None:
            content_type = next(iter(operation["requestBody"]["content"]))
            sent = {"content": json.dumps(body), "headers": {"content-type": content_type}}
        answer = await self.http(operation).request(verb.upper(), path.format(**variables), params=query, **sent)
        assert answer.status_code == 200, answer.text
        kind = answer.headers["content-type"].partition(";")[0]
        schema = operation["responses"]["200"]["content"][kind]["schema"]
        validator = Draft202012Validator(schema | {"components": DOCUMENT["components"]})
        found = lines(answer.text)
        for each in found:
            validator.validate(each)
        return found if "ndjson" in kind else found[0]

    def http(self, operation: dict[str, Any]) -> httpx2.AsyncClient:
        """The client whose key may call an operation."""
        return self._overseer if operation["security"] == [{"key": ["oversight"]}] else self._agent


@pytest.fixture
async def call(account: Account) -> AsyncIterator[Caller]:
    """Calls with keys of the test's own account."""
    async with web(account) as agent, web(account, "read", "write", "admin", "oversight") as overseer:
        yield Caller(agent, overseer)


async def test_reference_is_served(account: Account) -> None:
    """The document and the page answer without a key, and the page lets nothing run but its own script."""
    async with web(account) as http:
        del http.headers["authorization"]
        told = await http.get("/openapi.json")
        assert told.headers["content-type"] == "application/json"
        assert told.json()["paths"] == DOCUMENT["paths"]
        shown = await http.get("/docs")
        assert shown.headers["content-type"].startswith("text/html")
        assert "script-src 'self';" in shown.headers["content-security-policy"]
        for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
            asset = await http.get(f"/docs/assets/{name}")
            assert (asset.status_code, asset.headers["content-type"].partition(";")[0]) == (200, kind)
            assert f"docs/assets/{name}" in shown.text
        assert (await http.get("/docs/assets/serve.py")).status_code == 404


async def test_examples_work(account: Account, call: Caller) -> None:
    """Every example of the document is accepted as it stands, and answered as the document says."""
    # A mailbox's address is one account's only, so that the examples' is ours here.
    bodies = json.loads(json.dumps(EXAMPLES).replace("example.test", f"{account.name}.test"))
    mailbox = await call("CreateMailbox", bodies.pop("CreateMailbox"))
    assert (mailbox["display_name"], mailbox["oversight_mode"]) == ("Sales", "monitored")
    contact = (await call("CreateContact", bodies.pop("CreateContact")))["contact"]
    merged = await call("UpsertContact", bodies.pop("UpsertContact"))
    assert (merged["outcome"], merged["contact"]["metadata"]) == ("updated", {"plan": "enterprise"})
    rows = await call("BatchUpsertContacts", bodies.pop("BatchUpsertContacts"))
    assert [each["upserted"]["outcome"] for each in rows["outcomes"]] == ["updated", "created"]
    lines = await call("ImportContacts", bodies.pop("ImportContacts"), {"import_id": "crm-2026-03"})
    assert [each["upserted"]["outcome"] for each in lines] == ["created"]
    rows = await call("BatchGetContacts", bodies.pop("BatchGetContacts"))
    assert [list(each) for each in rows["outcomes"]] == [["contact"], ["refusal"]]
    changed = await call("UpdateContact", bodies.pop("UpdateContact"), id=contact["id"])
    assert changed["contact"]["metadata"] == {
        "plan": "enterprise",
        "city": "Bergen",
        "open_tickets": 1,
        "tags": ["vip"],
    }
    found = await call("SearchContacts_2", bodies.pop("SearchContacts"))
    assert [each["id"] for each in found["contacts"]] == [contact["id"]]
    free = next(each for each in DOCUMENT["paths"]["/v1/contacts"]["get"]["parameters"] if each.get("explode"))
    assert (await call("SearchContacts", query=free["example"] | {"metadata.plan": "enterprise"})) == found
    assert (await call("CountContacts_2", bodies.pop("CountContacts"))) == {"count": 0}
    checks = await call("BatchCheckSends", bodies["BatchCheckSends"])
    assert [each.get("state") for each in checks["checks"]] == ["queued", "queued"]
    sent = (await call("SendEmail", bodies["SendEmail"]))["email"]
    assert sent["oversight_mode"] == "monitored"
    checks = await call("BatchCheckSends", bodies.pop("BatchCheckSends"))
    assert checks["checks"][0]["refusal"]["reason"] == "GUARD_REFUSED"
    assert (await call("ReplyEmail", bodies.pop("ReplyEmail"), email_id=sent["id"]))["email"]["thread_id"]
    held = {"from_mailbox_id": mailbox["id"], "to": ["ada@northwind.test"], "oversight_mode": "gated_send"}
    waiting = (await call("SendEmail", held))["email"]
    assert (await call("UpdateEmail", bodies.pop("UpdateEmail"), id=waiting["id"]))["subject"].startswith("Your")
    for name in ("ApproveEmails", "RejectEmails"):
        outcomes = (await call(name, bodies.pop(name)))["outcomes"]
        assert [each["refusal"]["reason"] for each in outcomes] == ["EMAIL_NOT_FOUND"]
    renamed = await call("UpdateMailbox", bodies.pop("UpdateMailbox"), id=mailbox["id"])
    assert (renamed["display_name"], renamed["approval_ttl"]) == ("Sales team", "86400s")
    assert (await call("AddSuppression", bodies.pop("AddSuppression")))["reason"] == "manual"
    assert set(bodies) == {"SendEmail"}  # sent above


@pytest.mark.parametrize("name", sorted(ENDLESS))
async def test_lines_of_a_stream_are_as_documented(account: Account, call: Caller, name: str) -> None:
    """What a stream tells, and the error that ends it, are lines the document tells of."""
    path, verbs = next(
        (path, each)
        for path, each in DOCUMENT["paths"].items()
        if path.endswith(":watch") and each["get"]["operationId"] == name
    )
    await call("CreateContact", {"email": "ann@there.test"})
    answer = await call.http(verbs["get"]).get(path, headers={"x-request-timeout": "1.5"})
    told = verbs["get"]["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    validator = Draft202012Validator(told | {"components": DOCUMENT["components"]})
    found = lines(answer.text)
    for each in found:
        validator.validate(each)
    assert [each["seq"] for each in found[:-1]] == [1]
    assert found[-1]["error"]["status"] == "DEADLINE_EXCEEDED"


@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
async def test_calls_conform_to_the_document(account: Account, call: Caller) -> None:
    """Whatever is sent, right or wrong, to things that are there or not: each answer is one the document tells of."""
    ids = await _something_of_everything(account, call)
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=f"http://127.0.0.1:{account.running.http_port}")
    operations = [each.ok() for each in schema.get_all_operations()]
    # What deletes comes last.
    operations.sort(key=lambda each: each.method == "delete")
    seen: dict[int, int] = {}

    def explore() -> None:
        for operation in operations:
            if operation.definition.raw["operationId"] not in ENDLESS:
                for kind in _kinds(operation, ids):
                    _explore(kind, call.http(operation.definition.raw).headers["authorization"], seen)

    await asyncio.to_thread(explore)
    assert seen[200] > 50
    assert seen[400] > 50
    assert seen[404] > 10


async def _something_of_everything(account: Account, call: Caller) -> dict[str, str]:
    """Makes one thing of each kind, so that there is something to find."""
    mailbox = await call("CreateMailbox", {"email": account.mailbox()})
    contact = (await call("CreateContact", {"email": "ann@there.test", "metadata": {"plan": "pro"}}))["contact"]
    mail = {"from_mailbox_id": mailbox["id"], "to": ["ann@there.test"], "body": "Hello"}
    mail["attachments"] = [{"filename": "a.txt", "content": "aGVsbG8="}]
    email = (await call("SendEmail", mail))["email"]
    await call("AddSuppression", {"address": "gone@there.test"})
    return {
        "mailboxes/{id}": mailbox["id"],
        "mailboxes/by-email/{email}": account.mailbox(),
        "contacts/{id}": contact["id"],
        "contacts/by-email/{email}": "ann@there.test",
        "contacts/{email}": "ann@there.test",
        "emails/{id}": email["id"],
        "emails/{email_id}": email["id"],
        "threads/{id}": email["thread_id"],
        "suppressions/{address}": "gone@there.test",
    }


def _kinds(operation: Any, ids: dict[str, str]) -> list[Any]:
    """Right requests to anything, right ones to what is there, and wrong ones."""
    kinds = [operation.as_strategy(), operation.as_strategy(GenerationMode.NEGATIVE)]
    place, brace, rest = operation.path.removeprefix("/v1").removeprefix("/").partition("}")
    if brace:
        there: dict[str, Any] = {place.partition("{")[2]: ids[place + brace]}
        kinds.append(operation.as_strategy(path_parameters=there | ({"index": 0} if "{index}" in rest else {})))
    return kinds


def _explore(cases: Any, key: str, seen: dict[int, int]) -> None:
    @seeded(SEED)
    @settings(
        max_examples=2,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def explore(case: Any) -> None:
        # A caller may say that it does not wait, or name its request twice, and differently: not what is tried here.
        case.headers.pop("X-Request-Timeout", None)
        if isinstance(case.body, dict) and "request_id" in case.body:
            case.headers.pop("Idempotency-Key", None)
        answer = case.call(headers={"authorization": key})
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        case.validate_response(answer, checks=CHECKS)

    explore()
