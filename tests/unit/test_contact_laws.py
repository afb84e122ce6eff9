"""Laws of what a contact remembers of its mail: whether an answer is owed, and whether a conversation is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as rules
from multimail_server.contacts.filters import compile_search, holds
from multimail_server.mail.guard import Guard, refusal

START = datetime(2026, 1, 1, tzinfo=UTC)
OPEN_FOR = timedelta(days=14)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "heard", "automatic", "adopted", "held", "let go", "dropped", "stopped"]),
        st.integers(1, 60 * 24 * 5),
        st.integers(0, 20),
    ),
    max_size=25,
)


class Person:
    """A contact, and beside it all that ever happened."""

    def __init__(self) -> None:
        address = parse_address("p@x.test", "email")
        self.contact = rules.new("contact_1", "a", address, name="", metadata={}, now=START)
        self.now = START
        self.sent: dict[str, datetime] = {}
        self.heard: list[datetime] = []
        self.count = 0

    def step(self, kind: str, minutes: int, choice: int) -> None:
        """One thing happens, some minutes after the one before."""
        self.now += timedelta(minutes=minutes)
        self.count += 1
        waiting = [row["email"] for row in self.contact["held"]]
        stoppable = [row["email"] for row in self.contact["sends"]]
        if kind == "sent":
            self.send(f"email_{self.count}", f"thread_{choice}")
        elif kind in ("heard", "automatic"):
            self.hear(self.now, f"thread_{choice}", counts=kind == "heard")
        elif kind == "adopted":  # mail that came earlier, found when the contact was made
            self.hear(self.now - timedelta(minutes=choice * 700, seconds=1), f"thread_{choice}", waits=bool(choice % 2))
        elif kind == "held":
            self.contact = rules.with_held(self.contact, self.row(f"email_{self.count}", f"thread_{choice}"))
        elif kind in ("let go", "dropped") and waiting:
            self.contact = rules.without_held(self.contact, waiting[choice % len(waiting)])
            if kind == "let go":
                self.send(waiting[choice % len(waiting)], f"thread_{choice}")
        elif kind == "stopped" and stoppable:
            email = stoppable[choice % len(stoppable)]
            self.contact = rules.without_sent(self.contact, email, OPEN_FOR)
            del self.sent[email]

    def row(self, email: str, thread: str) -> dict[str, Any]:
        """What a contact keeps of a mail."""
        return {"email": email, "thread": thread, "mailbox": "mbx_1", "agent": "a", "at": self.now}

    def send(self, email: str, thread: str) -> None:
        """We write."""
        self.contact = rules.with_sent(self.contact, self.row(email, thread), OPEN_FOR)
        self.sent[email] = self.now

    def hear(self, at: datetime, thread: str, *, counts: bool = True, waits: bool = True) -> None:
        """The person writes, or a machine for them."""
        email = f"email_{self.count}"
        self.contact = rules.with_heard(
            self.contact, thread=thread, email=email, at=at, counts=counts, open_for=OPEN_FOR, waits=waits
        )
        self.heard += [at] if counts else []


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_who_owes_an_answer(steps: list[tuple[str, int, int]]) -> None:
    """An answer is owed exactly while a mail that was not stopped left after the last one that came."""
    person = Person()
    for step in steps:
        person.step(*step)
        owed = [at for at in person.sent.values() if at > max(person.heard, default=rules.NEVER)]
        since = person.contact["awaiting_since"]
        assert bool(owed) == (since != rules.NEVER)
        assert not owed or (since in owed and since >= min(owed))
        search = compile_search("a", filter="awaiting_reply", now=person.now)
        assert bool(owed) == holds(search, person.contact)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.integers(0, 60 * 24 * 20).map(lambda minutes: timedelta(minutes=minutes)))
def test_an_open_thread_is_what_the_guard_sees(steps: list[tuple[str, int, int]], later: timedelta) -> None:
    """A search finds an open conversation exactly when the guard would refuse for one, now and at any later time."""
    person = Person()
    for step in steps:
        person.step(*step)
    for now in (person.now, person.now + later, person.contact["young_until"]):
        refused = refusal(Guard(no_open_thread=True), person.contact, [], account="a", now=now)
        assert (refused is not None) == holds(compile_search("a", filter="has_open_thread", now=now), person.contact)
    waits = bool(person.contact["held"] or person.contact["unanswered"])
    assert waits == (person.contact["open_until"] == rules.FOREVER)
