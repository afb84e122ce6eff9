"""ContactService on the wire: convert in, call, convert out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from multimail.v1 import contact_pb2, contact_service_pb2, contact_service_pb2_grpc
from multimail_server.accounts.caller import current_caller
from multimail_server.accounts.request import changing
from multimail_server.aip.address import parse_address
from multimail_server.contacts import convert, filters
from multimail_server.contacts import metadata as metadata_rules
from multimail_server.contacts.contact import check_name
from multimail_server.errors import Violations
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from multimail_server.aip.paging import PageTokens
    from multimail_server.contacts.erasure import Erasures
    from multimail_server.contacts.interactions import Interactions
    from multimail_server.contacts.store import Changed, ContactStore
    from multimail_server.storage.mongo import Document

_Creating = contact_service_pb2.CreateContactRequest | contact_service_pb2.UpsertContactRequest
_Naming = (
    contact_service_pb2.GetContactRequest
    | contact_service_pb2.UpdateContactRequest
    | contact_service_pb2.DeleteContactRequest
    | contact_service_pb2.ListInteractionsRequest
)


class ContactServicer(contact_service_pb2_grpc.ContactServiceServicer):
    """Answers ContactService's calls; the context is left alone, the boundary speaks gRPC."""

    def __init__(
        self, contacts: ContactStore, erasures: Erasures, interactions: Interactions, tokens: PageTokens
    ) -> None:
        self._contacts = contacts
        self._erasures = erasures
        self._interactions = interactions
        self._tokens = tokens

    async def CreateContact(
        self, request: contact_service_pb2.CreateContactRequest, context: object
    ) -> contact_service_pb2.CreateContactResponse:
        """Makes a contact, or merges when asked to."""
        contact, outcome = await self._put("CreateContact", request, merge=request.upsert)
        return contact_service_pb2.CreateContactResponse(
            contact=convert.contact_to_proto(contact), outcome=convert.OUTCOMES[outcome]
        )

    async def UpsertContact(
        self, request: contact_service_pb2.UpsertContactRequest, context: object
    ) -> contact_service_pb2.UpsertContactResponse:
        """Makes a contact or merges."""
        contact, outcome = await self._put("UpsertContact", request, merge=True)
        return contact_service_pb2.UpsertContactResponse(
            contact=convert.contact_to_proto(contact), outcome=convert.OUTCOMES[outcome]
        )

    async def _put(self, method: str, request: _Creating, *, merge: bool) -> Changed:
        problems = Violations()
        metadata: Document = {}
        with problems.collected():
            address = parse_address(request.email, "email")
        with problems.collected():
            check_name(request.name, "name")
        with problems.collected():
            metadata = metadata_rules.normalise(convert.struct_to_json(request.metadata), "metadata")
            metadata_rules.check_limits(metadata_rules.merge({}, metadata))
        last_contacted = None
        if request.HasField("last_contacted"):
            with problems.collected():
                last_contacted = convert.moment(request.last_contacted, "last_contacted")
        problems.raise_if_any()
        return await self._contacts.upsert(
            changing(method, request, request.request_id),
            address,
            name=request.name if request.HasField("name") else None,
            metadata=metadata,
            last_contacted=last_contacted,
            merge=merge,
        )

    async def GetContact(self, request: contact_service_pb2.GetContactRequest, context: object) -> contact_pb2.Contact:
        """Reads one contact."""
        return convert.contact_to_proto(await self._find(request))

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
        contact, outcome = await self._contacts.update(
            changing("UpdateContact", request, request.request_id),
            need,
            name=request.name if request.HasField("name") else None,
            change=change,
            etag=request.etag,
        )
        return contact_service_pb2.UpdateContactResponse(
            contact=convert.contact_to_proto(contact), outcome=convert.OUTCOMES[outcome]
        )

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
        search = filters.compile_search(
            account,
            query=request.query,
            email=request.email,
            domain=request.domain,
            name=request.name,
            filters={key: convert.value_to_json(value) for key, value in request.filters.items()},
            now=datetime.now(UTC),
        )
        page = self._tokens.open_page(account, request)
        after = page.position[0] if page.position else ""
        found = await self._contacts.search(account, search, after=after, limit=page.size + 1)
        contacts, token = page.fill(found, convert.contact_to_proto, lambda each: [each["_id"]])
        return contact_service_pb2.SearchContactsResponse(contacts=contacts, next_page_token=token)

    async def ListInteractions(
        self, request: contact_service_pb2.ListInteractionsRequest, context: object
    ) -> contact_service_pb2.ListInteractionsResponse:
        """Reads one contact's log."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        contact = await self._find(request)
        found = await self._interactions.list(account, contact["_id"], before=page.position, limit=page.size + 1)
        interactions, token = page.fill(found, convert.interaction_to_proto, lambda each: [each["at"], each["_id"]])
        return contact_service_pb2.ListInteractionsResponse(interactions=interactions, next_page_token=token)

    async def _find(self, request: _Naming) -> Document:
        account = current_caller().account
        need = need_of(request)
        if need.field == "_id":
            return await self._contacts.get(account, need.values[0])
        return await self._contacts.get_by_address(account, need.values[0])


def need_of(request: _Naming) -> Need:
    """The one contact a request names, by id or by address."""
    if request.WhichOneof("contact") == "id":
        return Need("contacts", "_id", (request.id,))
    return Need("contacts", "email_keys", (parse_address(request.email, "email").key,))
