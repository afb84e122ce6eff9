"""What can go wrong, as exceptions of our own: no error of grpc's ever reaches the caller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field.

    Attributes:
        field: Its path, `metadata.plan`.
        description: What is wrong with it.
    """

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one row of a batch failed: what the error of a call of its own would say.

    Attributes:
        reason: Why, as one word of the service's catalogue (`GUARD_REFUSED`).
        message: One sentence for a person.
        metadata: Facts that go with the reason, such as `rule`.
    """

    reason: str
    message: str
    metadata: dict[str, str]


class MultimailError(Exception):
    """Any failure of a call.

    Attributes:
        reason: Why, as one word of the service's catalogue (`CONTACT_NOT_FOUND`), or `CONNECTION` when it was not
            reached.
        hint: What to do next, in a sentence; may be empty.
        metadata: Facts that go with the reason, such as `contact_id`.
        violations: The bad fields of an InvalidArgumentError.
        retry_after: Seconds after which to come back; None when the service did not say.
        request_id: What makes the failed call repeatable, also where the client minted it: the same call with
            `request_id=error.request_id` happens once, however often it is made. Empty for reads.
        log_id: Under which the service's log knows the call; empty when the service did not answer.
        resource_type: What is not there or there already, `multimail.v1.Contact`; empty when it is not about that.
        resource_name: The id of what is there already, where the service tells it.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        hint: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after: float | None = None,
        request_id: str = "",
        log_id: str = "",
        resource_type: str = "",
        resource_name: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.hint = hint
        self.metadata = dict(metadata or {})
        self.violations = list(violations)
        self.retry_after = retry_after
        self.request_id = request_id
        self.log_id = log_id
        self.resource_type = resource_type
        self.resource_name = resource_name

    def __str__(self) -> str:
        """The message; where it is not the service's, which gives advice itself, the hint behind it."""
        return self.message if self.log_id or not self.hint else f"{self.message.rstrip('.')}. {self.hint}"


class InvalidArgumentError(MultimailError):
    """A field does not hold what it must; see `violations`."""


class UnauthenticatedError(MultimailError):
    """The API key is missing, unknown or revoked."""


class PermissionDeniedError(MultimailError):
    """The API key lacks a scope."""


class NotFoundError(MultimailError):
    """There is no such thing in this account."""


class AlreadyExistsError(MultimailError):
    """The address is taken."""


class AbortedError(MultimailError):
    """Somebody else was first: the etag is outdated, or there was contention."""


class FailedPreconditionError(MultimailError):
    """The mailbox's mode, or the state of things, forbids it."""


class GuardRefusedError(FailedPreconditionError):
    """The guard of a send refused it; nothing was sent.

    `retry_after` tells when to come back where that can be told.
    """

    @property
    def rule(self) -> str:
        """The field of the guard that refused, such as `not_contacted_within`; `filter` for its filters."""
        return self.metadata.get("rule", "")

    @property
    def email_id(self) -> str:
        """The earlier mail that stands in the way; empty when there is none."""
        return self.metadata.get("email_id", "")

    @property
    def thread_id(self) -> str:
        """The conversation it belongs to; empty when there is none."""
        return self.metadata.get("thread_id", "")

    @property
    def agent(self) -> str:
        """The agent that sent it; empty when there is none."""
        return self.metadata.get("agent", "")

    @property
    def retry_time(self) -> datetime | None:
        """When to come back, in UTC; None when that cannot be told."""
        told = self.metadata.get("retry_time")
        return datetime.fromisoformat(told) if told else None


class ResourceExhaustedError(MultimailError):
    """Too fast, or the service is too busy; see `retry_after`."""


class UnavailableError(MultimailError):
    """The service, or its database, cannot be reached."""


class DeadlineExceededError(MultimailError):
    """The call took longer than its timeout."""


class CancelledError(MultimailError):
    """The call was cancelled, for instance because the client was closed meanwhile."""


class UnimplementedError(MultimailError):
    """The service does not know this call; it may be older than this client."""


class InternalError(MultimailError):
    """Something went wrong inside the service; its log tells more under `log_id`."""


