"""The states of an outbound mail and of its recipients, and how they move; decides in memory only."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from multimail_server.mail.content import Content
from multimail_server.mail.email import digest_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

Document = dict[str, Any]

EXPIRES_AFTER = timedelta(hours=48)
WAITING = frozenset({"held", "scheduled"})
UNSETTLED = WAITING | {"queued", "sending"}
_BACKOFF = (
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
)
# What a hand-over says about a recipient; anything else leaves it pending for another try.
_SETTLING = frozenset({"accepted", "failed"})


def may_leave(email: Mapping[str, Any]) -> bool:
    """Whether the mail is what was accepted and, if a person had to approve it, what they approved."""
    if Content(email["body"]["text"], email["body"]["html"]).sha256 != email["body_sha256"]:
        return False
    if digest_of(email) != email["content_sha256"]:
        return False
    decision = email["decision"]
    return not email["hold"] or bool(
        decision and decision["approved"] and decision["content_sha256"] == email["content_sha256"]
    )


def is_settled(email: Mapping[str, Any]) -> bool:
    """Whether an outbound mail came to its end."""
    return email["state"] not in UNSETTLED


def released(email: Document, now: datetime) -> Document:
    """The mail, no longer waiting for a person or a time: in the queue."""
    return email | {"state": "queued", "date": now, "released_at": now, "due_at": now, "lease": None}


def stopped(email: Document, state: str, now: datetime, detail: str = "") -> Document:
    """The mail that waited and shall never go out: `cancelled`, `rejected` or `expired`."""
    recipients = [
        each | {"state": "cancelled", "at": now} if each["state"] == "pending" else each for each in email["recipients"]
    ]
    return email | {
        "recipients": recipients,
        "state": state,
        "detail": detail,
        "settle_time": now,
        "lease": None,
        "dedupe": "",
    }


def cancelled(email: Document, now: datetime) -> Document:
    """A queued or sending mail, stopped for everyone it is not on its way to; the same mail when that is nobody.

    Behind a dot mark nobody can tell; while its lease lives the hand-over ends as it ends, and is not tried again.
    """
    under_way = email["state"] == "sending" and email["lease"] is not None
    recipients = []
    for each in email["recipients"]:
        if each["state"] != "pending" or (each["dot"] and under_way):
            recipients.append(each)
        else:
            recipients.append(each | {"state": "in_doubt" if each["dot"] else "cancelled", "at": now})
    if recipients == email["recipients"]:
        return email
    return judged(email | {"recipients": recipients, "stop": True}, now)


def resolved(email: Document, resolution: str, now: datetime, people: Collection[str]) -> Document:
    """The mail after somebody found out: `sent`, `failed`, or `send_again`, for these people if they are in doubt."""
    state = {"sent": "accepted", "failed": "failed", "send_again": "pending"}[resolution]
    recipients = [
        each | {"state": state, "dot": False, "at": now, "response": f"resolved as {resolution}"}
        if each["state"] == "in_doubt" and each["contact"] in people
        else each
        for each in email["recipients"]
    ]
    moved = email | {"recipients": recipients, "settle_time": None, "stop": False}
    if resolution == "send_again":
        return moved | {"state": "queued", "due_at": now, "released_at": now, "attempts": 0, "lease": None}
    return judged(moved, now)


def with_outcome(email: Document, index: int, state: str, response: str, now: datetime) -> Document:
    """The mail after one recipient's hand-over: `accepted`, `failed`, `retry` or `in_doubt`.

    `accepted` and `failed` end the recipient's wait, and so does `in_doubt` where the mailbox's policy is to hold, or
    the mail was cancelled. Else it stays pending with its dot mark, and is tried again with the same Message-ID.
    """
    recipients = list(email["recipients"])
    ends = state in _SETTLING or (state == "in_doubt" and ends_in_doubt(email)) or email["stop"]
    recipients[index] = recipients[index] | {
        "state": ("cancelled" if state == "retry" else state) if ends else "pending",
        "response": response,
        "at": now,
        "dot": state == "in_doubt" and not ends,
    }
    return judged(email | {"recipients": recipients}, now)


def ends_in_doubt(email: Mapping[str, Any]) -> bool:
    """Whether a hand-over of which nobody can tell is the end, instead of being tried again."""
    return email["policy"] == "hold" or bool(email["stop"])


def given_up(email: Document, now: datetime) -> Document:
    """The mail after 48 hours of trying: who is still pending has failed, or is in doubt behind a dot mark."""
    recipients = [
        each | {"state": "in_doubt" if each["dot"] else "failed", "at": now} if each["state"] == "pending" else each
        for each in email["recipients"]
    ]
    ended = judged(email | {"recipients": recipients}, now)
    doubtful = any(each["state"] == "in_doubt" for each in recipients)
    return ended if doubtful else ended | {"state": "expired"}


def without_person(email: Document, contact: str, now: datetime) -> Document:
    """The mail with an erased person's pending hand-over stopped; behind a dot mark nobody can tell."""
    recipients = [
        each | {"state": "in_doubt" if each["dot"] else "cancelled", "at": now}
        if each["contact"] == contact and each["state"] == "pending"
        else each
        for each in email["recipients"]
    ]
    return judged(email | {"recipients": recipients}, now)


def judged(email: Document, now: datetime) -> Document:
    """The mail's own state, following from its recipients': it ends when nobody is pending."""
    states = {each["state"] for each in email["recipients"]}
    if "pending" in states:
        return email
    for state, ends in (
        ("in_doubt", "in_doubt"),
        ("failed", "failed"),
        ("accepted", "sent"),
        ("cancelled", "cancelled"),
    ):
        if state in states:
            mark = {} if ends != "cancelled" else {"dedupe": ""}
            return email | {"state": ends, "settle_time": now, "lease": None} | mark
    raise AssertionError(states)


def put_off(email: Document, now: datetime, jitter: float) -> Document:
    """The mail, back in the queue until its next try; `jitter` in [0, 1) spreads the tries."""
    wait = _BACKOFF[min(email["attempts"], len(_BACKOFF)) - 1]
    due_at = min(now + wait * (0.75 + 0.5 * jitter), email["released_at"] + EXPIRES_AFTER)  # then for the last time
    return email | {"state": "queued", "lease": None, "due_at": due_at}


def is_out_of_time(email: Mapping[str, Any], now: datetime) -> bool:
    """Whether the mail has been tried for 48 hours."""
    return bool(now - email["released_at"] >= EXPIRES_AFTER)
