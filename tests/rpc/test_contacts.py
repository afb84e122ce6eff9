"""ContactService over a socket: merge, identity, etags, operators, limits, search, erasure."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import multimail

if TYPE_CHECKING:
    from tests.conftest import Account


def nested(path: str) -> dict[str, Any]:
    """Objects in objects, by a path of keys."""
    value: dict[str, Any] = {}
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


ODD_KEYS: dict[str, Any] = {
    "a.b": {"$x": 1, "": "empty", "%2E": 2, "c%": 3}, "$": [{"d.e": "😀"}], "😀": "é", " ": None, "2": 2, "f": 2.5,
}  # fmt: skip


async def test_upsert_makes_merges_and_leaves(client: multimail.AsyncClient) -> None:
    """An upsert makes, then merges at every depth with None clearing a key, then leaves what is already so."""
    made = await client.contacts.upsert(
        email="elena@acme.test", name="Elena", metadata={"a": {"b": 1, "c": 2}, "t": [1]}
    )
    merged = await client.contacts.upsert(email="elena@acme.test", metadata={"a": {"b": None, "d": 3}, "t": [2, 3]})
    same = await client.contacts.upsert(email="elena@acme.test", name="Elena", metadata={"a": {"d": 3}})
    assert (made.outcome, merged.outcome, same.outcome) == ("created", "updated", "unchanged")
    assert same.metadata == {"a": {"c": 2, "d": 3}, "t": [2, 3]}
    assert made.etag != merged.etag
    assert (merged.etag, merged.update_time) == (same.etag, same.update_time)
    assert same.name == "Elena"


async def test_odd_keys_come_back(client: multimail.AsyncClient) -> None:
    """Keys with dots, dollars, emoji, percent signs and nothing at all come back as they were, 2 as 2."""
    await client.contacts.upsert(email="odd@acme.test", metadata=ODD_KEYS)
    found = await client.contacts.get(email="odd@acme.test")
    expected = {key: value for key, value in ODD_KEYS.items() if value is not None}
    assert expected == found.metadata
    assert isinstance(found.metadata["2"], int)
    hits = await client.contacts.search(filters={'metadata."a.b".$x': 1, "metadata.😀": "é"})
    assert [found.id] == [hit.id for hit in hits.items]


async def test_one_person_in_every_spelling(client: multimail.AsyncClient) -> None:
    """Case does not matter in an address, an IDN domain equals its A-label, and the first spelling is kept."""
    made = await client.contacts.upsert(email=" Elena@ACMEcorp.test ")
    assert made.email == "Elena@ACMEcorp.test"
    assert made.id == (await client.contacts.get(email="elena@acmecorp.test")).id
    idn = await client.contacts.upsert(email="a@bücher.test")
    assert idn.id == (await client.contacts.upsert(email="A@xn--bcher-kva.test")).id


@pytest.mark.parametrize(
    "address",
    ["", "x", "a@b", "a@b.test.", '"a b"@c.test', "a@[127.0.0.1]", "a b@c.test", "a@b.test\nBcc: x@y.test",
     "a" * 65 + "@b.test", "Elena <e@b.test>", "a@-b.test", "a..b@c.test", "a@b.test, c@d.test", "\x00a@b.test"],
)  # fmt: skip
async def test_nonsense_addresses_are_refused(client: multimail.AsyncClient, address: str) -> None:
    """What no mail could be sent to is refused with the field's path."""
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.upsert(email=address)
    assert [violation.field for violation in refused.value.violations] == ["email"]


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        (nested("deep.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o"),
         "metadata.deep.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o"),
        ({"many": {f"k{n}": n for n in range(600)}}, "metadata.many.k"),
        ({"long": "x" * 70_000, "s": 1}, "metadata.long"),
        ({"list": list(range(513))}, "metadata.list"),
    ],
)  # fmt: skip
async def test_limits_name_the_key(client: multimail.AsyncClient, metadata: dict[str, Any], path: str) -> None:
    """Metadata too deep, too many or too large is refused with the path of the offending key, and nothing is kept."""
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.upsert(email="limits@acme.test", metadata=metadata)
    assert [violation.field.startswith(path) for violation in refused.value.violations] == [True]
    with pytest.raises(multimail.NotFoundError):
        await client.contacts.get(email="limits@acme.test")


async def test_all_bad_fields_are_named_at_once(client: multimail.AsyncClient) -> None:
    """A request with several bad fields is refused once, with all of them."""
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.upsert(email="no", name="a\x00b", request_id="ü")
    assert {"request_id"} == {violation.field for violation in refused.value.violations}
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.upsert(email="no", name="a\x00b")
    assert {"email", "name"} == {violation.field for violation in refused.value.violations}


