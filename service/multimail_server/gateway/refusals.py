"""The answers of refused calls for the HTTP reference: a schema, and for each status its reasons with a sample each."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import grpc

from multimail.v1 import error_reason_pb2
from multimail_server.errors import Reason
from multimail_server.gateway.words import comment_of_value
from multimail_server.rpc.status import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = grpc.StatusCode
HTTP_STATUS = {
    _CODE.INVALID_ARGUMENT: 400,
    _CODE.FAILED_PRECONDITION: 400,
    _CODE.UNAUTHENTICATED: 401,
    _CODE.PERMISSION_DENIED: 403,
    _CODE.NOT_FOUND: 404,
    _CODE.ALREADY_EXISTS: 409,
    _CODE.ABORTED: 409,
    _CODE.RESOURCE_EXHAUSTED: 429,
    _CODE.INTERNAL: 500,
    _CODE.UNIMPLEMENTED: 501,
    _CODE.UNAVAILABLE: 503,
    _CODE.DEADLINE_EXCEEDED: 504,
}
