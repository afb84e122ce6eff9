"""One request_id, one effect: every changing call of both services, repeated, raced, reused and cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.rpc.calls import (
    GATED,
    all_notifications,
    approved,
    decision,
    made,
    mail_to,
    reason_of,
    refusal,
    rejected,
    sent,
    settled,
    state_of,
    stubs,
    until,
)
from tests.rpc.relays import HANG_UP, Peer, serving
from tests.rpc.stage import CHANGING, staged

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import contact_service_pb2_grpc, mail_service_pb2_grpc
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb
from multimail_server.rpc.auth import SCOPES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Account


def kept(answer: Any) -> Any:
    """What of an answer must not differ between a call and its repetition: ids and outcomes."""
    email = getattr(answer, "email", None) or answer
    if isinstance(email, m.Email):
        return email.id, email.thread_id, email.content_sha256
    if isinstance(answer, pb.ApproveEmailsResponse | pb.RejectEmailsResponse):
        return [(row.email_id, row.WhichOneof("result"), row.email.id) for row in answer.outcomes]
    return answer


def test_every_changing_call_is_repeated_here() -> None:
    """Every request that has a request_id belongs to a call that these tests repeat, and no other does."""
    found = set()
    for service in (contact_service_pb2_grpc, mail_service_pb2_grpc):
        module = contacts_pb if service is contact_service_pb2_grpc else pb
        for descriptor in module.DESCRIPTOR.services_by_name.values():
            for method in descriptor.methods:
                if "request_id" in method.input_type.fields_by_name:
                    found.add(method.name)
                else:
                    scope = SCOPES.get(f"/{descriptor.full_name}/{method.name}")
                    assert scope in ("read", "oversight", "any") or method.client_streaming, method.name
    assert set(CHANGING) == found


@pytest.mark.parametrize("method", [each for each in CHANGING if each != "ResolveEmail"])
async def test_repetition_is_one_effect(account: Account, method: str) -> None:
    """Raced and repeated, a call has one effect and one answer; with other content its id is refused, to no effect."""
    async with stubs(account) as (contacts, mail), stubs(account, "oversight", "read") as (_, overseer):
        stage = await staged(account, contacts, mail, overseer)
        call, request = stage.call(method), stage.request(method, 0)
        request.request_id = "same"
        before = await stage.changes()
        raced = await asyncio.gather(*(call(request) for _ in range(8)))
        once = await stage.changes()
        assert len(once) > len(before)
        repeated = await call(request)
        assert once == await stage.changes()
        assert [kept(repeated)] * 8 == [kept(each) for each in raced]
        other = stage.request(method, 1)
        other.request_id = "same"
        refused = await refusal(call(other))
        assert ("INVALID_ARGUMENT", "REQUEST_ID_REUSED", {"request_id": "same"}) == (
            refused.code, refused.reason, refused.metadata,
        )  # fmt: skip
        assert once == await stage.changes()
        # Under an id of its own the other content goes through: it was refused for the id only.
        other.request_id = "another"
        await call(other)
        assert len(await stage.changes()) > len(once)


async def test_resolving_repeated_is_one_effect(engine_uri: str, tmp_path: Path) -> None:
    """A repeated ResolveEmail hands the mail over once more, not twice; another resolution needs another id."""
    peer = Peer()
    async with (
        peer.listening(),
        serving(engine_uri, tmp_path, "resolves", smtp_url=f"smtp://127.0.0.1:{peer.port}") as account,
        stubs(account) as (_, mail),
        stubs(account, "oversight") as (_, overseer),
    ):
        box = await made(account, in_doubt_policy=m.IN_DOUBT_POLICY_HOLD)
        peer.say(".", HANG_UP)
        email = await sent(mail, box, "bo@person.test")
        assert "in_doubt" == state_of(await settled(mail, email.id))
        again = pb.ResolveEmailRequest(id=email.id, resolution=pb.RESOLUTION_SEND_AGAIN, request_id="same")
        answers = await asyncio.gather(*(overseer.ResolveEmail(again) for _ in range(8)))
        assert {email.id} == {each.id for each in answers}
        assert "sent" == state_of(await settled(mail, email.id))
        assert email.id == (await overseer.ResolveEmail(again)).id
        assert 2 == len(peer.deliveries)
        other = pb.ResolveEmailRequest(id=email.id, resolution=pb.RESOLUTION_FAILED, request_id="same")
        assert "REQUEST_ID_REUSED" == (await refusal(overseer.ResolveEmail(other))).reason
        other.request_id = "another"
        assert "STATE_FORBIDS" == (await refusal(overseer.ResolveEmail(other))).reason


async def test_fifty_callers_one_mail(account: Account) -> None:
    """Fifty callers by two keys with one request_id, files attached, make one mail that reaches its reader once."""
    box, reader = await made(account), await made(account, "reader")
    async with stubs(account) as (contacts, one), stubs(account) as (_, two):
        files = [pb.OutgoingAttachment(filename="a.txt", content=b"12345")]
        request = mail_to(box, reader, request_id="one", attachments=files)
        emails = [
            each.email for each in await asyncio.gather(*((one, two)[n % 2].SendEmail(request) for n in range(50)))
        ]
        assert 1 == len({(each.id, each.thread_id, each.message_id, each.content_sha256) for each in emails})
        assert "sent" == state_of(await settled(one, emails[0].id))
        contact = await contacts.GetContact(contacts_pb.GetContactRequest(email=reader))
        assert 1 == contact.interaction_count
        inbox = pb.ListEmailsRequest(mailbox_email=reader, direction=m.DIRECTION_INBOUND)
        assert 1 == len((await one.ListEmails(inbox)).emails)
        file = await one.GetAttachment(pb.GetAttachmentRequest(email_id=emails[0].id))
        assert b"12345" == file.content


async def test_an_id_belongs_to_one_method_and_one_account(account: Account) -> None:
    """The same id in another method is refused; in another account it is as new."""
    stranger = type(account)("foreign-" + account.name, account.running, account.commands)
    box, far = await made(account), await made(stranger)
    async with stubs(account) as (contacts, mail), stubs(stranger) as (_, there):
        mine = (await mail.SendEmail(mail_to(box, "bo@person.test", request_id="x"))).email
        create = contacts_pb.CreateContactRequest(email="cy@person.test", request_id="x")
        upsert = contacts_pb.UpsertContactRequest(email="cy@person.test", request_id="x")
        for call in (contacts.CreateContact(create), contacts.UpsertContact(upsert)):
            assert "REQUEST_ID_REUSED" == (await refusal(call)).reason
        await refusal(contacts.GetContact(contacts_pb.GetContactRequest(email="cy@person.test")))
        theirs = (await there.SendEmail(mail_to(far, "bo@person.test", request_id="x"))).email
        assert mine.id != theirs.id


async def test_a_refused_call_does_not_use_up_its_id(account: Account) -> None:
    """What was refused changed nothing, so the same id may come again, and then stands."""
    box = await made(account)
    guard = pb.SendGuard(require_contact=True)
    async with stubs(account) as (contacts, mail):
        request = mail_to(box, "bo@person.test", request_id="x", guard=guard)
        assert "GUARD_REFUSED" == (await refusal(mail.SendEmail(request))).reason
        await contacts.UpsertContact(contacts_pb.UpsertContactRequest(email="bo@person.test"))
        email = (await mail.SendEmail(request)).email
        assert email.id == (await mail.SendEmail(request)).email.id


async def test_a_batch_is_repeated_as_a_whole(account: Account) -> None:
    """A batch's id reused with a longer or another list decides about none of it; a repetition answers row by row."""
    box = await made(account, oversight_mode=GATED)
    async with stubs(account) as (_, mail), stubs(account, "oversight", "read") as (_, overseer):
        one, two, three = [await sent(mail, box, f"p{n}@person.test") for n in range(3)]
        first = await approved(overseer, one, two, request_id="batch")
        assert ["", ""] == [reason_of(each) for each in first]
        for emails in ([one, two, three], [three], [two, one]):
            request = pb.ApproveEmailsRequest(emails=map(decision, emails), request_id="batch")
            assert "REQUEST_ID_REUSED" == (await refusal(overseer.ApproveEmails(request))).reason
        no = pb.RejectEmailsRequest(emails=map(decision, [one, two, three]), reason="no", request_id="batch")
        assert "REQUEST_ID_REUSED" == (await refusal(overseer.RejectEmails(no))).reason
        send = mail_to(box, "p9@person.test", request_id="batch")
        assert "REQUEST_ID_REUSED" == (await refusal(mail.SendEmail(send))).reason
        assert "held" == state_of(await overseer.GetEmail(pb.GetEmailRequest(id=three.id)))
        again = await approved(overseer, one, two, request_id="batch")
        assert [one.id, two.id] == [each.email.id for each in again]
        # An id that looks like a row's of the batch is as good as any other.
        for number in range(3):
            await mail.SendEmail(mail_to(box, "p9@person.test", request_id=f"batch/{number}"))
        assert [""] == [reason_of(each) for each in await rejected(overseer, three, request_id="batch/3")]