async def test_create_answers_known_with_its_id(client: multimail.AsyncClient) -> None:
    """Creating a known address is refused with the contact's id, unless upsert is set."""
    made = await client.contacts.create(email="c@acme.test")
    with pytest.raises(multimail.AlreadyExistsError) as refused:
        await client.contacts.create(email="C@acme.test")
    assert ("CONTACT_EXISTS", made.id) == (refused.value.reason, refused.value.metadata["contact_id"])
    assert (await client.contacts.create(email="c@acme.test", name="C", upsert=True)).outcome == "updated"


async def test_request_id_repeats_and_refuses(client: multimail.AsyncClient) -> None:
    """The same request_id gives the same outcome, even later; with other content it is refused."""
    first = await client.contacts.upsert(email="r@acme.test", metadata={"n": 1}, request_id="r-1")
    await client.contacts.upsert(email="r@acme.test", metadata={"n": 2})
    again = await client.contacts.upsert(email="r@acme.test", metadata={"n": 1}, request_id="r-1")
    assert (first.id, "created", 2) == (again.id, again.outcome, again.metadata["n"])
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.upsert(email="r@acme.test", metadata={"n": 3}, request_id="r-1")
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_etag_is_honoured(client: multimail.AsyncClient) -> None:
    """A change with the current etag happens, with an outdated one it does not; deleting likewise."""
    made = await client.contacts.upsert(email="e@acme.test")
    changed = await client.contacts.update(id=made.id, name="E", etag=made.etag)
    with pytest.raises(multimail.AbortedError) as refused:
        await client.contacts.update(id=made.id, name="F", etag=made.etag)
    assert ("ETAG_MISMATCH", changed.etag) == (refused.value.reason, refused.value.metadata["etag"])
    with pytest.raises(multimail.AbortedError):
        await client.contacts.delete(id=made.id, etag=made.etag)
    await client.contacts.delete(id=made.id, etag=changed.etag)


async def test_operators(client: multimail.AsyncClient) -> None:
    """Operators set, unset, rename, increment, add to sets and remove, all in one step."""
    await client.contacts.upsert(
        email="o@acme.test", metadata={"n": 1, "old": {"x": 1}, "tags": ["a", "b"], "gone": True, "a.b": 1}
    )
    changed = await client.contacts.update(
        email="o@acme.test", metadata={"m": 1}, set={"deep.er": [1]}, unset=["gone"], rename={"old.x": "new.y"},
        increment={"n": 2, '"a.b"': 0.5, "fresh": -1}, add_to_set={"tags": "c", "more": {"z": 1}}, remove={"tags2": 1},
    )  # fmt: skip
    assert changed.metadata == {
        "n": 3, "old": {}, "tags": ["a", "b", "c"], "a.b": 1.5, "m": 1, "deep": {"er": [1]}, "new": {"y": 1},
        "fresh": -1, "more": [{"z": 1}],
    }  # fmt: skip
    removed = await client.contacts.update(email="o@acme.test", remove={"tags": "a"})
    assert removed.metadata["tags"] == ["b", "c"]
    replaced = await client.contacts.update(email="o@acme.test", metadata={"only": 1}, replace_metadata=True)
    assert replaced.metadata == {"only": 1}


async def test_operators_that_do_not_fit_change_nothing(client: multimail.AsyncClient) -> None:
    """When one operator does not fit, all such are named and none applies; overlapping ones are refused."""
    made = await client.contacts.upsert(email="u@acme.test", metadata={"n": "text", "k": 1})
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.update(id=made.id, set={"x": 1}, increment={"n": 1}, rename={"no": "k2"})
    assert {'increment["n"]', 'rename["no"]'} == {violation.field for violation in refused.value.violations}
    with pytest.raises(multimail.InvalidArgumentError):
        await client.contacts.update(id=made.id, set={"k": {"a": 1}}, unset=["k.a"])
    for path in ('"a\\u0000b"', '"\\ud800"'):
        with pytest.raises(multimail.InvalidArgumentError) as refused:
            await client.contacts.update(id=made.id, set={path: 1})
        assert "cannot be kept" in refused.value.violations[0].description
    assert made.etag == (await client.contacts.get(id=made.id)).etag
    with pytest.raises(multimail.NotFoundError):
        await client.contacts.update(email="unknown@acme.test", name="x")


