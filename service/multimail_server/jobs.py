"""Work behind the answers that outlives a restart: adopting earlier mail and scrubbing erased people's."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from multimail_server.contacts import erasure
from multimail_server.errors import DomainError
from multimail_server.mail import arriving, states, waiting
from multimail_server.storage.documents import Need
from multimail_server.storage.mongo import up_to
from multimail_server.storage.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from datetime import datetime

    from multimail_server.mail.bounds import Bounds
    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Draft
    from multimail_server.storage.files import Files
    from multimail_server.storage.mongo import Database, Document

log = logging.getLogger("multimail.jobs")

_AT_ONCE = 50
_ADOPT_AT_MOST = 1_000
_AGAIN_AFTER = timedelta(minutes=1)


class Jobs:
    """Does the jobs that are due.

    Two processes at the same job do no harm: every step is an operation that sees what the other did.
    """

    def __init__(self, database: Database, committer: Committer, files: Files, bounds: Bounds) -> None:
        self._database = database
        self._committer = committer
        self._files = files
        self._bounds = bounds

    async def step(self) -> bool:
        """Does one step of each job that is due; returns whether more may be."""
        now = await self._database.now()
        due = await self._database.find("jobs", {"due_at": up_to(now)}, sort=[("due_at", 1)], limit=_AT_ONCE)
        more = await asyncio.gather(*(self._do(job, now) for job in due))
        return any(more) or len(due) == _AT_ONCE

    async def _do(self, job: Document, now: datetime) -> bool:
        """One step of a job; returns whether it has more to do. One that fails makes room for the others."""
        with _logged(job["type"]):  # its id may hold an address
            return await _DO[job["type"]](self, job)
        later = {"$set": {"due_at": now + _AGAIN_AFTER}}
        await self._database.update_one("jobs", {"_id": job["_id"], "due_at": job["due_at"]}, later)
        return False

    async def come_due(self) -> bool:
        """Does what the time of waiting mail says; returns whether more may be due."""
        now = await self._database.now()
        due: list[Document] = []
        for state in sorted(states.WAITING):
            due += await self._database.find(
                "emails",
                {"state": state, "due_at": up_to(now)},
                projection={"account": 1},
                sort=[("due_at", 1)],
                limit=_AT_ONCE,
            )
        done = await asyncio.gather(*(self._come_due(email["account"], email["_id"]) for email in due))
        return len(due) >= _AT_ONCE and any(done)

    async def _come_due(self, account: str, email_id: str) -> bool:
        rule = partial(waiting.come_due, email_id=email_id, bounds=self._bounds)
        with _logged(email_id):
            await self._committer.run(Operation(account, "job.wait", (waiting.need(email_id),), rule))
            return True
        return False

    async def _remove(self, job: Document) -> bool:
        """Removes the files of a mail that was never accepted."""
        for name in job["files"]:
            await self._files.delete(name)
        need = Need("jobs", "_id", (job["_id"],))
        await self._run(job, [need], lambda draft: _drop(draft, job))
        return False

    async def _scrub(self, job: Document) -> bool:
        """Scrubs some of an erased person's mail; closes the erasure when none is left."""
        if ids := await erasure.mail_to_scrub(self._database, job, _AT_ONCE):
            await self._run(job, _needs(job, ids), partial(erasure.scrub, job=job, ids=ids))
            return True
        needs = [Need("erasures", "_id", (job["erasure"],)), Need("jobs", "_id", (job["_id"],))]
        await self._run(job, needs, lambda draft: erasure.finish(draft, job))
        return False

    async def _adopt(self, job: Document) -> bool:
        """Gives a new contact the mail that came before it was one."""
        waiting = await self._database.aggregate(
            "emails",
            [
                {"$match": {"account": job["account"], "people": job["key"], "at": {"$gte": job["since"]}}},
                {"$sort": {"at": -1, "_id": -1}},
                {"$limit": _ADOPT_AT_MOST},
                {"$project": {"_id": 1}},
            ],
        )
        ids = [email["_id"] for email in waiting]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            rule = partial(
                arriving.adopt, key=job["key"], contact_id=job["contact"], ids=some, open_for=self._bounds.open_for
            )
            await self._run(job, _needs(job, some), rule)
        need = Need("jobs", "_id", (job["_id"],))
        await self._run(job, [need], lambda draft: _forget(draft, job))
        return False

    async def _run(self, job: Document, needs: Sequence[Need], rule: Callable[[Draft], None]) -> None:
        await self._committer.run(Operation(job["account"], f"job.{job['type']}", tuple(needs), rule))


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Lets nothing that goes wrong inside hold up the work behind it; it stays due and is tried again."""
    try:
        yield
    except DomainError as error:
        log.warning("%s: %s; trying again", what, error.message)
    except Exception:
        log.exception("%s failed; trying again", what)


def _needs(job: Document, ids: Sequence[str]) -> list[Need]:
    return [Need("emails", "_id", tuple(ids)), Need("contacts", "_id", (job["contact"],))]


def _forget(draft: Draft, job: Document) -> None:
    """Takes the note away, unless it is another one by now: for mail that came after the contact was erased."""
    note = draft.get("jobs", job["_id"])
    if note is not None and note["contact"] == job["contact"]:
        draft.delete("jobs", job["_id"])
        draft.notify("emails_adopted", shown=False, contact=job["contact"])


def _drop(draft: Draft, job: Document) -> None:
    if draft.get("jobs", job["_id"]) is not None:
        draft.delete("jobs", job["_id"])
        draft.notify("files_removed", shown=False)


_DO: dict[str, Callable[[Jobs, Document], Awaitable[bool]]] = {
    "scrub": Jobs._scrub,  # noqa: SLF001  its own
    "adopt": Jobs._adopt,  # noqa: SLF001
    "remove_files": Jobs._remove,  # noqa: SLF001
}
