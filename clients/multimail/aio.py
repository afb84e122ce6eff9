"""The asyncio client: the same calls as the synchronous one, awaited."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from multimail import contacts, mail
from multimail._wire import DEFAULT_TIMEOUT_S, Attempts, Call, endpoint
from multimail.errors import CancelledError
from multimail.paging import AsyncResults, Page, first_size
from multimail.v1 import contact_service_pb2_grpc, mail_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

T = TypeVar("T")


class _Caller:
    """Makes calls over one channel, which belongs to the loop it is first used on."""

    def __init__(self, api_key: str | None, target: str | None, timeout: float, *, tls: bool | None) -> None:
        self._endpoint = endpoint(api_key, target, timeout, tls=tls)
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[str, Any] = {}
        self._closed = False

    async def run(self, call: Call[T]) -> T:
        """One logical call, tried again where that is safe."""
        if self._closed:
            raise CancelledError("The client is closed.", reason="CLOSED", hint="Make a new one.")
        if self._channel is None:
            self._channel = self._endpoint.aio_channel()
            self._stubs = {
                "ContactService": contact_service_pb2_grpc.ContactServiceStub(self._channel),
                "MailService": mail_service_pb2_grpc.MailServiceStub(self._channel),
            }
        attempts = Attempts(self._endpoint, self._endpoint.timeout, time.monotonic)
        method = getattr(self._stubs[call.service], call.method)
        while True:
            try:
                reply = await method(call.request, timeout=attempts.left, metadata=self._endpoint.metadata)
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.after(error))
            except grpc.aio.UsageError as error:
                raise CancelledError("The client is closed.", reason="CLOSED", hint="Make a new one.") from error
            else:
                return call.convert(reply)

    async def results(self, page: Callable[[str, int], Call[Page[T]]], limit: int | None) -> AsyncResults[T]:
        """The results of a list call: the first page now, the rest as it is walked."""

        async def fetch(token: str, size: int) -> Page[T]:
            return await self.run(page(token, size))

        first = await fetch("", first_size(limit)) if limit != 0 else Page([], "")
        return AsyncResults(fetch, limit, first)

    async def close(self) -> None:
        """Closes the channel."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()