async def test_search_by_everything(client: multimail.AsyncClient) -> None:
    """Contacts are found by address, domain, words of the name and any metadata, alone and together."""
    people = {
        "ana@acme.test": ("Ána López", {"plan": "pro", "n": 2, "tags": ["x", 7], "address": {"city": "Oslo"}}),
        "bo@acme.test": ("Bo Lopez", {"plan": "free", "n": 10, "on": True, "tags": []}),
        "cy@other.test": ("Cy", {"plan": "pro", "n": -3.5, "renewal": "2027-02-01", "n2": "2"}),
    }
    for email, (name, metadata) in people.items():
        await client.contacts.upsert(email=email, name=name, metadata=metadata)

    async def found(**conditions: Any) -> set[str]:
        return {contact.email.partition("@")[0] for contact in (await client.contacts.search(**conditions)).items}

    assert {"ana"} == await found(query="ANA@acme.test")
    assert {"ana", "bo"} == await found(query="acme.test")
    assert {"ana", "bo"} == await found(query="lop")
    assert {"ana"} == await found(query="lopez an")
    assert {"ana"} == await found(domain="ACME.test", filters={"metadata.plan": "pro"})
    assert {"ana"} == await found(filters={"metadata.tags": "x"}) == await found(filters={"metadata.tags": 7})
    assert {"ana"} == await found(filters={"metadata.address.city": "Oslo"})
    assert {"ana"} == await found(filters={"metadata.n": 2}) == await found(filters={"metadata.n": 2.0})
    assert set() == await found(filters={"metadata.n": "2"})
    assert {"cy"} == await found(filters={"metadata.n2": "2"})
    assert {"ana", "bo"} == await found(filters={"metadata.n": {"gte": 2}})
    assert {"ana", "cy"} == await found(filters={"metadata.n": {"lt": 10}})
    assert {"cy"} == await found(filters={"metadata.n": {"lt": 0}})
    assert {"cy"} == await found(filters={"metadata.renewal": {"gte": "2027-01-01", "lt": "2027-03-01"}})
    assert {"bo"} == await found(filters={"metadata.on": True})
    assert {"bo", "cy"} == await found(filters={"metadata.address": {"exists": False}})
    assert {"ana", "bo"} == await found(filters={"metadata.tags": {"exists": True}})
    assert {"bo"} == await found(filters={"metadata.plan": {"ne": "pro"}})
    assert {"ana", "bo", "cy"} == await found(filters={"metadata.plan": {"in": ["pro", "free"]}})
    assert {"cy"} == await found(filters={"metadata.renewal": {"prefix": "2027-02"}})
    assert {"ana", "bo", "cy"} == await found()


async def test_recency(client: multimail.AsyncClient) -> None:
    """last_contacted_before includes people never contacted, _after does not; bare dates are days in UTC."""
    day = datetime(2026, 3, 20, tzinfo=UTC)
    for name, when in {
        "old": day - timedelta(seconds=1),
        "edge": day,
        "new": day + timedelta(days=9),
        "never": None,
    }.items():
        await client.contacts.upsert(email=f"{name}@acme.test", metadata={"last_contacted": "x"}, last_contacted=when)

    async def found(**filters: Any) -> set[str]:
        return {each.email.partition("@")[0] async for each in await client.contacts.search(filters=filters)}

    assert {"old", "never"} == await found(last_contacted_before="2026-03-20")
    assert {"edge", "new"} == await found(last_contacted_after="2026-03-20T00:00:00Z")
    assert {"never"} == await found(never_contacted=True)
    assert {"old", "edge", "new"} == await found(never_contacted=False)
    assert {"edge"} == await found(last_contacted_after="2026-03-20", last_contacted_before="2026-03-21T00:00:00+02:00")
    await client.contacts.upsert(email="new@acme.test", last_contacted=day)
    assert day + timedelta(days=9) == (await client.contacts.get(email="new@acme.test")).last_contacted
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.upsert(email="x@acme.test", last_contacted=datetime.now(UTC) + timedelta(days=1))
    assert [violation.field for violation in refused.value.violations] == ["last_contacted"]


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"plan": "pro"}, 'filters["plan"]'),
        ({"metadata.n": {"gt": True}}, 'filters["metadata.n"].gt'),
        ({"metadata.n": {"like": "x"}}, 'filters["metadata.n"].like'),
        ({"metadata.n": {}}, 'filters["metadata.n"]'),
        ({"metadata.n": [1]}, 'filters["metadata.n"]'),
        ({"metadata.": 1}, 'filters["metadata."]'),
        ({'metadata."x': 1}, 'filters["metadata."x"]'),
        ({"last_contacted_before": "yesterday"}, 'filters["last_contacted_before"]'),
        ({"last_contacted_before": 5}, 'filters["last_contacted_before"]'),
        ({"metadata.n": {"gt": 1, "lt": "x"}}, 'filters["metadata.n"]'),
        ({"metadata.n": {"exists": 1}}, 'filters["metadata.n"].exists'),
        ({"metadata.n": {"prefix": "x" * 300}}, 'filters["metadata.n"].prefix'),
    ],
)
async def test_wrong_filters_are_named(client: multimail.AsyncClient, filters: dict[str, Any], field: str) -> None:
    """A filter that cannot be understood is refused with its path."""
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.contacts.search(filters=filters)
    assert ("INVALID_FILTER", [field]) == (refused.value.reason, [each.field for each in refused.value.violations])


