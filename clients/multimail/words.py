"""The words that fields may hold, for type checkers and readers: the API's enum values in lower case.

A service newer than this client may answer with a value that has no word here: `unknown_` and its number.
"""

from __future__ import annotations

from typing import Literal

Direction = Literal[
    "outbound",  # from a mailbox of this account
    "inbound",  # to one
]

OversightMode = Literal[
    "autonomous",  # acts at once, and shows nothing in the notifications
    "monitored",  # acts at once, and shows every act in the notifications
    "gated_send",  # outbound mail waits until a person approves it
    "gated_all",  # inbound mail too
    "read_only",  # mail arrives and can be read; sending is refused
]

EmailState = Literal[
    "queued",  # accepted and on disk; waits for its turn or its next try
    "sending",  # being handed to the next mail server
    "sent",  # every recipient's mail server, or the relay, has taken it
    "failed",  # at least one recipient was refused for good
    "cancelled",  # stopped before it left
    "expired",  # not handed over within 48 hours, or nobody decided about it in time
    "in_doubt",  # may or may not have been handed over; `resolve_email` ends the doubt
    "received",  # arrived
    "held",  # waits for a person; nobody has been written to yet
    "scheduled",  # waits for its time; nobody has been written to yet
    "rejected",  # a person refused it
]

HoldReason = Literal[
    "mode",  # the mode asks for approval
    "first_contact",  # it is the first mail to the person, and the mailbox holds such mail
]

EmailKind = Literal[
    "personal",  # written by somebody, as far as can be told; only this counts as an answer
    "auto_reply",  # an automatic answer, such as an absence note, or bulk mail
    "delivery_status",  # a report about the delivery of a mail of ours
    "unsubscribe",  # an answer to the List-Unsubscribe address of a mail of ours
]

RecipientKind = Literal["to", "cc", "bcc"]

RecipientState = Literal[
    "pending",  # not handed over yet
    "accepted",  # the next mail server has taken the mail for this recipient
    "failed",  # refused for good, or given up
    "in_doubt",  # may or may not have been handed over
    "cancelled",  # stopped before it left
    "delivered",  # reported as delivered
    "bounced",  # reported as undeliverable for good
    "complained",  # the person reported it as spam
]

InDoubtPolicy = Literal[
    "retry",  # handed over again with the same Message-ID, by which most mail servers tell the second from the first
    "hold",  # in_doubt until somebody calls `resolve_email`
]

Resolution = Literal[
    "sent",  # it arrived
    "failed",  # it did not arrive and shall not
    "send_again",  # it did not arrive and shall: queued again with the same Message-ID
]

DeliveryEventType = Literal[
    "delivered",  # it is in the person's mailbox
    "bounced",  # it came back
    "complained",  # the person reported it as spam
    "opened",  # it was opened, as far as can be told
]

SuppressionReason = Literal[
    "manual",  # somebody added it
    "unsubscribed",  # the person unsubscribed
    "bounced",  # mail to it came back for good
    "complained",  # the person reported mail as spam
]

UpsertOutcome = Literal[
    "created",  # the contact was new and has been made
    "updated",  # the contact was known and has been changed
    "unchanged",  # the contact already was as asked for; neither etag nor update_time moved
]

ErasureState = Literal[
    "scrubbing",  # contact, log and metadata are gone; mail is being scrubbed
    "done",  # mail is scrubbed as well
]

NotificationType = Literal[
    "contact_created",
    "contact_updated",  # its name or metadata changed
    "contact_deleted",  # a person was erased
    "mailbox_created",
    "mailbox_updated",
    "mailbox_deleted",
    "email_queued",  # a mail was accepted for sending
    "email_settled",  # a mail came to its end, see Notification.email_state
    "email_received",  # a mail arrived
    "email_read",  # an agent read a mail for the first time
    "emails_scrubbed",  # an erased person's mail was scrubbed
    "email_held",  # a mail waits for a person
    "email_scheduled",  # a mail waits for its time
    "email_approved",  # a person approved a held mail
    "email_updated",  # the content of a held or scheduled mail changed
    "send_refused",  # by a guard, a suppression, a rate or the mode, see Notification.rule; nothing else changed
    "email_event",  # something was reported about a mail's delivery, see Notification.event
    "suppression_added",  # an address was suppressed
    "suppression_removed",  # an address may be written to again
]
