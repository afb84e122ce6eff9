"""The OpenAPI document: a pure function of the protos' services, messages and comments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from multimail.v1 import contact_service_pb2, mail_service_pb2
from multimail_server.gateway.bindings import ALL, bindings_of, field_at
from multimail_server.gateway.openapi import refusals, schemas
from multimail_server.gateway.openapi.examples import EXAMPLES
from multimail_server.gateway.openapi.words import comment, summary
from multimail_server.rpc.auth import SCOPES
from multimail_server.rpc.validation import choices_of, is_required

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

    from multimail_server.gateway.bindings import Binding
    from multimail_server.gateway.openapi.schemas import Schema

SERVICES = (
    contact_service_pb2.DESCRIPTOR.services_by_name["ContactService"],
    mail_service_pb2.DESCRIPTOR.services_by_name["MailService"],
)
_INTRODUCTION = """\
Contacts and mail for agents: the same service that gRPC serves, one HTTP request for each of its calls.

**Keys.** Every call needs an API key with the scope the call names: `Authorization: Bearer mm_live_…`.

**JSON.** Names are written as here, enum values as plain words, times as RFC 3339 (`2026-03-20T09:30:00Z`; also
a day, `2026-03-20`, in UTC), spans as `36h` or `7d` (in answers in seconds: `129600s`), bytes as base64, and numbers as
numbers. Of an answer, what is not marked as required is left out when there is nothing to say.

**Query parameters.** A list is its parameter again and again. Conditions on contacts are parameters of their own:
`metadata.plan=pro`, `last_contacted_before=2026-03-20`; a value is JSON where it parses, else text.

**Repeating.** A change takes an `Idempotency-Key` (or `request_id` in its body, which is the same): the same key with
the same content gives the same outcome for 30 days.

**Pages.** Hand `next_page_token` back as `page_token`, all else as it was, until it is empty.

**Streams.** `Accept: application/x-ndjson` (one JSON object a line) or `text/event-stream`.

**Errors.** The same object for all: an HTTP status, a sentence for a person, and a reason for a program.
"""


def document(version: str, services: Sequence[ServiceDescriptor] = SERVICES) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these services.

    Args:
        version: The service's version.
        services: The services; what they hold besides follows from them.
    """
    ways = bindings_of(services)
    paths: dict[str, dict[str, Any]] = {}
    for each in ways:
        paths.setdefault(re.sub(r"=[^}]*", "", each.path), {})[each.http_method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Multimail",
            "version": version,
            "summary": "Contact intelligence and mail for AI agents.",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This service."}],
        "tags": [{"name": each.name, "description": comment(each).partition("\n\n")[0]} for each in services],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "mm_live_…",
                    "description": "An API key; `multimail-server keys create` makes one.",
                }
            },
            "parameters": {"Idempotency-Key": _IDEMPOTENCY_KEY},
            "headers": refusals.HEADERS,
            "responses": refusals.responses(),
            "schemas": dict(sorted(_schemas(ways).items())),
        },
    }


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the call repeatable, as `request_id` does; give one of the two.",
    "schema": {"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"},
}


def _schemas(ways: Sequence[Binding]) -> dict[str, Schema]:
    """Every schema that an operation names, and all that these name."""
    given = schemas.reachable([held for each in ways for held in _given(each)])
    answered = schemas.reachable([held for each in ways for held in _answered(each)])
    made = {each.name: schemas.of_message(each, given=True) for each in given}
    made |= {each.name: schemas.of_message(each, given=False) for each in answered}
    made |= {each.name: schemas.of_enum(each) for each in schemas.enums_of([*given, *answered, *_requests(ways)])}
    for each in ways:
        if each.body == ALL and _elsewhere(each):
            made[_body_name(each)] = schemas.of_message(each.rpc.input_type, given=True, without=_elsewhere(each))
    return made | refusals.SCHEMAS


def _requests(ways: Sequence[Binding]) -> list[Descriptor]:
    return [each.rpc.input_type for each in ways]


def _given(way: Binding) -> list[Descriptor]:
    """The messages that a caller writes as JSON."""
    request = way.rpc.input_type
    if way.body == ALL and not _elsewhere(way):
        return [request]
    named = request.fields if way.body == ALL else [request.fields_by_name[way.body]] if way.body else []
    return [held for field in named if field.name not in _elsewhere(way) for held in schemas.held_by(field)]


def _answered(way: Binding) -> list[Descriptor]:
    """The messages that an answer holds."""
    response = way.rpc.output_type
    return [*schemas.held_by(response.fields_by_name[way.response_body])] if way.response_body else [response]


