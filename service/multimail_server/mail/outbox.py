"""The outbox: takes accepted mail in turn, hands it over once per recipient, and writes down how that ended."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from multimail_server.errors import DomainError
from multimail_server.mail import email as email_rules
from multimail_server.mail import oversight, states, waiting
from multimail_server.mail.compose import compose, needs_smtputf8, sendable
from multimail_server.mail.content import File
from multimail_server.mail.smtp import Outcome
from multimail_server.storage.documents import Need
from multimail_server.storage.mongo import up_to
from multimail_server.storage.operation import Operation
from multimail_server.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from multimail_server.mail.bounds import Bounds
    from multimail_server.mail.smtp import Carrier
    from multimail_server.mail.suppressions import SuppressionStore
    from multimail_server.mail.tags import Tags
    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Document, Draft
    from multimail_server.storage.files import Files
    from multimail_server.storage.mongo import Database

log = logging.getLogger("multimail.outbox")

AT_ONCE = 16
_FOUND_AT_ONCE = 1_000
# A lease outlasts every step of one hand-over; each dot mark begins it anew.
LEASE = timedelta(seconds=300)
_HAND_OVER_S = 240.0
_POLL_S = 1.0
_INSISTS_EVERY_S = 0.5

T = TypeVar("T")


class Outbox:
    """Delivers queued mail; any number of processes may run one.

    A mail is leased by its fence and the engine's clock. Before a message's content goes out, a dot mark is on disk;
    a mail found later with a mark and no outcome may have gone out, and is tried again with the same Message-ID.

    Args:
        database: The database.
        committer: Runs the operations that settle mail.
        carrier_for: Chooses who takes mail for an address key.
        files: The files of mails.
        suppressions: Who must not be written to.
        bounds: How long a thread counts as open, for whom a mail was stopped.
        tags: Makes the addresses by which reports and unsubscribing find their mail.
        unsubscribe_links: What links for unsubscribing begin with; empty for none.
        verp: Whether reports about delivery go to such an address, instead of the mailbox.
        process_id: This process, as leases name it.
        new_id: Makes an id with the given prefix.
        jitter: Returns a random number in [0, 1).
    """

    def __init__(
        self,
        database: Database,
        committer: Committer,
        *,
        carrier_for: Callable[[str], Awaitable[Carrier]],
        files: Files,
        suppressions: SuppressionStore,
        bounds: Bounds,
        tags: Tags,
        unsubscribe_links: str,
        verp: bool,
        process_id: str,
        new_id: Callable[[str], str],
        jitter: Callable[[], float],
    ) -> None:
        self._database = database
        self._committer = committer
        self._carrier_for = carrier_for
        self._files = files
        self._suppressions = suppressions
        self._bounds = bounds
        self._tags = tags
        self._links = unsubscribe_links
        self._verp = verp
        self._process_id = process_id
        self._new_id = new_id
        self._jitter = jitter
        self._due: deque[tuple[str, int]] = deque()  # found, and not yet begun
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._worker = Worker("outbox", self._step, interval_s=_POLL_S)
        self.wake = self._worker.wake

    def start(self) -> None:
        """Starts looking for mail."""
        self._worker.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no more mail, lets what is under way finish, and hands the rest back."""
        self._stopping = True
        await self._worker.stop()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way.values(), timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        try:
            await self.reclaim(self._process_id)
        except DomainError:
            log.warning("could not hand leases back; the next process to look takes them over")

    async def reclaim(self, process_id: str) -> None:
        """Makes mail that a process left behind due at once, instead of when its lease runs out."""
        left = await self._database.find("emails", {"state": "sending", "lease.process": process_id})
        for email in left:
            await self._free(email)
        if left:
            self.wake()

    async def _step(self) -> bool:
        """Starts to deliver what is due, as far as there is room."""
        if not self._due and len(self._under_way) < AT_ONCE and not self._stopping:
            self._due.extend(await self._look())
        while self._due and len(self._under_way) < AT_ONCE and not self._stopping:
            email_id, fence = self._due.popleft()
            if email_id not in self._under_way:
                task = asyncio.create_task(self._deliver(email_id, fence))
                self._under_way[email_id] = task
                task.add_done_callback(partial(self._finished, email_id))
        return False

    async def _look(self) -> list[tuple[str, int]]:
        """Mail that is due, with its fence: whatever became of it until its turn, the fence tells.

        Many at a time, for the embedded engine goes through all that is due for each look.
        """
        now = await self._database.now()
        found: list[Document] = []
        for state in ("queued", "sending"):
            found += await self._database.find(
                "emails",
                {"state": state, "due_at": up_to(now)},
                projection={"fence": 1},
                sort=[("due_at", 1)],
                limit=_FOUND_AT_ONCE,
            )
        return [(each["_id"], each["fence"]) for each in found]

    def _finished(self, email_id: str, task: asyncio.Task[None]) -> None:
        del self._under_way[email_id]
        self.wake()  # there is room for the next one
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery failed; the mail's lease runs out and it is tried again", exc_info=error)

    async def _deliver(self, email_id: str, fence: int) -> None:
        """Delivers one mail; when the engine goes away before the end, hands the lease back once it answers.

        That holds from the lease on: an engine that went away while it was taken may have taken it all the same.
        """
        token = self._new_id("lease")
        try:
            if await self._lease(email_id, fence, token):
                await self._to_every_recipient(email_id, token)
        except DomainError as error:
            log.warning("a delivery stopped, it goes on later: %s", error.message)
            await self._insisting(lambda: self._hand_back(email_id, token))
        except Exception:  # nobody foresaw it; the mail must come to its end all the same
            log.exception("a delivery failed; it is tried again later: %s", email_id)
            await self._insisting(lambda: self._put_off(email_id, token))

    async def _lease(self, email_id: str, fence: int, token: str) -> bool:
        """Makes the mail ours until its lease runs out; False when somebody else was first."""
        taken = await self._database.update_one(
            "emails",
            {"_id": email_id, "fence": fence, "state": {"$in": ["queued", "sending"]}},
            {
                "$set": {
                    "state": "sending",
                    "due_at": await self._database.now() + LEASE,
                    "lease": {"process": self._process_id, "token": token},
                },
                "$inc": {"fence": 1, "attempts": 1},
            },
        )
        return taken == 1

    async def _ours(self, email_id: str, token: str) -> Document | None:
        """The mail as it is now, if the lease with this token still holds."""
        rows = await self._database.find("emails", {"_id": email_id}, projection={"raw": 0})
        if rows and rows[0]["state"] == "sending" and (rows[0]["lease"] or {}).get("token") == token:
            return rows[0]
        return None

    async def _to_every_recipient(self, email_id: str, token: str) -> None:
        """Hands the mail over to everyone who still waits, then puts it off if somebody still does."""
        email = await self._ours(email_id, token)
        for index in range(len(email["recipients"]) if email else 0):
            current = await self._ours(email_id, token)
            if current is None:  # it came to its end, or somebody else looks after it
                return
            if current["recipients"][index]["state"] == "pending":
                await self._hand_over(current, index, token)
        await self._put_off(email_id, token)

    async def _put_off(self, email_id: str, token: str) -> None:
        """Ends a round of tries: a mail for which somebody still waits is given up, or goes back into the queue."""
        if (email := await self._ours(email_id, token)) is not None:
            await self._settle(email, token, self._after_round)

    async def _insisting(self, act: Callable[[], Awaitable[T]]) -> T:
        """Does it, however long the engine is away: what is known of a hand-over must not be lost."""
        while True:
            try:
                return await act()
            except DomainError:
                await asyncio.sleep(_INSISTS_EVERY_S)

    async def _hand_back(self, email_id: str, token: str) -> None:
        """Makes a mail of ours due at once, for whoever comes first."""
        for email in await self._database.find("emails", {"_id": email_id, "lease.token": token}):
            await self._free(email)

    async def _free(self, email: Document) -> None:
        await self._database.update_one(
            "emails",
            {"_id": email["_id"], "fence": email["fence"], "state": "sending"},
            {"$set": {"due_at": await self._database.now(), "lease": None}, "$inc": {"fence": 1}},
        )

    async def _hand_over(self, email: Document, index: int, token: str) -> None:
        """One recipient, one transaction, one outcome on disk."""
        outcome = await self._why_not(email, index) or await self._carry(email, index, token)

        def record(draft: Draft, current: Document) -> Document:
            if current["recipients"][index]["state"] != "pending":
                return current  # an earlier try of this very record went through
            changed = states.with_outcome(current, index, outcome.state, outcome.response, draft.now)
            if changed["recipients"][index]["state"] == "cancelled":  # it was cancelled meanwhile, and came back
                waiting.see_people(draft, changed)
                waiting.unsend(draft, changed, self._bounds)
            return changed

        await self._insisting(lambda: self._settle(email, token, record))

    async def _why_not(self, email: Document, index: int) -> Outcome | None:
        """How it ends for a recipient to whom the mail must not be handed over; None when it may."""
        recipient = email["recipients"][index]
        if recipient["dot"] and states.ends_in_doubt(email):
            return Outcome("in_doubt", "it was handed over, and the answer was lost")
        if await self._suppressions.suppressed(email["account"], recipient["key"]):
            return Outcome("failed", "the address was suppressed after the mail was accepted")
        if not states.may_leave(email):
            log.error("a mail is not what was accepted or approved; it does not go out: %s", email["_id"])
            return Outcome("failed", "the mail is not what was accepted or approved")
        return None

    async def _carry(self, email: Document, index: int, token: str) -> Outcome:
        """How the carrier fared with one recipient."""
        recipient = email["recipients"][index]
        mailbox = email["headers"]["from"]
        files = [await self._file(each) for each in email["attachments"]]
        if None in files:
            return Outcome("failed", "a file of the mail is not there any more")
        unsubscribe = self._tags.unsubscribe(mailbox, email["_id"], index) if email["list_unsubscribe"] else ""
        link = self._links + self._tags.token(email["_id"], index) if self._links and unsubscribe else ""
        outgoing = email_rules.outgoing(
            email, files=[file for file in files if file], unsubscribe=unsubscribe, unsubscribe_link=link
        )
        try:
            message = await asyncio.to_thread(compose, outgoing) if files else compose(outgoing)
        except DomainError as error:  # it was composed once before it was accepted, so this never happens unless we err
            return Outcome("failed", error.message)
        carrier = await self._carrier_for(recipient["key"])
        sender = (self._tags.bounce(mailbox, email["_id"], index) if self._verp else "") or mailbox
        marked = False

        async def before_dot() -> bool:
            nonlocal marked
            marked = await self._mark_dot(email["_id"], index, token)
            return marked

        try:
            async with asyncio.timeout(_HAND_OVER_S):
                return await carrier.deliver(
                    sender=sendable(sender),
                    recipient=(to := sendable(recipient["address"])),
                    message=message,
                    smtputf8=needs_smtputf8(outgoing) or not to.isascii(),
                    before_dot=before_dot,
                )
        except TimeoutError:
            return Outcome("in_doubt" if marked else "retry", "the mail server took too long")

    async def _file(self, kept: Document) -> File | None:
        data = await self._files.read(kept["file"])
        return None if data is None else File(kept["filename"], kept["content_type"], data)

    async def _mark_dot(self, email_id: str, index: int, token: str) -> bool:
        """Puts the dot mark on disk; False when the recipient no longer waits, or the lease is lost.

        The mark needs the fence it read: an erasure that comes between makes it fail, and is seen on the next look.
        """
        while (email := await self._ours(email_id, token)) is not None:
            if email["recipients"][index]["state"] != "pending":
                return False
            marked = await self._database.update_one(
                "emails",
                {"_id": email_id, "fence": email["fence"], "state": "sending"},
                {
                    "$set": {f"recipients.{index}.dot": True, "due_at": await self._database.now() + LEASE},
                    "$inc": {"fence": 1},
                },
            )
            if marked:
                return True
        return False

    async def _settle(self, email: Document, token: str, change: Callable[[Draft, Document], Document]) -> None:
        """Changes the mail in an operation, while the lease is ours."""

        def rule(draft: Draft) -> None:
            current = draft.get("emails", email["_id"])
            if current is None or (current["lease"] or {}).get("token") != token:
                return
            changed = change(draft, current)
            if changed is current:
                return
            draft.put("emails", changed)
            if states.is_settled(changed):
                self._tell(draft, changed)
            else:
                draft.notify("email_tried", shown=False, email=changed["_id"])

        needs = (Need("emails", "_id", (email["_id"],)),)
        await self._committer.run(Operation(email["account"], "outbox", needs, rule))

    def _after_round(self, draft: Draft, email: Document) -> Document:
        if states.is_out_of_time(email, draft.now):
            return states.given_up(email, draft.now)
        return states.put_off(email, draft.now, self._jitter())

    def _tell(self, draft: Draft, email: Document) -> None:
        draft.notify(
            "email_settled",
            shown=oversight.is_shown(email["mode"]),
            email=email["_id"],
            mailbox=email["mailbox"],
            thread=email["thread"],
            state=email["state"],
        )
