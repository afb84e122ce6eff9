"""Laws of delivery: reports in any order, what kind of mail arrived, sealed addresses, and when to try again."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimail_server.mail import states
from multimail_server.mail.events import Event, shown_state, with_event
from multimail_server.mail.mime import parse_mail
from multimail_server.mail.reports import authentications_in
from multimail_server.mail.tags import Tag, Tags

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TYPES = st.sampled_from(["delivered", "bounced", "complained", "opened"])
TIMED = st.builds(
    Event,
    TYPES,
    st.integers(0, 5).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    st.booleans(),
    st.sampled_from(["", "550 no"]),
)
ULID = "01JZ0000000000000000000000"


def mail(*recipients: str) -> dict[str, Any]:
    """A mail that was handed over, so far as reports look at it."""
    people = [{"state": state, "dot": False, "reported": {}, "key": str(n)} for n, state in enumerate(recipients)]
    return {"recipients": people, "events": []}


def told(email: dict[str, Any], reports: list[tuple[int, Event]]) -> dict[str, Any]:
    """The mail after these reports, one after the other."""
    for index, event in reports:
        email = with_event(email, index, event)
    return email


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), TIMED), max_size=12),
    st.sampled_from(["accepted", "failed", "in_doubt"]),
    st.randoms(use_true_random=False),
)
def test_reports_converge(reports: list[tuple[int, Event]], state: str, chance: random.Random) -> None:
    """Whatever the order of reports, and however often each comes, the mail ends the same; a repetition is told."""
    shuffled = reports + chance.choices(reports, k=len(reports)) if reports else []
    chance.shuffle(shuffled)
    once, twice = told(mail(state, "accepted"), reports), told(mail(state, "accepted"), shuffled)
    assert once == twice
    for index, event in reports:
        assert once is with_event(once, index, event)


def test_more_reports_than_are_kept_converge() -> None:
    """Of more reports than are kept the newest stay, in any order, and the first opening is not forgotten."""
    reports = [(0, Event("opened", NOW + timedelta(minutes=n))) for n in range(250)]
    shuffled = random.Random(7).sample(reports, len(reports)) + reports[::-1]
    once, twice = told(mail("accepted"), reports), told(mail("accepted"), shuffled)
    assert once == twice
    assert (100, NOW) == (len(once["events"]), once["recipients"][0]["reported"]["opened"])


@settings(max_examples=100, deadline=None)
@given(st.lists(TIMED, max_size=8), st.randoms(use_true_random=False))
def test_the_gravest_report_shows(events: list[Event], chance: random.Random) -> None:
    """Complained before bounced for good before delivered; a bounce that may pass and an opening move nothing."""
    reports = [(0, event) for event in chance.sample(events, len(events))]
    kinds = {event.type for event in events if event.type != "bounced" or event.permanent}
    expected = next((kind for kind in ("complained", "bounced", "delivered") if kind in kinds), "accepted")
    assert expected == shown_state(told(mail("accepted"), reports)["recipients"][0])
    assert "failed" == shown_state(told(mail("failed"), reports)["recipients"][0]), "it never reached a server"


def test_a_report_ends_the_doubt_of_a_hand_over() -> None:
    """Somebody who got the mail needs no second one: a report settles a hand-over whose answer was lost."""
    email = mail("pending")
    email["recipients"][0]["dot"] = True
    assert "accepted" == with_event(email, 0, Event("delivered", NOW))["recipients"][0]["state"]
    soft = with_event(email, 0, Event("bounced", NOW, permanent=False))["recipients"][0]
    assert ("pending", True) == (soft["state"], soft["dot"])


def report(*blocks: str, inner: str = "Message-ID: <a@x>\r\n\r\n", kind: str = "message/rfc822") -> bytes:
    """A delivery report as mail servers write it."""
    outer = MIMEMultipart("report", report_type="delivery-status")
    outer["From"], outer["Subject"] = "MAILER-DAEMON@out.test", "Undelivered Mail Returned to Sender"
    outer.attach(MIMEText("I'm sorry to have to inform you"))
    head = outer.as_bytes().rpartition(b"--")[0].rpartition(b"--")[0]
    edge = outer.get_boundary() or ""
    parts = [
        "Content-Type: message/delivery-status\r\n\r\n" + "\r\n".join(blocks),
        f"Content-Type: {kind}\r\n\r\n{inner}",
    ]
    return head + "".join(f"--{edge}\r\n{part}\r\n" for part in parts).encode() + f"--{edge}--\r\n".encode()


ACTIONS = st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"])
LOCALS = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+-_=", min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(LOCALS, ACTIONS, st.sampled_from("245"), st.booleans()), min_size=1, max_size=5),
    st.sampled_from(["message/rfc822", "text/rfc822-headers"]),
)
def test_reports_are_read(rows: list[tuple[str, str, str, bool]], kind: str) -> None:
    """Each recipient block of an RFC 3464 report gives one row, and the mail it is about is found either way."""
    blocks = [
        f"{'fInAl-ReCiPiEnT' if odd else 'Final-Recipient'}: rfc822;{local}@y.test\r\n"
        f"Action: {action}\r\nStatus: {status}.1.1\r\nDiagnostic-Code: smtp; {status}50 no\r\n {local}\r\n"
        for local, action, status, odd in rows
    ]
    found = parse_mail(report("Reporting-MTA: dns; mx.y.test\r\n", *blocks, kind=kind))
    assert ("delivery_status", "<a@x>") == (found.kind, found.reported_id)
    assert [(f"{local}@y.test", action, action == "failed" and status == "5") for local, action, status, _ in rows] == [
        (each.addresses[0], each.action, each.permanent) for each in found.reports
    ]


@pytest.mark.parametrize(
    ("block", "permanent"),
    [
        ("Final-Recipient: rfc822; a@y.test\r\nAction: failed\r\nStatus: 5.1.1\r\n", True),
        ("Original-Recipient: rfc822;<a@y.test>\r\nAction: Failed\r\n", True),
        ("Final-Recipient: rfc822; a@y.test\r\nAction: failed\r\nStatus: 4.4.7 (expired)\r\n", False),
        ("Final-Recipient: rfc822; a@y.test\r\nAction: delayed\r\nStatus: 4.4.1\r\n", False),
    ],
)
def test_when_a_failure_is_for_good(block: str, *, permanent: bool) -> None:
    """A failure with a status of 5, or without one, is for good; one that timed out, or a delay, is not."""
    (row,) = parse_mail(report("Reporting-MTA: dns; y\r\n", block)).reports
    assert (("a@y.test",), permanent) == (row.addresses, row.permanent)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900), st.binary(max_size=4)), max_size=8))
def test_damaged_reports_are_still_mail(changes: list[tuple[int, bytes]]) -> None:
    """A report with bytes changed anywhere is still read without a crash, and names at most what it holds."""
    raw = bytearray(report("Reporting-MTA: dns; y\r\n", "Final-Recipient: rfc822; a@y.test\r\nAction: failed\r\n"))
    for place, data in changes:
        raw[place : place + len(data)] = data
    assert len(parse_mail(bytes(raw)).reports) <= 1


AUTOMATIC = [
    ("Auto-Submitted", "auto-replied"), ("Auto-Submitted", "auto-generated; type=x"),
    ("auto-submitted", "Auto-Notified"),
    ("Precedence", "bulk"), ("Precedence", "Auto_Reply"), ("Precedence", "junk"), ("X-Autoreply", "yes"),
    ("X-Autorespond", ""), ("X-Auto-Response-Suppress", "All"), ("X-Auto-Response-Suppress", "DR, OOF, AutoReply"),
]  # fmt: skip
WRITTEN = [
    ("Auto-Submitted", "no"), ("Auto-Submitted", "No; x=y"), ("Precedence", "first-class"),
    ("X-Auto-Response-Suppress", "DR, RN"), ("X-Mailer", "auto-replied"), ("Subject", "Out of office"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "value"), AUTOMATIC + WRITTEN)
def test_automatic_answers_are_told_by_their_headers(header: str, value: str) -> None:
    """What RFC 3834 and its relatives mark as automatic is; what only looks like it is a person's."""
    message = EmailMessage()
    message["From"], message[header] = "a@y.test", value
    expected = "auto_reply" if (header, value) in AUTOMATIC else "personal"
    assert expected == parse_mail(message.as_bytes()).kind