async def test_no_request_id_stands_in_the_way_of_the_history(account: Account) -> None:
    """A request_id that looks like a number of the account's history to come stops nothing that comes."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        for ahead in (1, 2, 3, 5, 8):
            seq = (await all_notifications(mail))[-1].seq + ahead
            await mail.SendEmail(mail_to(box, f"p{ahead}@person.test", request_id=f"{account.name}/{seq}"))
        ids = [(await sent(mail, box, f"q{n}@person.test")).id for n in range(12)]
        assert 12 == len(set(ids))
        for email_id in ids:
            await settled(mail, email_id)


async def test_hostile_request_ids(account: Account) -> None:
    """A request_id is at most 128 printable ASCII characters; others are refused by name, and no two are confused."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        for bad in ("x" * 129, "a b", "tab\t", "nul\0", "ä", "\n"):
            refused = await refusal(mail.SendEmail(mail_to(box, "bo@person.test", request_id=bad)))
            assert ("INVALID_FIELD", ("request_id",)) == (refused.reason, refused.fields)
        ids = ["x" * 128, "A", "a", "$gt", "{}", "in/" + "0" * 64, "null", "0", "00", "a.b", "..", "%00"]
        made_ = [(await mail.SendEmail(mail_to(box, "bo@person.test", request_id=each))).email.id for each in ids]
        assert len(ids) == len(set(made_))
        again = [(await mail.SendEmail(mail_to(box, "bo@person.test", request_id=each))).email.id for each in ids]
        assert made_ == again


