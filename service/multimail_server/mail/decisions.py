"""The part of MailService by which people decide: mail that waits for one, and mail in doubt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from multimail.v1 import mail_pb2, mail_service_pb2
from multimail_server.accounts.caller import current_caller
from multimail_server.accounts.request import changing
from multimail_server.aip.paging import MAX_PAGE_BYTES
from multimail_server.contacts.convert import contact_to_proto, interaction_to_proto
from multimail_server.mail import convert, requests
from multimail_server.rows import outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from multimail_server.aip.paging import Page, PageTokens
    from multimail_server.contacts.interactions import Interactions
    from multimail_server.contacts.store import ContactStore
    from multimail_server.mail.mailboxes import MailboxStore
    from multimail_server.mail.outbox import Outbox
    from multimail_server.mail.store import MailStore
    from multimail_server.mail.views import MailViews
    from multimail_server.storage.documents import Document
    from multimail_server.storage.operation import Request

_HELD_PEOPLE = 10
_HELD_INTERACTIONS = 5
_HELD_AT_ONCE = 20


class DecisionCalls:
    """These calls of MailService, for its servicer to inherit."""

    _mailboxes: MailboxStore
    _mail: MailStore
    _views: MailViews
    _contacts: ContactStore
    _interactions: Interactions
    _outbox: Outbox
    _tokens: PageTokens

    async def ListHeldEmails(
        self, request: mail_service_pb2.ListHeldEmailsRequest, context: object
    ) -> mail_service_pb2.ListHeldEmailsResponse:
        """Lists mail that waits for a person, with what a decision needs."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        mailbox = ""
        if request.WhichOneof("mailbox"):
            mailbox = (await self._mailboxes.get(account, requests.mailbox_need(request, "mailbox")))["_id"]
        rows = await self._held(account, mailbox, page)
        emails, token = page.fill(rows, lambda row: row[0], lambda row: row[1])
        return mail_service_pb2.ListHeldEmailsResponse(emails=emails, next_page_token=token)

    async def _held(self, account: str, mailbox: str, page: Page) -> list[tuple[mail_service_pb2.HeldEmail, list[Any]]]:
        """Held mails with their positions, some at a time until they fill the page: each may be large."""
        rows: list[tuple[mail_service_pb2.HeldEmail, list[Any]]] = []
        after, room = page.position, MAX_PAGE_BYTES
        while len(rows) <= page.size and (room >= 0 or len(rows) < 2):
            limit = min(_HELD_AT_ONCE, page.size + 1 - len(rows))
            found = await self._views.list_held(account, mailbox=mailbox, after=after, limit=limit)
            people = await asyncio.gather(*(self._people(account, email) for email in found))
            for email, persons in zip(found, people, strict=True):
                shown = mail_service_pb2.HeldEmail(email=convert.email_to_proto(email), people=persons)
                room -= shown.ByteSize()
                after = [email["at"], email["_id"]]
                rows.append((shown, after))
            if len(found) < limit:
                break
        return rows

    async def _people(self, account: str, email: Document) -> list[mail_service_pb2.HeldPerson]:
        """Who a held mail goes to or came from, and what was last written."""
        contacts = await self._contacts.known(account, email["people"] or [email["author"]], limit=_HELD_PEOPLE)
        logs = await asyncio.gather(
            *(
                self._interactions.list(account, contact["_id"], before=None, limit=_HELD_INTERACTIONS)
                for contact in contacts
            )
        )
        return [
            mail_service_pb2.HeldPerson(
                contact=contact_to_proto(contact), interactions=[interaction_to_proto(each) for each in log]
            )
            for contact, log in zip(contacts, logs, strict=True)
        ]

    async def ApproveEmails(
        self, request: mail_service_pb2.ApproveEmailsRequest, context: object
    ) -> mail_service_pb2.ApproveEmailsResponse:
        """Approves held mails."""
        changes = changing("ApproveEmails", request, request.request_id)
        outcomes = await self._decided(changes, request, self._mail.approve)
        self._outbox.wake()
        return mail_service_pb2.ApproveEmailsResponse(outcomes=outcomes)

    async def RejectEmails(
        self, request: mail_service_pb2.RejectEmailsRequest, context: object
    ) -> mail_service_pb2.RejectEmailsResponse:
        """Rejects held mails."""
        changes = changing("RejectEmails", request, request.request_id)
        outcomes = await self._decided(changes, request, self._mail.reject)
        return mail_service_pb2.RejectEmailsResponse(outcomes=outcomes)

    async def _decided(
        self,
        changes: Request,
        request: mail_service_pb2.ApproveEmailsRequest | mail_service_pb2.RejectEmailsRequest,
        decide: Callable[[Request, str, str, str], Awaitable[Document]],
    ) -> list[mail_service_pb2.DecisionOutcome]:
        """Decides about each mail by itself, all of them at once."""
        decisions = requests.decisions_of(request)
        await self._mail.begin(changes)
        results = await asyncio.gather(
            *(
                decide(changes.row(number), email_id, digest, request.reason)
                for number, (email_id, digest) in enumerate(decisions)
            ),
            return_exceptions=True,
        )
        return [
            convert.decision_to_proto(email_id, outcome(result))
            for (email_id, _), result in zip(decisions, results, strict=True)
        ]

    async def ResolveEmail(self, request: mail_service_pb2.ResolveEmailRequest, context: object) -> mail_pb2.Email:
        """Ends the doubt about a mail."""
        changes = changing("ResolveEmail", request, request.request_id)
        email = await self._mail.resolve(changes, request.id, convert.RESOLUTIONS[request.resolution])
        self._outbox.wake()
        return convert.email_to_proto(email)
