"""What every fault test stands on: a database with its services, a peer, callers that never give up, their ledger."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosmtplib
import grpc
from tests.conftest import binaries, engine_on
from tests.faults.forge import Node
from tests.faults.peer import Peer

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import error_reason_pb2 as reasons
from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.accounts.store import KeyStore
from multimail_server.app import new_id
from multimail_server.storage.mongo import Database, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from tests.faults.forge import Forge

ACCOUNT = "faults"
AGENT = ("read", "write", "send", "admin")
OVERSEER = ("read", "write", "admin", "oversight")
GATED = mail_pb2.OVERSIGHT_MODE_GATED_SEND
# Errors upon which the same request is simply repeated: nothing happened, or nobody can tell.
_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
_REFUSED_FOR_NOW = {
    reasons.ERROR_REASON_ENGINE_UNAVAILABLE,
    reasons.ERROR_REASON_OUTCOME_UNKNOWN,
    reasons.ERROR_REASON_CONTENTION,
    reasons.ERROR_REASON_OUT_OF_TIME,
}
_SETTLES_WITHIN_S = 60.0
_FOR_GOOD = 500


def best_engine() -> str:
    """The faster engine where it was built."""
    found = binaries()
    return found.get("rs") or found["py"]


@dataclass
class Ledger:
    """What callers were told, and what the world did to the service: the truth that the database must match.

    Attributes:
        accepted: The id of the mail that each request_id of a send was answered with.
        ingested: The same for mail taken in.
        approved: Mail and content hash of every approval that was answered with OK, by how often.
        rejected: Mails whose rejection was answered with OK.
        cancelled: Mails whose cancelling was answered with OK.
        said: The body that each content hash stands for, where a test knows it.
        gaps: How often a service died between the dot mark and the outcome, by (Message-ID, recipient).
        resolved: How often a doubt was resolved, by mail.
        arrived: Message-IDs of mail that was taken by SMTP with 250.
        erased: Addresses of people whose erasure was answered with OK.
    """

    accepted: dict[str, str] = field(default_factory=dict)
    ingested: dict[str, str] = field(default_factory=dict)
    approved: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejected: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)
    gaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    resolved: Counter[str] = field(default_factory=Counter)
    arrived: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)


class World:
    """One database with its services, peer, keys and ledger.

    Args:
        forge: Starts the services.
        uri: The engine as services reach it.
        peer: Takes the mail.
        name: The database.
        direct_uri: The engine as the test reaches it, when services go through a proxy.
    """

    def __init__(self, forge: Forge, uri: str, peer: Peer, name: str, *, direct_uri: str = "") -> None:
        self.forge, self.uri, self.peer, self.name = forge, uri, peer, name
        self.ledger = Ledger()
        self.nodes: list[Node] = []
        self.keys: dict[str, str] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="world"))
        self.database: Database = connect(direct_uri or uri, name, driver="pymongo")

    async def open(
        self,
        *,
        count: int = 1,
        faults: Sequence[str] = (),
        per_node: Sequence[Sequence[str]] = (),
        crashing: bool = False,
        times: dict[str, float] | None = None,
        mode: int = 0,
        policy: int = 0,
        **settings: Any,
    ) -> None:
        """Starts the services and makes keys and a mailbox, `box@faults.test`.

        Args:
            count: How many services.
            faults: Planted faults of all of them.
            per_node: Further planted faults of each.
            crashing: Whether they can be told at which step to die.
            times: Times to shorten; see `child.shorten`.
            mode: The mailbox's oversight mode.
            policy: What becomes of a mail in doubt.
            settings: Settings of the services.
        """
        await self.database.prepare()
        store = KeyStore(self.database, new_id=new_id, randomness=os.urandom, clock=time.monotonic)
        for who, scopes in (("agent", AGENT), ("overseer", OVERSEER)):
            self.keys[who], _ = await store.create(ACCOUNT, who, scopes)
        for number in range(count):
            given: dict[str, Any] = {
                "mongodb_uri": self.uri, "database": self.name, "data": str(self.folder), "port": 0, "smtp_port": 0,
                "http_port": 0, "hostname": "here.test", "smtp_url": self.peer.url, "pair_sends_per_hour": 1000,
                "thread_sends_per_hour": 1000, **settings,
            }  # fmt: skip
            spec = {
                "settings": given,
                "log": str(self.folder / "log"),
                "crashing": crashing,
                "faults": [*faults, *(per_node[number] if per_node else ())],
                "times": {"backoff_s": 60.0, "smtp_timeout_s": 10.0, "poll_s": 0.2} | (times or {}),
            }
            self.nodes.append(Node(self.forge, spec, self.note_gaps))
            await self.nodes[-1].start()
        await self.mailbox("box@faults.test", mode=mode, policy=policy)

    async def close(self) -> None:
        """Stops the services, and leaves no files behind."""
        await asyncio.gather(*(node.stop() for node in self.nodes))
        await self.database.close()
        await asyncio.to_thread(shutil.rmtree, self.folder)

    @property
    def node(self) -> Node:
        """The only service."""
        return self.nodes[0]

    async def mailbox(self, email: str, *, mode: int = 0, policy: int = 0, **more: Any) -> mail_pb2.Mailbox:
        """Makes a mailbox."""
        request = pb.CreateMailboxRequest(
            email=email, oversight_mode=mode, in_doubt_policy=policy, request_id=f"mailbox:{email}", **more
        )
        return await self.call("CreateMailbox", request, who="overseer")

    async def call(self, method: str, request: Any, *, who: str = "agent", node: Node | None = None) -> Any:
        """One call, repeated as it is until there is an answer: an OK, or a refusal for good, which is raised."""
        node = node or self.nodes[0]
        metadata = (("authorization", f"Bearer {self.keys[who]}"),)
        deadline = time.monotonic() + _SETTLES_WITHIN_S
        while True:
            await node.up.wait()
            try:
                stub = node.contacts if hasattr(node.contacts, method) else node.stub
                return await getattr(stub, method)(request, metadata=metadata, timeout=20)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)
            except (grpc.aio.UsageError, asyncio.InvalidStateError, asyncio.CancelledError):
                current = asyncio.current_task()
                if (current is not None and current.cancelling()) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)  # the channel was closed under the call

    async def send(self, request_id: str, *, node: Node | None = None, **fields: Any) -> mail_pb2.Email:
        """Sends a mail and notes the answer."""
        to = fields.pop("to", "p@out.test")
        fields.setdefault("from_mailbox_email", "box@faults.test")
        request = pb.SendEmailRequest(to=[to] if isinstance(to, str) else to, request_id=request_id, **fields)
        email = (await self.call("SendEmail", request, node=node)).email
        self.ledger.accepted[request_id] = email.id
        if request.body:
            self.ledger.said[email.content_sha256] = request.body
        return email

    async def reply(self, request_id: str, email_id: str, body: str = "re") -> mail_pb2.Email:
        """Answers a mail and notes the answer."""
        email = (
            await self.call("ReplyEmail", pb.ReplyEmailRequest(email_id=email_id, body=body, request_id=request_id))
        ).email
        self.ledger.accepted[request_id] = email.id
        return email

    async def ingest(self, number: str, sender: str = "p@out.test", *, node: Node | None = None) -> mail_pb2.Email:
        """Takes in a mail that bears this number."""
        raw = _letter(number, sender)
        request = pb.IngestEmailRequest(mailbox_email="box@faults.test", raw=raw, envelope_from=sender)
        email = (await self.call("IngestEmail", request, node=node)).email
        self.ledger.ingested[number] = email.id
        return email

    async def arrive(self, number: str, sender: str, *, node: Node | None = None) -> str:
        """Brings a mail that bears this number by SMTP, again and again until it is taken; returns its id."""
        node = node or self.nodes[0]
        deadline = time.monotonic() + _SETTLES_WITHIN_S
        while True:
            await node.up.wait()
            try:
                async with aiosmtplib.SMTP(hostname="127.0.0.1", port=node.smtp_port, timeout=10) as client:
                    await client.sendmail(sender, ["box@faults.test"], _letter(number, sender))
                break
            except (aiosmtplib.SMTPException, OSError) as error:
                if getattr(error, "code", 0) >= _FOR_GOOD or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)
        self.ledger.arrived.add(f"<{number}@out.test>")
        (found,) = await self.database.find("emails", {"account": ACCOUNT, "linked": f"<{number}@out.test>"})
        return str(found["_id"])

    async def decide(
        self,
        verb: str,
        mails: Sequence[tuple[str, str]],
        request_id: str,
        *,
        node: Node | None = None,
    ) -> list[pb.DecisionOutcome]:
        """Approves or rejects mails, repeated until nothing about the outcome is for now; notes what was done.

        Args:
            verb: `Approve` or `Reject`.
            mails: Id and content hash of each.
            request_id: Makes it repeatable.
            node: Who is asked.
        """
        kind = pb.ApproveEmailsRequest if verb == "Approve" else pb.RejectEmailsRequest
        request = kind(
            emails=[pb.EmailDecision(email_id=each, content_sha256=sha) for each, sha in mails],
            reason="because", request_id=request_id,
        )  # fmt: skip
        while True:
            reply = await self.call(f"{verb}Emails", request, who="overseer", node=node)
            if not any(each.refusal.reason in _REFUSED_FOR_NOW for each in reply.outcomes):
                break
        for (email_id, sha), outcome in zip(mails, reply.outcomes, strict=True):
            if outcome.WhichOneof("result") == "email":
                if verb == "Approve":
                    self.ledger.approved[email_id, sha] += 1
                else:
                    self.ledger.rejected.add(email_id)
        return list(reply.outcomes)

    async def cancel(self, request_id: str, email_id: str, *, node: Node | None = None) -> str:
        """Cancels a mail; returns the state it came to, or the reason why not."""
        try:
            email = await self.call("CancelEmail", pb.CancelEmailRequest(id=email_id, request_id=request_id), node=node)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return str(error.details())
        if email.state == mail_pb2.EMAIL_STATE_CANCELLED:
            self.ledger.cancelled.add(email_id)
        return mail_pb2.EmailState.Name(email.state).removeprefix("EMAIL_STATE_").lower()

    async def erase(self, request_id: str, email: str) -> None:
        """Erases a person and notes the answer."""
        await self.call("DeleteContact", contact_pb.DeleteContactRequest(email=email, request_id=request_id))
        self.ledger.erased.add(email)

    async def note_gaps(self) -> None:
        """Notes the hand-overs that have a dot mark on disk and no outcome."""
        found = await self.database.find(
            "emails",
            {"account": ACCOUNT, "state": "sending"},
            projection={"headers.message_id": 1, "recipients": 1, "policy": 1, "lease": 1},
        )
        living = {node.process for node in self.nodes if node.up.is_set()}
        for email in found:
            if (email["lease"] or {}).get("process") in living:  # it is being handed over, and nobody died of it
                continue
            for each in email["recipients"]:
                if each["dot"] and each["state"] == "pending" and email["policy"] == "retry":
                    self.ledger.gaps[email["headers"]["message_id"], each["address"]] += 1

    async def settled(self, within_s: float = _SETTLES_WITHIN_S) -> None:
        """Waits until no mail is on its way, and no erasure is under way."""
        await self.until(self._nothing_under_way, within_s)

    async def _nothing_under_way(self) -> bool:
        # In one look: between two of them a mail may go from the one state to the other.
        where = {"account": ACCOUNT, "state": {"$in": ["queued", "sending"]}}
        if await self.database.find("emails", where, projection={"_id": 1}, limit=1):
            return False
        return not await self.database.find("erasures", {"account": ACCOUNT, "done": False}, limit=1)

    async def until(self, holds: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
        """Polls until something holds; when it does not, the service's log tells more."""
        deadline = time.monotonic() + within_s
        while not await holds():
            if time.monotonic() > deadline:
                log = self.folder / "log"
                raise AssertionError(f"it never came true; {log.read_text()[-3000:] if log.exists() else ''}")
            await asyncio.sleep(0.02)


def _letter(number: str, sender: str) -> bytes:
    return (
        f"From: {sender}\r\nTo: box@faults.test\r\nSubject: {number}\r\n"
        f"Message-ID: <{number}@out.test>\r\n\r\nhello {number}\r\n"
    ).encode()


def dice_for(name: str, seed: int) -> random.Random:
    """Chances that are the same for the same seed; the seed is printed."""
    print(f"{name}: seed {seed}")
    return random.Random(f"{name} {seed}")


@asynccontextmanager
async def world_on(forge: Forge, uri: str, **more: Any) -> AsyncIterator[World]:
    """A world on a database of its own."""
    script = more.pop("script", None)
    direct = more.pop("direct_uri", "")
    async with Peer(script) if script else Peer() as peer:
        world = World(forge, uri, peer, new_id("faults")[:38].lower(), direct_uri=direct)
        try:
            await world.open(**more)
            yield world
        finally:
            await world.close()


@asynccontextmanager
async def own_engine(folder: Path) -> AsyncIterator[str]:
    """An engine for fault tests, the faster one where there is one."""
    async with engine_on(folder, best_engine()) as uri:
        yield uri
