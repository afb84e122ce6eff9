"""The part of ContactService that makes and reads many contacts at once: one write path for a row of any of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

from multimail.v1 import contact_service_pb2
from multimail_server import errors
from multimail_server.accounts.caller import current_caller
from multimail_server.accounts.request import changing
from multimail_server.aip.paging import MAX_PAGE_BYTES
from multimail_server.contacts import convert, requests
from multimail_server.errors import DomainError, Reason
from multimail_server.mail.convert import refusal_to_proto
from multimail_server.rows import in_order, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multimail_server.contacts.store import Changed, ContactStore
    from multimail_server.storage.mongo import Document
    from multimail_server.storage.operation import Request

# Rows of one import that are being written; while so many are, no more are taken in.
_UNDER_WAY = 500
# Nobody refused the row: it can be written when the engine answers again, or by another process.
_NOT_NOW = {Reason.ENGINE_UNAVAILABLE, Reason.OUTCOME_UNKNOWN, Reason.SHUTTING_DOWN}


class BatchCalls:
    """These calls of ContactService, for its servicer to inherit."""

    _contacts: ContactStore

    async def BatchUpsertContacts(
        self, request: contact_service_pb2.BatchUpsertContactsRequest, context: object
    ) -> contact_service_pb2.BatchUpsertContactsResponse:
        """Makes or merges many contacts."""
        requests.check_rows(len(request.contacts))
        changes = changing("BatchUpsertContacts", request, request.request_id)
        await self._contacts.begin(changes)
        changes = changes._replace(size=changes.size // len(request.contacts), patient=True)
        results = await asyncio.gather(
            *(self._row(changes.row(number), row) for number, row in enumerate(request.contacts)),
            return_exceptions=True,
        )
        return contact_service_pb2.BatchUpsertContactsResponse(outcomes=map(_upserted, map(outcome, results)))

    async def _row(self, changes: Request, row: contact_service_pb2.UpsertContactRequest) -> Changed:
        return await self._contacts.upsert(changes, requests.row_payload(row), merge=True)

    async def ImportContacts(
        self, rows: AsyncIterator[contact_service_pb2.ImportContactsRequest], context: object
    ) -> AsyncIterator[contact_service_pb2.ImportContactsResponse]:
        """Makes or merges a stream of contacts."""
        import_id = ""

        def started(row: contact_service_pb2.ImportContactsRequest) -> tuple[int, Any]:
            nonlocal import_id
            import_id = import_id or row.import_id
            if not import_id:
                raise errors.invalid_field("import_id", "is required in the first message of an import")
            return row.row, self._imported(import_id, row)

        async with contextlib.aclosing(in_order(rows, started, at_once=_UNDER_WAY)) as results:
            async for number, result in results:
                if isinstance(result, DomainError) and result.reason in _NOT_NOW:
                    raise result  # the client goes on from this row
                yield _imported(number, outcome(result))

    async def _imported(self, import_id: str, row: contact_service_pb2.ImportContactsRequest) -> Changed:
        """Writes one row; one with the same number was written before if the import is the same."""
        digest = hashlib.sha256(import_id.encode()).hexdigest()[:32]  # behind a space, which no caller's id has
        changes = changing("ImportContacts", row.contact, f"import {digest} {row.row}")
        payload = requests.row_payload(row.contact)
        return await self._contacts.upsert(changes._replace(patient=True), payload, merge=True)

    async def BatchGetContacts(
        self, request: contact_service_pb2.BatchGetContactsRequest, context: object
    ) -> contact_service_pb2.BatchGetContactsResponse:
        """Reads many contacts."""
        requests.check_rows(len(request.contacts))
        account = current_caller().account
        results = await asyncio.gather(*(self._found(account, row) for row in request.contacts), return_exceptions=True)
        answer = contact_service_pb2.BatchGetContactsResponse(outcomes=map(_found, map(outcome, results)))
        if answer.ByteSize() > MAX_PAGE_BYTES:
            raise errors.invalid_field("contacts", "name more than fits into one answer; ask for fewer")
        return answer

    async def _found(self, account: str, row: contact_service_pb2.GetContactRequest) -> Document:
        if not row.WhichOneof("contact"):
            raise errors.invalid_field("contact", "needs id or email")
        return await self._contacts.get(account, requests.need_of(row))


def _upserted(result: Changed | DomainError) -> contact_service_pb2.ContactOutcome:
    if isinstance(result, DomainError):
        return contact_service_pb2.ContactOutcome(refusal=refusal_to_proto(result))
    return contact_service_pb2.ContactOutcome(upserted=convert.upserted_to_proto(*result))


def _imported(number: int, result: Changed | DomainError) -> contact_service_pb2.ImportContactsResponse:
    if isinstance(result, DomainError):
        return contact_service_pb2.ImportContactsResponse(row=number, refusal=refusal_to_proto(result))
    return contact_service_pb2.ImportContactsResponse(row=number, upserted=convert.upserted_to_proto(*result))


def _found(result: Document | DomainError) -> contact_service_pb2.FoundContact:
    if isinstance(result, DomainError):
        return contact_service_pb2.FoundContact(refusal=refusal_to_proto(result))
    return contact_service_pb2.FoundContact(contact=convert.contact_to_proto(result))
