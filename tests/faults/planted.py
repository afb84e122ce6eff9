"""Faults planted into the service by the tests' own entry module, to show that the checks would notice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from multimail_server.mail import accepting, reporting, states, waiting
from multimail_server.mail import guard as guard_rules
from multimail_server.mail.outbox import LEASE, Outbox
from multimail_server.mail.store import NO_GUARD, MailStore
from multimail_server.mail.suppressions import SuppressionStore
from multimail_server.storage import commit
from multimail_server.storage.commit import Committer
from multimail_server.storage.mongo import Database

if TYPE_CHECKING:
    from collections.abc import Callable

# How long a fault leaves open the window through which harm comes.
_WINDOW_S = 0.4


def no_dot_mark() -> None:
    """The content goes out without a mark on disk."""

    async def mark(*_: Any) -> bool:
        return True

    Outbox._mark_dot = mark  # type: ignore[method-assign]


def lease_by_local_clock() -> None:
    """Leases go by the clock of a machine that is ten minutes ahead."""
    original = Outbox._step

    class Ahead:
        def __init__(self, database: Database) -> None:
            self._database = database

        def __getattr__(self, name: str) -> Any:
            return getattr(self._database, name)

        async def now(self) -> Any:
            return await self._database.now() + timedelta(minutes=10)

    async def step(self: Any) -> bool:
        if not isinstance(self._database, Ahead):
            self._database = Ahead(self._database)
        return await original(self)

    Outbox._step = step  # type: ignore[method-assign]


def leases_ignored() -> None:
    """Whoever finds a mail that is not settled hands it over, whether somebody else is at it or not."""

    async def step(self: Any) -> bool:
        for state in ("queued", "sending"):
            for found in await self._database.find("emails", {"state": state}, projection={"_id": 1}):
                if found["_id"] not in self._under_way:
                    task = asyncio.create_task(self._deliver(found["_id"], 0))
                    self._under_way[found["_id"]] = task
                    task.add_done_callback(partial(self._finished, found["_id"]))
        return False

    async def lease(self: Any, email_id: str, _: int, token: str) -> bool:
        taken = {"state": "sending", "due_at": await self._database.now() + LEASE, "lease": {"token": token}}
        await self._database.update_one("emails", {"_id": email_id}, {"$set": taken, "$inc": {"attempts": 1}})
        return True

    async def ours(self: Any, email_id: str, _: str) -> Any:
        return (await self._database.find("emails", {"_id": email_id}, projection={"raw": 0}))[0]

    Outbox._step, Outbox._lease, Outbox._ours = step, lease, ours  # type: ignore[method-assign]


def dot_mark_without_fence() -> None:
    """The dot mark asks neither for the fence nor for the state."""

    async def mark(self: Any, email_id: str, index: int, _: str) -> bool:
        await self._database.update_one("emails", {"_id": email_id}, {"$set": {f"recipients.{index}.dot": True}})
        return True

    Outbox._mark_dot = mark  # type: ignore[method-assign]


def cancel_without_fence() -> None:
    """Cancelling writes over whatever is there, beside the account's commits."""

    async def cancel(self: Any, request: Any, email_id: str) -> Any:
        change = {"state": "cancelled", "recipients.0.state": "cancelled", "lease": None}
        await self._database.update_one("emails", {"_id": email_id}, {"$set": change})
        return await self._views.get(request.account, email_id)

    MailStore.cancel = cancel  # type: ignore[method-assign]


def approval_without_hash() -> None:
    """An approval is for whatever the mail says by then."""
    original = waiting._to_decide

    def to_decide(draft: Any, email_id: str, _: str) -> Any:
        return original(draft, email_id, waiting._seen(draft, email_id)["content_sha256"])

    waiting._to_decide = to_decide


def approval_counts_twice() -> None:
    """A mail that was decided about can be decided about again."""
    waiting._to_decide = lambda draft, email_id, _: waiting._seen(draft, email_id)


def _answering_early(*, written: bool) -> None:
    """Callers are answered before their group's writes, or after these and before the commit."""

    async def attempts(self: Any, account: str, lane: Any, group: Any, session: Any) -> None:
        await session.begin()
        documents = await self._open(account, session)
        await self._load(documents, group, session)
        first = documents.seq
        results = [self._apply(documents, waiting.operation) for waiting in group]
        if written:
            await self._write(documents, first, session)
        commit._answer(lane, group, results)
        await asyncio.sleep(_WINDOW_S)
        if not written:
            await self._write(documents, first, session)
        await session.commit()
        self._committed(account, documents.seq)

    Committer._attempts = attempts  # type: ignore[method-assign]


