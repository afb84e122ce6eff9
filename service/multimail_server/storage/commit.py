"""Commit groups: the changes of one account that wait together are one transaction, numbered without gaps."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from multimail_server.errors import DomainError, Reason
from multimail_server.storage.documents import Documents, Draft, MoreNeededError, Need
from multimail_server.storage.gather import FULL, current_asker, gathered
from multimail_server.storage.mongo import ConflictError, OutcomeUnknownError, WriteRefusedError
from multimail_server.storage.writes import account_pin, oversized, writes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from multimail_server.storage.mongo import Database, Document, Session
    from multimail_server.storage.operation import Operation, Request
    from multimail_server.storage.processes import Process

T = TypeVar("T")

log = logging.getLogger("multimail.commit")

ROOM_FOR_ROWS = 64  # of a group, however many others wait: an import ends too
MAX_REQUEST_BYTES = 4 << 20
_GIVE_UP_S = 8.0
_GIVE_UP_UNKNOWN_S = 20.0
_TURN_AFTER_MISSES = 2
_MOST_ROUNDS = 16  # a rule that asks for more documents than that never ends
# What groups never load: arrays that only grow, and texts that no rule decides by.
_LEFT_OUT: dict[str, dict[str, int]] = {
    "contacts": {"interactions": 0},
    "emails": {"body": 0, "raw": 0},
}


@dataclass(slots=True)
class _Waiting:
    """An operation, where its answer goes, whose it is, and how often it asked for more documents."""

    operation: Operation[Any]
    answer: asyncio.Future[Any]
    asker: object
    rounds: int = 0


@dataclass(slots=True)
class _Attempt:
    """A group that was sent to commit and whose outcome is not known yet."""

    group: str
    first_seq: int
    results: list[Any]


@dataclass(slots=True)
class _Lane:
    """One account's operations, in order of arrival: those that somebody waits for, and rows of batches and imports."""

    queue: deque[_Waiting] = field(default_factory=deque)
    patient: deque[_Waiting] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self.queue) + len(self.patient)

    def __iter__(self) -> Iterator[_Waiting]:
        return itertools.chain(self.queue, self.patient)

    def of(self, operation: Operation[Any]) -> deque[_Waiting]:
        """The queue the operation belongs into."""
        return self.patient if operation.patient else self.queue


class _NotThere(Exception):  # noqa: N818  a signal inside this module
    """The account has no document."""


