"""Typical refusals of each RPC: how a good request is spoilt, and the reason it is refused for then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from multimail._json import to_struct, to_values
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doors.scene import Scene

NOBODY = "nobody@person.test"
_OTHER = "0" * 64


@dataclass(frozen=True)
class Case:
    """A request that is refused.

    Attributes:
        method: The RPC.
        reason: Why it is refused.
        changes: What differs from a good request.
        without: Doors by which it cannot be said.
    """

    method: str
    reason: str
    changes: Callable[[Scene], dict[str, Any]]
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method}-{self.reason}"


def case(method: str, reason: str, *, without: tuple[str, ...] = (), **changes: Any) -> Case:
    """A case whose changes are the same in every scene."""
    return Case(method, reason, lambda _: changes, without)


def _token(method: str) -> Case:
    """Tokens of pages are walked by the library and the command line themselves."""
    return case(method, "INVALID_PAGE_TOKEN", page_token="x", without=("sdk", "cli"))


def _decided(scene: Scene) -> dict[str, Any]:
    return {"emails": [pb.EmailDecision(email_id=scene.held[0].id, content_sha256=_OTHER)]}


_THERE = Case("SendEmail", "GUARD_REFUSED", lambda _: {"guard": pb.SendGuard(no_open_thread=True)})

CASES = (
    case("CreateContact", "INVALID_FIELD", email="nobody"),
    case("CreateContact", "CONTACT_EXISTS", email="bo@person.test"),
    case("UpsertContact", "INVALID_FIELD", email="a b@person.test"),
    case("BatchUpsertContacts", "INVALID_FIELD", contacts=[], without=("sdk",)),
    case("ImportContacts", "INVALID_FIELD", import_id="x" * 65),
    case("GetContact", "CONTACT_NOT_FOUND", email=NOBODY),
    case("GetContact", "CONTACT_NOT_FOUND", id="contact_x"),
    case("GetContact", "INVALID_FIELD", email="nobody@", without=()),
    case("BatchGetContacts", "INVALID_FIELD", contacts=[], without=("sdk",)),
    case("GetContactContext", "CONTACT_NOT_FOUND", email=NOBODY),
    case("UpdateContact", "ETAG_MISMATCH", etag="x"),
    case("UpdateContact", "CONTACT_NOT_FOUND", email=NOBODY),
    case("DeleteContact", "ETAG_MISMATCH", etag="x"),
    case("DeleteContact", "CONTACT_NOT_FOUND", email=NOBODY),
    case("SearchContacts", "INVALID_FILTER", filter="(("),
    _token("SearchContacts"),
    case("CountContacts", "INVALID_FILTER", filter="metadata.plan <"),
    case("ExportContacts", "INVALID_FILTER", filter="(("),
    case("WatchContacts", "INVALID_FILTER", filter="(("),
    case("ListInteractions", "CONTACT_NOT_FOUND", email=NOBODY),
    Case("CreateMailbox", "ADDRESS_TAKEN", lambda scene: {"email": scene.box}),
    case("CreateMailbox", "INVALID_FIELD", email="box"),
    case("GetMailbox", "MAILBOX_NOT_FOUND", email=NOBODY),
    _token("ListMailboxes"),
    case("UpdateMailbox", "ETAG_MISMATCH", etag="x"),
    case("UpdateMailbox", "INVALID_FIELD", display_name="x" * 257),
    case("DeleteMailbox", "MAILBOX_NOT_FOUND", id="mbx_x"),
    case("SendEmail", "SUPPRESSED", to=["bad@person.test"]),
    case("SendEmail", "INVALID_FIELD", to=["bo"]),
    case("SendEmail", "MAILBOX_NOT_FOUND", from_mailbox_email=NOBODY),
    _THERE,
    case("SendEmail", "INVALID_FIELD", request_id="x" * 300),
    case("ReplyEmail", "EMAIL_NOT_FOUND", email_id="email_x"),
    Case("CancelEmail", "STATE_FORBIDS", lambda scene: {"id": scene.sent.id}),
    case("UpdateEmail", "CONTENT_CHANGED", content_sha256=_OTHER),
    case("ListHeldEmails", "MAILBOX_NOT_FOUND", mailbox_email=NOBODY),
    Case("ApproveEmails", "CONTENT_CHANGED", _decided),
    Case("RejectEmails", "CONTENT_CHANGED", _decided),
    Case("ResolveEmail", "STATE_FORBIDS", lambda scene: {"id": scene.sent.id}),
    case("BatchCheckSends", "MAILBOX_NOT_FOUND", from_mailbox_email=NOBODY),
    case("IngestEvent", "EMAIL_NOT_FOUND", email_id="email_x"),
    _token("ListSuppressions"),
    case("AddSuppression", "INVALID_FIELD", address="bo"),
    case("RemoveSuppression", "SUPPRESSION_NOT_FOUND", address=NOBODY),
    case("IngestEmail", "MAILBOX_NOT_FOUND", mailbox_email=NOBODY),
    case("GetEmail", "EMAIL_NOT_FOUND", id="email_x"),
    case("GetAttachment", "ATTACHMENT_NOT_FOUND", index=9),
    case("ListEmails", "MAILBOX_NOT_FOUND", mailbox_email=NOBODY),
    case("ListEmails", "INVALID_FIELD", mailbox_email="nobody@"),
    case("ListThreads", "MAILBOX_NOT_FOUND", mailbox_email=NOBODY),
    case("GetThread", "THREAD_NOT_FOUND", id="thread_x"),
    case("ListNotifications", "MAILBOX_NOT_FOUND", mailbox_email=NOBODY),
    case("WatchNotifications", "MAILBOX_NOT_FOUND", mailbox_email=NOBODY),
)

_DAY = Duration(seconds=86_400)
# Requests in which as much is said as all doors can say: each is answered, and the same by all.
LONG = (
    case(
        "UpsertContact", "", email="dee@person.test", name="Dee Ø", last_contacted=Timestamp(seconds=1_700_000_000),
        metadata=to_struct({"plan": "pro", "n": 1, "a.b": [1.5, None, {"x": True}], "tags": ["vip", "old"]}, ""),
    ),
    case(
        "UpdateContact", "", email="cy@person.test", name="Cy", metadata=to_struct({"was": ["old"], "no": None}, ""),
        increment={"open_tickets": 2}, add_to_set=to_values({"tags": "vip"}, ""),
        remove=to_values({"was": "old"}, ""),
    ),
    case(
        "UpdateContact", "", email="cy@person.test", metadata=to_struct({"one": 1, "two": 2, "gone": 3}, ""),
        replace_metadata=True, set=to_values({"deep.er": {"x": [1]}, "text": "2"}, ""), unset=["gone"],
        rename={"two": "deep.two"}, without=("mcp",),
    ),
    case(
        "SearchContacts", "", query="", domain="person.test", order_by="email desc", without=("mcp",),
        filters=to_values({"metadata.plan": "pro", "created_after": "2020-01-01"}, ""),
    ),
    case(
        "SearchContacts", "", query="person.test", filter='metadata.plan = "pro" OR name:cy', order_by="name",
    ),
    Case("CreateMailbox", "", lambda scene: {
        "email": scene.account.mailbox("full"), "display_name": "Full", "oversight_mode": m.OVERSIGHT_MODE_GATED_SEND,
        "hold_first_contact": True, "approval_ttl": _DAY, "in_doubt_policy": m.IN_DOUBT_POLICY_HOLD,
    }),
    Case("UpdateMailbox", "", lambda scene: {
        "email": scene.spare, "display_name": "Sp", "oversight_mode": m.OVERSIGHT_MODE_GATED_ALL,
        "hold_first_contact": True, "approval_ttl": Duration(seconds=3600), "in_doubt_policy": m.IN_DOUBT_POLICY_HOLD,
    }),
    case(
        "SendEmail", "", to=["eve@person.test"], cc=["f@person.test"], bcc=["g@person.test"],
        reply_to=["h@person.test"], subject="Grüße", body="Hello\n\nEve", list_unsubscribe=True,
        oversight_mode=m.OVERSIGHT_MODE_GATED_SEND, send_time=Timestamp(seconds=1_800_000_000),
    ),
    case(
        "SendEmail", "", to=["cy@person.test"], oversight_mode=m.OVERSIGHT_MODE_GATED_SEND,
        guard=pb.SendGuard(
            not_contacted_within=_DAY, no_open_thread=True, require_contact=True, dedupe_key="k",
            filters=to_values({"metadata.plan": {"exists": False}}, ""), filter="-has_open_thread",
        ),
    ),
    Case("ReplyEmail", "", lambda scene: {
        "email_id": scene.letter.id, "subject": "Re: them", "body": "Thanks", "reply_all": True,
    }),
    Case("ListEmails", "", lambda scene: {
        "mailbox_email": scene.box, "contact_email": "bo@person.test", "direction": m.DIRECTION_OUTBOUND,
        "states": [m.EMAIL_STATE_SENT, m.EMAIL_STATE_HELD],
    }, ("cli",)),
    Case("ListThreads", "", lambda scene: {"mailbox_email": scene.box, "contact_email": "bo@person.test"}),
    case(
        "ListNotifications", "", after_seq=2,
        types=[m.NOTIFICATION_TYPE_EMAIL_HELD, m.NOTIFICATION_TYPE_CONTACT_CREATED],
    ),
)  # fmt: skip

# The calls whose requests name something of an account, and what another account is told.
FOREIGN = {
    **dict.fromkeys(
        ("GetContact", "GetContactContext", "UpdateContact", "DeleteContact", "ListInteractions"), "CONTACT_NOT_FOUND"
    ),
    **dict.fromkeys(
        ("GetMailbox", "UpdateMailbox", "DeleteMailbox", "SendEmail", "BatchCheckSends", "IngestEmail"),
        "MAILBOX_NOT_FOUND",
    ),
    **dict.fromkeys(
        (
            "ReplyEmail", "CancelEmail", "UpdateEmail", "ApproveEmails", "RejectEmails", "ResolveEmail", "IngestEvent",
            "GetEmail", "GetAttachment",
        ),
        "EMAIL_NOT_FOUND",
    ),
    "GetThread": "THREAD_NOT_FOUND",
    "RemoveSuppression": "SUPPRESSION_NOT_FOUND",
}  # fmt: skip
