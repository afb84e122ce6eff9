"""SMTP sessions that misbehave at every step, out and in: every mail ends once, and truthfully."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.invariants import problems_of
from tests.faults.peer import GOOD, STEPS, Act, Dialogue
from tests.faults.world import ACCOUNT, dice_for, world_on

from multimail.v1 import mail_pb2

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.faults.forge import Forge

_HANGS_S = 0.8  # longer than the shortened time-out
_NONSENSE = b"\xff\xfe hello?\r\n"
# What a peer can do wrong at any step. A reply that says yes or no is no doubt at the dot; everything else is one.
_WRONG = {
    "closes": Act(close=True, doubt=True),
    "closes without taking": Act(close=True, takes=False, doubt=True),
    "says half a reply": Act(reply=b"25", close=True, doubt=True),
    "says nonsense": Act(reply=_NONSENSE, doubt=True),
    "says nonsense and closes": Act(reply=_NONSENSE, close=True, doubt=True),
    "says no such code": Act(reply=b"999 what\r\n", doubt=True),
    "says a line without end": Act(reply=b"250 " + b"x" * 70_000, close=True, doubt=True),
    "hangs": Act(wait_s=_HANGS_S, doubt=True),
    "hangs and closes": Act(wait_s=_HANGS_S, close=True, doubt=True),
    "says 450": Act(reply=b"450 4.7.1 later\r\n", takes=False),
    "says 451 in two lines": Act(reply=b"451-4.3.0 not\r\n451 now\r\n", takes=False),
    "says 421": Act(reply=b"421 4.3.2 going down\r\n", takes=False),
    "says 421 and closes": Act(reply=b"421 4.3.2 going down\r\n", close=True, takes=False),
    "says 421, text in letters of its own": Act(reply="421 plus tard, désolé\r\n".encode("latin-1"), takes=False),
    "says 550": Act(reply=b"550 5.1.1 no such user\r\n", takes=False),
    "says 554 and closes": Act(reply=b"554 5.7.1 go away\r\n", close=True, takes=False),
    "answers byte by byte": Act(slowly=True),
}


class Scripted:
    """Decides for every connection, every mail on it and every leave at which step to misbehave; every third is good.

    The cases come in an order of chance, each as often as any other that can come then.
    """

    kinds = frozenset((step, wrong) for step in STEPS for wrong in _WRONG)

    def __init__(self, dice: random.Random) -> None:
        self.met: Counter[tuple[str, str]] = Counter()
        # What begins at a step, and the steps that belong to it.
        begun = {"banner": STEPS[:2], "mail": STEPS[2:-1], "quit": STEPS[-1:]}
        self._decks = {
            first: deque((step, wrong) for step in steps for wrong in _WRONG) for first, steps in begun.items()
        }
        for deck in self._decks.values():
            dice.shuffle(deck)
        self._dealt = 0
        self._now: dict[int, tuple[str, str]] = {}

    def _deal(self, deck: deque[tuple[str, str]]) -> tuple[str, str]:
        self._dealt += 1
        if self._dealt % 3 == 0:
            return "", ""
        deck.rotate(-1)
        return deck[0]

    async def __call__(self, step: str, dialogue: Dialogue) -> Act:
        """See `Peer.script`."""
        if step in self._decks:
            self._now[dialogue.number] = self._deal(self._decks[step])
        where, wrong = self._now[dialogue.number]
        if step != where:
            return GOOD
        self.met[where, wrong] += 1
        return _WRONG[wrong]


async def test_sessions_out(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """Whatever a mail server does at whatever step, each mail ends once, as it ended, and is held where in doubt."""
    scripted = Scripted(dice_for("sessions", seed))
    wanted = amount(140, 1000)
    times = {"backoff_s": 0.01, "smtp_timeout_s": 0.3, "poll_s": 0.05, "used_at_most": 3}
    with table("SMTP sessions of ours that misbehave") as row:
        async with world_on(forge, fault_uri, script=scripted, times=times, smtp_connections=16) as world:
            await world.mailbox("careful@faults.test", policy=mail_pb2.IN_DOUBT_POLICY_HOLD)
            number = 0
            while scripted.met.total() < wanted:
                for _ in range(16):
                    box = ("box", "careful")[number % 2]
                    await world.send(
                        f"s{number}", to=f"s{number}@out.test", body=f"s{number}",
                        from_mailbox_email=f"{box}@faults.test",
                    )  # fmt: skip
                    number += 1
                row.progress(f"{scripted.met.total()} sessions of {wanted}")
                await world.settled()
            assert [] == await problems_of(world)
            found = await world.database.find("emails", {"account": ACCOUNT})
            doubtful = [each for each in found if each["state"] == "in_doubt"]
            assert {"hold"} == {each["policy"] for each in doubtful}
            states = Counter(each["state"] for each in found)
            row.count = f"{scripted.met.total()} sessions, {len(scripted.met)} kinds, {len(found)} mails {dict(states)}"
            assert {"sent", "failed", "in_doubt"} == set(states)
            assert amount(60, len(Scripted.kinds)) <= len(scripted.met), Scripted.kinds - scripted.met.keys()


_RAW = b"From: p@out.test\r\nTo: box@faults.test\r\nSubject: %s\r\nMessage-ID: <%s@out.test>\r\n\r\n%s\r\n.\r\n"
_LINES = (b"EHLO peer\r\n", b"MAIL FROM:<p@out.test>\r\n", b"RCPT TO:<box@faults.test>\r\n", b"DATA\r\n")
_AT = ("connected", "ehlo", "mail", "rcpt", "data", "content", "dot", "answered")
_JUNK, _HUGE = bytes(range(256)) + b"\r\n", b"NOOP " + b"x" * 200_000 + b"\r\n"
_HOW = ("closes", "resets", "sends junk", "sends a huge line", "sends all at once", "says it twice")


async def misbehave(port: int, name: str, at: str, how: str) -> bool:
    """One session that breaks off somewhere; returns whether it was answered that the mail was taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = _RAW % ((name.encode(),) * 3)
    whole = raw if at in ("dot", "answered") else raw[: len(raw) // 2] if at == "content" else b""
    reached = min(_AT.index(at), len(_LINES) + 1)
    lines = [*_LINES, whole][:reached]
    try:
        await reader.readline()
        if how == "sends all at once":
            writer.write(b"".join(lines))
        else:
            for line in lines:
                writer.write(line)
                again = line if how == "says it twice" and line in _LINES[:2] else b""
                if line in _LINES and not (
                    await _answered(reader) and (not again or await _say(reader, writer, again))
                ):
                    return False
        if reached < len(_LINES):
            writer.write({"sends junk": _JUNK, "sends a huge line": _HUGE}.get(how, b""))
        await writer.drain()
        if at == "answered" and how != "sends all at once":
            return (await asyncio.wait_for(reader.readline(), 20)).startswith(b"250")
        if how == "resets":
            writer.transport.abort()
    except (ConnectionError, asyncio.LimitOverrunError, ValueError):
        return False
    finally:
        writer.close()
    return False


async def _answered(reader: asyncio.StreamReader) -> bool:
    """Reads one answer; returns whether there was one."""
    while (said := await reader.readline())[3:4] == b"-":
        pass
    return bool(said)


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bool:
    writer.write(line)
    return await _answered(reader)


async def test_sessions_in(
    forge: Forge, fault_uri: str, seed: int, amount: Callable[[int, int], int], table: Any
) -> None:
    """However mail servers break off, mail is taken in whole or not at all, once, and always when we said so."""
    dice = dice_for("in", seed)
    wanted = amount(96, 1000)
    cases = [(at, how) for at in _AT for how in _HOW]
    dice.shuffle(cases)
    with table("SMTP sessions to us that misbehave") as row:
        async with world_on(forge, fault_uri) as world:
            port = world.node.smtp_port
            taken: set[str] = set()

            async def session(number: int) -> None:
                at, how = cases[number % len(cases)]
                if await misbehave(port, f"m{number // 2}", at, how):
                    taken.add(f"m{number // 2}")

            for start in range(0, wanted, 16):
                await asyncio.gather(*(session(number) for number in range(start, min(start + 16, wanted))))
                row.progress(f"{start} sessions of {wanted}")
            await world.send("after", to="box@faults.test", body="the listener still listens")
            await world.settled()

            async def quiet() -> bool:
                before = await world.database.find("accounts", {"_id": ACCOUNT})
                await asyncio.sleep(0.1)
                return before == await world.database.find("accounts", {"_id": ACCOUNT})

            await world.until(quiet)
            found = await world.database.find("emails", {"account": ACCOUNT, "direction": "inbound"})
            names = [each["headers"]["subject"] for each in found]
            assert len(names) == len(set(names))
            assert taken <= set(names)
            assert {True} == {each["body"]["text"].strip() == each["headers"]["subject"] for each in found}
            world.ledger.ingested = {each["headers"]["subject"]: each["_id"] for each in found}
            assert [] == await problems_of(world)
            row.count = f"{wanted} sessions, {len(names)} mails taken in, {len(taken)} answered"
            assert taken


@pytest.mark.parametrize("wrong", ["says 550", "says 450"])
async def test_outcome_is_what_was_said(forge: Forge, fault_uri: str, wrong: str) -> None:
    """A no for good fails the mail at once, a no for now leaves it in the queue: neither is handed over."""

    async def script(step: str, dialogue: Dialogue) -> Act:
        return _WRONG[wrong] if step == "rcpt" else GOOD

    async with world_on(forge, fault_uri, script=script) as world:
        mail = await world.send("one")

        async def tried() -> bool:
            found = await world.database.find("emails", {"_id": mail.id})
            return found[0]["attempts"] == 1 and found[0]["state"] != "sending"

        await world.until(tried)
        found = await world.database.find("emails", {"_id": mail.id})
        assert {"says 550": "failed", "says 450": "queued"}[wrong] == found[0]["state"]
        assert [] == world.peer.taken
