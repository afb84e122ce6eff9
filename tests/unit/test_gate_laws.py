"""Laws of oversight and guard: which mode holds, who waits for a person, when the guard and the brake let pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from multimail_server.aip.address import parse_address
from multimail_server.contacts import contact as contact_rules
from multimail_server.errors import Reason
from multimail_server.mail import guard as guard_rules
from multimail_server.mail import oversight
from multimail_server.mail.bounds import Bounds
from multimail_server.mail.guard import Guard

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
MODES = st.sampled_from(oversight.MODES)
ASKED = st.sampled_from(("", *oversight.MODES))
ADDRESSES = st.lists(
    st.builds("{}@{}".format, st.sampled_from("abc"), st.sampled_from(("x.test", "y.test", "sub.x.test"))),
    min_size=1,
    max_size=4,
)
ENTRIES = st.lists(st.sampled_from(("x.test", "y.test", "a@x.test", "b@y.test", "c@sub.x.test")), max_size=4)
MINUTES = st.integers(0, 200).map(lambda minutes: timedelta(minutes=minutes))


def contact(*ago: timedelta, held: tuple[timedelta, ...] = (), mailbox: str = "mbx_1") -> dict[str, Any]:
    """A contact to whom mails were sent so long ago, and to whom others wait."""
    made = contact_rules.new("contact_1", "a", parse_address("p@x.test", "email"), name="", metadata={}, now=NOW)
    for number, each in enumerate(sorted(ago, reverse=True)):
        made = contact_rules.with_sent(made, row(number, NOW - each, mailbox), timedelta(days=14))
    for number, each in enumerate(held):
        made = contact_rules.with_held(made, row(100 + number, NOW - each, mailbox))
    return made


def row(number: int, at: datetime, mailbox: str) -> dict[str, Any]:
    """What a contact keeps of a mail."""
    return {"email": f"email_{number}", "thread": f"thread_{number}", "mailbox": mailbox, "agent": "a", "at": at}


@given(MODES, ASKED, ASKED)
def test_the_stricter_mode_is_a_maximum(own: str, one: str, other: str) -> None:
    """In whatever order modes meet, the strictest holds; asking for nothing, or for less, changes nothing."""
    assert own == oversight.stricter(own, "")
    assert oversight.stricter(own, one) == oversight.stricter(one, own)
    both = oversight.stricter(oversight.stricter(own, one), other)
    assert both == oversight.stricter(own, oversight.stricter(one, other))
    assert not any(oversight.is_looser(both, each) for each in (own, one, other) if each)


@given(mode=MODES, asked=ASKED, entries=ENTRIES, to=ADDRESSES, option=st.booleans(), first=st.booleans())
def test_who_waits_for_a_person(
    mode: str, asked: str, entries: list[str], to: list[str], *, option: bool, first: bool
) -> None:
    """A mail skips the mailbox's gate when each recipient's own address or very domain is listed, and only then."""
    mailbox = {"mode": mode, "allow_list": entries, "hold_first_contact": option}
    addresses = [parse_address(each, "to") for each in to]
    listed = all(each in entries or each.partition("@")[2] in entries for each in to)
    reason = oversight.hold_reason(mailbox, asked, addresses, first_contact=first)
    expected = "mode" if mode.startswith("gated") else "first_contact" if option and first else ""
    assert ("mode" if asked.startswith("gated") else "" if listed else expected) == reason


@given(st.lists(MINUTES, max_size=8), st.integers(1, 200).map(lambda minutes: timedelta(minutes=minutes)))
def test_not_contacted_within_is_exact(ago: list[timedelta], within: timedelta) -> None:
    """The guard refuses exactly while the newest mail is younger, names that mail, and passes when it said it would."""
    guard, person = Guard(not_contacted_within=within), contact(*ago)
    refused = guard_rules.refusal(guard, person, [], account="a", now=NOW)
    assert (bool(ago) and min(ago) < within) == (refused is not None)
    if refused is None:
        return
    newest = person["sends"][-1]
    assert (newest["email"], newest["thread"]) == (refused.metadata["email_id"], refused.metadata["thread_id"])
    assert refused.retry_after_s is not None
    back = NOW + timedelta(seconds=refused.retry_after_s)
    assert guard_rules.refusal(guard, person, [], account="a", now=back) is None
    assert guard_rules.refusal(guard, person, [], account="a", now=back - timedelta(milliseconds=1)) is not None


@given(st.integers(0, 3), st.integers(0, 3))
def test_only_its_own_row_does_not_stand_in_the_way(count: int, own: int) -> None:
    """A mail that waits is not refused for itself, but for every other that waits, under every rule that looks."""
    person = contact(held=(timedelta(),) * count)
    for guard in (Guard(not_contacted_within=timedelta(days=1)), Guard(no_open_thread=True)):
        refused = guard_rules.refusal(guard, person, [], account="a", now=NOW, own=f"email_{100 + own}")
        others = [n for n in range(count) if n != own]
        assert bool(others) == (refused is not None)
        if refused is not None:
            assert f"email_{100 + others[-1]}" == refused.metadata["email_id"]


@settings(max_examples=200)
@given(
    st.builds(
        Guard,
        not_contacted_within=MINUTES,
        no_open_thread=st.booleans(),
        contact_etag=st.text(max_size=5),
        require_contact=st.booleans(),
        filters=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.floats(0, 9), min_size=1),
        dedupe_key=st.text(max_size=5),
    )
)
def test_a_guard_is_kept_whole(guard: Guard) -> None:
    """What a waiting mail keeps of its guard is the guard, however its filters' keys are written."""
    again = guard_rules.guard_from_doc(guard.to_doc())
    assert (guard.filters or {}) == (again.filters or {})
    assert {**vars_of(guard), "filters": None} == {**vars_of(again), "filters": None}


def vars_of(guard: Guard) -> dict[str, Any]:
    """The guard's fields."""
    return {name: getattr(guard, name) for name in Guard.__dataclass_fields__}


@given(st.lists(MINUTES, max_size=12), st.lists(MINUTES, max_size=4), st.integers(1, 6))
def test_the_brake_counts_an_hour(ago: list[timedelta], held: list[timedelta], limit: int) -> None:
    """One more mail to a person passes while fewer than the cap went or wait within the hour, and when it said so."""
    person, bounds = contact(*ago, held=tuple(held)), Bounds(pair_per_hour=limit)
    count = sum(each < timedelta(hours=1) for each in (*ago, *held))
    refused = guard_rules.too_fast([person], None, "mbx_1", bounds, NOW)
    assert (count >= limit) == (refused is not None)
    assert guard_rules.too_fast([person], None, "mbx_2", bounds, NOW) is None
    if refused is not None:
        assert (Reason.CONVERSATION_TOO_FAST, "pair") == (refused.reason, refused.metadata["scope"])
        assert refused.retry_after_s is not None
        back = NOW + timedelta(seconds=refused.retry_after_s)
        assert guard_rules.too_fast([person], None, "mbx_1", bounds, back) is None


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_dedupe_marks_tell_apart(one: str, key: str, other: str, another: str) -> None:
    """Two marks are equal only for the same address and key; without a key there is none."""
    if "\0" in one + other:
        return
    same = (one, key) == (other, another) or not (key or another)
    assert same == (guard_rules.dedupe_mark(one, key) == guard_rules.dedupe_mark(other, another))
