"""An account in which every RPC has something good to do, and the requests for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.rpc.calls import made, sent, settled, state_of, stubs
from tests.rpc.relays import HANG_UP
from tests.rpc.stage import CHANGING, Stage

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from tests.conftest import Account
    from tests.rpc.relays import Peer

_LETTER = (
    b"From: Bo <bo@person.test>\r\nTo: box@x.test\r\nSubject: Two files\r\nMessage-ID: <files@person.test>\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nHere they are.\r\n"
    b'--b\r\nContent-Type: text/csv; name="a.csv"\r\nContent-Disposition: attachment; filename="a.csv"\r\n\r\n'
    b"one,two\r\n--b--\r\n"
)
_PEOPLE = (
    {"email": "bo@person.test", "metadata": {"plan": "pro", "tags": ["a", 1.5, None], "deep": {"er": {"x": True}}}},
    {"email": "cy@person.test", "name": "Cy Ó Sé"},
)


class Scene(Stage):
    """The stage of the RPC tests, with a mail that bears a file, one in doubt, and people of whom more is known."""

    async def ready(self, peer: Peer) -> Scene:
        """Everything is there, and nothing under way."""
        await self.prepared()
        for each in _PEOPLE:
            await self.contacts.UpsertContact(contacts_pb.UpsertContactRequest(**each))
        letter = pb.IngestEmailRequest(mailbox_email=self.box, raw=_LETTER, envelope_from="bo@person.test")
        self.letter = (await self.mail.IngestEmail(letter)).email
        await self.mail.GetEmail(pb.GetEmailRequest(id=self.letter.id))  # the first read changes it
        hold = await made(self.account, "doubts", in_doubt_policy=m.IN_DOUBT_POLICY_HOLD)
        person = f"doubt@{self.account.name}.person.test"
        peer.say(f". {person}", HANG_UP)
        self.doubtful = await settled(self.mail, (await sent(self.mail, hold, person)).id)
        assert "in_doubt" == state_of(self.doubtful)
        return self

    def asked(self, method: str) -> Any:
        """A good request of the method; one that changes something is repeatable."""
        special = {
            "GetAttachment": lambda: pb.GetAttachmentRequest(email_id=self.letter.id),
            "ResolveEmail": lambda: pb.ResolveEmailRequest(id=self.doubtful.id, resolution=pb.RESOLUTION_SENT),
            "GetContact": lambda: contacts_pb.GetContactRequest(email="BO@person.test"),
            "BatchGetContacts": lambda: contacts_pb.BatchGetContactsRequest(
                contacts=[contacts_pb.GetContactRequest(email=each) for each in ("bo@person.test", "no@person.test")]
            ),
            "BatchUpsertContacts": lambda: contacts_pb.BatchUpsertContactsRequest(
                contacts=[contacts_pb.UpsertContactRequest(email=each) for each in ("cy@person.test", "nobody")]
            ),
            "ExportContacts": lambda: contacts_pb.ExportContactsRequest(filter="domain = person.test"),
            "BatchCheckSends": lambda: pb.BatchCheckSendsRequest(
                from_mailbox_email=self.gated, to=["new@person.test", "bad@person.test"]
            ),
        }
        request = special[method]() if method in special else self.good(method)
        if method in CHANGING:
            request.request_id = f"matrix-{method}"
        if "page_size" in request.DESCRIPTOR.fields_by_name:
            request.page_size = 100
        return request


async def scene_of(account: Account, peer: Peer) -> Scene:
    """A scene in this account."""
    async with stubs(account) as (contacts, mail), stubs(account, "oversight", "read") as (_, overseer):
        return await Scene(account, contacts, mail, overseer).ready(peer)


def changed(request: Any, changes: dict[str, Any]) -> Any:
    """The request with other values in some fields, and no request_id: it must have no effect that could be kept."""
    other = type(request)()
    other.CopyFrom(request)
    for name in changes:
        other.ClearField(name)
    if "request_id" in other.DESCRIPTOR.fields_by_name:
        other.ClearField("request_id")
    other.MergeFrom(type(request)(**changes))
    return other
