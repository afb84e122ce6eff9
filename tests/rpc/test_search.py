"""Searching as agents do: filters as text, orders, counts, plans, and no crawling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.struct_pb2 import Struct
from tests.rpc.calls import made, refusal, sent, stubs

from multimail.v1 import contact_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account

PEOPLE: dict[str, tuple[str, dict[str, Any]]] = {
    "ann@acme.test": ("Ann Lee", {"plan": "pro", "seats": 5, "tags": ["vip", "eu"], "a.b": {"c": True}}),
    "bo@acme.test": ("Bo Lee", {"plan": "free", "seats": 50, "address": {"city": "Oslo"}}),
    "cy@other.test": ("Cy Ann", {"plan": "pro", "seats": 7.5, "tags": ["eu"]}),
    "di@other.test": ("", {}),
}


async def with_people(contacts: Any) -> None:
    """Makes the people."""
    for email, (name, metadata) in PEOPLE.items():
        payload = Struct()
        payload.update(metadata)
        await contacts.UpsertContact(pb.UpsertContactRequest(email=email, name=name, metadata=payload))


async def found(contacts: Any, **more: Any) -> list[str]:
    """The names before the at of whom a search finds."""
    answer = await contacts.SearchContacts(pb.SearchContactsRequest(**more))
    return [contact.email.partition("@")[0] for contact in answer.contacts]


@pytest.fixture
async def contacts(account: Account) -> AsyncIterator[Any]:
    """The contact stub of an account with four people, one of them written to, one of them waiting for our answer."""
    async with stubs(account) as (contacts, mail):
        await with_people(contacts)
        await sent(mail, await made(account), "bo@acme.test")
        yield contacts


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("", "ann bo cy di"),
        ("metadata.plan = pro", "ann cy"),
        ('metadata.plan = "pro" AND metadata.seats > 6', "cy"),
        ("metadata.plan = pro OR metadata.plan = free", "ann bo cy"),
        ("metadata.seats >= 5 AND metadata.seats < 8", "ann cy"),
        ("NOT metadata.plan = pro", "bo di"),
        ("-metadata.plan = pro domain = acme.test", "bo"),
        ("metadata.plan != pro", "bo di"),
        ("metadata.tags : vip", "ann"),
        ("metadata.tags : *", "ann cy"),
        ('metadata."a.b".c = true', "ann"),
        ("metadata.address.city = Oslo", "bo"),
        ('metadata.plan = "pr*"', "ann cy"),
        ("domain = other.test", "cy di"),
        ("email = ann@ACME.test", "ann"),
        ("ann", "ann cy"),
        ("lee OR cy", "ann bo cy"),
        ("never_contacted", "ann cy di"),
        ("last_contacted > -1h", "bo"),
        ("last_contacted < -30d", "ann cy di"),
        ("awaiting_reply", "bo"),
        ("has_open_thread = false", "ann cy di"),
        ("created > 2020-01-01 AND NOT has_open_thread AND metadata.plan : *", "ann cy"),
        ("(metadata.plan = free OR metadata.seats = 5) AND never_contacted", "ann"),
    ],
)
async def test_filters_as_text(contacts: Any, text: str, who: str) -> None:
    """A filter finds exactly whom it describes, and CountContacts counts them."""
    assert who.split() == await found(contacts, filter=text)
    assert len(who.split()) == (await contacts.CountContacts(pb.CountContactsRequest(filter=text))).count


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("metadata.plan =", 16, ""),
        ("(metadata.plan = pro", 21, ""),
        ("last_contactd < -30d", 1, "last_contacted"),
        ("last_contacted < soon", 18, "2026-"),
        ("metadata.plan = pro AND", 24, ""),
        ("metadata.seats > true", 18, "number"),
    ],
)
async def test_wrong_filters_say_where(contacts: Any, text: str, column: int, hint: str) -> None:
    """A filter that cannot be understood is refused with the column and a hint."""
    for call, kind in (
        (contacts.SearchContacts, pb.SearchContactsRequest),
        (contacts.CountContacts, pb.CountContactsRequest),
    ):
        refused = await refusal(call(kind(filter=text)))
        assert ("INVALID_ARGUMENT", "INVALID_FILTER", ("filter",)) == (refused.code, refused.reason, refused.fields)
        assert f"column {column}" in refused.message
        assert hint in refused.message


@pytest.mark.parametrize(
    ("order", "who"),
    [
        ("email desc", "di cy bo ann"),
        ("name, email", "di ann bo cy"),
        ("last_contacted desc, email", "bo ann cy di"),
        ("interaction_count desc,name desc", "bo cy ann di"),
        ("create_time desc", "di cy bo ann"),
    ],
)
async def test_orders(contacts: Any, order: str, who: str) -> None:
    """Hits come in the order asked for, page by page, each once."""
    token, pages = "", []
    while not pages or token:
        page = await contacts.SearchContacts(
            pb.SearchContactsRequest(order_by=order, page_size=1, page_token=token, filter="created > 2020-01-01")
        )
        pages += [contact.email.partition("@")[0] for contact in page.contacts]
        token = page.next_page_token
    assert who.split() == pages
    refused = await refusal(contacts.SearchContacts(pb.SearchContactsRequest(order_by="nam")))
    assert ("INVALID_ARGUMENT", ("order_by",)) == (refused.code, refused.fields)


async def test_how_a_search_is_done(contacts: Any) -> None:
    """With explain the answer says which indexes led, how many contacts they lead to, and how many are shown."""
    for text, indexes, indexed, examined, returned in (
        ("metadata.plan = pro AND never_contacted", ["facets__id"], True, 2, 2),
        ("email = bo@acme.test", ["account_email_keys"], True, 1, 1),
        ("metadata.plan = pro OR awaiting_reply", ["facets__id", "account_awaiting_since__id"], True, 3, 3),
        ("metadata.plan != pro", ["account__id"], False, 4, 2),
    ):
        answer = await contacts.SearchContacts(pb.SearchContactsRequest(filter=text, explain=True))
        plan = answer.plan
        assert (indexes, indexed, examined, returned) == (
            list(plan.indexes), plan.indexed, plan.examined, plan.returned,
        )  # fmt: skip
    assert not (await contacts.SearchContacts(pb.SearchContactsRequest())).HasField("plan")


async def test_what_no_index_serves_is_bounded(contacts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more contacts would have to be looked at than the cap, the search is refused, and says what to do."""
    monkeypatch.setattr("multimail_server.contacts.searches.SCAN_CAP", 3)
    for more in ({"filter": "metadata.plan != pro"}, {"order_by": "name"}):
        refused = await refusal(contacts.SearchContacts(pb.SearchContactsRequest(**more)))
        assert ("FAILED_PRECONDITION", "FILTER_TOO_BROAD", {"cap": "3"}) == (
            refused.code, refused.reason, refused.metadata,
        )  # fmt: skip
    refused = await refusal(contacts.CountContacts(pb.CountContactsRequest(filter="-metadata.plan = pro")))
    assert "FILTER_TOO_BROAD" == refused.reason
    assert ["bo"] == await found(contacts, filter="metadata.plan != pro AND domain = acme.test")
    assert ["cy", "ann"] == await found(contacts, filter="metadata.plan = pro", order_by="email desc")
    assert ["di", "cy", "bo", "ann"] == await found(contacts, order_by="create_time desc")
    assert ["ann", "cy", "di"] == await found(contacts, filter="never_contacted OR last_contacted < -1d")


async def test_long_names_are_walked_too(account: Account) -> None:
    """A walk in order of names goes on from page to page however long they are, and in whatever script."""
    names = [letter * 512 for letter in ("e", "é", "字", "😀")]
    async with stubs(account) as (contacts, _):
        for number, name in enumerate(names):
            await contacts.UpsertContact(pb.UpsertContactRequest(email=f"p{number}@long.test", name=name))
        token, found = "", []
        while len(found) < len(names):
            page = await contacts.SearchContacts(
                pb.SearchContactsRequest(order_by="name, email", page_size=1, page_token=token)
            )
            found += [each.name for each in page.contacts]
            token = page.next_page_token
        assert (names, "") == (found, token)
