"""One change of one account: what it must see, the rule that decides it, and how a repetition is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from multimail_server.storage.documents import SERVICE, Actor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multimail_server.storage.documents import Document, Draft, Need

T = TypeVar("T")


class Operation(NamedTuple, Generic[T]):
    """One change of one account.

    A named tuple, as what else each call makes: they are made in a quarter of a frozen dataclass's time.

    Attributes:
        account: Whose documents it changes.
        method: The RPC or job it belongs to.
        needs: The documents its rule must see.
        rule: Decides in memory only: reads and changes the draft, returns the answer or raises a DomainError, upon
            which nothing of it happens. It may run several times, each time on fresh documents.
        actor: Who asks.
        request_id: Makes it repeatable; empty when the caller gave none.
        fingerprint: Digest of the request's content, to tell a repetition from a reuse of the id.
        replay: Rebuilds the answer of a repetition from the current documents and the outcome the first run noted.
        size: The request's size in bytes.
        dry: Only the answer is wanted: whatever the rule did or noted is dropped.
        patient: It is one of many rows: changes that somebody waits for go first.
    """

    account: str
    method: str
    needs: tuple[Need, ...]
    rule: Callable[[Draft], T]
    actor: Actor = SERVICE
    request_id: str = ""
    fingerprint: str = ""
    replay: Callable[[Draft, Document], T] | None = None
    size: int = 256
    dry: bool = False
    patient: bool = False


class Request(NamedTuple):
    """What every changing call brings along.

    Attributes:
        account: Whose documents it changes.
        method: The RPC's name.
        actor: Who asks.
        request_id: Makes it repeatable; may be empty.
        fingerprint: Digest of its content, when there is a request_id.
        size: Its size in bytes.
        patient: As in Operation.
    """

    account: str
    method: str
    actor: Actor
    request_id: str = ""
    fingerprint: str = ""
    size: int = 256
    patient: bool = False

    def row(self, number: int) -> Request:
        """The request of one row of this batch: told from others by its number, behind a space that no caller has."""
        return self._replace(request_id=f"{self.request_id} {number}") if self.request_id else self

    def question(self, needs: Sequence[Need], rule: Callable[[Draft], T]) -> Operation[T]:
        """The operation that only answers what `rule` would do for this request."""
        return Operation(self.account, self.method, tuple(needs), rule, self.actor, size=self.size, dry=True)

    def operation(
        self, needs: Sequence[Need], rule: Callable[[Draft], T], replay: Callable[[Draft, Document], T]
    ) -> Operation[T]:
        """The operation that runs `rule` for this request, and `replay` for its repetitions."""
        return Operation(
            account=self.account,
            method=self.method,
            needs=tuple(needs),
            rule=rule,
            actor=self.actor,
            request_id=self.request_id,
            fingerprint=self.fingerprint,
            replay=replay,
            size=self.size,
            patient=self.patient,
        )
