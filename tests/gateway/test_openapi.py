from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from multimail_server.errors import Reason
from multimail_server.gateway.openapi.document import document
from multimail_server.gateway.parts import SERVICES
from multimail_server.rpc.auth import ANY, SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = document(SERVICES, "1.2.3")
READING = ([{"key": ["read"]}], [{"key": []}])
OPERATIONS = [(verb, path, operation) for path, verbs in DOCUMENT["paths"].items() for verb, operation in verbs.items()]
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def operation(name: str) -> dict[str, Any]:
    """The operation of that id."""
    return next(each for _, _, each in OPERATIONS if each["operationId"] == name)


def parameter(name: str, of: str) -> dict[str, Any]:
    """A parameter of an operation."""
    found: dict[str, Any] = next(each for each in operation(of)["parameters"] if each.get("name") == name)
    return found


def test_document_is_valid() -> None:
    """The document is OpenAPI 3.1, as a validator of that says."""
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_there_and_nothing_else() -> None:
    """The document holds exactly the HTTP rules that stand in the protos, under unique names."""
    written = {
        (verb, path)
        for name in ("contact_service", "mail_service")
        for verb, path in re.findall(
            r'\b(get|put|post|patch|delete): "([^"]+)"', (ROOT / f"protos/multimail/v1/{name}.proto").read_text()
        )
    }
    assert {(verb, path) for verb, path, _ in OPERATIONS} == written
    names = [each["operationId"] for _, _, each in OPERATIONS]
    assert len(names) == len(set(names)) == len(written)
    methods = {method.rpartition("/")[2] for method in SCOPES}
    assert {name.partition("_")[0] for name in names} <= methods


def test_scopes_are_told() -> None:
    """Every operation names the scope that its key must have."""
    by_name = {method.rpartition("/")[2]: scope for method, scope in SCOPES.items()}
    for _, _, each in OPERATIONS:
        scope = by_name[each["operationId"].partition("_")[0]]
        assert each["security"] == [{"key": [] if scope == ANY else [scope]}]


def _undescribed(value: Any, path: str) -> Iterator[str]:
    """Where a schema lacks its description; a reference has that of what it leads to."""
    if "$ref" not in value and not value.get("description"):
        yield path
    for name, held in value.get("properties", {}).items():
        yield from _undescribed(held, f"{path}.{name}")


def test_everything_is_described() -> None:
    """Every operation, parameter, schema, field and answer says in words what it means."""
    missing = [path for name, schema in SCHEMAS.items() for path in _undescribed(schema, name)]
    for verb, path, each in OPERATIONS:
        told = [each["summary"], each["description"]]
        told += [one.get("description") or one["$ref"] for one in each["parameters"]]
        told += [one.get("description") or one["$ref"] for one in each["responses"].values()]
        missing += [] if all(told) else [f"{verb} {path}"]
    assert missing == []
    for field in SCHEMAS["Contact"]["properties"].values():
        assert field["description"]


def test_document_is_the_same_every_time() -> None:
    """Processes that hash differently make the same bytes."""
    code = """
import json
from multimail_server.gateway.openapi.document import document
from multimail_server.gateway.parts import SERVICES
print(json.dumps(document(SERVICES, "1.2.3")))
"""
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1
    assert json.loads(made.pop()) == DOCUMENT


def test_path_holds_what_the_body_does_not() -> None:
    """What a path names is neither in the body nor in the query, and neither is what it excludes."""
    for verb, path, each in OPERATIONS:
        variables = re.findall(r"{(\w+)}", path)
        places = [one for one in each["parameters"] if one.get("in") == "path"]
        assert [one["name"] for one in places] == variables, (verb, path)
        assert all(one["required"] for one in places)
        queried = {one["name"] for one in each["parameters"] if one.get("in") == "query"}
        assert not queried & set(variables)
    assert "id" not in SCHEMAS["UpdateContactBody"]["properties"]
    assert "email" not in SCHEMAS["UpdateContactBody"]["properties"]
    assert "oneOf" not in SCHEMAS["UpdateContactBody"]
    assert {each.get("name") for each in operation("GetContactContext")["parameters"]} == {"id", "max_characters", None}


