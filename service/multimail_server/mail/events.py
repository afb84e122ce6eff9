"""What is reported about a mail after it was handed over: reports may come twice and in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Document = dict[str, Any]

# From least to most telling: whatever the order of the reports, the most telling one is shown.
_TELLING = ("delivered", "bounced", "complained")
_MOST_EVENTS = 100
MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One report about one recipient.

    Attributes:
        type: `delivered`, `bounced`, `complained` or `opened`.
        at: When it happened, as reported.
        permanent: Whether a bounce is for good.
        detail: What was said.
        timed: Whether `at` came with the report; else it is when the report came.
    """

    type: str
    at: datetime
    permanent: bool = False
    detail: str = ""
    timed: bool = True

    @property
    def suppresses(self) -> str:
        """Why the address must not be written to again: `bounced` or `complained`; empty when it may."""
        return self.type if self.type == "complained" or (self.type == "bounced" and self.permanent) else ""


def with_event(email: Document, index: int, event: Event) -> Document:
    """The mail after a report about one recipient; the same object when it was reported before.

    A report without a time of its own is the same as any other that says the same.
    """
    recipient = email["recipients"][index]
    row = {
        "type": event.type,
        "recipient": index,
        "at": event.at,
        "permanent": event.permanent,
        "detail": event.detail[:MAX_DETAIL],
    }
    if any(_says_the_same(row, each) and (each["at"] == event.at or not event.timed) for each in email["events"]):
        return email
    reported = dict(recipient["reported"])
    known = reported.get(event.type)
    if event.type != "bounced" or event.permanent:
        reported[event.type] = min(known, event.at) if known else event.at
    recipients = list(email["recipients"])
    recipients[index] = recipient | {"reported": reported}
    if reported and (recipient["state"] == "in_doubt" or (recipient["state"] == "pending" and recipient["dot"])):
        recipients[index] |= {"state": "accepted", "dot": False}  # it was handed over, whatever we saw of it
    events = sorted([*email["events"], row], key=_order)[-_MOST_EVENTS:]
    if events == email["events"] and recipients == email["recipients"]:  # older than what is kept
        return email
    return email | {"recipients": recipients, "events": events}


def _says_the_same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row[name] == other[name] for name in ("type", "recipient", "permanent", "detail"))


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["at"], row["type"], row["recipient"], row["permanent"], row["detail"]


def shown_state(recipient: Mapping[str, Any]) -> str:
    """How a recipient stands: what was last reported if the mail reached a mail server, else how handing over went."""
    if recipient["state"] in ("accepted", "in_doubt"):
        for told in reversed(_TELLING):
            if told in recipient["reported"]:
                return told
    return str(recipient["state"])
