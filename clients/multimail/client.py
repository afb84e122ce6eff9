"""The synchronous client; made from aio.py by `make sync`, so edit that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from multimail import delivery, mail, oversight, sending
from multimail._caller import Caller
from multimail._sync import Contacts, Mailboxes, Notifications, Suppressions, Threads
from multimail._wire import DEFAULT_TIMEOUT_S, endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from multimail.paging import Results


class Client:
    """Multimail, synchronously.

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
        with multimail.Client() as client:
            found = client.contacts.search(domain="acmecorp.com", filters={"metadata.plan": "pro"})
            for contact in found:
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
        self._caller = Caller(endpoint(api_key, target, timeout, tls=tls, ca=ca))
        self.contacts = Contacts(self._caller)
        self.mailboxes = Mailboxes(self._caller)
        self.threads = Threads(self._caller)
        self.notifications = Notifications(self._caller)
        self.suppressions = Suppressions(self._caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._caller.close()

    def send_email(
        self,
        *,
        from_mailbox: str,
        to: str | Sequence[str],
        subject: str = "",
        body: str = "",
        oversight_mode: str | None = None,
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
            to: One address, or several.
            subject: The subject.
            body: The text.
            oversight_mode: A stricter mode for this mail, such as `gated_send`; the mailbox's own when left out.
            cc: Further recipients, shown to all.
            bcc: Further recipients, shown to nobody.
            reply_to: Where answers shall go instead of the mailbox.
            html_body: HTML beside, or instead of, the text; what could harm a reader is taken out.
            markdown_body: Markdown instead of text and HTML.
            attachments: Files, 10 MiB in all.
            send_time: When to send it; at once when left out.
            guard: What must be true of the recipient; needs exactly one `to`.
            list_unsubscribe: Let recipients unsubscribe by mail.
            validate_only: Only say what would happen; the mail returned has no id.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            GuardRefusedError: The guard refused; it names the rule and the earlier mail.
            FailedPreconditionError: The mailbox's mode forbids it, or the address is suppressed.
            ResourceExhaustedError: The conversation goes faster than people write; see `retry_after`.
        """
        return self._caller.run(
            sending.send(
                from_mailbox, to, subject=subject, body=body, oversight_mode=oversight_mode, cc=cc, bcc=bcc,
                reply_to=reply_to, html_body=html_body, markdown_body=markdown_body, attachments=attachments,
                send_time=send_time, guard=guard, list_unsubscribe=list_unsubscribe, validate_only=validate_only,
                request_id=request_id,
            )
        )  # fmt: skip

    def reply_email(
        self,
        email_id: str,
        *,
        body: str = "",
        subject: str | None = None,
        oversight_mode: str | None = None,
        html_body: str = "",
        markdown_body: str = "",
        attachments: Sequence[sending.OutgoingAttachment] = (),
        send_time: datetime | None = None,
        reply_all: bool = False,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> mail.Email:
        """Answers a mail in its thread, from the mailbox it went through; with `reply_all` everybody in To and Cc."""
        return self._caller.run(
            sending.reply(
                email_id, body=body, subject=subject, oversight_mode=oversight_mode, html_body=html_body,
                markdown_body=markdown_body, attachments=attachments, send_time=send_time, reply_all=reply_all,
                validate_only=validate_only, request_id=request_id,
            )
        )  # fmt: skip

    def cancel_email(self, email_id: str, *, request_id: str | None = None) -> mail.Email:
        """Stops a mail that has not left; FailedPreconditionError when it is too late."""
        return self._caller.run(sending.cancel(email_id, request_id))

    def update_email(
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
        """Changes a held or scheduled mail, whose approval is void by that; a body replaces text and HTML together.

        With `content_sha256` only while that is still its content; else FailedPreconditionError, CONTENT_CHANGED.
        """
        return self._caller.run(
            sending.update(
                email_id, subject=subject, body=body, html_body=html_body, markdown_body=markdown_body,
                content_sha256=content_sha256, request_id=request_id,
            )
        )  # fmt: skip

    def check_sends(
        self,
        *,
        from_mailbox: str,
        to: str | Sequence[str],
        guard: sending.Guard | None = None,
        oversight_mode: str | None = None,
    ) -> list[sending.SendCheck]:
        """Whether a mail to each of up to 1000 addresses would be accepted now, in their order; sends nothing."""
        return self._caller.run(sending.check(from_mailbox, to, guard, oversight_mode))

    def list_held_emails(self, *, mailbox: str | None = None, limit: int | None = None) -> Results[oversight.HeldEmail]:
        """Mail that waits for a person, oldest first: its content, its people, and what was last written."""
        return self._caller.results(lambda token, size: oversight.list_held(mailbox, token, size), limit)

    def approve_emails(
        self,
        emails: Sequence[oversight.HeldEmail | mail.Email | tuple[str, str]],
        *,
        reason: str = "",
        request_id: str | None = None,
    ) -> list[oversight.DecisionOutcome]:
        """Lets held mails go, each for exactly the content that was read; one outcome for each, in their order.

        Args:
            emails: Held mails as they were read, or pairs of id and `content_sha256`.
            reason: Why; kept with each mail.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(oversight.approve(emails, reason, request_id))

    def reject_emails(
        self,
        emails: Sequence[oversight.HeldEmail | mail.Email | tuple[str, str]],
        *,
        reason: str,
        request_id: str | None = None,
    ) -> list[oversight.DecisionOutcome]:
        """Ends held mails for good: they never go out, or are never shown. As approve_emails."""
        return self._caller.run(oversight.reject(emails, reason, request_id))

    def resolve_email(self, email_id: str, resolution: str, *, request_id: str | None = None) -> mail.Email:
        """Ends the doubt about an in_doubt mail: it was `sent`, it `failed`, or `send_again`."""
        return self._caller.run(oversight.resolve(email_id, resolution, request_id))

    def ingest_email(
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
            raw: Headers, an empty line, the body.
            envelope_from: The envelope's sender; empty for bounces.
            envelope_to: The envelope's recipient where it is not the mailbox's own address: `box+…@domain`.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(mail.ingest(mailbox, raw, envelope_from, envelope_to, request_id))

    def ingest_event(
        self,
        type: str,
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
            type: `delivered`, `bounced`, `complained` or `opened`.
            email_id: The mail; this or `message_id`.
            message_id: The mail by its Message-ID.
            address: The recipient; may be left out when the mail has only one.
            time: When it happened; now when left out.
            permanent: Whether a bounce is for good, which suppresses the address.
            detail: What was said.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(
            delivery.ingest_event(type, email_id, message_id, address, time, detail, request_id, permanent=permanent)
        )

    def get_email(self, email_id: str) -> mail.Email:
        """One mail with its bodies; the first read of an inbound one is recorded."""
        return self._caller.run(mail.get_email(email_id))

    def get_attachment(self, email_id: str, index: int = 0) -> mail.Attachment:
        """One file of a mail with its content, counted from 0; nobody has looked at it for harm."""
        return self._caller.run(mail.get_attachment(email_id, index))

    def list_emails(
        self,
        *,
        mailbox: str | None = None,
        contact: str | None = None,
        direction: str | None = None,
        states: str | Sequence[str] = (),
        thread_id: str = "",
        unread: bool = False,
        limit: int | None = None,
    ) -> Results[mail.Email]:
        """Mails, newest first, without bodies; mailbox and contact by address or id."""
        return self._caller.results(
            lambda token, size: mail.list_emails(
                mailbox, contact, direction, states, thread_id, token, size, unread=unread
            ),
            limit,
        )

    def check_inbox(
        self,
        mailbox: str | None = None,
        *,
        contact: str | None = None,
        unread: bool = True,
        limit: int | None = None,
    ) -> Results[mail.Email]:
        """Mail that arrived and was not read, newest first, without bodies; read one with get_email.

        With `unread=False` all mail that arrived.
        """
        return self.list_emails(mailbox=mailbox, contact=contact, direction="inbound", unread=unread, limit=limit)
