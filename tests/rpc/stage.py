"""A stage for calls of every kind: mailboxes, contacts, mail in every state they need, and a good request of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.rpc.calls import GATED, decision, made, mail_to, sent, settled

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.rpc.auth import SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Account

RAW = b"From: bo@person.test\r\nTo: b@x.test\r\nSubject: %d\r\nMessage-ID: <%d@x>\r\n\r\nhello\r\n"
# Calls that change something by a request_id, and the two whose effect a test of its own looks at.
CHANGING = (
    *("CreateContact", "UpsertContact", "BatchUpsertContacts", "UpdateContact", "DeleteContact"),
    *("CreateMailbox", "UpdateMailbox", "DeleteMailbox"),
    *("SendEmail", "ReplyEmail", "CancelEmail", "UpdateEmail", "ApproveEmails", "RejectEmails", "ResolveEmail"),
    *("IngestEmail", "IngestEvent", "AddSuppression", "RemoveSuppression"),
)


class Stage:
    """What the calls of a test are about: mailboxes, a contact, and mail in every state they need."""

    def __init__(self, account: Account, contacts: Any, mail: Any, overseer: Any) -> None:
        self.account, self.contacts, self.mail, self.overseer = account, contacts, mail, overseer

    async def prepared(self) -> Stage:
        """Everything is there."""
        self.box, self.spare = await made(self.account), await made(self.account, "spare")
        self.gated = await made(self.account, "gated", oversight_mode=GATED)
        await self.contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="bo@person.test", name="Bo"))
        await self.contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="cy@person.test"))
        self.held = [await sent(self.mail, self.gated, f"p{n}@person.test") for n in range(2)]
        self.sent = await sent(self.mail, self.box, "bo@person.test")
        await settled(self.mail, self.sent.id)
        await self.mail.AddSuppression(pb.AddSuppressionRequest(address="bad@person.test"))
        await self.mail.AddSuppression(pb.AddSuppressionRequest(address="worse@person.test"))
        return self

    def request(self, method: str, which: int) -> Any:
        """A changing request without a request_id; `which` is 0 for one content, 1 for another."""
        held = self.held[which]
        by_email = {"email": ("bo@person.test", "cy@person.test")[which]}
        return {
            "CreateContact": lambda: contacts_pb.CreateContactRequest(email=f"new{which}@person.test"),
            "UpsertContact": lambda: contacts_pb.UpsertContactRequest(email="bo@person.test", name=f"Name {which}"),
            "BatchUpsertContacts": lambda: contacts_pb.BatchUpsertContactsRequest(
                contacts=[contacts_pb.UpsertContactRequest(email="bo@person.test", name=f"Name {which}")]
            ),
            "UpdateContact": lambda: contacts_pb.UpdateContactRequest(email="bo@person.test", name=f"Name {which}"),
            "DeleteContact": lambda: contacts_pb.DeleteContactRequest(**by_email),
            "CreateMailbox": lambda: pb.CreateMailboxRequest(email=self.account.mailbox(f"new{which}")),
            "UpdateMailbox": lambda: pb.UpdateMailboxRequest(email=self.box, display_name=f"Name {which}"),
            "DeleteMailbox": lambda: pb.DeleteMailboxRequest(email=(self.box, self.spare)[which]),
            "SendEmail": lambda: mail_to(self.box, "bo@person.test", body=f"body {which}"),
            "ReplyEmail": lambda: pb.ReplyEmailRequest(email_id=self.sent.id, body=f"body {which}"),
            "CancelEmail": lambda: pb.CancelEmailRequest(id=held.id),
            "UpdateEmail": lambda: pb.UpdateEmailRequest(id=held.id, body="new"),
            "ApproveEmails": lambda: pb.ApproveEmailsRequest(emails=[decision(held)]),
            "RejectEmails": lambda: pb.RejectEmailsRequest(emails=[decision(held)], reason="no"),
            "IngestEmail": lambda: pb.IngestEmailRequest(mailbox_email=self.box, raw=RAW % (which, which)),
            "IngestEvent": lambda: pb.IngestEventRequest(
                email_id=self.sent.id, type=(m.DELIVERY_EVENT_TYPE_DELIVERED, m.DELIVERY_EVENT_TYPE_OPENED)[which]
            ),
            "AddSuppression": lambda: pb.AddSuppressionRequest(address=f"add{which}@person.test"),
            "RemoveSuppression": lambda: pb.RemoveSuppressionRequest(address=("bad", "worse")[which] + "@person.test"),
        }[method]()

    def good(self, method: str) -> Any:
        """A request of any method that it answers with OK."""
        reads = {
            "GetCaller": contacts_pb.GetCallerRequest,
            "GetContact": lambda: contacts_pb.GetContactRequest(email="bo@person.test"),
            "BatchGetContacts": lambda: contacts_pb.BatchGetContactsRequest(
                contacts=[contacts_pb.GetContactRequest(email="bo@person.test")]
            ),
            "GetContactContext": lambda: contacts_pb.GetContactContextRequest(email="bo@person.test"),
            "CountContacts": lambda: contacts_pb.CountContactsRequest(filter="bo@person.test"),
            "ExportContacts": lambda: contacts_pb.ExportContactsRequest(domain="person.test"),
            "WatchContacts": lambda: contacts_pb.WatchContactsRequest(filter="domain = person.test"),
            "ImportContacts": lambda: contacts_pb.ImportContactsRequest(
                import_id="i", contact=contacts_pb.UpsertContactRequest(email="bo@person.test")
            ),
            "SearchContacts": lambda: contacts_pb.SearchContactsRequest(query="bo@person.test"),
            "ListInteractions": lambda: contacts_pb.ListInteractionsRequest(email="bo@person.test"),
            "GetMailbox": lambda: pb.GetMailboxRequest(email=self.box),
            "GetEmail": lambda: pb.GetEmailRequest(id=self.sent.id),
            "GetThread": lambda: pb.GetThreadRequest(id=self.sent.thread_id),
            "GetAttachment": lambda: pb.GetAttachmentRequest(email_id=self.sent.id),
            "BatchCheckSends": lambda: pb.BatchCheckSendsRequest(from_mailbox_email=self.box, to=["bo@person.test"]),
            "ResolveEmail": lambda: pb.ResolveEmailRequest(id=self.sent.id, resolution=pb.RESOLUTION_SENT),
        }
        if method in CHANGING and method not in reads:
            return self.request(method, 0)
        return reads[method]() if method in reads else getattr(pb, f"{method}Request")()

    def call(self, method: str) -> Callable[..., Any]:
        """The method with a key that may call it."""
        if SCOPES.get(f"/multimail.v1.ContactService/{method}"):
            return getattr(self.contacts, method)
        overseen = SCOPES[f"/multimail.v1.MailService/{method}"] == "oversight"
        return getattr(self.overseer if overseen else self.mail, method)

    async def changes(self) -> list[tuple[int, str]]:
        """Everything that happened in the account by calls, shown or not."""
        rows = await self.account.running.database.find("notifications", {"account": self.account.name})
        return sorted((row["seq"], row["type"]) for row in rows if not row["method"].startswith(("outbox", "job")))


async def staged(account: Account, contacts: Any, mail: Any, overseer: Any) -> Stage:
    """A stage on which everything is there."""
    return await Stage(account, contacts, mail, overseer).prepared()