def test_authentication_results_are_read_from_the_top() -> None:
    """Each server's results are read in their order, comments aside; one passing signature is enough."""
    message = Message()
    for value in (
        "MX.here.test 1; spf=pass (k; dkim=no) smtp.mailfrom=a; dkim=fail header.d=x;\r\n dkim=pass; dmarc=fail (p=x)",
        "mx.evil.test; spf=pass; dkim=pass; dmarc=pass",
        "",
    ):
        message["Authentication-Results"] = value
    found = authentications_in([str(each) for each in message.get_all("Authentication-Results", [])])
    assert [("mx.here.test", "pass", "pass", "fail"), ("mx.evil.test", "pass", "pass", "pass")] == [
        (each.authserv_id, each.spf, each.dkim, each.dmarc) for each in found
    ]


@given(
    name=st.text("abcXYZ+-_.äß", min_size=1, max_size=21),
    index=st.integers(0, 49),
    bounce=st.booleans(),
    shouted=st.booleans(),
)
def test_sealed_addresses_read_back(name: str, index: int, *, bounce: bool, shouted: bool) -> None:
    """A sealed address says which mail, recipient and mailbox, in either case; it never passes 64 bytes."""
    tags, mailbox = Tags(b"k" * 32), f"{name}@here.test"
    made = (tags.bounce if bounce else tags.unsubscribe)(mailbox, f"email_{ULID}", index)
    if len(name.encode()) > 21:
        assert made == ""
        return
    assert len(made.rpartition("@")[0].encode()) <= 64
    head, _, tail = made.rpartition("+")
    given_back = f"{head}+{tail.upper() if shouted else tail}"
    expected = Tag("bounce" if bounce else "unsubscribe", f"email_{ULID}", index, mailbox)
    read = tags.read(given_back)
    assert read is not None
    assert (expected.kind, expected.email, expected.index, expected.mailbox.lower()) == (
        read.kind, read.email, read.index, read.mailbox.lower(),
    )  # fmt: skip


