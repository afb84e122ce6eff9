"""What goes wrong, as HTTP tells it: `{"error": {code, message, status, details}}` under the right status."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from starlette.exceptions import HTTPException
from starlette.responses import Response

from multimail_server.errors import DomainError, Reason
from multimail_server.gateway.shown import json_bytes, shown
from multimail_server.rpc.status import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODE = grpc.StatusCode
HTTP_STATUSES = {
    _CODE.INVALID_ARGUMENT: 400,
    _CODE.FAILED_PRECONDITION: 400,
    _CODE.OUT_OF_RANGE: 400,
    _CODE.UNAUTHENTICATED: 401,
    _CODE.PERMISSION_DENIED: 403,
    _CODE.NOT_FOUND: 404,
    _CODE.ALREADY_EXISTS: 409,
    _CODE.ABORTED: 409,
    _CODE.RESOURCE_EXHAUSTED: 429,
    _CODE.CANCELLED: 499,
    _CODE.UNIMPLEMENTED: 501,
    _CODE.UNAVAILABLE: 503,
    _CODE.DEADLINE_EXCEEDED: 504,
}
_BY_NUMBER = {code.value[0]: code for code in _CODE}
CUT = DomainError(
    Reason.OUTCOME_UNKNOWN,
    "The service stopped while it worked on this, which may or may not have happened; repeat it with the same "
    "Idempotency-Key.",
    retry_after_s=1,
)
# What is said when the call did not come to an answer of the service's own.
_UNANSWERED = {
    _CODE.DEADLINE_EXCEEDED: DomainError(
        Reason.OUT_OF_TIME,
        "The call took too long; a change may or may not have happened: repeat it with the same Idempotency-Key.",
    ),
    _CODE.UNAVAILABLE: CUT,
    _CODE.RESOURCE_EXHAUSTED: DomainError(
        Reason.MALFORMED_REQUEST, "The request, or its answer, is larger than 16 MiB; ask for less at once."
    ),
}


class RequestError(Exception):
    """A request that HTTP itself refuses, before it is a call.

    Args:
        status: The HTTP status.
        message: One sentence for a person, saying what to do next.
        reason: Why, as one value of the catalogue.
        headers: Headers that go with the status.
    """

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        reason: Reason = Reason.MALFORMED_REQUEST,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = DomainError(reason, message)
        self.headers = dict(headers or {})


class Failure:
    """How a failed request is answered.

    Attributes:
        status: The HTTP status.
        reason: Why, for the log.
        body: The answer as plain data.
        headers: Headers that go with it.
    """

    def __init__(
        self, told: status_pb2.Status, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        code = _BY_NUMBER.get(told.code, _CODE.UNKNOWN)
        self.status = status or HTTP_STATUSES.get(code, 500)
        name = "NOT_FOUND" if self.status == HTTPStatus.NOT_FOUND else code.name
        details = [shown(each) for each in told.details]
        self.reason = str(details[0].get("reason", "")) if details else ""
        self.body = {"error": {"code": self.status, "message": told.message, "status": name, "details": details}}
        self.headers = dict(headers or {})
        if self.status == HTTPStatus.UNAUTHORIZED:
            self.headers["www-authenticate"] = 'Bearer realm="multimail"'
        retry = error_details_pb2.RetryInfo()
        for each in told.details:
            if each.Unpack(retry):
                self.headers["retry-after"] = str(max(1, math.ceil(retry.retry_delay.ToMilliseconds() / 1000)))

    def response(self) -> Response:
        """The whole answer."""
        return Response(json_bytes(self.body), self.status, self.headers, "application/json")


def refusal(error: DomainError, status: int | None = None, headers: Mapping[str, str] | None = None) -> Failure:
    """How a refusal of our own is answered."""
    return Failure(status_of(error), status, headers)


def failure_of(error: BaseException) -> Failure | None:
    """How this error is answered; None when it is no refusal but a fault of ours."""
    if isinstance(error, DomainError):
        return refusal(error)
    if isinstance(error, RequestError):
        return refusal(error.error, error.status, error.headers)
    if isinstance(error, grpc.aio.AioRpcError):
        return Failure(_told(error))
    if isinstance(error, HTTPException):
        refused = RequestError(HTTPStatus(error.status_code), f"{error.detail}.", Reason.METHOD_UNKNOWN, error.headers)
        return failure_of(refused)
    return None


def fault(request_id: str) -> Failure:
    """How a fault of ours is answered."""
    message = f"Something went wrong inside; the log tells more under request id {request_id}."
    return refusal(DomainError(Reason.INTERNAL, message, metadata={"request_id": request_id}))


def _told(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """What the service told of a failed call."""
    trailing: Any = error.trailing_metadata() or ()
    for name, value in trailing:
        if name == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    unanswered = _UNANSWERED.get(error.code())
    if unanswered is not None:
        return status_of(unanswered)
    return status_pb2.Status(code=error.code().value[0], message="The call failed; the service's log tells more.")
