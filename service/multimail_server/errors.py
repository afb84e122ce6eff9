"""Domain errors: a reason of the error catalogue and the facts that go with it; nothing here knows grpc."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

T = TypeVar("T")


class Reason(StrEnum):
    """Why a call failed; each value stands in `error_reason.proto` with a sample, as a contract test checks."""

    INVALID_FIELD = "INVALID_FIELD"
    INVALID_FILTER = "INVALID_FILTER"
    FILTER_TOO_BROAD = "FILTER_TOO_BROAD"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105  a reason, not a secret
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    KEY_MISSING = "KEY_MISSING"
    KEY_INVALID = "KEY_INVALID"
    SCOPE_MISSING = "SCOPE_MISSING"
    CONTACT_NOT_FOUND = "CONTACT_NOT_FOUND"
    MAILBOX_NOT_FOUND = "MAILBOX_NOT_FOUND"
    EMAIL_NOT_FOUND = "EMAIL_NOT_FOUND"
    THREAD_NOT_FOUND = "THREAD_NOT_FOUND"
    CONTACT_EXISTS = "CONTACT_EXISTS"
    ADDRESS_TAKEN = "ADDRESS_TAKEN"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    CONTENTION = "CONTENTION"
    MODE_FORBIDS = "MODE_FORBIDS"
    MODE_NOT_AVAILABLE = "MODE_NOT_AVAILABLE"
    STATE_FORBIDS = "STATE_FORBIDS"
    RATE_LIMITED = "RATE_LIMITED"
    TOO_BUSY = "TOO_BUSY"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    OUT_OF_TIME = "OUT_OF_TIME"
    GUARD_REFUSED = "GUARD_REFUSED"
    SUPPRESSED = "SUPPRESSED"
    CONVERSATION_TOO_FAST = "CONVERSATION_TOO_FAST"
    CONTENT_CHANGED = "CONTENT_CHANGED"
    POSITION_TOO_OLD = "POSITION_TOO_OLD"
    SUPPRESSION_NOT_FOUND = "SUPPRESSION_NOT_FOUND"
    ATTACHMENT_NOT_FOUND = "ATTACHMENT_NOT_FOUND"
    INTERNAL = "INTERNAL"
    METHOD_UNKNOWN = "METHOD_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path in the request (`metadata.address.city`) and what is wrong with it."""

    field: str
    description: str


# A refusal is read by people and programs that mend what it names; millions of bad fields would only keep all others
# waiting, and make an answer many times as long as the request.
MAX_VIOLATIONS = 50


class DomainError(Exception):
    """A refusal a caller can act on.

    Args:
        reason: Why, as one value of the catalogue.
        message: One sentence for a person, saying what to do next; it may reach the caller as it is.
        metadata: Facts a program can use; the keys are documented beside the reason in `error_reason.proto`.
        violations: The bad fields, for INVALID_FIELD and INVALID_FILTER.
        retry_after_s: When to come back, in seconds.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


def invalid(violations: Iterable[Violation], reason: Reason = Reason.INVALID_FIELD) -> DomainError:
    """The refusal for bad fields; `violations` must not be empty."""
    found = tuple(violations)
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return DomainError(
        reason,
        f"{first.field}: {first.description}{more}",
        metadata={"violations": str(len(found))},
        violations=found,
    )


def invalid_field(field: str, description: str) -> DomainError:
    """The refusal for one bad field."""
    return invalid([Violation(field, description)])


class Violations:
    """Collects what is wrong with a request, so that all of it is said at once; of very much, the first 50.

    Example:
        problems = Violations()
        with problems.collected():
            address = parse_address(request.email, "email")
        problems.raise_if_any()
    """

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def until_full(self, each: Iterable[T]) -> Iterator[T]:
        """These things, as long as what is wrong with them would be collected."""
        return takewhile(lambda _: len(self.found) < MAX_VIOLATIONS, each)

    def collected(self) -> Self:
        """A context that keeps the violations of a refusal raised inside; every other error passes."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, DomainError) or not error.violations:
            return False
        self.found.extend(error.violations[: MAX_VIOLATIONS - len(self.found)])
        return True

    def add(self, field: str, description: str) -> None:
        """Notes one bad field."""
        if len(self.found) < MAX_VIOLATIONS:
            self.found.append(Violation(field, description))

    def raise_if_any(self, reason: Reason = Reason.INVALID_FIELD) -> None:
        """Raises one refusal naming every bad field, or returns when there is none."""
        if self.found:
            raise invalid(self.found, reason)


_NOUNS = {
    "contact": Reason.CONTACT_NOT_FOUND,
    "mailbox": Reason.MAILBOX_NOT_FOUND,
    "email": Reason.EMAIL_NOT_FOUND,
    "thread": Reason.THREAD_NOT_FOUND,
    "suppression": Reason.SUPPRESSION_NOT_FOUND,
    "attachment": Reason.ATTACHMENT_NOT_FOUND,
}


def not_found(noun: str) -> DomainError:
    """The refusal for a resource that is not there or belongs to another account: the same words for both."""
    return DomainError(_NOUNS[noun], f"No such {noun} in this account.")


def state_forbids(message: str, state: str) -> DomainError:
    """The refusal of what the resource's state does not allow."""
    return DomainError(Reason.STATE_FORBIDS, message, metadata={"state": state})


def etag_mismatch(noun: str, current: str) -> DomainError:
    """The refusal for an outdated etag; `current` is the resource's etag now."""
    return DomainError(
        Reason.ETAG_MISMATCH,
        f"The {noun} changed since it was read; read it again, then decide again.",
        metadata={"etag": current},
    )
