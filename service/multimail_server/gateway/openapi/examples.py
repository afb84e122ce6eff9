"""Bodies of the main calls for the HTTP reference; a test sends each of them."""

from __future__ import annotations

from typing import Any

EXAMPLES: dict[str, dict[str, Any]] = {
    "CreateMailbox": {"email": "sales@example.test", "display_name": "Sales", "oversight_mode": "monitored"},
    "UpdateMailbox": {"display_name": "Sales team", "hold_first_contact": True, "approval_ttl": "86400s"},
    "CreateContact": {
        "email": "elena@acmecorp.com",
        "name": "Elena Ruiz",
        "metadata": {"plan": "pro", "open_tickets": 2},
        "upsert": True,
    },
    "UpsertContact": {"email": "elena@acmecorp.com", "metadata": {"plan": "enterprise", "open_tickets": None}},
    "BatchUpsertContacts": {
        "contacts": [
            {"email": "elena@acmecorp.com", "metadata": {"city": "Oslo"}},
            {"email": "ada@northwind.test", "name": "Ada", "last_contacted": "2026-03-01T09:30:00Z"},
        ]
    },
    "ImportContacts": {"email": "lin@northwind.test", "name": "Lin", "metadata": {"plan": "free"}},
    "BatchGetContacts": {"contacts": [{"email": "elena@acmecorp.com"}, {"email": "nobody@acmecorp.com"}]},
    "UpdateContact": {"metadata": {"city": "Bergen"}, "increment": {"open_tickets": 1}, "add_to_set": {"tags": "vip"}},
    "SearchContacts": {
        "filters": {"metadata.plan": "enterprise", "last_contacted_before": "2030-01-01"},
        "order_by": "last_contacted desc",
        "page_size": 10,
    },
    "CountContacts": {"filter": 'metadata.plan = "pro" AND last_contacted < -30d'},
    "SendEmail": {
        "from_mailbox_email": "sales@example.test",
        "to": ["elena@acmecorp.com"],
        "subject": "Your open tickets",
        "markdown_body": "Hello Elena,\n\nboth are **solved**.",
        "guard": {"not_contacted_within": "604800s", "no_open_thread": True},
    },
    "ReplyEmail": {"body": "Thank you, we look into it."},
    "UpdateEmail": {"subject": "Your tickets are solved"},
    "BatchCheckSends": {
        "from_mailbox_email": "sales@example.test",
        "to": ["elena@acmecorp.com", "ada@northwind.test"],
        "guard": {"not_contacted_within": "604800s"},
    },
    "ApproveEmails": {
        "emails": [
            {
                "email_id": "email_01KAV7ZJ2J5X8B0Q4T9M3N6P7R",
                "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            }
        ],
        "reason": "fine",
    },
    "RejectEmails": {
        "emails": [
            {
                "email_id": "email_01KAV7ZJ2J5X8B0Q4T9M3N6P7R",
                "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            }
        ],
        "reason": "too pushy",
    },
    "AddSuppression": {"address": "no-more@northwind.test"},
}