async def test_paging_sees_each_once(client: multimail.AsyncClient, account: Account) -> None:
    """Walking pages yields every contact once in order of id; a token serves only its own caller and query."""
    await asyncio.gather(*(client.contacts.upsert(email=f"p{n}@acme.test") for n in range(23)))
    found = await client.contacts.search(limit=None)
    walked = [contact.id async for contact in found]
    assert sorted(walked) == walked
    assert len(set(walked)) == 23
    assert [len(page) async for page in (await client.contacts.search(limit=5)).pages()] == [5]
    from multimail.v1 import contact_service_pb2 as pb

    stub = client._caller._stubs["ContactService"]
    metadata = client._caller._endpoint.metadata
    first = await stub.SearchContacts(pb.SearchContactsRequest(domain="acme.test", page_size=10), metadata=metadata)
    assert len(first.contacts) == 10
    other = await account.client("read")
    stranger = await (type(account)("stranger-" + account.name, account.running, account.commands)).client()
    await other.contacts.search(limit=1)
    for use, fields in ((client, {"domain": "other.test"}), (stranger, {"domain": "acme.test"})):
        if use is stranger:
            await use.contacts.search(limit=1)
        with pytest.raises(Exception, match="page_token") as refused:
            await use._caller._stubs["ContactService"].SearchContacts(
                pb.SearchContactsRequest(page_token=first.next_page_token, **fields),
                metadata=use._caller._endpoint.metadata,
            )
        assert refused.value.code().name == "INVALID_ARGUMENT"


async def test_accounts_do_not_see_each_other(client: multimail.AsyncClient, account: Account) -> None:
    """Another account's contact is not there: the same words as for one that never was, and no hit and no count."""
    made = await client.contacts.upsert(email="mine@acme.test", metadata={"k": 1})
    other = await type(account)("other-" + account.name, account.running, account.commands).client()
    messages = set()
    for look in (
        lambda: other.contacts.get(id=made.id), lambda: other.contacts.get(email="mine@acme.test"),
        lambda: other.contacts.get(id="contact_unknown"), lambda: other.contacts.update(id=made.id, name="x"),
        lambda: other.contacts.delete(id=made.id), lambda: other.contacts.interactions(id=made.id),
    ):  # fmt: skip
        with pytest.raises(multimail.NotFoundError) as refused:
            await look()
        messages.add(str(refused.value))
    assert len(messages) == 1
    assert (await other.contacts.search()).items == []
    theirs = await other.contacts.upsert(email="mine@acme.test")
    assert (theirs.outcome, theirs.id != made.id) == ("created", True)
    assert (await client.contacts.get(id=made.id)).metadata == {"k": 1}


async def test_erased_people_start_empty(client: multimail.AsyncClient) -> None:
    """After an erasure the person is in no answer, and the same address upserted later starts empty."""
    made = await client.contacts.upsert(email="gone@acme.test", name="Gone", metadata={"a": 1})
    erasure = await client.contacts.delete(email="GONE@acme.test", request_id="d-1")
    assert (made.id, "scrubbing") == (erasure.contact_id, erasure.state)
    for look in (lambda: client.contacts.get(id=made.id), lambda: client.contacts.get(email="gone@acme.test")):
        with pytest.raises(multimail.NotFoundError):
            await look()
    assert [] == (await client.contacts.search(domain="acme.test")).items == (await client.contacts.search()).items
    again = await client.contacts.upsert(email="gone@acme.test")
    assert (again.outcome, again.metadata, again.name, again.interaction_count) == ("created", {}, "", 0)
    assert again.id != made.id
    assert erasure.id == (await client.contacts.delete(email="GONE@acme.test", request_id="d-1")).id
    assert again.id == (await client.contacts.get(email="gone@acme.test")).id


async def test_large_pages_fit_into_a_message(client: multimail.AsyncClient) -> None:
    """A page of large contacts is cut to what a plain client takes, and the walk still sees each once."""
    from multimail.v1 import contact_service_pb2 as pb

    for number in range(80):
        await client.contacts.upsert(email=f"big{number}@acme.test", metadata={"text": "x" * 60_000})
    stub, metadata = client._caller._stubs["ContactService"], client._caller._endpoint.metadata
    reply = await stub.SearchContacts(pb.SearchContactsRequest(page_size=500), metadata=metadata)
    assert 3 << 20 >= reply.ByteSize() - 1_000
    assert 40 < len(reply.contacts) < 80
    seen = [contact.email async for contact in await client.contacts.search()]
    assert 80 == len(set(seen)) == len(seen)
