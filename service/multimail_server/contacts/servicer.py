"""ContactService on the wire: convert in, call, convert out."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from multimail.v1 import contact_pb2, contact_service_pb2, contact_service_pb2_grpc
from multimail_server.accounts.caller import current_caller
from multimail_server.accounts.request import changing
from multimail_server.aip.ordering import parse_order_by
from multimail_server.contacts import convert, requests
from multimail_server.contacts.batches import BatchCalls
from multimail_server.contacts.contact import SORT_FIELDS, check_name
from multimail_server.contacts.context import Known, context_of
from multimail_server.contacts.requests import need_of
from multimail_server.contacts.streams import StreamCalls
from multimail_server.errors import Violations
from multimail_server.mail import convert as mail_convert

if TYPE_CHECKING:
    from typing import Any

    from multimail_server.aip.paging import PageTokens
    from multimail_server.contacts.erasure import Erasures
    from multimail_server.contacts.interactions import Interactions
    from multimail_server.contacts.searches import Searches
    from multimail_server.contacts.store import Changed, ContactStore
    from multimail_server.mail.bounds import Bounds
    from multimail_server.mail.suppressions import SuppressionStore
    from multimail_server.mail.views import MailViews
    from multimail_server.notifications.feed import Feed


class ContactServicer(BatchCalls, StreamCalls, contact_service_pb2_grpc.ContactServiceServicer):
    """Answers ContactService's calls; the context is left alone, the boundary speaks gRPC."""

    def __init__(
        self,
        *,
        contacts: ContactStore,
        searches: Searches,
        erasures: Erasures,
        interactions: Interactions,
        views: MailViews,
        suppressions: SuppressionStore,
        feed: Feed,
        tokens: PageTokens,
        bounds: Bounds,
    ) -> None:
        self._contacts = contacts
        self._searches = searches
        self._erasures = erasures
        self._interactions = interactions
        self._views = views
        self._suppressions = suppressions
        self._feed = feed
        self._tokens = tokens
        self._bounds = bounds

    async def GetCaller(
        self, request: contact_service_pb2.GetCallerRequest, context: object
    ) -> contact_service_pb2.Caller:
        """Tells who calls."""
        caller = current_caller()
        return contact_service_pb2.Caller(
            account=caller.account, key_id=caller.key_id, agent=caller.agent, scopes=sorted(caller.scopes)
        )

    async def CreateContact(
        self, request: contact_service_pb2.CreateContactRequest, context: object
    ) -> contact_service_pb2.CreateContactResponse:
        """Makes a contact, or merges when asked to."""
        changed = await self._put("CreateContact", request, merge=request.upsert)
        return convert.told(contact_service_pb2.CreateContactResponse(), *changed)

    async def UpsertContact(
        self, request: contact_service_pb2.UpsertContactRequest, context: object
    ) -> contact_service_pb2.UpsertContactResponse:
        """Makes a contact or merges."""
        changed = await self._put("UpsertContact", request, merge=True)
        return convert.told(contact_service_pb2.UpsertContactResponse(), *changed)

    async def _put(self, method: str, request: Any, *, merge: bool) -> Changed:
        payload = requests.payload_of(request)
        return await self._contacts.upsert(changing(method, request, request.request_id), payload, merge=merge)

    async def GetContact(self, request: contact_service_pb2.GetContactRequest, context: object) -> contact_pb2.Contact:
        """Reads one contact."""
        return convert.contact_to_proto(await self._contacts.get(current_caller().account, need_of(request)))

    async def UpdateContact(
        self, request: contact_service_pb2.UpdateContactRequest, context: object
    ) -> contact_service_pb2.UpdateContactResponse:
        """Merges, replaces or operates."""
        problems = Violations()
        with problems.collected():
            need = need_of(request)
        with problems.collected():
            check_name(request.name, "name")
        with problems.collected():
            change = convert.change_of(request)
        problems.raise_if_any()
        changed = await self._contacts.update(
            changing("UpdateContact", request, request.request_id),
            need,
            name=request.name if request.HasField("name") else None,
            change=change,
            etag=request.etag,
        )
        return convert.told(contact_service_pb2.UpdateContactResponse(), *changed)

    async def DeleteContact(
        self, request: contact_service_pb2.DeleteContactRequest, context: object
    ) -> contact_pb2.Erasure:
        """Erases a person."""
        changes = changing("DeleteContact", request, request.request_id)
        return convert.erasure_to_proto(await self._erasures.erase(changes, need_of(request), request.etag))

    async def SearchContacts(
        self, request: contact_service_pb2.SearchContactsRequest, context: object
    ) -> contact_service_pb2.SearchContactsResponse:
        """Finds contacts."""
        account = current_caller().account
        search = requests.search_of(account, request)
        order = parse_order_by(request.order_by, SORT_FIELDS)
        page = self._tokens.open_page(account, request)
        found = await self._searches.find(account, search, order=order, after=page.position, limit=page.size + 1)
        contacts, token = page.fill(found, convert.contact_to_proto, lambda each: [each[field] for field, _ in order])
        answer = contact_service_pb2.SearchContactsResponse(contacts=contacts, next_page_token=token)
        if request.explain:
            plan = await self._searches.plan(account, search, order)
            answer.plan.CopyFrom(convert.plan_to_proto(plan, returned=len(contacts)))
        return answer

    async def CountContacts(
        self, request: contact_service_pb2.CountContactsRequest, context: object
    ) -> contact_service_pb2.CountContactsResponse:
        """Counts contacts."""
        account = current_caller().account
        count = await self._searches.count(account, requests.search_of(account, request))
        return contact_service_pb2.CountContactsResponse(count=count)

    async def GetContactContext(
        self, request: contact_service_pb2.GetContactContextRequest, context: object
    ) -> contact_service_pb2.ContactContext:
        """Reads what is worth knowing before an act."""
        account = current_caller().account
        budget = requests.budget_of(request)
        contact = await self._contacts.get(account, need_of(request))
        around, suppressed = await asyncio.gather(
            self._views.around(account, contact, now=datetime.now(UTC), open_for=self._bounds.open_for),
            self._suppressions.list(account, key=contact["email_keys"][0], after="", limit=1),
        )
        known = Known(contact, suppressed[0] if suppressed else None, *around)
        written = context_of(known, budget=budget, mark=secrets.token_hex(4))
        shown = await self._interactions.with_mailboxes(account, known.emails[: written.shown])
        return contact_service_pb2.ContactContext(
            contact=convert.contact_to_proto(contact),
            text=written.text,
            truncated=written.truncated,
            interactions=map(convert.interaction_to_proto, shown),
            open_threads=map(mail_convert.thread_to_proto, known.threads),
            pending=map(mail_convert.email_to_proto, known.pending),
            suppression=mail_convert.suppression_to_proto(known.suppression) if known.suppression else None,
        )

    async def ListInteractions(
        self, request: contact_service_pb2.ListInteractionsRequest, context: object
    ) -> contact_service_pb2.ListInteractionsResponse:
        """Reads one contact's log."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        contact = await self._contacts.get(account, need_of(request))
        found = await self._interactions.list(account, contact["_id"], before=page.position, limit=page.size + 1)
        interactions, token = page.fill(found, convert.interaction_to_proto, lambda each: [each["at"], each["_id"]])
        return contact_service_pb2.ListInteractionsResponse(interactions=interactions, next_page_token=token)
