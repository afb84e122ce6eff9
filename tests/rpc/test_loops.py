"""Agents that answer each other for ever are stopped: by a cap per thread, and one per mailbox and person."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from tests.rpc.calls import (
    all_notifications,
    made,
    mail_to,
    read_refusal,
    reason_of,
    refusal,
    sent,
    stubs,
    until,
)
from tests.rpc.relays import serving

from multimail.v1 import mail_pb2 as m
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


async def answer_all(mail: Any, box: str) -> str:
    """An agent that answers whatever arrives at its mailbox, until it is refused; returns the reason's scope."""

    async def unread() -> Any:
        inbox = pb.ListEmailsRequest(mailbox_email=box, direction=m.DIRECTION_INBOUND, unread=True)
        return (await mail.ListEmails(inbox)).emails

    while True:
        for email in await until(unread):
            await mail.GetEmail(pb.GetEmailRequest(id=email.id))
            try:
                await mail.ReplyEmail(pb.ReplyEmailRequest(email_id=email.id, body="thanks!"))
            except grpc.aio.AioRpcError as error:
                told = read_refusal(error)
                assert ("RESOURCE_EXHAUSTED", "CONVERSATION_TOO_FAST") == (told.code, told.reason)
                assert told.retry_delay_s is not None
                assert 0 < told.retry_delay_s <= 3600
                return told.metadata["scope"]


async def first_of(*agents: Any) -> str:
    """What stopped the first of the agents; the other waits for mail that never comes."""
    tasks = [asyncio.ensure_future(each) for each in agents]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    (stopped,) = done
    return str(stopped.result())


async def test_two_agents_answer_each_other(engine_uri: str, tmp_path: Path) -> None:
    """Two agents whose mail goes over our own SMTP are stopped by the thread's cap, and again in every new thread."""
    async with (
        serving(engine_uri, tmp_path, "loops", thread_sends_per_hour=5, pair_sends_per_hour=8) as account,
        stubs(account) as (_, mail),
    ):
        one, two = await made(account, "one"), await made(account, "two")
        first = await sent(mail, one, two)
        assert "thread" == await first_of(answer_all(mail, one), answer_all(mail, two))
        thread = (await mail.GetThread(pb.GetThreadRequest(id=first.thread_id))).thread
        assert (5, 5) == (thread.outbound_count, thread.inbound_count)
        (note,) = [n for n in await all_notifications(mail) if n.type == m.NOTIFICATION_TYPE_SEND_REFUSED]
        assert "rate" == note.rule
        # A new thread for every mail does not help: one and two have written 3 and 2 so far.
        told = None
        count = 3
        while told is None and count < 20:
            try:
                await sent(mail, one, two)
                count += 1
            except grpc.aio.AioRpcError as error:
                told = read_refusal(error)
        assert told is not None
        assert ("CONVERSATION_TOO_FAST", "pair", "8", 8) == (
            told.reason, told.metadata["scope"], told.metadata["limit"], count,
        )  # fmt: skip
        assert "RESOURCE_EXHAUSTED" == told.code
        check = pb.BatchCheckSendsRequest(from_mailbox_email=one, to=[two, "other@person.test"])
        assert ["CONVERSATION_TOO_FAST", ""] == [reason_of(e) for e in (await mail.BatchCheckSends(check)).checks]
        other = await made(account, "three")
        await sent(mail, other, two)


async def test_agents_of_two_accounts(engine_uri: str, tmp_path: Path) -> None:
    """Agents of two accounts that answer each other are stopped too: each account counts for itself."""
    async with serving(engine_uri, tmp_path, "crossloops", thread_sends_per_hour=4) as account:
        stranger = type(account)("crossing", account.running, account.commands)
        one, two = await made(account, "one"), await made(stranger, "two")
        async with stubs(account) as (_, mail), stubs(stranger) as (_, there):
            await sent(mail, one, two)
            assert "thread" == await first_of(answer_all(mail, one), answer_all(there, two))


async def test_caps_hold_against_racing_senders(engine_uri: str, tmp_path: Path) -> None:
    """Of 30 sends at once exactly as many pass as the cap allows; held and scheduled mail counts, refused mail not."""
    async with (
        serving(engine_uri, tmp_path, "racingloops", pair_sends_per_hour=6) as account,
        stubs(account) as (_, mail),
    ):
        box = await made(account, "one")
        gated = await made(account, "gated", oversight_mode=m.OVERSIGHT_MODE_GATED_SEND)
        for mailbox in (box, gated):
            calls = [mail.SendEmail(mail_to(mailbox, "bo@person.test")) for _ in range(30)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            refused = [read_refusal(each) for each in results if isinstance(each, grpc.aio.AioRpcError)]
            assert (24, {"CONVERSATION_TOO_FAST"}) == (len(refused), {each.reason for each in refused})
        assert "pair" == (await refusal(mail.SendEmail(mail_to(box, "bo@person.test")))).metadata["scope"]
