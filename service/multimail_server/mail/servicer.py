"""MailService on the wire: convert in, call, convert out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from multimail.v1 import mail_pb2, mail_service_pb2, mail_service_pb2_grpc
from multimail_server import beside, errors
from multimail_server.accounts.caller import current_caller
from multimail_server.accounts.request import changing
from multimail_server.aip.address import parse_address
from multimail_server.errors import Violations
from multimail_server.mail import convert, oversight, requests
from multimail_server.mail.content import content_of
from multimail_server.mail.decisions import DecisionCalls
from multimail_server.mail.events import MAX_DETAIL, Event
from multimail_server.mail.mime import MAX_RAW_BYTES
from multimail_server.notifications.servicer import NotificationCalls
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from multimail_server.aip.paging import PageTokens
    from multimail_server.contacts.interactions import Interactions
    from multimail_server.contacts.store import ContactStore
    from multimail_server.mail.bounds import Bounds
    from multimail_server.mail.mailboxes import MailboxStore
    from multimail_server.mail.outbox import Outbox
    from multimail_server.mail.store import MailStore
    from multimail_server.mail.suppressions import SuppressionStore
    from multimail_server.mail.tags import Tags
    from multimail_server.mail.views import MailViews
    from multimail_server.notifications.feed import Feed
    from multimail_server.notifications.store import NotificationStore


class MailServicer(DecisionCalls, NotificationCalls, mail_service_pb2_grpc.MailServiceServicer):
    """Answers MailService's calls; the context is left alone, the boundary speaks gRPC."""

    def __init__(
        self,
        *,
        mailboxes: MailboxStore,
        mail: MailStore,
        views: MailViews,
        suppressions: SuppressionStore,
        contacts: ContactStore,
        interactions: Interactions,
        notifications: NotificationStore,
        feed: Feed,
        outbox: Outbox,
        tokens: PageTokens,
        tags: Tags,
        bounds: Bounds,
    ) -> None:
        self._mailboxes = mailboxes
        self._mail = mail
        self._views = views
        self._suppressions = suppressions
        self._contacts = contacts
        self._interactions = interactions
        self._notifications = notifications
        self._feed = feed
        self._outbox = outbox
        self._tokens = tokens
        self._tags = tags
        self._bounds = bounds

    async def CreateMailbox(self, request: mail_service_pb2.CreateMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Makes a mailbox."""
        mode = convert.MODE_NAMES[request.oversight_mode] or oversight.DEFAULT
        problems = Violations()
        with problems.collected():
            address = parse_address(request.email, "email")
        with problems.collected():
            requests.check_display_name(request.display_name)
        with problems.collected():
            rules = requests.rules_of(request, request.allow_list, ttl=self._bounds.approval_ttl)
        problems.raise_if_any()
        if oversight.is_looser(mode, oversight.DEFAULT) or request.allow_list:
            current_caller().require("oversight")
        changes = changing("CreateMailbox", request, request.request_id)
        made = await self._mailboxes.create(
            changes, address, display_name=request.display_name, mode=mode, rules=rules.complete
        )
        return convert.mailbox_to_proto(made)

    async def GetMailbox(self, request: mail_service_pb2.GetMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Reads one mailbox."""
        found = await self._mailboxes.get(current_caller().account, requests.mailbox_need(request, "mailbox"))
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
        problems = Violations()
        with problems.collected():
            requests.check_display_name(request.display_name)
        entries = request.allow_list.entries if request.HasField("allow_list") else None
        with problems.collected():
            rules = requests.rules_of(request, entries, ttl=None)
        problems.raise_if_any()
        caller = current_caller()
        changed = await self._mailboxes.update(
            changing("UpdateMailbox", request, request.request_id),
            requests.mailbox_need(request, "mailbox"),
            display_name=request.display_name if request.HasField("display_name") else None,
            mode=mode,
            rules=rules,
            etag=request.etag,
            may_loosen=lambda: caller.require("oversight"),
        )
        return convert.mailbox_to_proto(changed)

    async def DeleteMailbox(self, request: mail_service_pb2.DeleteMailboxRequest, context: object) -> mail_pb2.Mailbox:
        """Deletes a mailbox."""
        caller = current_caller()
        deleted = await self._mailboxes.delete(
            changing("DeleteMailbox", request, request.request_id),
            requests.mailbox_need(request, "mailbox"),
            etag=request.etag,
            may_loosen=lambda: caller.require("oversight"),
        )
        return convert.mailbox_to_proto(deleted)

    async def SendEmail(
        self, request: mail_service_pb2.SendEmailRequest, context: object
    ) -> mail_service_pb2.SendEmailResponse:
        """Accepts a mail, or with validate_only says what would become of it."""
        account = current_caller().account
        problems = Violations()
        with problems.collected():
            need = requests.mailbox_need(request, "from")
        with problems.collected():
            targets = requests.targets_of(request)
        with problems.collected():
            message = await beside.read(request.ByteSize(), lambda: requests.message_of(request, now=datetime.now(UTC)))
        problems.raise_if_any()
        guard = requests.guard_of(request, account, datetime.now(UTC))
        message = requests.guarded(message, targets, guard)
        changes = changing("SendEmail", request, request.request_id)
        email = await self._mail.send(changes, need, targets, message, guard=guard)
        self._outbox.wake()
        return mail_service_pb2.SendEmailResponse(email=convert.email_to_proto(email))

    async def ReplyEmail(
        self, request: mail_service_pb2.ReplyEmailRequest, context: object
    ) -> mail_service_pb2.ReplyEmailResponse:
        """Accepts an answer."""
        message = await beside.read(request.ByteSize(), lambda: requests.message_of(request, now=datetime.now(UTC)))
        email = await self._mail.reply(
            changing("ReplyEmail", request, request.request_id),
            request.email_id,
            message,
            subject=request.subject if request.HasField("subject") else None,
            to_all=request.reply_all,
        )
        self._outbox.wake()
        return mail_service_pb2.ReplyEmailResponse(email=convert.email_to_proto(email))

    async def CancelEmail(self, request: mail_service_pb2.CancelEmailRequest, context: object) -> mail_pb2.Email:
        """Stops a mail."""
        changes = changing("CancelEmail", request, request.request_id)
        return convert.email_to_proto(await self._mail.cancel(changes, request.id))

    async def UpdateEmail(self, request: mail_service_pb2.UpdateEmailRequest, context: object) -> mail_pb2.Email:
        """Changes what a waiting mail says."""
        problems = Violations()
        with problems.collected():
            requests.check_subject(request.subject)
        with problems.collected():
            content = await beside.read(
                request.ByteSize(), lambda: content_of(request.body, request.html_body, request.markdown_body)
            )
        problems.raise_if_any()
        given = any(request.HasField(name) for name in ("body", "html_body", "markdown_body"))
        email = await self._mail.edit(
            changing("UpdateEmail", request, request.request_id),
            request.id,
            subject=request.subject if request.HasField("subject") else None,
            content=content if given else None,
            digest=request.content_sha256,
        )
        return convert.email_to_proto(email)

    async def BatchCheckSends(
        self, request: mail_service_pb2.BatchCheckSendsRequest, context: object
    ) -> mail_service_pb2.BatchCheckSendsResponse:
        """Says for many addresses what would become of a mail to each."""
        changes = changing("BatchCheckSends", request, "")
        need = requests.mailbox_need(request, "from")
        targets = requests.checked_targets(request.to)
        guard = requests.guard_of(request, changes.account, datetime.now(UTC))
        mode = convert.MODE_NAMES[request.oversight_mode]
        answers = await self._mail.check(changes, need, targets, guard, mode)
        return mail_service_pb2.BatchCheckSendsResponse(
            checks=[convert.check_to_proto(text, answer) for text, answer in zip(request.to, answers, strict=True)]
        )

    async def IngestEvent(
        self, request: mail_service_pb2.IngestEventRequest, context: object
    ) -> mail_service_pb2.IngestEventResponse:
        """Takes in a report about delivery."""
        changes = changing("IngestEvent", request, request.request_id)
        at = requests.moment_of(request, "time") if request.HasField("time") else None
        event = Event(
            convert.EVENT_NAMES[request.type],
            at or datetime.now(UTC),
            request.permanent,
            request.detail[:MAX_DETAIL],
            timed=at is not None,
        )
        if request.WhichOneof("email") == "email_id":
            need = Need("emails", "_id", (request.email_id,))
        else:
            need = Need("emails", "linked", (f"<{request.message_id.strip().strip('<>')}>",))
        email, duplicate = await self._mail.reported(changes, need, request.address, event, at)
        return mail_service_pb2.IngestEventResponse(email=convert.email_to_proto(email), duplicate=duplicate)

    async def ListSuppressions(
        self, request: mail_service_pb2.ListSuppressionsRequest, context: object
    ) -> mail_service_pb2.ListSuppressionsResponse:
        """Lists suppressed addresses."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        key = parse_address(request.address, "address").key if request.address else ""
        after = page.position[0] if page.position else ""
        found = await self._suppressions.list(account, key=key, after=after, limit=page.size + 1)
        suppressions, token = page.fill(found, convert.suppression_to_proto, lambda each: [each["_id"]])
        return mail_service_pb2.ListSuppressionsResponse(suppressions=suppressions, next_page_token=token)

    async def AddSuppression(
        self, request: mail_service_pb2.AddSuppressionRequest, context: object
    ) -> mail_pb2.Suppression:
        """Suppresses an address."""
        changes = changing("AddSuppression", request, request.request_id)
        added = await self._suppressions.add(changes, parse_address(request.address, "address"))
        return convert.suppression_to_proto(added)

    async def RemoveSuppression(
        self, request: mail_service_pb2.RemoveSuppressionRequest, context: object
    ) -> mail_service_pb2.RemoveSuppressionResponse:
        """Lifts a suppression."""
        changes = changing("RemoveSuppression", request, request.request_id)
        lifted = await self._suppressions.remove(changes, parse_address(request.address, "address"))
        return mail_service_pb2.RemoveSuppressionResponse(suppression=convert.suppression_to_proto(lifted))

    async def IngestEmail(
        self, request: mail_service_pb2.IngestEmailRequest, context: object
    ) -> mail_service_pb2.IngestEmailResponse:
        """Takes in a raw mail."""
        if len(request.raw) > MAX_RAW_BYTES:
            raise errors.invalid_field("raw", f"is longer than {MAX_RAW_BYTES} bytes")
        if request.envelope_from:
            parse_address(request.envelope_from, "envelope_from")
        changes = changing("IngestEmail", request, request.request_id)
        mailbox = await self._mailboxes.get(changes.account, requests.mailbox_need(request, "mailbox"))
        need = Need("mailboxes", "_id", (mailbox["_id"],))
        tag = self._tags.read(request.envelope_to)
        email, duplicate = await self._mail.take_in(changes, need, request.raw, request.envelope_from, tag)
        return mail_service_pb2.IngestEmailResponse(email=convert.email_to_proto(email), duplicate=duplicate)

    async def GetEmail(self, request: mail_service_pb2.GetEmailRequest, context: object) -> mail_pb2.Email:
        """Reads one mail, and records the first read of an inbound one."""
        email = await self._views.get_with_content(current_caller().account, request.id, hidden_too=_oversees())
        if email["direction"] == "inbound" and email["read_at"] is None and not email["hidden"]:
            read = await self._mail.mark_read(changing("GetEmail", request, ""), request.id)
            email = email | {"read_at": read["read_at"]}
        return convert.email_to_proto(email)

    async def GetAttachment(
        self, request: mail_service_pb2.GetAttachmentRequest, context: object
    ) -> mail_service_pb2.GetAttachmentResponse:
        """Reads one file of a mail."""
        account = current_caller().account
        row, data = await self._views.attachment(account, request.email_id, request.index, hidden_too=_oversees())
        return mail_service_pb2.GetAttachmentResponse(attachment=convert.attachment_to_proto(row), content=data)

    async def ListEmails(
        self, request: mail_service_pb2.ListEmailsRequest, context: object
    ) -> mail_service_pb2.ListEmailsResponse:
        """Lists mails."""
        account = current_caller().account
        page = self._tokens.open_page(account, request)
        equal = await self._parties(account, request, mailbox_field="mailbox")
        if request.thread_id:
            equal["thread"] = request.thread_id
        rest: dict[str, Any] = {} if _oversees() else {"hidden": False}
        if request.direction:
            rest["direction"] = convert.DIRECTION_NAMES[request.direction]
        if len(set(request.states)) == 1:
            equal["state"] = convert.STATE_NAMES.get(request.states[0], "")
        elif request.states:
            rest["state"] = {"$in": [convert.STATE_NAMES.get(state, "") for state in request.states]}
        if request.unread:
            rest |= {"direction": {"$in": ["inbound"], **_eq(rest.get("direction"))}, "read_at": None}
        found = await self._views.list_emails(
            account, equal=equal, rest=rest, before=page.position, limit=page.size + 1
        )
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
        found = await self._views.list_threads(
            account,
            equal=equal,
            awaiting_before=requests.moment_of(request, "awaiting_reply_before")
            if request.HasField("awaiting_reply_before")
            else None,
            unanswered=request.unanswered,
            after=after,
            limit=page.size + 1,
        )
        threads, token = page.fill(found, convert.thread_to_proto, lambda each: [each["_id"]])
        return mail_service_pb2.ListThreadsResponse(threads=threads, next_page_token=token)

    async def GetThread(
        self, request: mail_service_pb2.GetThreadRequest, context: object
    ) -> mail_service_pb2.GetThreadResponse:
        """Reads one conversation."""
        thread, emails = await self._views.get_thread(current_caller().account, request.id)
        return mail_service_pb2.GetThreadResponse(
            thread=convert.thread_to_proto(thread), emails=[convert.email_to_proto(each) for each in emails]
        )

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
            mailbox = await self._mailboxes.get(account, requests.mailbox_need(request, "mailbox"))
            equal[mailbox_field] = mailbox["_id"]
        if request.WhichOneof("contact"):
            equal["people"] = (await self._contacts.get(account, requests.contact_need(request)))["_id"]
        return equal


def _eq(direction: str | None) -> dict[str, str]:
    return {"$eq": direction} if direction else {}


def _oversees() -> bool:
    """Whether the caller may see mail that waits for a person."""
    return "oversight" in current_caller().scopes
