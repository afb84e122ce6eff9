"""Addresses nobody writes to any more: how they get there, what it stops, and how they come back."""

from __future__ import annotations

import re
from email import message_from_bytes
from typing import TYPE_CHECKING

import aiosmtplib
import pytest
from tests.rpc.calls import all_notifications, made, refusal, settled, stubs, until
from tests.rpc.relays import Peer, arrive, letter, make_due, serving

from multimail.v1 import contact_service_pb2 as contact_pb
from multimail.v1 import mail_pb2 as mail_pb
from multimail.v1 import mail_service_pb2 as pb
from multimail.v1.error_reason_pb2 import ERROR_REASON_SUPPRESSED

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.conftest import Account


async def listed(mail: Any, **more: Any) -> dict[str, int]:
    """All suppressed addresses and why."""
    found: dict[str, int] = {}
    token = ""
    while True:
        page = await mail.ListSuppressions(pb.ListSuppressionsRequest(page_token=token, **more))
        for each in page.suppressions:
            assert each.address not in found, "each stands on one page"
            found[each.address] = each.reason
        if not (token := page.next_page_token):
            return found


async def test_a_suppressed_address_is_not_written_to(account: Account) -> None:
    """In To, Cc and Bcc it refuses the whole mail, naming the field and the reason, until it is lifted."""
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        await mail.AddSuppression(pb.AddSuppressionRequest(address="Stop@person.test"))
        for field in ("to", "cc", "bcc"):
            request = pb.SendEmailRequest(from_mailbox_email=box, to=["fine@person.test"])
            getattr(request, field).append("stop@PERSON.test")
            refused = await refusal(mail.SendEmail(request))
            place = f"{field}[{1 if field == 'to' else 0}]"
            assert ("FAILED_PRECONDITION", "SUPPRESSED", {"field": place, "suppression": "manual"}) == (
                refused.code, refused.reason, {name: refused.metadata[name] for name in ("field", "suppression")},
            )  # fmt: skip
        refused = await refusal(contacts.GetContact(contact_pb.GetContactRequest(email="fine@person.test")))
        assert "CONTACT_NOT_FOUND" == refused.reason, "nothing was written"
        checks = pb.BatchCheckSendsRequest(from_mailbox_email=box, to=["stop@person.test", "fine@person.test"])
        first, second = (await mail.BatchCheckSends(checks)).checks
        assert (ERROR_REASON_SUPPRESSED, mail_pb.EMAIL_STATE_QUEUED) == (first.refusal.reason, second.state)
        shown = [each for each in await all_notifications(mail) if each.type == mail_pb.NOTIFICATION_TYPE_SEND_REFUSED]
        assert ["suppressed"] * 3 == [each.rule for each in shown]
        lifted = await mail.RemoveSuppression(pb.RemoveSuppressionRequest(address="stop@person.test"))
        assert "Stop@person.test" == lifted.suppression.address
        await mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=["stop@person.test"]))


async def test_an_answer_to_a_suppressed_address_is_refused(account: Account) -> None:
    """A reply is a mail too: to a suppressed author it is refused."""
    async with stubs(account) as (_, mail):
        box = await made(account)
        raw = letter("stop@person.test", box).as_bytes()
        arrived = (await mail.IngestEmail(pb.IngestEmailRequest(mailbox_email=box, raw=raw))).email
        await mail.AddSuppression(pb.AddSuppressionRequest(address="stop@person.test"))
        assert "SUPPRESSED" == (await refusal(mail.ReplyEmail(pb.ReplyEmailRequest(email_id=arrived.id)))).reason


async def test_adding_twice_and_lifting_twice(account: Account) -> None:
    """Adding again changes nothing; lifting what is not there is NOT_FOUND; a request_id repeats its answer."""
    async with stubs(account) as (_, mail):
        add = pb.AddSuppressionRequest(address="a@person.test")
        assert await mail.AddSuppression(add) == await mail.AddSuppression(add)
        once = pb.RemoveSuppressionRequest(address="a@person.test", request_id="lift")
        assert await mail.RemoveSuppression(once) == await mail.RemoveSuppression(once)
        refused = await refusal(mail.RemoveSuppression(pb.RemoveSuppressionRequest(address="a@person.test")))
        assert ("NOT_FOUND", "SUPPRESSION_NOT_FOUND") == (refused.code, refused.reason)
        kinds = [each.type for each in await all_notifications(mail)]
        assert [mail_pb.NOTIFICATION_TYPE_SUPPRESSION_ADDED, mail_pb.NOTIFICATION_TYPE_SUPPRESSION_REMOVED] == kinds
        refused = await refusal(mail.AddSuppression(pb.AddSuppressionRequest(address="no address")))
        assert ("INVALID_ARGUMENT", ("address",)) == (refused.code, refused.fields)


