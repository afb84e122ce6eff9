"""The part of ContactService that streams: every contact that a search finds, and every one that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimail.v1 import contact_service_pb2
from multimail_server.accounts.caller import current_caller
from multimail_server.contacts import convert, requests
from multimail_server.contacts.contact import is_erased
from multimail_server.contacts.filters import holds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multimail_server.contacts.filters import Search
    from multimail_server.contacts.searches import Searches
    from multimail_server.contacts.store import ContactStore
    from multimail_server.notifications.feed import Feed
    from multimail_server.storage.mongo import Document

# After so many numbers without a change of a contact a watcher is told how far the stream is.
_TELLS_AFTER = 500


class StreamCalls:
    """These calls of ContactService, for its servicer to inherit."""

    _contacts: ContactStore
    _searches: Searches
    _feed: Feed

    async def ExportContacts(
        self, request: contact_service_pb2.ExportContactsRequest, context: object
    ) -> AsyncIterator[contact_service_pb2.ExportContactsResponse]:
        """Streams contacts."""
        account = current_caller().account
        search = requests.search_of(account, request)
        async for contact in self._searches.all(account, search, after_id=request.after_id):
            yield contact_service_pb2.ExportContactsResponse(contact=convert.contact_to_proto(contact))

    async def WatchContacts(
        self, request: contact_service_pb2.WatchContactsRequest, context: object
    ) -> AsyncIterator[contact_service_pb2.WatchContactsResponse]:
        """Follows contacts."""
        account = current_caller().account
        requests.search_of(account, request)  # refused now rather than at the first change
        told = await self._feed.start(account, request.after_seq, only_new=request.only_new)
        if request.only_new:
            yield contact_service_pb2.WatchContactsResponse(seq=told)
        async for run in self._feed.follow(account, told):
            changed = {contact: each["seq"] for each in run for contact in each.get("contacts", ())}  # each one's last
            current = await self._contacts.whole(account, list(changed))
            search = requests.search_of(account, request)  # anew: a relative time moves on
            for identifier, seq in sorted(changed.items(), key=lambda each: each[1]):
                told = seq
                yield _told(seq, identifier, current.get(identifier), search)
            if run[-1]["seq"] - told >= _TELLS_AFTER:
                told = run[-1]["seq"]
                yield contact_service_pb2.WatchContactsResponse(seq=told)


def _told(
    seq: int, identifier: str, contact: Document | None, search: Search
) -> contact_service_pb2.WatchContactsResponse:
    if contact is None or is_erased(contact):
        return contact_service_pb2.WatchContactsResponse(seq=seq, contact_id=identifier, erased=True)
    return contact_service_pb2.WatchContactsResponse(
        seq=seq, contact_id=identifier, contact=convert.contact_to_proto(contact), matches=holds(search, contact)
    )
