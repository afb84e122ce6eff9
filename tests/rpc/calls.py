"""The generated stubs as a test calls them, and what a refused call says."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import contact_service_pb2_grpc, error_reason_pb2, mail_pb2, mail_service_pb2_grpc
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.notifications.store import NotificationStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.conftest import Account

GATED = mail_pb2.OVERSIGHT_MODE_GATED_SEND


class Bound:
    """A stub whose calls carry a key and end in time."""

    def __init__(self, stub: Any, key: str, timeout_s: float) -> None:
        self._stub = stub
        self.options = {"metadata": [("authorization", f"Bearer {key}")], "timeout": timeout_s}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(getattr(self._stub, name), **self.options)


@asynccontextmanager
async def stubs(account: Account, *scopes: str, timeout_s: float = 20, port: int = 0) -> AsyncIterator[tuple[Any, Any]]:
    """The contact and the mail stub with a new key of the account; all an agent may do when no scope is named."""
    key = await account.key(*scopes)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port or account.running.grpc_port}") as channel:
        yield (
            Bound(contact_service_pb2_grpc.ContactServiceStub(channel), key, timeout_s),
            Bound(mail_service_pb2_grpc.MailServiceStub(channel), key, timeout_s),
        )


@dataclass(frozen=True)
class Refused:
    """What a refused call said."""

    code: str
    reason: str
    metadata: dict[str, str]
    message: str
    retry_delay_s: float | None = None
    fields: tuple[str, ...] = field(default=())


def read_refusal(error: grpc.aio.AioRpcError) -> Refused:
    """The one ErrorInfo of a refused call and what stands beside it."""
    status: Any = rpc_status.from_call(error)
    assert status is not None, error
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    infos, delay, fields = 0, None, []
    for detail in status.details:
        if detail.Unpack(info):
            infos += 1
        elif detail.Unpack(retry):
            delay = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    assert infos == 1, status
    return Refused(error.code().name, info.reason, dict(info.metadata), status.message, delay, tuple(fields))


async def refusal(call: Awaitable[Any]) -> Refused:
    """What a call that must be refused says."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    message = f"not refused: {answer}"
    raise AssertionError(message)


@asynccontextmanager
async def streaming(call: Any) -> AsyncIterator[Any]:
    """A stream that is open: its first response may take until something happens."""
    try:
        yield call
    finally:
        call.cancel()


async def read(call: Any, count: int) -> list[Any]:
    """The next responses of a stream."""
    async with asyncio.timeout(15):
        return [await call.read() for _ in range(count)]


async def ended(call: Any) -> Refused:
    """Why a stream ended by itself."""
    try:
        async with asyncio.timeout(15):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    message = "it ended without a word"
    raise AssertionError(message)


async def until(
    probe: Callable[[], Awaitable[Any]], timeout_s: float = 10, *, holds: Callable[[Any], bool] = bool
) -> Any:
    """The first answer that is true, or holds, of a probe that is asked again and again."""
    async with asyncio.timeout(timeout_s):
        while not holds(found := await probe()):  # noqa: ASYNC110  the other side is a server, it sets no event of ours
            await asyncio.sleep(0.02)
    return found


async def all_notifications(mail: Any, after_seq: int = 0) -> list[Any]:
    """Every notification the key may see, in order."""
    found: list[Any] = []
    token = ""
    while True:
        page = await mail.ListNotifications(
            pb.ListNotificationsRequest(after_seq=after_seq, page_size=500, page_token=token)
        )
        found += page.notifications
        token = page.next_page_token
        if not token:
            return found


async def make(contacts: Any, *names: str) -> None:
    """Makes contacts, all at once."""
    requests = (contacts_pb.CreateContactRequest(email=f"{name}@made.test") for name in names)
    await asyncio.gather(*(contacts.CreateContact(request) for request in requests))


def watching(mail: Any, **conditions: Any) -> AbstractAsyncContextManager[Any]:
    """A stream of what happens."""
    return streaming(mail.WatchNotifications(pb.WatchNotificationsRequest(**conditions)))


