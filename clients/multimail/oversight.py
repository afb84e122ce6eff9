"""Mail that waits for a person: what is shown of it, what is decided, and how each decision ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimail import _json
from multimail._wire import Call, minted
from multimail._words import choice, refs, refusal_from
from multimail.contacts import Contact, Interaction, contact_from, interaction_from
from multimail.mail import Email, email_from
from multimail.paging import Page
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multimail.errors import Refusal

_SERVICE = "MailService"


@dataclass(frozen=True, slots=True)
class HeldPerson:
    """Somebody a held mail goes to or came from.

    Attributes:
        contact: The contact.
        interactions: The newest 5 entries of their log, newest first.
    """

    contact: Contact | None
    interactions: list[Interaction]


@dataclass(frozen=True, slots=True)
class HeldEmail:
    """A mail that waits for a person, and what a decision needs.

    Attributes:
        email: The mail with its bodies and all its recipients.
        people: Whom it goes to or came from.
    """

    email: Email
    people: list[HeldPerson]


@dataclass(frozen=True, slots=True)
class DecisionOutcome:
    """How one decision ended.

    Attributes:
        email_id: The mail it was about.
        email: The mail after the decision; None when nothing was decided.
        refusal: Why nothing was decided; None when it was.
    """

    email_id: str
    email: Email | None
    refusal: Refusal | None


def _held(message: pb.HeldEmail) -> HeldEmail:
    return HeldEmail(
        email_from(message.email),
        [
            HeldPerson(
                contact_from(each.contact) if each.HasField("contact") else None,
                [interaction_from(entry) for entry in each.interactions],
            )
            for each in message.people
        ],
    )


def list_held(mailbox: str | None, token: str, size: int) -> Call[Page[HeldEmail]]:
    """ListHeldEmails, one page."""
    return Call(
        _SERVICE,
        "ListHeldEmails",
        _json.message(pb.ListHeldEmailsRequest, **refs(mailbox), page_token=token, page_size=size),
        lambda reply: Page([_held(each) for each in reply.emails], reply.next_page_token),
    )


def _decision(given: HeldEmail | Email | tuple[str, str]) -> pb.EmailDecision:
    """The decision about exactly the content that was read."""
    if isinstance(given, HeldEmail):
        given = given.email
    if isinstance(given, Email):
        given = (given.id, given.content_sha256)
    return _json.message(pb.EmailDecision, email_id=given[0], content_sha256=given[1])


def _outcomes(reply: pb.ApproveEmailsResponse | pb.RejectEmailsResponse) -> list[DecisionOutcome]:
    return [
        DecisionOutcome(
            each.email_id,
            email_from(each.email) if each.HasField("email") else None,
            refusal_from(each.refusal) if each.HasField("refusal") else None,
        )
        for each in reply.outcomes
    ]


def approve(
    emails: Sequence[HeldEmail | Email | tuple[str, str]], reason: str, request_id: str | None
) -> Call[list[DecisionOutcome]]:
    """ApproveEmails."""
    request = _json.message(
        pb.ApproveEmailsRequest,
        emails=[_decision(each) for each in emails],
        reason=reason,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "ApproveEmails", request, _outcomes)


def reject(
    emails: Sequence[HeldEmail | Email | tuple[str, str]], reason: str, request_id: str | None
) -> Call[list[DecisionOutcome]]:
    """RejectEmails."""
    request = _json.message(
        pb.RejectEmailsRequest,
        emails=[_decision(each) for each in emails],
        reason=reason,
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "RejectEmails", request, _outcomes)


def resolve(email_id: str, resolution: str, request_id: str | None) -> Call[Email]:
    """ResolveEmail."""
    request = _json.message(
        pb.ResolveEmailRequest,
        id=email_id,
        resolution=choice(pb.Resolution, resolution, "resolution"),
        request_id=minted(request_id),
    )
    return Call(_SERVICE, "ResolveEmail", request, email_from)
