"""The answers of refused calls for the HTTP reference: a schema, and for each status its reasons with a sample each."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from multimail.v1 import error_reason_pb2
from multimail_server.errors import Reason
from multimail_server.gateway.failures import HTTP_STATUSES
from multimail_server.gateway.openapi.schemas import Schema, ref
from multimail_server.gateway.openapi.words import comment_of_value
from multimail_server.rpc.status import CODES

# What is refused before it is a call, whatever the code of its reason.
_OF_HTTP_ITSELF = {408: Reason.OUT_OF_TIME, 413: Reason.MALFORMED_REQUEST, 415: Reason.MALFORMED_REQUEST}
_REQUEST_ID = {"$ref": "#/components/headers/x-request-id"}
_RETRY_AFTER = {"$ref": "#/components/headers/Retry-After"}
HEADERS: dict[str, Any] = {
    "x-request-id": {
        "description": "Names this call in the service's log; quote it when you ask somebody about it.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "After how many seconds to come back.", "schema": {"type": "integer"}},
}
SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "description": "A refused call.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "description": "Why it was refused, as google.rpc.Status says it.",
                "required": ["code", "message", "status", "details"],
                "properties": {
                    "code": {"type": "integer", "description": "The HTTP status."},
                    "message": {"type": "string", "description": "One sentence for a person: what to do next."},
                    "status": {
                        "type": "string",
                        "description": "The gRPC code.",
                        "enum": sorted({code.name for code in CODES.values()}),
                    },
                    "details": {
                        "type": "array",
                        "description": "Facts for a program: one ErrorInfo with the reason, and a BadRequest or "
                        "RetryInfo where they fit.",
                        "items": ref("ErrorDetail"),
                    },
                },
            }
        },
    },
    "ErrorDetail": {
        "type": "object",
        "description": "One fact about a refused call; `@type` says which fields it has.",
        "required": ["@type"],
        "properties": {
            "@type": {
                "type": "string",
                "description": "The message it is, such as `type.googleapis.com/google.rpc.ErrorInfo`.",
            },
            "reason": {
                "type": "string",
                "description": "Of an ErrorInfo: why, as one of the words that each status lists.",
            },
            "domain": {"type": "string", "description": "Of an ErrorInfo: `multimail`."},
            "metadata": {
                "type": "object",
                "description": "Of an ErrorInfo: facts that go with the reason.",
                "additionalProperties": {"type": "string"},
            },
            "field_violations": {
                "type": "array",
                "description": "Of a BadRequest: every bad field.",
                "items": {
                    "type": "object",
                    "description": "One bad field.",
                    "properties": {
                        "field": {"type": "string", "description": "Its path in the request."},
                        "description": {"type": "string", "description": "What is wrong with it."},
                    },
                },
            },
            "retry_delay": {"type": "string", "description": "Of a RetryInfo: when to come back, such as `1.500s`."},
        },
    },
}


def responses() -> dict[str, Any]:
    """The answer for each status, by the name that `refused_with` gives it."""
    found: dict[int, list[Reason]] = {status: [reason] for status, reason in _OF_HTTP_ITSELF.items()}
    for reason in Reason:
        found.setdefault(_status_of(reason), []).append(reason)
    return {_name(status): _response(status, found[status]) for status in sorted(found)}


def refused_with(*, changes: bool, has_body: bool) -> dict[str, Any]:
    """The answers that a call can be refused with, by status.

    Args:
        changes: Whether it changes anything; reads meet no conflict.
        has_body: Whether it has a body, which can be too large or no JSON.
    """
    statuses = {_status_of(reason) for reason in Reason}
    if not changes:
        statuses.discard(409)
    if has_body:
        statuses |= {*_OF_HTTP_ITSELF}
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(statuses)}


def _status_of(reason: Reason) -> int:
    return HTTP_STATUSES.get(CODES[reason], 500)


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _response(status: int, reasons: list[Reason]) -> dict[str, Any]:
    lines = [f"- `{reason}`: {_meaning(reason)}" for reason in reasons]
    return {
        "description": "\n".join([f"{HTTPStatus(status).phrase}. Reasons:", "", *lines]),
        "headers": {"x-request-id": _REQUEST_ID} | ({"Retry-After": _RETRY_AFTER} if status in (429, 503) else {}),
        "content": {
            "application/json": {
                "schema": ref("Error"),
                "examples": {reason.value: {"value": _example(status, reason)} for reason in reasons},
            }
        },
    }


def _comment(reason: Reason) -> tuple[str, dict[str, Any]]:
    """What the proto says of a reason, and its sample."""
    value = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name[f"ERROR_REASON_{reason}"]
    words, _, sample = comment_of_value(value).partition("\n\n")
    return " ".join(words.split()), json.loads(sample)


def _meaning(reason: Reason) -> str:
    return _comment(reason)[0].removesuffix(f" {CODES[reason].name}.")


def _example(status: int, reason: Reason) -> dict[str, Any]:
    words, sample = _comment(reason)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **sample}
    first = words.split(". ")[0] + "."
    return {"error": {"code": status, "message": first, "status": CODES[reason].name, "details": [info]}}
