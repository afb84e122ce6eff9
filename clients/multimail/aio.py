"""The asyncio client: the same calls as the synchronous one, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from multimail import delivery, keys, mail, oversight, sending
from multimail._async import Mailboxes, Notifications, Suppressions, Threads
from multimail._async_contacts import Contacts
from multimail._caller import AsyncCaller
from multimail._wire import DEFAULT_TIMEOUT_S, endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from multimail import words
    from multimail.paging import AsyncResults


class AsyncClient:
    """Multimail for asyncio. A client belongs to the loop it is first used on: make one inside each `asyncio.run`.

    Args:
        api_key: The key, `mm_live_…`; MULTIMAIL_API_KEY when left out.
        target: `host:port`; MULTIMAIL_TARGET when left out, else 127.0.0.1:50051.
        timeout: Seconds for a whole call, tries included.
        tls: Encrypt the connection; by default to every host but this machine, and wherever there is a `ca`.
        ca: Certificates to trust instead of the system's, in PEM, as a path or bytes: a self-signed service's own, or
            its authority's; the path in MULTIMAIL_TLS_CA when left out.

    Raises:
        UnauthenticatedError: There is no key.
        InvalidArgumentError: The file of `ca` cannot be read.

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
        ca: str | Path | bytes | None = None,
    ) -> None:
        self._calls_by(AsyncCaller(endpoint(api_key, target, timeout, tls=tls, ca=ca)))

    def _calls_by(self, caller: AsyncCaller) -> None:
        self._caller = caller
        self.contacts = Contacts(caller)
        self.mailboxes = Mailboxes(caller)
        self.threads = Threads(caller)
        self.notifications = Notifications(caller)
        self.suppressions = Suppressions(caller)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls and watches under way end with CancelledError."""
        await self._caller.close()

    def with_key(self, api_key: str) -> AsyncClient:
        """A client with another key over this one's connection; it need not be closed, and ends with this one.

        Args:
            api_key: The other key.
        """
        other = AsyncClient.__new__(AsyncClient)
        other._calls_by(self._caller.with_key(api_key))  # noqa: SLF001  one of its own kind
        return other

    async def get_caller(self) -> keys.Caller:
        """Whose key this client has, and what that key may do."""
        return await self._caller.run(keys.get_caller())

    async def send_email(
        self,
        *,
        from_mailbox: str,
        to: str | Sequence[str],
        subject: str = "",
        body: str = "",
        oversight_mode: words.OversightMode | None = None,
        cc: str | Sequence[str] = (),
        bcc: str | Sequence[str] = (),
        reply_to: str | Sequence[str] = (),
        html_body: str = "",
        markdown_body: str = "",
        attachments: Sequence[sending.OutgoingAttachment] = (),
        send_time: datetime | None = None,
        guard: sending.Guard | None = None,
        list_unsubscribe: bool = False,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> mail.Email:
        """Accepts a mail for sending: when this returns it is on disk and will go out, or wait for a person.

        Args:
            from_mailbox: The mailbox, by address or id.
            to: One bare address, or several; with cc and bcc at most 50.
            subject: The subject, at most 998 characters.
            body: The text, at most 256 KiB.
            oversight_mode: A mode for this mail; the stricter of it and the mailbox's holds.
            cc: Further recipients, shown to all.
            bcc: Further recipients, shown to nobody.
            reply_to: Where answers shall go instead of the mailbox, at most 10 addresses.
            html_body: HTML beside, or instead of, the text, at most 256 KiB; what could harm a reader is taken out.
            markdown_body: Markdown instead of text and HTML, at most 256 KiB.
            attachments: Files, 10 MiB in all, at most 100.
            send_time: When to send it, at most 366 days ahead; at once when left out.
            guard: What must be true of the recipient; needs exactly one `to`.
            list_unsubscribe: Let recipients unsubscribe by mail; the domain must deliver `box+anything@` to us.
            validate_only: Only say what would happen; nothing is sent or recorded, and the mail returned has no id.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            GuardRefusedError: The guard refused; it names the rule and the earlier mail.
            FailedPreconditionError: The mailbox's mode forbids it, or the address is suppressed.
            ResourceExhaustedError: The conversation goes faster than people write; see `retry_after`.
        """
        return await self._caller.run(
            sending.send(
                from_mailbox, to, subject=subject, body=body, oversight_mode=oversight_mode, cc=cc, bcc=bcc,
                reply_to=reply_to, html_body=html_body, markdown_body=markdown_body, attachments=attachments,
                send_time=send_time, guard=guard, list_unsubscribe=list_unsubscribe, validate_only=validate_only,
                request_id=request_id,
            )
        )  # fmt: skip

    async def reply_email(
        self,
        email_id: str,
        *,
        body: str = "",
        subject: str | None = None,
        oversight_mode: words.OversightMode | None = None,
        html_body: str = "",
        markdown_body: str = "",
        attachments: Sequence[sending.OutgoingAttachment] = (),
        send_time: datetime | None = None,
        reply_all: bool = False,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> mail.Email:
        """Answers a mail in its thread, from the mailbox it went through: to its author, or again to its recipients.

        Args:
            email_id: The mail to answer.
            body: The text, at most 256 KiB.
            subject: The subject; that of the answered mail with `Re: ` before it when left out.
            oversight_mode: A mode for this mail; the stricter of it and the mailbox's holds.
            html_body: HTML beside, or instead of, the text, at most 256 KiB; what could harm a reader is taken out.
            markdown_body: Markdown instead of text and HTML, at most 256 KiB.
            attachments: Files, 10 MiB in all, at most 100.
            send_time: When to send it, at most 366 days ahead; at once when left out.
            reply_all: Answer everybody in To and Cc as well.
            validate_only: Only say what would happen; nothing is sent or recorded, and the mail returned has no id.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            NotFoundError: There is no such mail.
            FailedPreconditionError: The mode forbids it, an address is suppressed, or the mail has no author.
            ResourceExhaustedError: The conversation goes faster than people write; see `retry_after`.
        """
        return await self._caller.run(
            sending.reply(
                email_id, body=body, subject=subject, oversight_mode=oversight_mode, html_body=html_body,
                markdown_body=markdown_body, attachments=attachments, send_time=send_time, reply_all=reply_all,
                validate_only=validate_only, request_id=request_id,
            )
        )  # fmt: skip

    async def cancel_email(self, email_id: str, *, request_id: str | None = None) -> mail.Email:
        """Stops a mail that has not left; recipients who have it already keep it.

        Args:
            email_id: The mail.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            FailedPreconditionError: It is too late, reason STATE_FORBIDS.
        """
        return await self._caller.run(sending.cancel(email_id, request_id))

    async def update_email(
        self,
        email_id: str,
        *,
        subject: str | None = None,
        body: str | None = None,
        html_body: str | None = None,
        markdown_body: str | None = None,
        content_sha256: str = "",
        request_id: str | None = None,
    ) -> mail.Email:
        """Changes what is given of a held or scheduled mail. An approval of what it was before is void.

        Args:
            email_id: The mail.
            subject: The new subject.
            body: The new text. This and the next two replace text and HTML together.
            html_body: The new HTML.
            markdown_body: The new Markdown, instead of text and HTML.
            content_sha256: Change it only while this is still its content.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            FailedPreconditionError: It is neither held nor scheduled (STATE_FORBIDS), or changed (CONTENT_CHANGED).
        """
        return await self._caller.run(
            sending.update(
                email_id, subject=subject, body=body, html_body=html_body, markdown_body=markdown_body,
                content_sha256=content_sha256, request_id=request_id,
            )
        )  # fmt: skip

    async def check_sends(
        self,
        *,
        from_mailbox: str,
        to: str | Sequence[str],
        guard: sending.Guard | None = None,
        oversight_mode: words.OversightMode | None = None,
    ) -> list[sending.SendCheck]:
        """Whether a mail to each address would be accepted now, in their order. Nothing is sent or reserved.

        Args:
            from_mailbox: The mailbox the mails would leave from, by address or id.
            to: One address, or up to 1000.
            guard: The guard of the mails.
            oversight_mode: The mode of the mails; the mailbox's own when left out.
        """
        return await self._caller.run(sending.check(from_mailbox, to, guard, oversight_mode))

    async def list_held_emails(
        self, *, mailbox: str | None = None, limit: int | None = None
    ) -> AsyncResults[oversight.HeldEmail]:
        """Mail that waits for a person, oldest first: its content, its people, and what was last written.

        Args:
            mailbox: Only mail of this mailbox; by address or id.
            limit: How many results there may be; iterating walks on without one.
        """
        return await self._caller.results(lambda token, size: oversight.list_held(mailbox, token, size), limit)

    async def approve_emails(
        self,
        emails: Sequence[oversight.HeldEmail | mail.Email | tuple[str, str]],
        *,
        reason: str = "",
        request_id: str | None = None,
    ) -> list[oversight.DecisionOutcome]:
        """Lets held mails go, each for exactly the content that was read; one outcome for each, in their order.

        Args:
            emails: Held mails as they were read, or pairs of id and `content_sha256`; at most 500.
            reason: Why, at most 1000 characters; kept with each mail.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(oversight.approve(emails, reason, request_id))

    async def reject_emails(
        self,
        emails: Sequence[oversight.HeldEmail | mail.Email | tuple[str, str]],
        *,
        reason: str,
        request_id: str | None = None,
    ) -> list[oversight.DecisionOutcome]:
        """Ends held mails for good: they never go out, or are never shown. One outcome for each, in their order.

        Args:
            emails: Held mails as they were read, or pairs of id and `content_sha256`; at most 500.
            reason: Why, at most 1000 characters; kept with each mail and shown to the agent.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(oversight.reject(emails, reason, request_id))

    async def resolve_email(
        self, email_id: str, resolution: words.Resolution, *, request_id: str | None = None
    ) -> mail.Email:
        """Ends the doubt about an in_doubt mail, for all its recipients in doubt.

        Args:
            email_id: The mail.
            resolution: How the doubt ends.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            FailedPreconditionError: It is not in doubt, or nobody is left to send it to again; reason STATE_FORBIDS.
        """
        return await self._caller.run(oversight.resolve(email_id, resolution, request_id))

    async def ingest_email(
        self,
        *,
        mailbox: str,
        raw: bytes,
        envelope_from: str = "",
        envelope_to: str = "",
        request_id: str | None = None,
    ) -> mail.Email:
        """Takes in a raw mail as if it had come by SMTP; the same bytes twice change nothing.

        Args:
            mailbox: The mailbox it is for, by address or id.
            raw: Headers, an empty line, the body (RFC 5322), at most 14 MiB.
            envelope_from: The envelope's sender; empty for bounces.
            envelope_to: The envelope's recipient where it is not the mailbox's own address: `box+…@domain`.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(mail.ingest(mailbox, raw, envelope_from, envelope_to, request_id))

    async def ingest_event(
        self,
        type: words.DeliveryEventType,
        *,
        email_id: str | None = None,
        message_id: str | None = None,
        address: str = "",
        time: datetime | None = None,
        permanent: bool = False,
        detail: str = "",
        request_id: str | None = None,
    ) -> mail.Email:
        """Takes in a report about a mail's delivery; told twice or in another order, the result is the same.

        Args:
            type: What happened.
            email_id: The mail; this or `message_id`.
            message_id: The mail by its Message-ID.
            address: The recipient; may be left out when the mail has only one.
            time: When it happened; now when left out.
            permanent: Whether a bounce is for good, which suppresses the address.
            detail: What was said; at most 500 characters are kept.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(
            delivery.ingest_event(type, email_id, message_id, address, time, detail, request_id, permanent=permanent)
        )

    async def get_email(self, email_id: str) -> mail.Email:
        """One mail with its bodies; the first read of an inbound one is recorded. NotFoundError when there is none.

        Args:
            email_id: The mail.
        """
        return await self._caller.run(mail.get_email(email_id))

    async def get_attachment(self, email_id: str, index: int = 0) -> mail.Attachment:
        """One file of a mail with its content; nobody has looked at it for harm.

        Args:
            email_id: The mail.
            index: Which of its `attachments`, from 0.
        """
        return await self._caller.run(mail.get_attachment(email_id, index))

    async def list_emails(
        self,
        *,
        mailbox: str | None = None,
        contact: str | None = None,
        direction: words.Direction | None = None,
        states: words.EmailState | Sequence[words.EmailState] = (),
        thread_id: str = "",
        unread: bool = False,
        limit: int | None = None,
    ) -> AsyncResults[mail.Email]:
        """Mails, newest first, without bodies; all conditions given must hold.

        Args:
            mailbox: Only mails of this mailbox; by address or id.
            contact: Only mails to or from this contact; by address or id.
            direction: Only mails that went this way.
            states: Only mails in this state, or one of these.
            thread_id: Only mails of this thread.
            unread: Only inbound mails that no agent has read yet.
            limit: How many results there may be; iterating walks on without one.
        """
        return await self._caller.results(
            lambda token, size: mail.list_emails(
                mailbox, contact, direction, states, thread_id, token, size, unread=unread
            ),
            limit,
        )

    async def check_inbox(
        self,
        mailbox: str | None = None,
        *,
        contact: str | None = None,
        unread: bool = True,
        limit: int | None = None,
    ) -> AsyncResults[mail.Email]:
        """Mail that arrived and was not read, newest first, without bodies; read one with get_email.

        Args:
            mailbox: Only mail of this mailbox; by address or id.
            contact: Only mail from this contact; by address or id.
            unread: False for all mail that arrived.
            limit: How many results there may be; iterating walks on without one.
        """
        return await self.list_emails(mailbox=mailbox, contact=contact, direction="inbound", unread=unread, limit=limit)
