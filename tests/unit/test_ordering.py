"""order_by: how it is read, and what is said when it is wrong."""

from __future__ import annotations

import pytest

from multimail_server.aip.address import parse_address
from multimail_server.aip.ordering import parse_order_by
from multimail_server.contacts import contact
from multimail_server.contacts.contact import SORT_FIELDS
from multimail_server.errors import DomainError, Reason


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        ("  ", ()),
        ("name", (("name", 1),)),
        (" last_contacted  desc , email asc", (("last_contacted_at", -1), ("email", 1))),
        ("interaction_count desc,update_time", (("interaction_count", -1), ("update_time", 1))),
    ],
)
def test_order_by_names_fields(text: str, keys: tuple[tuple[str, int], ...]) -> None:
    """An order is fields, rising or falling, and ends in the id."""
    assert (*keys, ("_id", 1)) == parse_order_by(text, SORT_FIELDS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nam", "did you mean name?"),
        ("favourite", "use one of email, name"),
        ("name,", "is not fields joined by commas"),
        ("name down", "is not fields joined by commas"),
        ("name desc desc", "is not fields joined by commas"),
        ("name, name desc", "names name twice"),
        ("name,email,create_time,update_time", "at most 3"),
    ],
)
def test_wrong_orders_are_refused(text: str, said: str) -> None:
    """What is no order is refused, with a hint."""
    with pytest.raises(DomainError) as refused:
        parse_order_by(text, SORT_FIELDS)
    (violation,) = refused.value.violations
    assert (Reason.INVALID_FIELD, "order_by") == (refused.value.reason, violation.field)
    assert said in violation.description


def test_every_field_to_order_by_is_kept() -> None:
    """What can be ordered by is on every contact from the first day."""
    address = parse_address("a@b.test", "email")
    made = contact.new("contact_1", "a", address, name="", metadata={}, now=contact.NEVER)
    assert set(SORT_FIELDS.values()) <= made.keys()