@given(st.integers(4, 46), st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz+@"))
def test_nobody_else_can_seal(place: int, letter: str) -> None:
    """An address with any one letter of its tag changed, or sealed with another key, says nothing."""
    tags = Tags(b"k" * 32)
    made = tags.unsubscribe("box@here.test", f"email_{ULID}", 3)
    assert tags.read(made) is not None
    changed = made[:place] + letter + made[place + 1 :]
    if changed != made:
        assert tags.read(changed) is None
    assert Tags(b"l" * 32).read(made) is None
    assert tags.read(made.replace("+u", "+b")) is None, "one kind is not the other"


@given(st.integers(1, 40), st.floats(0, 1, exclude_max=True))
def test_tries_back_off(attempts: int, jitter: float) -> None:
    """Tries are a minute apart at first and six hours at last, spread by a quarter, the last one at 48 hours."""
    waits = [timedelta(minutes=each) for each in (1, 2, 5, 15, 30, 60, 180, 360)]
    email = {"attempts": attempts, "released_at": NOW, "state": "sending", "lease": {}}
    later = states.put_off(email, NOW, jitter)
    wait = waits[min(attempts, len(waits)) - 1]
    assert wait * 0.75 <= later["due_at"] - NOW <= wait * 1.25
    assert ("queued", None) == (later["state"], later["lease"])
    almost = NOW + timedelta(hours=47, minutes=59, seconds=59)
    last = states.put_off(email, almost, jitter)["due_at"]
    assert (NOW + timedelta(hours=48), False, True) == (
        last, states.is_out_of_time(email, almost), states.is_out_of_time(email, last),
    )  # fmt: skip


def test_two_tries_rarely_fall_together() -> None:
    """Jitter spreads mails that failed at one moment: a thousand of them come back at many."""
    email = {"attempts": 1, "released_at": NOW, "state": "sending", "lease": {}}
    chance = random.Random(1)
    assert len({states.put_off(email, NOW, chance.random())["due_at"] for _ in range(1_000)}) > 990