_CODE = grpc.StatusCode
BY_CODE: dict[grpc.StatusCode, type[MultimailError]] = {
    _CODE.CANCELLED: CancelledError,
    _CODE.UNKNOWN: InternalError,
    _CODE.INVALID_ARGUMENT: InvalidArgumentError,
    _CODE.DEADLINE_EXCEEDED: DeadlineExceededError,
    _CODE.NOT_FOUND: NotFoundError,
    _CODE.ALREADY_EXISTS: AlreadyExistsError,
    _CODE.PERMISSION_DENIED: PermissionDeniedError,
    _CODE.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    _CODE.FAILED_PRECONDITION: FailedPreconditionError,
    _CODE.ABORTED: AbortedError,
    _CODE.OUT_OF_RANGE: InvalidArgumentError,
    _CODE.UNIMPLEMENTED: UnimplementedError,
    _CODE.INTERNAL: InternalError,
    _CODE.UNAVAILABLE: UnavailableError,
    _CODE.DATA_LOSS: InternalError,
    _CODE.UNAUTHENTICATED: UnauthenticatedError,
}
# The same for each reason: a row of a batch is refused with a reason alone. Those callers act on have their own.
BY_REASON: dict[str, type[MultimailError]] = {
    "INVALID_FIELD": InvalidArgumentError,
    "INVALID_FILTER": InvalidArgumentError,
    "INVALID_PAGE_TOKEN": InvalidArgumentError,
    "MALFORMED_REQUEST": InvalidArgumentError,
    "REQUEST_ID_REUSED": InvalidArgumentError,
    "KEY_MISSING": UnauthenticatedError,
    "KEY_INVALID": UnauthenticatedError,
    "SCOPE_MISSING": PermissionDeniedError,
    "CONTACT_NOT_FOUND": NotFoundError,
    "MAILBOX_NOT_FOUND": NotFoundError,
    "EMAIL_NOT_FOUND": NotFoundError,
    "THREAD_NOT_FOUND": NotFoundError,
    "SUPPRESSION_NOT_FOUND": NotFoundError,
    "ATTACHMENT_NOT_FOUND": NotFoundError,
    "CONTACT_EXISTS": AlreadyExistsError,
    "ADDRESS_TAKEN": AlreadyExistsError,
    "ETAG_MISMATCH": AbortedError,
    "CONTENTION": AbortedError,
    "MODE_FORBIDS": FailedPreconditionError,
    "MODE_NOT_AVAILABLE": FailedPreconditionError,
    "STATE_FORBIDS": FailedPreconditionError,
    "SUPPRESSED": FailedPreconditionError,
    "CONTENT_CHANGED": FailedPreconditionError,
    "POSITION_TOO_OLD": FailedPreconditionError,
    "FILTER_TOO_BROAD": FailedPreconditionError,
    "GUARD_REFUSED": GuardRefusedError,
    "RATE_LIMITED": ResourceExhaustedError,
    "TOO_BUSY": ResourceExhaustedError,
    "CONVERSATION_TOO_FAST": ResourceExhaustedError,
    "ENGINE_UNAVAILABLE": UnavailableError,
    "OUTCOME_UNKNOWN": UnavailableError,
    "SHUTTING_DOWN": UnavailableError,
    "OUT_OF_TIME": DeadlineExceededError,
    "METHOD_UNKNOWN": UnimplementedError,
    "INTERNAL": InternalError,
}
_HINTS = {
    _CODE.UNAUTHENTICATED: "Give a key with api_key= or MULTIMAIL_API_KEY; `multimail-server keys create` makes one.",
    _CODE.PERMISSION_DENIED: "Use a key that has the scope.",
    _CODE.ABORTED: "Read it again, then decide again.",
    _CODE.DEADLINE_EXCEEDED: "Give it more timeout=.",
}


def error_from(
    code: grpc.StatusCode, details: str, trailing: Iterable[tuple[str, str | bytes]], unreached: str, request_id: str
) -> MultimailError:
    """The exception for a failed call.

    Args:
        code: Its status code.
        details: Its status message.
        trailing: Its trailing metadata.
        unreached: The hint for a call that nobody answered.
        request_id: What makes it repeatable; empty for a read.
    """
    values = dict(trailing)
    status = status_pb2.Status()
    raw = values.get("grpc-status-details-bin", b"")
    if isinstance(raw, bytes):
        status.ParseFromString(raw)
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    resource = error_details_pb2.ResourceInfo()
    for detail in status.details:
        for message in (info, bad, retry, resource):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    log_id = values.get("x-request-id", "")
    return BY_REASON.get(info.reason, BY_CODE[code])(
        status.message or details or code.name,
        reason=info.reason or ("CONNECTION" if code is _CODE.UNAVAILABLE else code.name),
        hint=_hint(code, info.reason, unreached, request_id),
        metadata=info.metadata,
        violations=[Violation(each.field, each.description) for each in bad.field_violations],
        retry_after=retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
        request_id=request_id,
        log_id=log_id if isinstance(log_id, str) else "",
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )


def error_of(refusal: Refusal) -> MultimailError:
    """The exception for a row that was refused."""
    kind = BY_REASON.get(refusal.reason, MultimailError)
    return kind(refusal.message, reason=refusal.reason, metadata=refusal.metadata)


def _hint(code: grpc.StatusCode, reason: str, unreached: str, request_id: str) -> str:
    if code is _CODE.UNAVAILABLE and not reason:
        return unreached
    if code is _CODE.DEADLINE_EXCEEDED and request_id:
        return f"It may have happened; repeat it with request_id={request_id!r}, so that it happens once."
    return _HINTS.get(code, "")
