"""Multimail's Python client: contacts, mail and their log for agents and services.

Example:
    import multimail

    client = multimail.Client(api_key="mm_live_…")
    client.contacts.upsert(email="elena@acmecorp.com", name="Elena", metadata={"plan": "pro"})
"""

from multimail import words
from multimail._channel import channel_options
from multimail.aio import AsyncClient
from multimail.bulk import AsyncImport, ContactRow, Import, RowOutcome
from multimail.client import Client
from multimail.contacts import Contact, ContactChange, Erasure, Interaction, SearchPlan
from multimail.context import ContactContext
from multimail.delivery import Suppression
from multimail.errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    GuardRefusedError,
    InternalError,
    InvalidArgumentError,
    MultimailError,
    NotFoundError,
    PermissionDeniedError,
    Refusal,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from multimail.keys import Caller
from multimail.mail import Attachment, AuthenticationResults, Decision, DeliveryEvent, Email, Recipient
from multimail.mailboxes import Mailbox
from multimail.notifications import Notification
from multimail.oversight import DecisionOutcome, HeldEmail, HeldPerson
from multimail.paging import AsyncResults, Results
from multimail.sending import Guard, OutgoingAttachment, SendCheck
from multimail.streaming import AsyncStream, Stream
from multimail.threads import Thread
from multimail.watching import AsyncWatch, Watch

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "AsyncImport",
    "AsyncResults",
    "AsyncStream",
    "AsyncWatch",
    "Attachment",
    "AuthenticationResults",
    "Caller",
    "CancelledError",
    "Client",
    "Contact",
    "ContactChange",
    "ContactContext",
    "ContactRow",
    "DeadlineExceededError",
    "Decision",
    "DecisionOutcome",
    "DeliveryEvent",
    "Email",
    "Erasure",
    "FailedPreconditionError",
    "Guard",
    "GuardRefusedError",
    "HeldEmail",
    "HeldPerson",
    "Import",
    "Interaction",
    "InternalError",
    "InvalidArgumentError",
    "Mailbox",
    "MultimailError",
    "NotFoundError",
    "Notification",
    "OutgoingAttachment",
    "PermissionDeniedError",
    "Recipient",
    "Refusal",
    "ResourceExhaustedError",
    "Results",
    "RowOutcome",
    "SearchPlan",
    "SendCheck",
    "Stream",
    "Suppression",
    "Thread",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Violation",
    "Watch",
    "channel_options",
    "words",
]
