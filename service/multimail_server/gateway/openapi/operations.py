"""One operation of the OpenAPI document: an HTTP rule's parameters, body, answer and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail_server.gateway.bindings import ALL, field_at
from multimail_server.gateway.openapi import refusals, schemas
from multimail_server.gateway.openapi.examples import EXAMPLES
from multimail_server.gateway.openapi.words import comment, summary
from multimail_server.rpc.auth import ANY, SCOPES
from multimail_server.rpc.validation import choices_of, is_required

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import FieldDescriptor

    from multimail_server.gateway.bindings import Binding

PARAMETERS = {
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Makes the call repeatable, as `request_id` (of an import `import_id`) does; give one.",
        "schema": {"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"},
    },
    "X-Request-Timeout": {
        "name": "X-Request-Timeout",
        "in": "header",
        "required": False,
        "description": "After how many seconds nobody waits for the answer any more.",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 99999},
    },
    "Last-Event-ID": {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "The id of the last event that was read: the stream goes on behind it. Browsers send it so.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    },
}
_JSON = "application/json"
_LINES = "application/x-ndjson"
# Of these a request that has one can be repeated.
_REPEATABLE = {"request_id", "import_id"}


def operation_of(way: Binding) -> dict[str, Any]:
    """The operation of one HTTP rule."""
    method = way.rpc
    text, scope = comment(method), SCOPES[way.grpc_path]
    operation: dict[str, Any] = {
        "operationId": _operation_id(way),
        "tags": [method.containing_service.name],
        "summary": summary(text),
        "description": text,
        "security": [{"key": [] if scope == ANY else [scope]}],
        "parameters": [*_path_parameters(way), *_query_parameters(way), *_header_parameters(way)],
    }
    if way.body:
        operation["requestBody"] = _request_body(way)
    operation["responses"] = {"200": _response(way)} | refusals.refused_with(
        changes=scope not in ("read", ANY), has_body=bool(way.body)
    )
    return operation


def _operation_id(way: Binding) -> str:
    """The RPC's name; further ways to it have a number behind it."""
    return f"{way.rpc.name}_{way.number + 1}" if way.number else str(way.rpc.name)


def elsewhere(way: Binding) -> set[str]:
    """The fields that neither body nor query may name: those of the path, and what these exclude."""
    names = {variable.field for variable in way.template.variables}
    rivals = [{field.name for field in oneof.fields} for oneof, _ in choices_of(way.rpc.input_type)]
    return names.union(*(each for each in rivals if each & names))


def _path_parameters(way: Binding) -> Iterator[dict[str, Any]]:
    for variable in way.template.variables:
        yield _parameter(field_at(way.rpc.input_type, variable.field), variable.field, "path") | {"required": True}


def _header_parameters(way: Binding) -> Iterator[dict[str, Any]]:
    fields = set(way.rpc.input_type.fields_by_name)
    names = {
        "Idempotency-Key": bool(fields & _REPEATABLE),
        "Last-Event-ID": way.rpc.server_streaming and "after_seq" in fields,
        "X-Request-Timeout": True,
    }
    yield from ({"$ref": f"#/components/parameters/{name}"} for name, fits in names.items() if fits)


def _query_parameters(way: Binding) -> Iterator[dict[str, Any]]:
    if way.body != ALL:
        without = elsewhere(way) | {way.body}
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
        schema = schemas.ref(body_name(way) if elsewhere(way) else request.name)
    content: dict[str, Any] = {"schema": schema}
    if way.rpc.name in EXAMPLES:
        content["example"] = EXAMPLES[way.rpc.name]
    return {"required": _needs_body(way), "content": {_LINES if way.rpc.client_streaming else _JSON: content}}


def _needs_body(way: Binding) -> bool:
    """Whether the call makes no sense without a body."""
    request, without = way.rpc.input_type, elsewhere(way)
    if way.body != ALL:
        return is_required(request.fields_by_name[way.body])
    choices = [oneof for oneof, needed in choices_of(request) if needed and oneof.fields[0].name not in without]
    return bool(choices) or any(is_required(field) for field in request.fields if field.name not in without)


def body_name(way: Binding) -> str:
    """The name of a request without what its path says."""
    return way.rpc.input_type.name.removesuffix("Request") + "Body"


def _response(way: Binding) -> dict[str, Any]:
    response = way.rpc.output_type
    schema = schemas.ref(response.name)
    if way.response_body:
        schema = schemas.of_field(response.fields_by_name[way.response_body], given=False)
    kinds = [_JSON]
    if way.rpc.server_streaming:
        # What goes wrong after the beginning is the last line.
        schema = {"anyOf": [schema, schemas.ref("Error")]}
        kinds = [_LINES] if way.rpc.client_streaming else [_LINES, "text/event-stream"]
    return {
        "description": comment(response).partition("\n\n")[0],
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": {kind: {"schema": schema} for kind in kinds},
    }
