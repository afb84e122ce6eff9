"""MailService on the wire: convert in, call, convert out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail.v1 import mail_pb2, mail_service_pb2, mail_service_pb2_grpc
from multimail_server import errors
from multimail_server.accounts.caller import current_caller
from multimail_server.accounts.request import changing
from multimail_server.aip.address import Address, parse_address
from multimail_server.errors import Violations
from multimail_server.mail import convert, oversight
from multimail_server.mail.accepting import Sending
from multimail_server.mail.compose import MAX_SUBJECT, check_header_text, check_text
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multimail_server.aip.paging import PageTokens
    from multimail_server.contacts.store import ContactStore
    from multimail_server.mail.mailboxes import MailboxStore
    from multimail_server.mail.outbox import Outbox
    from multimail_server.mail.store import MailStore
    from multimail_server.notifications.store import NotificationStore

MAX_RECIPIENTS = 50
MAX_DISPLAY_NAME = 256
MAX_RAW_BYTES = 10 << 20


class MailServicer(mail_service_pb2_grpc.MailServiceServicer):
    """Answers MailService's calls; the context is left alone, the boundary speaks gRPC."""

    def __init__(
        self,
        mailboxes: MailboxStore,
        mail: MailStore,
        contacts: ContactStore,
        notifications: NotificationStore,
        outbox: Outbox,
        tokens: PageTokens,
    ) -> None:
        self._mailboxes = mailboxes
        self._mail = mail
        self._contacts = contacts
        self._notifications = notifications
        self._outbox = outbox
        self._tokens = tokens

    async def CreateMailbox(self, request: mail_service_pb2.CreateMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Makes a mailbox."""
        mode = convert.MODE_NAMES[request.oversight_mode] or oversight.DEFAULT
        problems = Violations()
        with problems.collected():
            address = parse_address(request.email, "email")
        with problems.collected():
            _check_display_name(request.display_name)
        problems.raise_if_any()
        oversight.require_available(mode)
        if oversight.is_looser(mode, oversight.DEFAULT):
            current_caller().require("oversight")
        changes = changing("CreateMailbox", request, request.request_id)
        made = await self._mailboxes.create(changes, address, display_name=request.display_name, mode=mode)
        return convert.mailbox_to_proto(made)

    async def GetMailbox(self, request: mail_service_pb2.GetMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Reads one mailbox."""
        found = await self._mailboxes.get(current_caller().account, _mailbox_need(request, "mailbox"))
        return convert.mailbox_to_proto(found)

    async def ListMailboxes(
        self, request: mail_service_pb2.ListMailboxesRequest, context: object
    ) -> mail_service_pb2.ListMailboxesResponse:
        """Lists mailboxes."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        after = page.position[0] if page.position else ""
        found = await self._mailboxes.list(account, after=after, limit=page.size + 1)
        mailboxes, token = page.fill(found, convert.mailbox_to_proto, lambda each: [each["_id"]])
        return mail_service_pb2.ListMailboxesResponse(mailboxes=mailboxes, next_page_token=token)

    async def UpdateMailbox(self, request: mail_service_pb2.UpdateMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Changes a mailbox."""
        mode = convert.MODE_NAMES[request.oversight_mode]
        _check_display_name(request.display_name)
        if mode:
            oversight.require_available(mode)
        caller = current_caller()
        changed = await self._mailboxes.update(
            changing("UpdateMailbox", request, request.request_id),
            _mailbox_need(request, "mailbox"),
            display_name=request.display_name if request.HasField("display_name") else None,
            mode=mode,
            etag=request.etag,
            may_loosen=lambda: caller.require("oversight"),
        )
        return convert.mailbox_to_proto(changed)

    async def DeleteMailbox(self, request: mail_service_pb2.DeleteMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Deletes a mailbox."""
        changes = changing("DeleteMailbox", request, request.request_id)
        need = _mailbox_need(request, "mailbox")
        return convert.mailbox_to_proto(await self._mailboxes.delete(changes, need, etag=request.etag))

    async def SendEmail(
        self, request: mail_service_pb2.SendEmailRequest, context: object
    ) -> mail_service_pb2.SendEmailResponse:
        """Accepts a mail."""
        problems = Violations()
        with problems.collected():
            need = _mailbox_need(request, "from")
        with problems.collected():
            to = _recipients(request.to)
        with problems.collected():
            _check_subject(request.subject)
        with problems.collected():
            check_text(request.body, "body")
        problems.raise_if_any()
        sending = Sending(need, to, request.subject, request.body, convert.MODE_NAMES[request.oversight_mode])
        email = await self._mail.send(changing("SendEmail", request, request.request_id), sending)
        self._outbox.wake()
        return mail_service_pb2.SendEmailResponse(email=convert.email_to_proto(email))

    async def ReplyEmail(
        self, request: mail_service_pb2.ReplyEmailRequest, context: object
    ) -> mail_service_pb2.ReplyEmailResponse:
        """Accepts an answer."""
        problems = Violations()
        with problems.collected():
            _check_subject(request.subject)
        with problems.collected():
            check_text(request.body, "body")
        problems.raise_if_any()
        email = await self._mail.reply(
            changing("ReplyEmail", request, request.request_id),
            request.email_id,
            text=request.body,
            subject=request.subject if request.HasField("subject") else None,
            mode=convert.MODE_NAMES[request.oversight_mode],
        )
        self._outbox.wake()
        return mail_service_pb2.ReplyEmailResponse(email=convert.email_to_proto(email))

    async def IngestEmail(
        self, request: mail_service_pb2.IngestEmailRequest, context: object
    ) -> mail_service_pb2.IngestEmailResponse:
        """Takes in a raw mail."""
        if len(request.raw) > MAX_RAW_BYTES:
            raise errors.invalid_field("raw", f"is longer than {MAX_RAW_BYTES} bytes")
        if request.envelope_from:
            parse_address(request.envelope_from, "envelope_from")
        changes = changing("IngestEmail", request, "")
        mailbox = await self._mailboxes.get(changes.account, _mailbox_need(request, "mailbox"))
        need = Need("mailboxes", "_id", (mailbox["_id"],))
        email, duplicate = await self._mail.take_in(changes, need, request.raw, request.envelope_from)
        return mail_service_pb2.IngestEmailResponse(email=convert.email_to_proto(email), duplicate=duplicate)

    async def GetEmail(self, request: mail_service_pb2.GetEmailRequest, context: object) -> mail_pb2.Email:
        """Reads one mail, and records the first read of an inbound one."""
        email = await self._mail.get_with_content(current_caller().account, request.id)
        if email["direction"] == "inbound" and email["read_at"] is None:
            read = await self._mail.mark_read(changing("GetEmail", request, ""), request.id)
            email = email | {"read_at": read["read_at"]}
        return convert.email_to_proto(email)

    async def ListEmails(
        self, request: mail_service_pb2.ListEmailsRequest, context: object
    ) -> mail_service_pb2.ListEmailsResponse:
        """Lists mails."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        equal = await self._parties(account, request, mailbox_field="mailbox")
        if request.thread_id:
            equal["thread"] = request.thread_id
        rest: dict[str, Any] = {}
        if request.direction:
            rest["direction"] = convert.DIRECTION_NAMES[request.direction]
        if request.states:
            rest["state"] = {"$in": [convert.STATE_NAMES.get(state, "") for state in request.states]}
        if request.unread:
            rest |= {"direction": {"$in": ["inbound"], **_eq(rest.get("direction"))}, "read_at": None}
        found = await self._mail.list_emails(account, equal=equal, rest=rest, before=page.position, limit=page.size + 1)
        emails, token = page.fill(found, convert.email_to_proto, lambda each: [each["at"], each["_id"]])
        return mail_service_pb2.ListEmailsResponse(emails=emails, next_page_token=token)

    async def ListThreads(
        self, request: mail_service_pb2.ListThreadsRequest, context: object
    ) -> mail_service_pb2.ListThreadsResponse:
        """Lists conversations."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        equal = await self._parties(account, request, mailbox_field="mailboxes")
        after = page.position[0] if page.position else ""
        found = await self._mail.list_threads(account, equal=equal, after=after, limit=page.size + 1)
        threads, token = page.fill(found, convert.thread_to_proto, lambda each: [each["_id"]])
        return mail_service_pb2.ListThreadsResponse(threads=threads, next_page_token=token)

    async def GetThread(
        self, request: mail_service_pb2.GetThreadRequest, context: object
    ) -> mail_service_pb2.GetThreadResponse:
        """Reads one conversation."""
        thread, emails = await self._mail.get_thread(current_caller().account, request.id)
        return mail_service_pb2.GetThreadResponse(
            thread=convert.thread_to_proto(thread), emails=[convert.email_to_proto(each) for each in emails]
        )

    async def ListNotifications(
        self, request: mail_service_pb2.ListNotificationsRequest, context: object
    ) -> mail_service_pb2.ListNotificationsResponse:
        """Lists what happened."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        after = page.position[0] if page.position else request.after_seq
        found = await self._notifications.list(account, after=after, limit=page.size + 1)
        notifications, token = page.fill(found, convert.notification_to_proto, lambda each: [each["seq"]])
        return mail_service_pb2.ListNotificationsResponse(notifications=notifications, next_page_token=token)

    async def _parties(
        self,
        account: str,
        request: mail_service_pb2.ListEmailsRequest | mail_service_pb2.ListThreadsRequest,
        *,
        mailbox_field: str,
    ) -> dict[str, str]:
        """The mailbox and the contact a list is limited to, by id; NOT_FOUND when there is no such one."""
        equal = {}
        if request.WhichOneof("mailbox"):
            mailbox = await self._mailboxes.get(account, _mailbox_need(request, "mailbox"))
            equal[mailbox_field] = mailbox["_id"]
        if request.WhichOneof("contact") == "contact_id":
            equal["people"] = (await self._contacts.get(account, request.contact_id))["_id"]
        elif request.WhichOneof("contact"):
            key = parse_address(request.contact_email, "contact_email").key
            equal["people"] = (await self._contacts.get_by_address(account, key))["_id"]
        return equal


def _eq(direction: str | None) -> dict[str, str]:
    return {"$eq": direction} if direction else {}


def _mailbox_need(request: Any, oneof: str) -> Need:
    """The one mailbox a request names, by id or by address."""
    field = request.WhichOneof(oneof)
    value = getattr(request, field)
    if field.endswith("email"):
        return Need("mailboxes", "email_key", (parse_address(value, field).key,))
    return Need("mailboxes", "_id", (value,))


def _recipients(given: Sequence[str]) -> list[Address]:
    problems = Violations()
    addresses: dict[str, Address] = {}
    if len(given) > MAX_RECIPIENTS:
        raise errors.invalid_field("to", f"holds {len(given)} addresses; at most {MAX_RECIPIENTS} are allowed")
    for number, text in enumerate(given):
        with problems.collected():
            address = parse_address(text, f"to[{number}]")
            if address.key in addresses:
                problems.add(f"to[{number}]", "is there twice")
            addresses[address.key] = address
    problems.raise_if_any()
    return list(addresses.values())


def _check_subject(subject: str) -> None:
    if len(subject) > MAX_SUBJECT:
        raise errors.invalid_field("subject", f"is {len(subject)} characters long; at most {MAX_SUBJECT} are allowed")
    check_header_text(subject, "subject")


def _check_display_name(name: str) -> None:
    if len(name) > MAX_DISPLAY_NAME:
        raise errors.invalid_field("display_name", f"is longer than {MAX_DISPLAY_NAME} characters")
    check_header_text(name, "display_name")