class Committer:
    """Runs operations in commit groups, one group per account at a time.

    Atomic: an operation happens whole or not at all, and its answer comes after the commit. Serial: all changes of an
    account happen one after another, whatever process made them. An answer is a DomainError when the rule refused,
    ENGINE_UNAVAILABLE or CONTENTION when nothing happened, OUTCOME_UNKNOWN when that cannot be told.

    Args:
        database: The database.
        process: This process's sessions and neighbours.
        new_id: Makes an id with the given prefix.
        jitter: Returns a random number in [0, 1).
        committed: Told of an account after each commit, and of the account's number then.
    """

    def __init__(
        self,
        database: Database,
        process: Process,
        *,
        new_id: Callable[[str], str],
        jitter: Callable[[], float],
        committed: Callable[[str, int], None],
    ) -> None:
        self._database = database
        self._process = process
        self._new_id = new_id
        self._jitter = jitter
        self._committed = committed
        self._lanes: dict[str, _Lane] = {}

    async def run(self, operation: Operation[T]) -> T:
        """Runs one operation in the account's next group and returns its answer.

        Cancelling the caller drops the operation only while its group has not formed.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(operation, loop.create_future(), current_asker())
        lane = self._lanes.setdefault(operation.account, _Lane())
        lane.of(operation).append(waiting)
        if lane.task is None:
            # An empty context: no caller's deadline reaches a group.
            lane.task = loop.create_task(self._drain(operation.account, lane), context=contextvars.Context())
        return await waiting.answer  # type: ignore[no-any-return]

    async def begin(self, request: Request) -> None:
        """Notes what a batch's request_id stands for, before its rows; REQUEST_ID_REUSED when it stands for another."""
        if request.request_id:
            await self.run(request.operation([], lambda _: None, lambda *_: None))

    async def settle(self, grace_s: float) -> None:
        """Waits until no operation is waiting or under way, at most so many seconds."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)

    async def _drain(self, account: str, lane: _Lane) -> None:
        await gathered(lane)
        while group := _take(lane):
            try:
                async with self._process.session() as session:
                    await self._commit(account, lane, group, session)
            except Exception as error:
                log.exception("a commit group failed")
                _fail(group, error)
            await gathered(lane, answered=group)
        del self._lanes[account]

    async def _commit(self, account: str, lane: _Lane, group: list[_Waiting], session: Session) -> None:
        """Commits the group: whole, or when the engine refuses its content, one operation after the other."""
        try:
            await self._attempts(account, lane, group, session)
        except WriteRefusedError as error:
            log.warning("the engine refused a group of %d, trying one by one: code %s", len(group), error.code)
            for waiting in group:
                try:
                    await self._attempts(account, lane, [waiting], session)
                except WriteRefusedError as refusal:
                    log.exception("the engine refused a change, code %s", refusal.code)
                    _fail([waiting], refusal)

    async def _attempts(self, account: str, lane: _Lane, group: list[_Waiting], session: Session) -> None:
        """Tries to commit until it happened, cannot happen, or time is up, and answers everyone."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        unknown: list[_Attempt] = []
        misses = tries = 0
        while True:
            try:
                if misses >= _TURN_AFTER_MISSES:
                    await self._process.take_turn(account)
                await self._process.stand_back(account)
                results = await self._attempt(account, group, session, unknown)
                break
            except _NotThere:
                return _fail(group, DomainError(Reason.KEY_INVALID, "The key's account no longer exists."))
            except ConflictError:
                misses += 1
                reason = _contention()
            except OutcomeUnknownError as error:
                log.warning("a commit's outcome is unknown, looking: %s", error)
                reason = _outcome_unknown()
            except WriteRefusedError:
                if not unknown:  # else it must first be known whether an earlier attempt happened
                    raise
                reason = _outcome_unknown()
            except DomainError as error:
                reason = error
            tries += 1
            if loop.time() - started > (_GIVE_UP_UNKNOWN_S if unknown else _GIVE_UP_S):
                return _fail(group, _outcome_unknown() if unknown else reason)
            await asyncio.sleep((0.005 + 0.05 * self._jitter()) * min(tries, 8))
        _answer(lane, group, results)
        if misses >= _TURN_AFTER_MISSES:
            await self._process.end_turn(account)
        return None

    async def _attempt(
        self, account: str, group: list[_Waiting], session: Session, unknown: list[_Attempt]
    ) -> list[Any]:
        """One transaction from start to end; returns each operation's answer, error, or MoreNeededError."""
        await session.begin()
        try:
            documents = await self._open(account, session)
            for attempt in unknown:
                if await self._happened(account, attempt, session):
                    await session.commit()
                    return attempt.results
            await self._load(documents, group, session)
            first_seq = documents.seq + 1
            results = [self._apply(documents, waiting.operation) for waiting in group]
            await self._write(documents, first_seq - 1, session)
        except BaseException:
            await session.abort()
            raise
        try:
            await session.commit()
        except OutcomeUnknownError:
            if documents.notifications:
                unknown.append(_Attempt(documents.group, first_seq, results))
            raise
        if documents.notifications:
            self._committed(account, documents.seq)
        return results

    async def _open(self, account: str, session: Session) -> Documents:
        found = await self._database.aggregate(
            "accounts", [{"$match": {"_id": account}}, {"$addFields": {"engine_time": "$$NOW"}}], session=session
        )
        if not found:
            raise _NotThere
        row = found[0]
        return Documents(account, row["seq"], max(row["engine_time"], row["time"]), self._new_id("group"))

    async def _happened(self, account: str, attempt: _Attempt, session: Session) -> bool:
        """Whether an attempt of unknown outcome committed: then its first number bears its group's id."""
        found = await self._database.find(
            "notifications", {"account": account, "seq": attempt.first_seq}, session=session
        )
        return bool(found) and found[0]["group"] == attempt.group

    async def _load(self, documents: Documents, group: Iterable[_Waiting], session: Session) -> None:
        """Reads what the group needs: one query per collection and field."""
        for need in _wanted(waiting.operation for waiting in group):
            where = {need.field: {"$in": list(need.values)}, **dict(need.also)}
            if need.field != "_id":  # an id serves alone; every other index leads with the account
                where = {"account": documents.account, **where}
            found = await self._database.find(
                need.collection, where, projection=_LEFT_OUT.get(need.collection), session=session
            )
            documents.load(need, [d for d in found if _may_see(documents.account, need.collection, d)])

    def _apply(self, documents: Documents, operation: Operation[Any]) -> Any:
        """Runs one rule on what is there now; its effects join the group only when it returns."""
        draft = Draft(documents, operation.actor, operation.method, self._new_id)
        try:
            if operation.request_id and (first := draft.one("notifications", "request_id", operation.request_id)):
                return _repeat(draft, operation, first)
            answer = operation.rule(draft)
            if not operation.dry:
                _keep(documents, draft, operation)
        except DomainError as error:
            if not operation.dry:
                documents.number(draft.refusals)
            return error
        except MoreNeededError as error:
            return error
        except Exception as error:
            log.exception("a rule of %s failed", operation.method)
            return error
        return answer

    async def _write(self, documents: Documents, read_seq: int, session: Session) -> None:
        """Writes the account first, pinned to the number that was read, then everything else."""
        if not documents.notifications:
            return
        if await self._database.update_many("accounts", [account_pin(documents, read_seq)], session=session) != 1:
            raise ConflictError("the account moved")
        for collection, writes in writes_of(documents).items():
            if writes.inserts:
                await self._database.insert_many(collection, writes.inserts, session=session)
            if writes.updates:
                matched = await self._database.update_many(collection, writes.updates, session=session)
                if matched != len(writes.updates):  # a fence moved outside the groups
                    raise ConflictError("a document moved")
            if writes.deletes:
                await self._database.delete_many(collection, writes.deletes, session=session)
        await self._database.insert_many("notifications", documents.notifications, session=session)