async def test_cancelled_callers_and_their_repetition(account: Account) -> None:
    """Callers that hang up at any moment, and come back with the same id, end with one mail each."""
    box = await made(account)
    async with stubs(account) as (contacts, mail):
        for number in range(25):
            person, request_id = f"p{number}@person.test", f"cancelled-{number}"
            call = mail.SendEmail(mail_to(box, person, request_id=request_id))
            waiting = asyncio.ensure_future(call.wait_for_connection())
            await asyncio.wait([waiting], timeout=number / 5000)
            call.cancel()
            waiting.cancel()
            email = (await mail.SendEmail(mail_to(box, person, request_id=request_id))).email
            await settled(mail, email.id)
            contact = await contacts.GetContact(contacts_pb.GetContactRequest(email=person))
            assert 1 == contact.interaction_count


async def test_repetition_outlives_the_process(engine_uri: str, tmp_path: Path) -> None:
    """An id answered by one process is known to the next one, and to another process beside it."""
    async with serving(engine_uri, tmp_path / "one", "twice") as first, stubs(first) as (_, mail):
        box = await made(first)
        request = mail_to(box, "bo@person.test", request_id="kept")
        email = (await mail.SendEmail(request)).email
        async with serving(engine_uri, tmp_path / "two", "twice") as beside, stubs(beside) as (_, there):
            racing = mail_to(box, "cy@person.test", request_id="raced")
            raced = await asyncio.gather(*((mail, there)[n % 2].SendEmail(racing) for n in range(20)))
            assert 1 == len({each.email.id for each in raced})
            assert email.id == (await there.SendEmail(request)).email.id
    async with serving(engine_uri, tmp_path / "three", "twice") as later, stubs(later) as (contacts, mail):
        assert email.id == (await mail.SendEmail(request)).email.id

        async def counted() -> bool:
            found = await contacts.GetContact(contacts_pb.GetContactRequest(email="bo@person.test"))
            return bool(found.interaction_count == 1)

        assert await until(counted)


async def test_a_call_without_an_id_is_new_every_time(account: Account) -> None:
    """Without a request_id two equal sends are two mails: nothing is guessed."""
    box = await made(account)
    async with stubs(account) as (_, mail):
        one, two = await sent(mail, box, "bo@person.test"), await sent(mail, box, "bo@person.test")
        assert one.id != two.id
        bad = await refusal(mail.SendEmail(mail_to(box, "no address", request_id="x")))
        assert "INVALID_FIELD" == bad.reason
        assert (await mail.SendEmail(mail_to(box, "bo@person.test", request_id="x"))).email.id not in (one.id, two.id)
