"""The part of MailService that tells what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimail.v1 import mail_service_pb2
from multimail_server.accounts.caller import current_caller
from multimail_server.mail import convert, requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from multimail_server.aip.paging import PageTokens
    from multimail_server.mail.mailboxes import MailboxStore
    from multimail_server.notifications.feed import Feed
    from multimail_server.notifications.store import NotificationStore
    from multimail_server.storage.documents import Document

# A stream tells how far it is after so many notifications that its filters left out.
_TELLS_AFTER = 100


class NotificationCalls:
    """These calls of MailService, for its servicer to inherit."""

    _mailboxes: MailboxStore
    _notifications: NotificationStore
    _feed: Feed
    _tokens: PageTokens

    async def ListNotifications(
        self, request: mail_service_pb2.ListNotificationsRequest, context: object
    ) -> mail_service_pb2.ListNotificationsResponse:
        """Lists what happened."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        after = page.position[0] if page.position else request.after_seq
        shows = await self._shows(account, request)
        found, looked = await self._notifications.list(account, after=after, shows=shows, limit=page.size)
        notifications, token = page.fill(
            found, convert.notification_to_proto, lambda each: [each["seq"]], behind=[looked] if looked else None
        )
        return mail_service_pb2.ListNotificationsResponse(notifications=notifications, next_page_token=token)

    async def WatchNotifications(
        self, request: mail_service_pb2.WatchNotificationsRequest, context: object
    ) -> AsyncIterator[mail_service_pb2.WatchNotificationsResponse]:
        """Follows what happens."""
        account = current_caller().account
        shows = await self._shows(account, request)
        told = await self._feed.start(account, request.after_seq, only_new=request.only_new)
        if request.only_new:
            # Else who is cut off before the first notification could not tell where to go on.
            yield mail_service_pb2.WatchNotificationsResponse(seq=told)
        async for run in self._feed.follow(account, told):
            for notification in run:
                if shows(notification):
                    told = notification["seq"]
                    yield mail_service_pb2.WatchNotificationsResponse(
                        notification=convert.notification_to_proto(notification), seq=told
                    )
            if run[-1]["seq"] - told >= _TELLS_AFTER:
                told = run[-1]["seq"]
                yield mail_service_pb2.WatchNotificationsResponse(seq=told)

    async def _shows(
        self,
        account: str,
        request: mail_service_pb2.ListNotificationsRequest | mail_service_pb2.WatchNotificationsRequest,
    ) -> Callable[[Document], bool]:
        """Which notifications a request wants to see."""
        types = {convert.NOTIFICATION_NAMES[each] for each in request.types if each}
        mailbox = ""
        if request.WhichOneof("mailbox"):
            mailbox = (await self._mailboxes.get(account, requests.mailbox_need(request, "mailbox")))["_id"]

        def shows(notification: Document) -> bool:
            return (
                notification["shown"]
                and (not types or notification["type"] in types)
                and (not mailbox or notification.get("mailbox") == mailbox)
            )

        return shows