async def test_lists_are_paged_and_by_account(account: Account) -> None:
    """Pages of any size show every suppression of the account once, one address alone when asked, and no other's."""
    other = type(account)(f"{account.name}other", account.running, account.commands)
    async with stubs(account) as (_, mail), stubs(other) as (_, theirs):
        added = {f"p{number}@many.test" for number in range(7)}
        for address in added:
            await mail.AddSuppression(pb.AddSuppressionRequest(address=address))
        await theirs.AddSuppression(pb.AddSuppressionRequest(address="theirs@many.test"))
        for page_size in (1, 3, 7, 0):
            assert added == set(await listed(mail, page_size=page_size))
        assert ["p3@many.test"] == list(await listed(mail, address="P3@many.test"))
        assert {} == await listed(mail, address="theirs@many.test")
        box = await made(account)
        await mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=["theirs@many.test"]))
        refused = await refusal(mail.RemoveSuppression(pb.RemoveSuppressionRequest(address="theirs@many.test")))
        assert "SUPPRESSION_NOT_FOUND" == refused.reason
        page = await mail.ListSuppressions(pb.ListSuppressionsRequest(page_size=3))
        stolen = pb.ListSuppressionsRequest(page_size=3, page_token=page.next_page_token)
        assert "INVALID_PAGE_TOKEN" == (await refusal(theirs.ListSuppressions(stolen))).reason


@pytest.mark.parametrize(
    ("call", "request_of", "scope"),
    [
        ("ListSuppressions", pb.ListSuppressionsRequest, "read"),
        ("AddSuppression", pb.AddSuppressionRequest, "write"),
        ("RemoveSuppression", pb.RemoveSuppressionRequest, "admin"),
    ],
)
async def test_scopes(account: Account, call: str, request_of: Any, scope: str) -> None:
    """Listing needs read, adding write, and lifting admin; every other scope together is not enough."""
    rest = {"read", "write", "admin", "send"} - {scope}
    async with stubs(account, *rest) as (_, lacking), stubs(account, scope) as (_, having):
        request = request_of(address="a@scope.test")
        refused = await refusal(getattr(lacking, call)(request))
        assert ("PERMISSION_DENIED", scope) == (refused.code, refused.metadata["scope"])
        if call == "RemoveSuppression":
            assert "NOT_FOUND" == (await refusal(having.RemoveSuppression(request))).code
        else:
            await getattr(having, call)(request)


async def test_mail_in_the_queue_does_not_go_to_who_is_suppressed_meanwhile(engine_uri: str, tmp_path: Path) -> None:
    """A mail put off for now is not handed over once its address is suppressed; the others in it get theirs."""
    async with Peer().listening() as peer:
        peer.say("RCPT", b"450 later\r\n", b"450 later\r\n")
        url = f"smtp://127.0.0.1:{peer.port}"
        async with serving(engine_uri, tmp_path, "meanwhile", smtp_url=url) as account, stubs(account) as (_, mail):
            box = await made(account)
            request = pb.SendEmailRequest(from_mailbox_email=box, to=["p@queue.test", "q@queue.test"])
            email = (await mail.SendEmail(request)).email

            async def put_off() -> bool:
                (found,) = await account.running.database.find("emails", {"_id": email.id})
                return found["state"] == "queued" and found["attempts"] == 1

            await until(put_off)
            await mail.AddSuppression(pb.AddSuppressionRequest(address="p@queue.test"))
            await make_due(account, email.id)
            done = await settled(mail, email.id)
    assert [mail_pb.RECIPIENT_STATE_FAILED, mail_pb.RECIPIENT_STATE_ACCEPTED] == [
        each.state for each in done.recipients
    ]
    assert "suppressed" in done.recipients[0].response
    assert (0, 1) == (len(peer.of("p@queue.test")), len(peer.of("q@queue.test")))


async def test_a_held_mail_is_not_approved_for_who_is_suppressed(account: Account) -> None:
    """An approval runs the check again: the mail stays held and says why, and goes once the address is lifted."""
    async with stubs(account) as (_, mail), stubs(account, "oversight") as (_, overseer):
        gated = mail_pb.OVERSIGHT_MODE_GATED_SEND
        box = await made(account, oversight_mode=gated)
        held = (await mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=["p@held.test"]))).email
        await mail.AddSuppression(pb.AddSuppressionRequest(address="p@held.test"))
        decision = pb.EmailDecision(email_id=held.id, content_sha256=held.content_sha256)
        request = pb.ApproveEmailsRequest(emails=[decision])
        (outcome,) = (await overseer.ApproveEmails(request)).outcomes
        assert ("refusal", "manual") == (outcome.WhichOneof("result"), outcome.refusal.metadata["suppression"])
        found = await mail.GetEmail(pb.GetEmailRequest(id=held.id))
        assert mail_pb.EMAIL_STATE_HELD == found.state
        await mail.RemoveSuppression(pb.RemoveSuppressionRequest(address="p@held.test"))
        await overseer.ApproveEmails(request)
        assert mail_pb.EMAIL_STATE_SENT == (await settled(mail, held.id)).state


async def header_of(account: Account, mail: Any, box: str) -> str:
    """The List-Unsubscribe header of the newest mail that arrived in a mailbox of ours."""
    found = (await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box))).emails
    (row,) = await account.running.database.find("emails", {"_id": found[0].id})
    return message_from_bytes(bytes(row["raw"])).get("List-Unsubscribe", "")