def _operation(way: Binding) -> dict[str, Any]:
    method = way.rpc
    text, scope = comment(method), SCOPES[way.grpc_path]
    operation: dict[str, Any] = {
        "operationId": _operation_id(way),
        "tags": [method.containing_service.name],
        "summary": summary(text),
        "description": text,
        "security": [{"key": [scope]}],
        "parameters": [*_path_parameters(way), *_query_parameters(way), *_header_parameters(way)],
    }
    if way.body:
        operation["requestBody"] = _request_body(way)
    operation["responses"] = {"200": _response(way)} | refusals.refused_with(changes=scope != "read")
    return operation


def _operation_id(way: Binding) -> str:
    """The RPC's name; further ways to it have a number behind it."""
    return f"{way.rpc.name}_{way.number + 1}" if way.number else str(way.rpc.name)


def _elsewhere(way: Binding) -> set[str]:
    """The fields that neither body nor query may name: those of the path, and what these exclude."""
    names = {variable.field for variable in way.template.variables}
    rivals = [{field.name for field in oneof.fields} for oneof, _ in choices_of(way.rpc.input_type)]
    return names.union(*(each for each in rivals if each & names))


def _path_parameters(way: Binding) -> Iterator[dict[str, Any]]:
    for variable in way.template.variables:
        yield _parameter(field_at(way.rpc.input_type, variable.field), variable.field, "path") | {"required": True}


def _header_parameters(way: Binding) -> Iterator[dict[str, Any]]:
    if "request_id" in way.rpc.input_type.fields_by_name:
        yield {"$ref": "#/components/parameters/Idempotency-Key"}


def _query_parameters(way: Binding) -> Iterator[dict[str, Any]]:
    if way.body != ALL:
        without = _elsewhere(way) | {way.body}
        yield from _in_query([each for each in way.rpc.input_type.fields if each.name not in without], "")


def _in_query(fields: Sequence[FieldDescriptor], before: str) -> Iterator[dict[str, Any]]:
    """The parameters of these fields; those of a message in them have its name and a dot before theirs."""
    for field in fields:
        name, held = before + field.name, field.message_type
        if schemas.value_of_map(field) is not None:
            yield _free_parameters(field, name)
        elif held is not None and not schemas.is_well_known(held):
            yield from _in_query(held.fields, f"{name}.")
        else:
            yield _parameter(field, name, "query") | {"required": is_required(field)}


def _parameter(field: FieldDescriptor, name: str, place: str) -> dict[str, Any]:
    schema = schemas.of_field(field, given=True)
    description = schema.pop("description")
    if place == "path" and schema.get("type") == "string":
        schema["minLength"] = 1
    return {"name": name, "in": place, "description": description, "schema": schema}


def _free_parameters(field: FieldDescriptor, name: str) -> dict[str, Any]:
    """Of a map each key is a parameter of its own."""
    schema = schemas.of_field(field, given=True) | {"additionalProperties": {"type": ["string", "number", "boolean"]}}
    description = schema.pop("description")
    return {
        "name": name,
        "in": "query",
        "required": False,
        "style": "form",
        "explode": True,
        "description": f"{description}\n\nEach is a parameter of its own name; its value is JSON where it parses, else "
        "text.",
        "schema": schema,
        "example": {"metadata.plan": "pro", "last_contacted_before": "2026-03-20"},
    }


def _request_body(way: Binding) -> dict[str, Any]:
    request = way.rpc.input_type
    if way.body != ALL:
        schema = schemas.of_field(request.fields_by_name[way.body], given=True)
    else:
        schema = schemas.ref(_body_name(way) if _elsewhere(way) else request.name)
    content: dict[str, Any] = {"schema": schema}
    if way.rpc.name in EXAMPLES:
        content["example"] = EXAMPLES[way.rpc.name]
    return {"required": True, "content": {"application/json": content}}


def _body_name(way: Binding) -> str:
    """The name of a request without what its path says."""
    return way.rpc.input_type.name.removesuffix("Request") + "Body"


def _response(way: Binding) -> dict[str, Any]:
    response = way.rpc.output_type
    schema = schemas.ref(response.name)
    if way.response_body:
        schema = schemas.of_field(response.fields_by_name[way.response_body], given=False)
    kinds = ("application/x-ndjson", "text/event-stream") if way.rpc.server_streaming else ("application/json",)
    return {
        "description": comment(response).partition("\n\n")[0],
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": {kind: {"schema": schema} for kind in kinds},
    }
