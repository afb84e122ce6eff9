"""Domain errors on the wire: one table from reason to code, and the details a client can decode."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from multimail_server.errors import Reason

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from multimail_server.errors import DomainError

DOMAIN = "multimail"
_CODE = grpc.StatusCode
CODES = {
    Reason.INVALID_FIELD: _CODE.INVALID_ARGUMENT,
    Reason.INVALID_FILTER: _CODE.INVALID_ARGUMENT,
    Reason.FILTER_TOO_BROAD: _CODE.FAILED_PRECONDITION,
    Reason.INVALID_PAGE_TOKEN: _CODE.INVALID_ARGUMENT,
    Reason.MALFORMED_REQUEST: _CODE.INVALID_ARGUMENT,
    Reason.REQUEST_ID_REUSED: _CODE.INVALID_ARGUMENT,
    Reason.KEY_MISSING: _CODE.UNAUTHENTICATED,
    Reason.KEY_INVALID: _CODE.UNAUTHENTICATED,
    Reason.SCOPE_MISSING: _CODE.PERMISSION_DENIED,
    Reason.CONTACT_NOT_FOUND: _CODE.NOT_FOUND,
    Reason.MAILBOX_NOT_FOUND: _CODE.NOT_FOUND,
    Reason.EMAIL_NOT_FOUND: _CODE.NOT_FOUND,
    Reason.THREAD_NOT_FOUND: _CODE.NOT_FOUND,
    Reason.CONTACT_EXISTS: _CODE.ALREADY_EXISTS,
    Reason.ADDRESS_TAKEN: _CODE.ALREADY_EXISTS,
    Reason.ETAG_MISMATCH: _CODE.ABORTED,
    Reason.CONTENTION: _CODE.ABORTED,
    Reason.MODE_FORBIDS: _CODE.FAILED_PRECONDITION,
    Reason.MODE_NOT_AVAILABLE: _CODE.FAILED_PRECONDITION,
    Reason.STATE_FORBIDS: _CODE.FAILED_PRECONDITION,
    Reason.RATE_LIMITED: _CODE.RESOURCE_EXHAUSTED,
    Reason.TOO_BUSY: _CODE.RESOURCE_EXHAUSTED,
    Reason.ENGINE_UNAVAILABLE: _CODE.UNAVAILABLE,
    Reason.OUTCOME_UNKNOWN: _CODE.UNAVAILABLE,
    Reason.SHUTTING_DOWN: _CODE.UNAVAILABLE,
    Reason.OUT_OF_TIME: _CODE.DEADLINE_EXCEEDED,
    Reason.GUARD_REFUSED: _CODE.FAILED_PRECONDITION,
    Reason.SUPPRESSED: _CODE.FAILED_PRECONDITION,
    Reason.CONVERSATION_TOO_FAST: _CODE.RESOURCE_EXHAUSTED,
    Reason.CONTENT_CHANGED: _CODE.FAILED_PRECONDITION,
    Reason.POSITION_TOO_OLD: _CODE.FAILED_PRECONDITION,
    Reason.SUPPRESSION_NOT_FOUND: _CODE.NOT_FOUND,
    Reason.ATTACHMENT_NOT_FOUND: _CODE.NOT_FOUND,
    Reason.INTERNAL: _CODE.INTERNAL,
    Reason.METHOD_UNKNOWN: _CODE.UNIMPLEMENTED,
}


# What a refusal is about, for ResourceInfo; each with the metadata that holds its id, where it is known.
_RESOURCES = {
    Reason.CONTACT_NOT_FOUND: ("multimail.v1.Contact", ""),
    Reason.CONTACT_EXISTS: ("multimail.v1.Contact", "contact_id"),
    Reason.MAILBOX_NOT_FOUND: ("multimail.v1.Mailbox", ""),
    Reason.ADDRESS_TAKEN: ("multimail.v1.Mailbox", ""),
    Reason.EMAIL_NOT_FOUND: ("multimail.v1.Email", ""),
    Reason.THREAD_NOT_FOUND: ("multimail.v1.Thread", ""),
    Reason.SUPPRESSION_NOT_FOUND: ("multimail.v1.Suppression", ""),
    Reason.ATTACHMENT_NOT_FOUND: ("multimail.v1.Attachment", ""),
}


def status_of(error: DomainError) -> status_pb2.Status:
    """The google.rpc.Status of a refusal, with all its details."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=each.field, description=each.description)
            for each in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.reason in _RESOURCES:
        kind, held_in = _RESOURCES[error.reason]
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=kind, resource_name=error.metadata.get(held_in, ""), description=error.message
            )
        )
    return status_pb2.Status(
        code=CODES[error.reason].value[0], message=error.message, details=[_packed(each) for each in details]
    )


def trailing_metadata(error: DomainError, request_id: str, left_s: float) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a refused call: its google.rpc.Status, the request id, and word for grpc's own retries.

    Args:
        error: Why it is refused.
        request_id: Under which the log knows the call.
        left_s: Seconds until its deadline.
    """
    return (
        ("grpc-status-details-bin", status_of(error).SerializeToString()),
        ("x-request-id", request_id),
        *_pushback(error, left_s),
    )


def _pushback(error: DomainError, left_s: float) -> tuple[tuple[str, str], ...]:
    """When grpc's own retries shall come back; never, when that is past the call's deadline: they would wait for that.

    Source: gRFC A6.
    """
    if error.retry_after_s is None:
        return ()
    soon = error.retry_after_s < left_s
    return (("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1000)) if soon else "-1"),)


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
