"""What went wrong, told so that a model knows what to do next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_types import CallToolResult, TextContent

from multimail.errors import GuardRefusedError, InternalError

if TYPE_CHECKING:
    from collections.abc import Collection

    from multimail.errors import MultimailError

_ADVICE = {
    "INVALID_FIELD": "Mend the arguments that are named, and call again.",
    "INVALID_FILTER": "Mend the condition that is named, and call again.",
    "INVALID_PAGE_TOKEN": "A cursor goes with the very arguments of the answer it came from: repeat those beside it, "
    "or leave the cursor out to start again.",
    "REQUEST_ID_REUSED": "This idempotency_key belongs to another act: leave it out for a new one.",
    "KEY_MISSING": "Stop, and tell the person you work for that Multimail needs an API key.",
    "KEY_INVALID": "Stop, and tell the person you work for that the API key is unknown or was revoked.",
    "SCOPE_MISSING": "Do not try again: this key may not. Tell the person you work for which scope is needed.",
    "CONTACT_NOT_FOUND": "Look for the person with manage_contacts, action search; upsert makes a contact.",
    "MAILBOX_NOT_FOUND": "manage_mailboxes, action list, tells which there are.",
    "EMAIL_NOT_FOUND": "list_emails and check_inbox tell which there are.",
    "THREAD_NOT_FOUND": "list_threads tells which there are.",
    "CONTACT_EXISTS": "Use action update or upsert.",
    "ETAG_MISMATCH": "Somebody changed it since you read it: read it again, then decide again with the new etag.",
    "CONTENTION": "Others were first again and again: call again in a few seconds.",
    "MODE_FORBIDS": "Do not try again: the mailbox may not do this. Use another one, or ask the person who oversees.",
    "STATE_FORBIDS": "Read it again with read_email to see how it stands now.",
    "SUPPRESSED": "Do not write to this person: they asked not to be written to, or mail to them comes back. Only a "
    "person may lift a suppression.",
    "CONTENT_CHANGED": "Read it again with read_email, then decide about what it says now.",
    "POSITION_TOO_OLD": "Read what you follow anew, then go on with after_seq one less than oldest_seq.",
    "FILTER_TOO_BROAD": "Add a condition that finds few: a domain, a query, or one field that equals something.",
    "CONVERSATION_TOO_FAST": "You write faster than people do, perhaps to another machine: stop for now.",
    "RATE_LIMITED": "Wait, then call again.",
    "TOO_BUSY": "Wait, then call again.",
    "ENGINE_UNAVAILABLE": "Nothing was changed: call again in a few seconds.",
    "SHUTTING_DOWN": "Nothing was changed: call again in a few seconds.",
}
# What the service's fields are called here, where that is something else.
_CALLED = {
    "id": ("email_id", "thread_id", "mailbox"),
    "email": ("mailbox",),
    "request_id": ("idempotency_key",),
    "page_token": ("cursor",),
    "from_mailbox_id": ("from_mailbox",),
    "from_mailbox_email": ("from_mailbox",),
    "mailbox_id": ("mailbox",),
    "mailbox_email": ("mailbox",),
    "contact_id": ("contact",),
    "contact_email": ("contact",),
}
# How many of the arguments that are wrong are named.
_FEW = 20
# Not told to a model: what would let it go on without reading again, and what says nothing.
_KEPT = {"etag", "content_sha256", "violations", "request_id"}
# Behind these a change may or may not have happened.
_UNKNOWN = {
    "OUTCOME_UNKNOWN", "OUT_OF_TIME", "DEADLINE_EXCEEDED", "CONNECTION", "CANCELLED", "UNKNOWN", "INTERNAL", "CLOSED",
}  # fmt: skip


def problem_of(error: MultimailError, arguments: Collection[str]) -> CallToolResult:
    """A failed call as an answer of the tool: what happened, and what to do.

    Args:
        error: What the client raised.
        arguments: The names of the tool's arguments.
    """
    facts = {name: value for name, value in error.metadata.items() if name not in _KEPT}
    violations = error.violations[:_FEW]
    fields = [_called(each.field, arguments) for each in violations]
    wrong = [f"{field}: {each.description}" for field, each in zip(fields, violations, strict=True)]
    if len(error.violations) > _FEW:
        wrong.append(f"and {len(error.violations) - _FEW} more")
    told = [f"{error.reason or 'FAILED'}: {'; '.join(wrong) or error.message}", *_who_was_first(error)]
    if facts and not isinstance(error, GuardRefusedError):
        told.append("Facts: " + ", ".join(f"{name}={value}" for name, value in sorted(facts.items())) + ".")
    if error.retry_after is not None and not isinstance(error, GuardRefusedError):
        told.append(f"Come back in {max(1, round(error.retry_after))} seconds.")
    advice = _ADVICE.get(error.reason, error.hint if error.reason == "CONNECTION" else "")
    if error.request_id and error.reason in _UNKNOWN:
        advice = f"{advice} {_again(error.request_id)}".strip()
    if advice:
        told.append(f"What to do: {advice}")
    if isinstance(error, InternalError) and error.log_id:
        told.append(f"The service's log knows more under {error.log_id}.")
    return CallToolResult(
        content=[TextContent(text="\n".join(told))],
        is_error=True,
        _meta={
            "multimail/error": {"reason": error.reason, "metadata": error.metadata, "fields": fields}
            | ({"retry_after": error.retry_after} if error.retry_after is not None else {})
        },
    )


def _called(field: str, arguments: Collection[str]) -> str:
    """What a field of the service's is called among a tool's arguments."""
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    known = [each for each in _CALLED.get(name, ()) if each in arguments]
    return field if name in arguments or not known else known[0] + field[len(name) :]


def _who_was_first(error: MultimailError) -> list[str]:
    """Of a guard's refusal: what stands in the way, who wrote it, and until when."""
    if not isinstance(error, GuardRefusedError):
        return []
    told = [f"The guard's rule {error.rule} says no."]
    if error.email_id:
        by = f", written by {error.agent}" if error.agent else ""
        told.append(f"In the way is {error.email_id} in {error.thread_id}{by}; get_thread shows that conversation.")
    if error.retry_time:
        told.append(f"Before {error.retry_time:%Y-%m-%d %H:%M:%S} UTC the answer will be the same.")
    told.append("What to do: leave this person alone for now, or read what was written and decide anew.")
    return told


def _again(request_id: str) -> str:
    return (
        "It may or may not have happened. Call again with the same arguments and "
        f'idempotency_key="{request_id}": then it happens once.'
    )


def accident(request_id: str) -> CallToolResult:
    """What is told of an error nobody foresaw.

    Args:
        request_id: What makes the call repeatable; empty for a read.
    """
    told = ["Something went wrong inside this door to Multimail; its log has the details."]
    if request_id:
        told.append(f"What to do: {_again(request_id)}")
    return CallToolResult(content=[TextContent(text="\n".join(told))], is_error=True)