def ok_before_write() -> None:
    """OK is said before anything is written."""
    _answering_early(written=False)


def answer_before_commit() -> None:
    """A group's callers are answered before it commits."""
    _answering_early(written=True)


def reads_outside_without_pin() -> None:
    """Documents are read before the transaction, and the account's number is counted up instead of pinned."""

    async def attempt(self: Any, account: str, group: Any, session: Any, _: Any) -> list[Any]:
        documents = await self._open(account, None)
        await self._load(documents, group, None)
        read = documents.seq
        results = [self._apply(documents, waiting.operation) for waiting in group]
        await asyncio.sleep(0.05)
        await session.begin()
        try:
            now = (await self._database.find("accounts", {"_id": account}, session=session))[0]["seq"]
            documents.seq += now - read
            for note in documents.notifications:
                seq = note["seq"] + now - read
                if note["request_id"] == f"{account} {note['seq']}":
                    note["request_id"] = f"{account} {seq}"
                note |= {"_id": f"{account}/{seq}", "seq": seq}
            await self._write(documents, now, session)
        except BaseException:
            await session.abort()
            raise
        await session.commit()
        return results

    Committer._attempt = attempt  # type: ignore[method-assign]


def guard_outside_operation() -> None:
    """The guard looks at the contact before the operation, not inside it."""
    original = MailStore.send

    async def send(
        self: Any, request: Any, mailbox: Any, targets: Any, message: Any, *, guard: Any, **more: Any
    ) -> Any:
        where = {"account": request.account, "email_keys": targets[0].address.key}
        contact = next(iter(await self._database.find("contacts", where)), None)
        now = await self._database.now()
        refused = guard_rules.refusal(guard, contact, [], account=request.account, now=now)
        if refused is not None:
            raise refused
        return await original(self, request, mailbox, targets, message, guard=NO_GUARD, **more)

    MailStore.send = send  # type: ignore[method-assign]


def reports_count_twice() -> None:
    """A report that comes again is one more."""
    original = reporting.with_event

    def with_event(email: Any, index: int, event: Any) -> Any:
        changed = original(email | {"events": []}, index, event)
        return changed | {"events": [*email["events"], *changed["events"]]}

    reporting.with_event = with_event


def suppression_ignored() -> None:
    """Nobody asks who must not be written to."""

    async def suppressed(*_: Any) -> bool:
        return False

    accepting.suppression_of = lambda *_: None
    SuppressionStore.suppressed = suppressed  # type: ignore[method-assign]


def notifications_outside_commit() -> None:
    """Notifications are written some time after their commit."""
    original = Database.insert_many
    later: set[asyncio.Task[None]] = set()

    async def insert_many(self: Any, collection: str, rows: Any, **more: Any) -> Any:
        if collection != "notifications":
            return await original(self, collection, rows, **more)

        async def write() -> None:
            await asyncio.sleep(_WINDOW_S)
            await original(self, collection, rows)

        later.add(asyncio.create_task(write()))
        return None

    Database.insert_many = insert_many  # type: ignore[method-assign]


def request_id_forgotten() -> None:
    """A repeated request is a new one."""
    original = Committer.run

    async def run(self: Any, operation: Any) -> Any:
        return await original(self, operation._replace(request_id="", replay=None))

    Committer.run = run  # type: ignore[method-assign]


def doubt_is_success() -> None:
    """A hand-over whose answer was lost counts as done."""
    original = states.with_outcome

    def with_outcome(email: Any, index: int, state: str, response: str, now: Any) -> Any:
        return original(email, index, "accepted" if state == "in_doubt" else state, response, now)

    states.with_outcome = with_outcome


FAULTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        no_dot_mark,
        lease_by_local_clock,
        leases_ignored,
        dot_mark_without_fence,
        cancel_without_fence,
        approval_without_hash,
        approval_counts_twice,
        ok_before_write,
        answer_before_commit,
        reads_outside_without_pin,
        guard_outside_operation,
        reports_count_twice,
        suppression_ignored,
        notifications_outside_commit,
        request_id_forgotten,
        doubt_is_success,
    )
}