async def test_unsubscribing_by_mail(account: Account) -> None:
    """A mail to the address in List-Unsubscribe suppresses that one recipient, whoever and whatever it says."""
    async with stubs(account) as (_, mail):
        box, one, two = [await made(account, name) for name in ("box", "one", "two")]
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[one, two], list_unsubscribe=True)
        email = (await mail.SendEmail(request)).email
        await settled(mail, email.id)
        headers = [await header_of(account, mail, each) for each in (one, two)]
        assert 2 == len(set(headers)), "everybody has their own"
        found = re.fullmatch(r"<mailto:([^>?]+)>", headers[1])
        assert found
        for _ in range(2):
            await arrive(account, found[1].upper(), letter("else@where.test", found[1], "", ""))
        assert {two: mail_pb.SUPPRESSION_REASON_UNSUBSCRIBED} == await listed(mail)
        refused = await refusal(mail.SendEmail(request))
        assert ("SUPPRESSED", "to[1]", "unsubscribed") == (
            refused.reason, refused.metadata["field"], refused.metadata["suppression"],
        )  # fmt: skip
        inbox = (await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box, unread=True))).emails
        assert {mail_pb.EMAIL_KIND_UNSUBSCRIBE} == {each.kind for each in inbox}


async def test_unsubscribing_by_other_means(account: Account) -> None:
    """Who takes mail in by IngestEmail passes the envelope's recipient on, and it does the same."""
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[there], list_unsubscribe=True)
        await settled(mail, (await mail.SendEmail(request)).email.id)
        address = (await header_of(account, mail, there))[8:-1]
        taken = pb.IngestEmailRequest(mailbox_email=box, raw=b"From: x@y.test\r\n\r\n", envelope_to=address)
        assert mail_pb.EMAIL_KIND_UNSUBSCRIBE == (await mail.IngestEmail(taken)).email.kind
        assert {there: mail_pb.SUPPRESSION_REASON_UNSUBSCRIBED} == await listed(mail)


async def test_a_forged_tag_suppresses_nobody(account: Account) -> None:
    """An address that we did not seal is no mailbox of ours, and by IngestEmail it is an address like any other."""
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[there], list_unsubscribe=True)
        await settled(mail, (await mail.SendEmail(request)).email.id)
        true = (await header_of(account, mail, there))[8:-1]
        local, _, domain = true.partition("@")
        end = "a" if local[-2] != "a" else "b"
        for forged in (f"{local[:-2]}{end}{local[-1]}@{domain}", local.replace("+u", "+b") + f"@{domain}"):
            with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
                await arrive(account, forged, letter("x@y.test", forged))
            assert 550 == refused.value.code
            taken = pb.IngestEmailRequest(
                mailbox_email=box, raw=b"From: x@y.test\r\n\r\n" + forged.encode(), envelope_to=forged
            )
            assert mail_pb.EMAIL_KIND_PERSONAL == (await mail.IngestEmail(taken)).email.kind
        assert {} == await listed(mail)


async def test_only_mail_that_asks_for_it_offers_unsubscribing(account: Account) -> None:
    """Without list_unsubscribe there is no header; a mailbox whose name leaves no room for it is refused at once."""
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        await settled(mail, (await mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=[there]))).email.id)
        assert "" == await header_of(account, mail, there)
        long = await made(account, "a.name.of.22.letters.x")
        request = pb.SendEmailRequest(from_mailbox_email=long, to=[there], list_unsubscribe=True)
        refused = await refusal(mail.SendEmail(request))
        assert ("INVALID_ARGUMENT", ("list_unsubscribe",)) == (refused.code, refused.fields)


async def test_an_erased_person_stays_suppressed_without_being_named(account: Account) -> None:
    """Erasing somebody takes their address out of the list, and mail to it is still refused."""
    async with stubs(account) as (contacts, mail):
        box = await made(account)
        await contacts.UpsertContact(contact_pb.UpsertContactRequest(email="gone@person.test"))
        await mail.AddSuppression(pb.AddSuppressionRequest(address="gone@person.test"))
        await contacts.DeleteContact(contact_pb.DeleteContactRequest(email="gone@person.test"))
        assert [""] == list(await listed(mail))
        assert [""] == list(await listed(mail, address="gone@person.test"))
        refused = await refusal(mail.SendEmail(pb.SendEmailRequest(from_mailbox_email=box, to=["gone@person.test"])))
        assert "SUPPRESSED" == refused.reason


async def test_one_delivery_to_the_mailbox_and_to_its_unsubscribe_address(account: Account) -> None:
    """The same mail to the mailbox and to the address for unsubscribing, in one transaction, does unsubscribe."""
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[there], list_unsubscribe=True)
        await settled(mail, (await mail.SendEmail(request)).email.id)
        address = (await header_of(account, mail, there))[8:-1]
        await arrive(account, [box, address], letter(there, box, "no more"), sender=there)
        assert {there: mail_pb.SUPPRESSION_REASON_UNSUBSCRIBED} == await listed(mail)