def test_requests_say_what_they_need() -> None:
    """Requests name what is required, which of several must be given, and their bounds; unknown fields are refused."""
    send = SCHEMAS["SendEmailRequest"]
    assert send["required"] == ["to"]
    assert send["oneOf"] == [{"required": ["from_mailbox_id"]}, {"required": ["from_mailbox_email"]}]
    assert send["additionalProperties"] is False
    assert (send["properties"]["to"]["minItems"], send["properties"]["to"]["maxItems"]) == (1, 50)
    assert send["properties"]["request_id"]["maxLength"] == 128
    assert SCHEMAS["BatchUpsertContactsRequest"]["properties"]["contacts"]["maxItems"] == 1000
    assert SCHEMAS["CreateContactRequest"]["properties"]["name"]["maxLength"] == 512
    assert parameter("max_characters", "GetContactContext")["schema"]["maximum"] == 100_000
    assert parameter("page_size", "ListEmails")["schema"]["default"] == 50
    assert parameter("states", "ListEmails")["schema"]["items"] == {"$ref": "#/components/schemas/EmailState"}


def test_json_is_as_the_door_writes_it() -> None:
    """Enums are plain words, counts integers, times date-times, spans and bytes texts, metadata free objects."""
    assert SCHEMAS["OversightMode"]["enum"] == ["autonomous", "monitored", "gated_send", "gated_all", "read_only"]
    assert "- `gated_send`: Outbound mail is `held` until" in SCHEMAS["OversightMode"]["description"]
    contact = SCHEMAS["Contact"]["properties"]
    assert (contact["interaction_count"]["type"], contact["interaction_count"]["format"]) == ("integer", "int32")
    assert (contact["create_time"]["type"], contact["create_time"]["format"]) == ("string", "date-time")
    assert (contact["metadata"]["type"], contact["metadata"]["additionalProperties"]) == ("object", True)
    assert SCHEMAS["GetAttachmentResponse"]["properties"]["content"]["contentEncoding"] == "base64"
    assert SCHEMAS["UpdateContactBody"]["properties"]["set"]["additionalProperties"] == {}
    assert SCHEMAS["UpdateContactBody"]["properties"]["increment"]["additionalProperties"] == {"type": "number"}
    assert contact["id"]["readOnly"] is True
    assert "id" in SCHEMAS["Contact"]["required"]
    assert "last_contacted" not in SCHEMAS["Contact"]["required"]


@pytest.mark.parametrize(
    "name", ["SearchContacts", "SearchContacts_3", "CountContacts", "ExportContacts", "WatchContacts"]
)
def test_conditions_are_free_parameters(name: str) -> None:
    """Where contacts are looked for by GET, each condition is a parameter of its own name."""
    filters = parameter("filters", name)
    assert (filters["in"], filters["style"], filters["explode"]) == ("query", "form", True)
    pattern = re.compile(filters["schema"]["propertyNames"]["pattern"])
    for key in ("metadata.plan", "metadata.a.b", "last_contacted_before", "updated_after", "has_open_thread"):
        assert pattern.search(key)
    for key in ("plan", "last_contacted", "metadata.", "page_size"):
        assert not pattern.search(key)


def test_streams_say_so() -> None:
    """A stream is answered as lines of JSON or as events; what can be taken up again takes the last event's id."""
    for name in ("ExportContacts", "WatchContacts", "WatchNotifications"):
        assert list(operation(name)["responses"]["200"]["content"]) == ["application/x-ndjson", "text/event-stream"]
    last = {"$ref": "#/components/parameters/Last-Event-ID"}
    assert last in operation("WatchContacts")["parameters"]
    assert last not in operation("ExportContacts")["parameters"]


def test_changes_can_be_repeated() -> None:
    """Exactly what changes something takes an Idempotency-Key, and can meet a conflict."""
    for _, _, each in OPERATIONS:
        repeatable = {"$ref": "#/components/parameters/Idempotency-Key"} in each["parameters"]
        changes = each["security"] not in READING and each["operationId"] != "ListHeldEmails"
        assert repeatable == changes, each["operationId"]
        assert ("409" in each["responses"]) or not changes, each["operationId"]


def test_every_reason_has_its_status_and_sample() -> None:
    """Every reason stands under its HTTP status, with a whole error that has that reason."""
    found = {}
    for name, response in DOCUMENT["components"]["responses"].items():
        for reason, example in response["content"]["application/json"]["examples"].items():
            error = example["value"]["error"]
            assert error["details"][0]["reason"] == reason
            assert error["status"] in SCHEMAS["Error"]["properties"]["error"]["properties"]["status"]["enum"]
            if name not in ("RequestTimeout", "RequestEntityTooLarge", "UnsupportedMediaType"):
                found[reason] = error["code"]
    assert set(found) == set(Reason)
    told = {"CONTACT_EXISTS": 409, "GUARD_REFUSED": 400, "RATE_LIMITED": 429, "KEY_MISSING": 401, "SCOPE_MISSING": 403}
    assert {reason: found[reason] for reason in told} == told
    assert "Retry-After" in DOCUMENT["components"]["responses"]["TooManyRequests"]["headers"]
