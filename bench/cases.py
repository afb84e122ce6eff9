"""What is asked of every system alike: the people there are, and the cases as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ulid import ULID

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as rules

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = "main"
MAILBOX = "box@bench.test"
CONTACTS = 10_000
COMPANIES = 100
PRO = 100  # on the pro plan, however many there are
ROWS = 500  # of one batch
PAGE = 20
BEFORE = "2026-03-20"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
CALLERS = (1, 16, 64, 256)


@dataclass(frozen=True)
class Case:
    """One kind of call.

    Attributes:
        name: Its name, which the senders know.
        callers: How many call at once, each again as soon as it is answered.
        rows: Contacts that one call writes.
    """

    name: str
    callers: tuple[int, ...] = CALLERS
    rows: int = 1


GET = Case("get")
UPSERT_EXISTING = Case("upsert existing")
UPSERT_REPEATABLE = Case("upsert existing, with request_id", (64,))
UPSERT_NEW = Case("upsert new")
APPEND = Case("append")
SEARCH = Case("search")
BATCH_EXISTING = Case("batch existing", (1, 4), ROWS)
BATCH_NEW = Case("batch new", (1, 4), ROWS)
BATCH_NUMBERED = Case("batch new, numbered", (1, 4), ROWS)


def address(number: int) -> str:
    """The address of a contact."""
    return f"p{number}@company{number % COMPANIES}.test"


def fresh(number: int, row: int = 0) -> str:
    """An address nobody has yet, if no number comes twice."""
    return f"new{number}.{row}@fresh.test"


def change(number: int) -> dict[str, Any]:
    """Metadata to merge in: one key, another value each time."""
    return {"n": number + 0.5}


def details(number: int) -> dict[str, Any]:
    """The metadata of a new contact."""
    is_pro = number < CONTACTS and number % (CONTACTS // PRO) == 0
    return {"plan": "pro" if is_pro else "free", "open_tickets": number % 7, "company": f"Company {number}"}


def existing_rows(number: int, contacts: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and metadata of one batch's rows, all of contacts there are."""
    for row in range(ROWS):
        yield address((number * ROWS + row) % contacts), change(number)


def new_rows(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same for contacts there are not."""
    for row in range(ROWS):
        yield fresh(number, row), details(row)


def mail(number: int, contacts: int) -> bytes:
    """A mail from one of the contacts, in a conversation of its own."""
    sender = address(number % contacts)
    lines = (
        f"From: Person <{sender}>",
        f"To: {MAILBOX}",
        "Subject: A question",
        "Date: Mon, 1 Jun 2026 10:00:00 +0000",
        f"Message-ID: <{number}@company.test>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        "Hello, what does the pro plan cost?",
        "",
    )
    return "\r\n".join(lines).encode()


def people(first: int, last: int) -> Iterator[dict[str, Any]]:
    """The documents of the contacts from one number up to another; two of three were written to once."""
    for number in range(first, last):
        known = rules.new(
            f"contact_{ULID()}",
            ACCOUNT,
            parse_address(address(number), "email"),
            name=f"Person {number}",
            metadata=details(number),
            now=NOW,
        )
        yield rules.contacted_elsewhere(known, NOW - timedelta(days=number % 150)) if number % 3 else known