def _wanted(operations: Iterable[Operation[Any]]) -> Iterable[Need]:
    """What the operations need, and whether they are repetitions: those of one collection and field as one."""
    together: dict[tuple[str, str, str], tuple[Need, dict[str, None]]] = {}
    for operation in operations:
        known = (Need("notifications", "request_id", (operation.request_id,)),) if operation.request_id else ()
        for need in (*operation.needs, *known):
            key = need.collection, need.field, repr(need.also) if need.also else ""
            together.setdefault(key, (need, {}))[1].update(dict.fromkeys(need.values))
    return [need._replace(values=tuple(values)) for need, values in together.values()]


def _may_see(account: str, collection: str, document: Document) -> bool:
    """Another account's document is as good as none; only addresses are claimed across accounts."""
    return collection == "addresses" or bool(document["account"] == account)


def _keep(documents: Documents, draft: Draft, operation: Operation[Any]) -> None:
    """Makes an operation's effects part of the group, its first notification telling a repetition of the request."""
    if operation.request_id and not draft.notifications:
        draft.notify("unchanged", shown=False)
    if draft.notifications and operation.request_id:
        draft.notifications[0] |= {
            "request_id": operation.request_id,
            "fingerprint": operation.fingerprint,
            "outcome": draft.outcome,
        }
    if draft.notifications and (contacts := [each for name, each in draft.changed if name == "contacts"]):
        draft.notifications[0]["contacts"] = contacts  # who follows contacts looks here
    if oversized(draft, operation.size):
        raise DomainError(Reason.INVALID_FIELD, "The change would make a document larger than 15 MiB.")
    documents.take(draft)


def _repeat(draft: Draft, operation: Operation[T], first: Document) -> T:
    """The answer to a repeated request; refuses the same id with another content."""
    if first.get("fingerprint") != operation.fingerprint or operation.replay is None:
        raise DomainError(
            Reason.REQUEST_ID_REUSED,
            "This request_id was used before with other content; use a new one for a new request.",
            metadata={"request_id": operation.request_id},
        )
    return operation.replay(draft, first["outcome"])


def _take(lane: _Lane) -> list[_Waiting]:
    """The next group: what still has a caller, in order, within the bounds; rows get what room is left, some always."""
    group: list[_Waiting] = []
    kept_for_rows = ROOM_FOR_ROWS if lane.patient else 0
    size = _fill(group, lane.queue, 0, FULL - kept_for_rows)
    _fill(group, lane.patient, size, FULL)
    return group


def _fill(group: list[_Waiting], queue: deque[_Waiting], size: int, most: int) -> int:
    """Moves operations into the group up to a number of them; returns the size of all in bytes."""
    while queue and len(group) < most:
        if queue[0].answer.done():  # cancelled or out of time
            queue.popleft()
            continue
        size += queue[0].operation.size
        if group and size > MAX_REQUEST_BYTES:
            break
        group.append(queue.popleft())
    return size


def _answer(lane: _Lane, group: Sequence[_Waiting], results: Sequence[Any]) -> None:
    """Gives every caller its answer; who needs more documents goes to the head of the queue with that need."""
    again = []
    for waiting, result in zip(group, results, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(result, MoreNeededError) and waiting.rounds < _MOST_ROUNDS:
            operation = waiting.operation._replace(needs=waiting.operation.needs + result.needs)
            again.append(_Waiting(operation, waiting.answer, waiting.asker, waiting.rounds + 1))
        elif isinstance(result, Exception):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)
    for waiting in reversed(again):
        lane.of(waiting.operation).appendleft(waiting)


def _fail(group: Iterable[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


def _contention() -> DomainError:
    return DomainError(
        Reason.CONTENTION, "Other changes of this account came first again and again; try later.", retry_after_s=1
    )


def _outcome_unknown() -> DomainError:
    return DomainError(
        Reason.OUTCOME_UNKNOWN,
        "The database went away while it was writing; repeat the call with the same request_id.",
        retry_after_s=1,
    )