async def age(account: Account, *numbers: int) -> None:
    """Makes notifications as old as those that are no longer kept."""
    database = account.running.database
    old = {"$set": {"at": await database.now() - timedelta(days=31)}}
    for number in numbers:
        await database.update_one("notifications", {"account": account.name, "seq": number}, old)


async def trim(account: Account) -> None:
    """Goes once through all accounts and removes what is old, as the service does every ten minutes."""
    notifications = NotificationStore(account.running.database)
    while await notifications.trim():
        pass


def at(**ahead: float) -> Timestamp:
    """The time so far from now."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(**ahead))
    return stamp


async def get(mail: Any, email: mail_pb2.Email) -> mail_pb2.Email:
    """The mail as it is now."""
    found: mail_pb2.Email = await mail.GetEmail(pb.GetEmailRequest(id=email.id))
    return found


async def contact_of(contacts: Any, email: str) -> Any:
    """The contact with this address."""
    return await contacts.GetContact(contacts_pb.GetContactRequest(email=email))


async def made(account: Account, name: str = "box", **rules: Any) -> str:
    """The address of a new mailbox with these rules, made by a key that may loosen."""
    async with stubs(account, "admin", "oversight") as (_, mail):
        mailbox = await mail.CreateMailbox(pb.CreateMailboxRequest(email=account.mailbox(name), **rules))
        return str(mailbox.email)


def mail_to(box: str, *to: str, **more: Any) -> pb.SendEmailRequest:
    """The request to send a short mail from a mailbox, with a text unless it is given one."""
    text = {} if more.keys() & {"body", "html_body", "markdown_body"} else {"body": "b"}
    return pb.SendEmailRequest(from_mailbox_email=box, to=to, **{"subject": "s"} | text | more)


async def sent(mail: Any, box: str, *to: str, **more: Any) -> mail_pb2.Email:
    """A mail that was accepted."""
    return (await mail.SendEmail(mail_to(box, *to, **more))).email


def decision(email: mail_pb2.Email) -> pb.EmailDecision:
    """The decision about a mail just as it was read."""
    return pb.EmailDecision(email_id=email.id, content_sha256=email.content_sha256)


async def approved(overseer: Any, *emails: mail_pb2.Email, **more: Any) -> list[Any]:
    """The outcomes of approving these mails as they were read."""
    return list((await overseer.ApproveEmails(pb.ApproveEmailsRequest(emails=map(decision, emails), **more))).outcomes)


async def rejected(overseer: Any, *emails: mail_pb2.Email, reason: str = "no", **more: Any) -> list[Any]:
    """The outcomes of rejecting these mails as they were read."""
    request = pb.RejectEmailsRequest(emails=map(decision, emails), reason=reason, **more)
    return list((await overseer.RejectEmails(request)).outcomes)


def reason_of(outcome: Any) -> str:
    """The reason of a refusal inside an answer; empty when it is none."""
    if outcome.WhichOneof("result") != "refusal":
        return ""
    return error_reason_pb2.ErrorReason.Name(outcome.refusal.reason).removeprefix("ERROR_REASON_")


def state_of(email: mail_pb2.Email) -> str:
    """The name of a mail's state, as in `held`."""
    return mail_pb2.EmailState.Name(email.state).removeprefix("EMAIL_STATE_").lower()


async def settled(mail: Any, email_id: str) -> mail_pb2.Email:
    """The mail when it came to its end."""

    async def look() -> Any:
        found = await mail.GetEmail(pb.GetEmailRequest(id=email_id))
        return found if state_of(found) not in ("queued", "sending", "held", "scheduled") else None

    found: mail_pb2.Email = await until(look, 20)
    return found


async def delivered(mail: Any, box: str, *to: str, **more: Any) -> mail_pb2.Email:
    """A mail that was handed over to everyone, with its bodies."""
    done = await settled(mail, (await sent(mail, box, *to, **more)).id)
    assert state_of(done) == "sent", done.recipients
    return done
