"""Who may call what: one table from method to scope; a method that is not in it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimail_server.errors import DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from multimail_server.accounts.caller import Caller

_CONTACTS = "/multimail.v1.ContactService/"
_MAIL = "/multimail.v1.MailService/"

ANY = "any"  # whatever the key's scopes are
SCOPES = {
    _CONTACTS + "GetCaller": ANY,
    _CONTACTS + "CreateContact": "write",
    _CONTACTS + "UpsertContact": "write",
    _CONTACTS + "BatchUpsertContacts": "write",
    _CONTACTS + "ImportContacts": "write",
    _CONTACTS + "GetContact": "read",
    _CONTACTS + "BatchGetContacts": "read",
    _CONTACTS + "GetContactContext": "read",
    _CONTACTS + "UpdateContact": "write",
    _CONTACTS + "DeleteContact": "write",
    _CONTACTS + "SearchContacts": "read",
    _CONTACTS + "CountContacts": "read",
    _CONTACTS + "ExportContacts": "read",
    _CONTACTS + "WatchContacts": "read",
    _CONTACTS + "ListInteractions": "read",
    _MAIL + "CreateMailbox": "admin",
    _MAIL + "GetMailbox": "read",
    _MAIL + "ListMailboxes": "read",
    _MAIL + "UpdateMailbox": "admin",
    _MAIL + "DeleteMailbox": "admin",
    _MAIL + "SendEmail": "send",
    _MAIL + "ReplyEmail": "send",
    _MAIL + "CancelEmail": "send",
    _MAIL + "UpdateEmail": "send",
    _MAIL + "ListHeldEmails": "oversight",
    _MAIL + "ApproveEmails": "oversight",
    _MAIL + "RejectEmails": "oversight",
    _MAIL + "ResolveEmail": "oversight",
    _MAIL + "BatchCheckSends": "read",
    _MAIL + "IngestEmail": "write",
    _MAIL + "IngestEvent": "write",
    _MAIL + "ListSuppressions": "read",
    _MAIL + "AddSuppression": "write",
    _MAIL + "RemoveSuppression": "admin",
    _MAIL + "GetEmail": "read",
    _MAIL + "GetAttachment": "read",
    _MAIL + "ListEmails": "read",
    _MAIL + "ListThreads": "read",
    _MAIL + "GetThread": "read",
    _MAIL + "ListNotifications": "read",
    _MAIL + "WatchNotifications": "read",
}
# Open to everyone: they tell nothing of any account.
OPEN_SERVICES = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.reflection.v1.ServerReflection/",
)


def is_open(method: str) -> bool:
    """Whether the method needs no key."""
    return method.startswith(OPEN_SERVICES)


class Auth:
    """Turns the bearer key of a call into its caller.

    Args:
        find: Finds whose key this is.
    """

    def __init__(self, find: Callable[[str], Awaitable[Caller | None]]) -> None:
        self._find = find

    async def caller(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> Caller:
        """The caller, who may call the method; KEY_MISSING, KEY_INVALID or SCOPE_MISSING else."""
        caller = await self._find(_bearer(metadata))
        if caller is None:
            raise DomainError(Reason.KEY_INVALID, "This API key is unknown or revoked; make one with: keys create.")
        if method not in SCOPES:
            raise DomainError(Reason.METHOD_UNKNOWN, "This service has no such method.")
        if SCOPES[method] != ANY:
            caller.require(SCOPES[method])
        return caller


def _bearer(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    for name, value in metadata:
        if name == "authorization" and isinstance(value, str):
            scheme, _, key = value.partition(" ")
            if scheme.lower() == "bearer":
                return key.strip()
    raise DomainError(Reason.KEY_MISSING, "This call needs an API key: authorization: Bearer mm_live_…")
