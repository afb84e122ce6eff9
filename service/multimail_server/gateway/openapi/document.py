"""The OpenAPI document: a pure function of the protos' services, messages and comments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from multimail_server.gateway.bindings import ALL, bindings_of
from multimail_server.gateway.openapi import refusals, schemas
from multimail_server.gateway.openapi.operations import PARAMETERS, body_name, elsewhere, operation_of
from multimail_server.gateway.openapi.words import comment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import Descriptor, ServiceDescriptor

    from multimail_server.gateway.bindings import Binding
    from multimail_server.gateway.openapi.schemas import Schema

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

**Streams.** One JSON object a line, or with `Accept: text/event-stream` an event each; while nothing happens an empty
line, or a comment, comes every 15 seconds. An error before the first one is the answer's status; a later one is the
last line, or an event named `error`. An import is answered while it comes: read while you send, for no more is taken
than you take, and who takes nothing for a minute is cut off.

**Errors.** The same object for all: an HTTP status, a sentence for a person, and a reason for a program. Every answer
has an `x-request-id`; a call may bring its own.
"""


def document(services: Sequence[ServiceDescriptor], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these services.

    Args:
        services: The services; what they hold besides follows from them.
        version: The version of what serves them.
    """
    ways = bindings_of(services)
    paths: dict[str, dict[str, Any]] = {}
    for each in ways:
        paths.setdefault(re.sub(r"=[^}]*", "", each.path), {})[each.http_method.lower()] = operation_of(each)
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
            "parameters": PARAMETERS,
            "headers": refusals.HEADERS,
            "responses": refusals.responses(),
            "schemas": dict(sorted(_schemas(ways).items())),
        },
    }


def _schemas(ways: Sequence[Binding]) -> dict[str, Schema]:
    """Every schema that an operation names, and all that these name."""
    given = schemas.reachable([held for each in ways for held in _given(each)])
    answered = schemas.reachable([held for each in ways for held in _answered(each)])
    made = {each.name: schemas.of_message(each, given=True) for each in given}
    made |= {each.name: schemas.of_message(each, given=False) for each in answered}
    made |= {each.name: schemas.of_enum(each) for each in schemas.enums_of([*given, *answered, *_requests(ways)])}
    for each in ways:
        without = elsewhere(each)
        if each.body == ALL and without:
            made[body_name(each)] = schemas.of_message(each.rpc.input_type, given=True, without=without)
    return made | refusals.SCHEMAS


def _requests(ways: Sequence[Binding]) -> list[Descriptor]:
    return [each.rpc.input_type for each in ways]


def _given(way: Binding) -> list[Descriptor]:
    """The messages that a caller writes as JSON."""
    request, without = way.rpc.input_type, elsewhere(way)
    if way.body == ALL and not without:
        return [request]
    named = request.fields if way.body == ALL else [request.fields_by_name[way.body]] if way.body else []
    return [held for field in named if field.name not in without for held in schemas.held_by(field)]


def _answered(way: Binding) -> list[Descriptor]:
    """The messages that an answer holds."""
    response = way.rpc.output_type
    return [*schemas.held_by(response.fields_by_name[way.response_body])] if way.response_body else [response]