class AsyncClient:
    """Multimail, for asyncio.

    Args:
        api_key: The key, `mm_live_…`; MULTIMAIL_API_KEY when left out.
        target: `host:port`; MULTIMAIL_TARGET when left out, else 127.0.0.1:50051.
        timeout: Seconds for a whole call, tries included.
        tls: Encrypt the connection; by default to every host but this machine.

    Raises:
        UnauthenticatedError: There is no key.

    Example:
        async with multimail.AsyncClient() as client:
            found = await client.contacts.search(domain="acmecorp.com", filters={"metadata.plan": "pro"})
            async for contact in found:
                print(contact.email, contact.last_contacted)
    """

    def __init__(
        self,
        api_key: str | None = None,
        target: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        tls: bool | None = None,
    ) -> None:
        self._caller = _Caller(api_key, target, timeout, tls=tls)
        self.contacts = Contacts(self._caller)
        self.mailboxes = Mailboxes(self._caller)
        self.threads = Threads(self._caller)
        self.notifications = Notifications(self._caller)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._caller.close()

    async def send_email(
        self,
        *,
        from_mailbox: str,
        to: str | Sequence[str],
        subject: str = "",
        body: str = "",
        oversight_mode: str | None = None,
        request_id: str | None = None,
    ) -> mail.Email:
        """Accepts a mail for sending: when this returns it is on disk and will go out.

        Args:
            from_mailbox: The mailbox, by address or id.
            to: One address, or several.
            subject: The subject.
            body: The text.
            oversight_mode: A stricter mode for this mail, such as `monitored`; the mailbox's own when left out.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(mail.send(from_mailbox, to, subject, body, oversight_mode, request_id))

    async def reply_email(
        self,
        email_id: str,
        *,
        body: str = "",
        subject: str | None = None,
        oversight_mode: str | None = None,
        request_id: str | None = None,
    ) -> mail.Email:
        """Answers a mail in its thread, from the mailbox it went through."""
        return await self._caller.run(mail.reply(email_id, body, subject, oversight_mode, request_id))

    async def ingest_email(self, *, mailbox: str, raw: bytes, envelope_from: str = "") -> mail.Email:
        """Takes in a raw mail as if it had come by SMTP; the same bytes twice change nothing."""
        return await self._caller.run(mail.ingest(mailbox, raw, envelope_from))

    async def get_email(self, email_id: str) -> mail.Email:
        """One mail with its bodies; the first read of an inbound one is recorded."""
        return await self._caller.run(mail.get_email(email_id))

    async def list_emails(
        self,
        *,
        mailbox: str | None = None,
        contact: str | None = None,
        direction: str | None = None,
        states: Sequence[str] = (),
        thread_id: str = "",
        unread: bool = False,
        limit: int | None = None,
    ) -> AsyncResults[mail.Email]:
        """Mails, newest first, without bodies; mailbox and contact by address or id."""
        return await self._caller.results(
            lambda token, size: mail.list_emails(
                mailbox, contact, direction, states, thread_id, token, size, unread=unread
            ),
            limit,
        )

    async def check_inbox(
        self,
        *,
        mailbox: str | None = None,
        contact: str | None = None,
        unread: bool = False,
        limit: int | None = None,
    ) -> AsyncResults[mail.Email]:
        """Mail that arrived, newest first, without bodies; read one with get_email."""
        return await self.list_emails(mailbox=mailbox, contact=contact, direction="inbound", unread=unread, limit=limit)


class Contacts:
    """`client.contacts`."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def create(
        self,
        *,
        email: str,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        upsert: bool = False,
        last_contacted: datetime | None = None,
        request_id: str | None = None,
    ) -> contacts.Contact:
        """Makes a contact; AlreadyExistsError when the address is known, unless `upsert`."""
        return await self._caller.run(contacts.create(email, name, metadata, last_contacted, request_id, upsert=upsert))

    async def upsert(
        self,
        *,
        email: str,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        last_contacted: datetime | None = None,
        request_id: str | None = None,
    ) -> contacts.Contact:
        """Makes the contact, or merges into it: objects merge at every depth, None clears a key."""
        return await self._caller.run(contacts.upsert(email, name, metadata, last_contacted, request_id))

    async def get(self, *, email: str | None = None, id: str | None = None) -> contacts.Contact:
        """One contact, by address or id."""
        return await self._caller.run(contacts.get(email, id))

    async def search(
        self,
        *,
        query: str = "",
        email: str = "",
        domain: str = "",
        name: str = "",
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> AsyncResults[contacts.Contact]:
        """Contacts that meet every condition, in order of id.

        Args:
            query: An address, a domain, or words of the name.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions: `{"metadata.plan": "pro", "last_contacted_before": "2026-03-20"}`.
            limit: How many results there may be; iterating walks on without one.
        """
        return await self._caller.results(
            lambda token, size: contacts.search(query, email, domain, name, filters, token, size), limit
        )

    async def update(
        self,
        *,
        email: str | None = None,
        id: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        replace_metadata: bool = False,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        increment: Mapping[str, float] | None = None,
        add_to_set: Mapping[str, Any] | None = None,
        remove: Mapping[str, Any] | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> contacts.Contact:
        """Changes a known contact; all parts apply together or not at all. Paths are keys joined by dots."""
        return await self._caller.run(
            contacts.update(
                email, id, name=name, metadata=metadata, replace_metadata=replace_metadata, set=set, unset=unset,
                rename=rename, increment=increment, add_to_set=add_to_set, remove=remove, etag=etag,
                request_id=request_id,
            )
        )  # fmt: skip

    async def delete(
        self,
        *,
        email: str | None = None,
        id: str | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> contacts.Erasure:
        """Erases a person: gone from every answer at once, their mail scrubbed soon after."""
        return await self._caller.run(contacts.delete(email, id, etag, request_id))

    async def interactions(
        self,
        *,
        email: str | None = None,
        id: str | None = None,
        limit: int | None = None,
    ) -> AsyncResults[contacts.Interaction]:
        """The contact's log, newest first."""
        return await self._caller.results(lambda token, size: contacts.interactions(email, id, token, size), limit)


class Mailboxes:
    """`client.mailboxes`; a mailbox is named by its address or id."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def create(
        self,
        *,
        email: str,
        display_name: str = "",
        oversight_mode: str | None = None,
        request_id: str | None = None,
    ) -> mail.Mailbox:
        """Makes a mailbox; AlreadyExistsError when its address is taken."""
        return await self._caller.run(mail.create_mailbox(email, display_name, oversight_mode, request_id))

    async def get(self, mailbox: str) -> mail.Mailbox:
        """One mailbox."""
        return await self._caller.run(mail.get_mailbox(mailbox))

    async def list(self, *, limit: int | None = None) -> AsyncResults[mail.Mailbox]:
        """The mailboxes that are not deleted."""
        return await self._caller.results(mail.list_mailboxes, limit)

    async def update(
        self,
        mailbox: str,
        *,
        display_name: str | None = None,
        oversight_mode: str | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> mail.Mailbox:
        """Changes a mailbox's display name or mode."""
        return await self._caller.run(mail.update_mailbox(mailbox, display_name, oversight_mode, etag, request_id))

    async def delete(self, mailbox: str, *, etag: str = "", request_id: str | None = None) -> mail.Mailbox:
        """Deletes a mailbox; its log entries stay."""
        return await self._caller.run(mail.delete_mailbox(mailbox, etag, request_id))


class Threads:
    """`client.threads`."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def get(self, thread_id: str) -> mail.Thread:
        """One conversation with its newest mails."""
        return await self._caller.run(mail.get_thread(thread_id))

    async def list(
        self, *, mailbox: str | None = None, contact: str | None = None, limit: int | None = None
    ) -> AsyncResults[mail.Thread]:
        """Conversations, by mailbox, contact or all."""
        return await self._caller.results(lambda token, size: mail.list_threads(mailbox, contact, token, size), limit)


class Notifications:
    """`client.notifications`."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def list(self, *, after_seq: int = 0, limit: int | None = None) -> AsyncResults[mail.Notification]:
        """What happened, oldest first, numbered higher than `after_seq`."""
        return await self._caller.results(lambda token, size: mail.list_notifications(after_seq, token, size), limit)
