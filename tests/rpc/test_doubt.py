"""Mail of which nobody can tell whether it arrived: who ends the doubt, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rpc.calls import approved, get, made, reason_of, refusal, sent, settled, state_of, stubs, until
from tests.rpc.relays import HANG_UP, Peer, make_due, serving

from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


async def test_doubt_is_ended_by_a_person(engine_uri: str, tmp_path: Path) -> None:
    """A mail whose answer was lost is IN_DOUBT where the mailbox says hold; sent, failed or sent again as told."""
    peer = Peer()
    async with (
        peer.listening(),
        serving(engine_uri, tmp_path, "doubts", smtp_url=f"smtp://127.0.0.1:{peer.port}") as account,
        stubs(account) as (_, mail),
        stubs(account, "oversight", "read") as (_, overseer),
    ):
        box = await made(account, in_doubt_policy=m.IN_DOUBT_POLICY_HOLD)
        for resolution, state, recipient, count in (
            (pb.RESOLUTION_SENT, "sent", m.RECIPIENT_STATE_ACCEPTED, 1),
            (pb.RESOLUTION_FAILED, "failed", m.RECIPIENT_STATE_FAILED, 1),
            (pb.RESOLUTION_SEND_AGAIN, "sent", m.RECIPIENT_STATE_ACCEPTED, 2),
        ):
            person = f"p{resolution}@person.test"
            peer.say(f". {person}", HANG_UP)
            email = await sent(mail, box, person, f"other{resolution}@person.test")
            doubtful = await settled(mail, email.id)
            assert ("in_doubt", [m.RECIPIENT_STATE_IN_DOUBT, m.RECIPIENT_STATE_ACCEPTED]) == (
                state_of(doubtful), [each.state for each in doubtful.recipients],
            )  # fmt: skip
            assert [email.id] == [
                each.id for each in (await mail.ListEmails(pb.ListEmailsRequest(states=[doubtful.state]))).emails
            ]
            for call in (
                mail.CancelEmail(pb.CancelEmailRequest(id=email.id)),
                mail.UpdateEmail(pb.UpdateEmailRequest(id=email.id, body="x")),
            ):
                assert "STATE_FORBIDS" == (await refusal(call)).reason
            (wrong,) = await approved(overseer, doubtful)
            assert "STATE_FORBIDS" == reason_of(wrong)
            await overseer.ResolveEmail(pb.ResolveEmailRequest(id=email.id, resolution=resolution))
            end = await settled(mail, email.id)
            assert (state, recipient, count) == (
                state_of(end), end.recipients[0].state, len(peer.of(person)),
            )  # fmt: skip
            assert 1 == len(peer.of(f"other{resolution}@person.test"))
            assert all(email.message_id.encode() in each.data for each in peer.of(person))
            twice = pb.ResolveEmailRequest(id=email.id, resolution=resolution)
            assert "STATE_FORBIDS" == (await refusal(overseer.ResolveEmail(twice))).reason
        unset = pb.ResolveEmailRequest(id="email_x")
        assert ("resolution",) == (await refusal(overseer.ResolveEmail(unset))).fields
        unknown = pb.ResolveEmailRequest(id="email_x", resolution=pb.RESOLUTION_SENT)
        assert "EMAIL_NOT_FOUND" == (await refusal(overseer.ResolveEmail(unknown))).reason


async def test_doubt_stops_nobody_where_the_policy_is_to_retry(engine_uri: str, tmp_path: Path) -> None:
    """Where the mailbox says retry the mail is handed over again by itself, with the same Message-ID."""
    peer = Peer()
    async with (
        peer.listening(),
        serving(engine_uri, tmp_path, "retries", smtp_url=f"smtp://127.0.0.1:{peer.port}") as account,
        stubs(account) as (_, mail),
    ):
        box = await made(account)
        peer.say(".", HANG_UP)
        email = await sent(mail, box, "bo@person.test")

        async def waits() -> bool:
            return bool(peer.deliveries) and state_of(await get(mail, email)) == "queued"

        assert await until(waits)
        await make_due(account, email.id)
        assert "sent" == state_of(await settled(mail, email.id))
        assert [True, True] == [email.message_id.encode() in each.data for each in peer.of("bo@person.test")]


async def test_a_report_ends_the_doubt(engine_uri: str, tmp_path: Path) -> None:
    """Word that the mail in doubt was delivered makes it sent: nobody can send it to the same person again."""
    peer = Peer()
    async with (
        peer.listening(),
        serving(engine_uri, tmp_path, "reported-doubts", smtp_url=f"smtp://127.0.0.1:{peer.port}") as account,
        stubs(account) as (_, mail),
        stubs(account, "oversight", "read") as (_, overseer),
    ):
        box = await made(account, in_doubt_policy=m.IN_DOUBT_POLICY_HOLD)
        peer.say(".", HANG_UP)
        email = await settled(mail, (await sent(mail, box, "bo@person.test")).id)
        assert "in_doubt" == state_of(email)
        told = pb.IngestEventRequest(email_id=email.id, type=m.DELIVERY_EVENT_TYPE_DELIVERED)
        assert "sent" == state_of((await mail.IngestEvent(told)).email)
        again = pb.ResolveEmailRequest(id=email.id, resolution=pb.RESOLUTION_SEND_AGAIN)
        assert "STATE_FORBIDS" == (await refusal(overseer.ResolveEmail(again))).reason
        assert 1 == len(peer.deliveries)


async def test_nobody_erased_is_sent_to_again(engine_uri: str, tmp_path: Path) -> None:
    """A mail in doubt for two people, one of them erased since, is sent again to the other only."""
    peer = Peer()
    async with (
        peer.listening(),
        serving(engine_uri, tmp_path, "erased-doubts", smtp_url=f"smtp://127.0.0.1:{peer.port}") as account,
        stubs(account) as (contacts, mail),
        stubs(account, "admin", "oversight", "read") as (_, overseer),
    ):
        box = await made(account, in_doubt_policy=m.IN_DOUBT_POLICY_HOLD)
        peer.say(".", HANG_UP, HANG_UP, HANG_UP)
        both = await settled(mail, (await sent(mail, box, "gone@person.test", "stays@person.test")).id)
        alone = await settled(mail, (await sent(mail, box, "gone@person.test")).id)
        assert ["in_doubt"] * 2 == [state_of(both), state_of(alone)]
        await contacts.DeleteContact(contacts_pb.DeleteContactRequest(email="gone@person.test"))
        again = pb.ResolveEmailRequest(id=alone.id, resolution=pb.RESOLUTION_SEND_AGAIN)
        refused = await refusal(overseer.ResolveEmail(again))
        assert ("STATE_FORBIDS", "erased") == (refused.reason, refused.metadata["state"])
        await overseer.ResolveEmail(pb.ResolveEmailRequest(id=both.id, resolution=pb.RESOLUTION_SEND_AGAIN))
        await until(lambda: settled(mail, both.id), holds=lambda _: len(peer.deliveries) == 4)
        assert ["gone@person.test", "stays@person.test", "gone@person.test", "stays@person.test"] == [
            each.recipients[0] for each in peer.deliveries
        ]
        await overseer.DeleteMailbox(pb.DeleteMailboxRequest(email=box))
        refused = await refusal(overseer.ResolveEmail(again))
        assert "MAILBOX_NOT_FOUND" == refused.reason
