"""Erasing a person from what was shared with others, whatever happens meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.rpc.calls import approved, delivered, made, sent, settled, stubs, until
from tests.rpc.relays import arrive, letter

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.contacts.erasure import mail_to_scrub

if TYPE_CHECKING:
    from typing import Any

    from tests.conftest import Account


async def erased(contacts: Any, email: str) -> str:
    """Erases a person; returns the erasure's id."""
    return str((await contacts.DeleteContact(contact_pb.DeleteContactRequest(email=email))).id)


async def scrubbed(account: Account, erasure: str) -> None:
    """Waits until nothing names the person any more."""

    async def done() -> bool:
        (found,) = await account.running.database.find("erasures", {"_id": erasure})
        return bool(found["done"])

    await until(done)


async def naming(account: Account, words: str) -> list[str]:
    """Everything the database holds of the account in which these words stand."""
    names = ("contacts", "emails", "erasures", "jobs", "notifications", "suppressions", "threads", "turns")
    found = [each for name in names for each in await account.running.database.find(name, {"account": account.name})]
    return [repr(each) for each in found if words in repr(each).lower()]


async def test_shared_mail_forgets_what_was_said_of_a_person(account: Account) -> None:
    """Bounces, reasons of approval, and the guard about an erased person leave mail that others keep."""
    box = await made(account, oversight_mode=m.OVERSIGHT_MODE_GATED_SEND)
    async with stubs(account) as (contacts, mail), stubs(account, "oversight") as (_, overseer):
        guard = pb.SendGuard(dedupe_key="about-gone", filters={})
        held = await sent(mail, box, "gone@scrub.test", cc=["stays@scrub.test"], guard=guard)
        await approved(overseer, held, reason="fine for gone@scrub.test")
        await settled(mail, held.id)
        for person in ("gone@scrub.test", "stays@scrub.test"):
            await mail.IngestEvent(
                pb.IngestEventRequest(
                    email_id=held.id, address=person, type=m.DELIVERY_EVENT_TYPE_BOUNCED, detail=f"550 no {person}"
                )
            )
        await scrubbed(account, await erased(contacts, "gone@scrub.test"))
        found = await mail.GetEmail(pb.GetEmailRequest(id=held.id))
        assert ["", "550 no stays@scrub.test"] == sorted(each.detail for each in found.events)
        assert [] == await naming(account, "gone")


async def test_a_thread_forgets_who_was_heard_last(account: Account) -> None:
    """A stranger who wrote, became a contact and was erased is named by their thread no more."""
    box = await made(account)
    async with stubs(account) as (contacts, _):
        await arrive(account, box, letter("gone@thread.test", box, "hello"), sender="gone@thread.test")
        await contacts.UpsertContact(contact_pb.UpsertContactRequest(email="gone@thread.test"))

        async def adopted() -> bool:
            found = await contacts.GetContact(contact_pb.GetContactRequest(email="gone@thread.test"))
            return bool(found.interaction_count)

        await until(adopted)
        (thread,) = await account.running.database.find("threads", {"account": account.name})
        assert thread["last_heard"]["person"].startswith("contact_")
        await scrubbed(account, await erased(contacts, "gone@thread.test"))
        assert [] == await naming(account, "gone")


async def test_word_that_comes_late_names_nobody(account: Account) -> None:
    """A complaint that comes between the erasure and its end suppresses the address without naming it."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        for number in range(10):
            person = f"gone{number}@late.test"
            email = await delivered(mail, box, person)
            erasure = await erased(contacts, person)
            try:
                await mail.IngestEvent(
                    pb.IngestEventRequest(email_id=email.id, address=person, type=m.DELIVERY_EVENT_TYPE_COMPLAINED)
                )
            except grpc.aio.AioRpcError:  # the erasure came to its end first
                continue
            finally:
                await scrubbed(account, erasure)
            assert [""] == [
                each.address for each in (await mail.ListSuppressions(pb.ListSuppressionsRequest())).suppressions
            ]
            assert [] == await naming(account, "gone")
            return
        pytest.fail("every erasure came to its end before the complaint")


async def test_mail_of_the_same_moment_is_scrubbed_too(account: Account) -> None:
    """A mail written in the very moment of the erasure counts as before it, by address and by contact."""
    box = await made(account)
    database = account.running.database
    async with stubs(account) as (contacts, mail):
        await contacts.UpsertContact(contact_pb.UpsertContactRequest(email="gone@moment.test"))
        raw = letter("gone@moment.test", box).as_bytes()
        await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))
    (email,) = await database.find("emails", {"account": account.name, "mailbox": {"$gt": ""}})
    (contact,) = email["people"]
    for keys, person in (([], contact), (email["named"], "nobody")):
        job = {"account": account.name, "contact": person, "keys": keys, "until": email["at"]}
        assert [email["_id"]] == await mail_to_scrub(database, job, 10)


async def test_jobs_that_fail_hold_up_nobody(account: Account) -> None:
    """Sixty jobs that nobody can do, due long before, neither stop an erasure nor are tried without a pause."""
    database = account.running.database
    now = await database.now()
    broken = [f"broken/{account.name}/{number:02}" for number in range(60)]
    for identifier in broken:
        job = {"_id": identifier, "account": account.name, "type": "broken", "due_at": now.replace(year=2020)}
        await database.insert_one("jobs", job)
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        await delivered(mail, box, "gone@jobs.test")
        await scrubbed(account, await erased(contacts, "gone@jobs.test"))
        assert [] == await naming(account, "gone")
        left = await database.find("jobs", {"account": account.name, "type": "broken"})
        assert 60 == len([job for job in left if job["due_at"] > now])
    await database.delete_many("jobs", [{"_id": identifier} for identifier in broken])
