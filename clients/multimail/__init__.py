"""Multimail's Python client: contacts, mail and their log for agents and services.

Example:
    import multimail

    client = multimail.Client(api_key="mm_live_…")
    client.contacts.upsert(email="elena@acmecorp.com", name="Elena", metadata={"plan": "pro"})
"""

from multimail.aio import AsyncClient
from multimail.client import Client
from multimail.contacts import Contact, Erasure, Interaction
from multimail.errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MultimailError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from multimail.mail import Attachment, Email, Mailbox, Notification, Recipient, Thread
from multimail.paging import AsyncResults, Results

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "AsyncResults",
    "Attachment",
    "CancelledError",
    "Client",
    "Contact",
    "DeadlineExceededError",
    "Email",
    "Erasure",
    "FailedPreconditionError",
    "Interaction",
    "InternalError",
    "InvalidArgumentError",
    "Mailbox",
    "MultimailError",
    "NotFoundError",
    "Notification",
    "PermissionDeniedError",
    "Recipient",
    "ResourceExhaustedError",
    "Results",
    "Thread",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Violation",
]
