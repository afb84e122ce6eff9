"""Laws of mail: what is composed reads back, and no bytes crash the reader."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from multimail_server.errors import DomainError
from multimail_server.mail import oversight, states, thread
from multimail_server.mail.compose import Outgoing, compose, message_id_for
from multimail_server.mail.headers import check_header_text
from multimail_server.mail.mime import MAX_DEPTH, MAX_LINES, parse_mail

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
LINES = st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)
BODIES = st.lists(LINES, max_size=6).map("\n".join)


def outgoing(subject: str = "s", text: str = "t", name: str = "", to: tuple[str, ...] = ("b@y.test",)) -> Outgoing:
    """A mail to compose."""
    return Outgoing("a@x.test", name, to, subject, text, message_id_for("email_1", "x.test"), NOW)


@settings(max_examples=300, deadline=None)
@given(LINES, BODIES, LINES)
@example("=?utf-8?q?hello?=", ".\n..\nFrom x\n", 'A "quoted" <b@c.test>')
@example("x" * 990, "y" * 5000, "")
@example("a\xa0\xa0b", "", "0000000\xa0\xa0\xa0𐀀𐀀 :")
@example("", "", 'back\\slash "q" , ; <x@y.test>')
@example("日本語" * 60, "é" * 2000, "Müller, Jörg")
def test_composed_mail_reads_back(subject: str, text: str, name: str) -> None:
    """Subject, text and name come out as they went in; the headers are exactly those that were meant."""
    try:
        check_header_text(subject, "subject")
        check_header_text(name, "name")
    except DomainError:
        assume(False)
    data = compose(outgoing(subject, text, name))
    mail = parse_mail(data)
    assert " ".join(subject.split()) == mail.subject
    assert text.rstrip("\n") == mail.text.rstrip("\n")
    assert " ".join(name.split()) == mail.from_name
    assert ("a@x.test", ("b@y.test",), "<email_1@x.test>") == (mail.from_address, mail.to, mail.message_id)
    names = ["Subject", "From", "To", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    assert sorted(names) == sorted(message_from_bytes(data).keys())
    assert max(len(line) for line in data.split(b"\r\n")) <= 998
    assert data == compose(outgoing(subject, text, name)), "the same every time"


def test_long_message_ids_stay_as_they_are() -> None:
    """Message-IDs as long as some mail systems make them stand in the headers as they came, one to a line."""
    ids = tuple(f"<{'A' * 110}{n}@{'b' * 40}.prod.outlook.test>" for n in range(3))
    mail = Outgoing("a@x.test", "", ("b@y.test",), "s", "t", ids[2], NOW, in_reply_to=ids[1], references=ids[:2])
    lines = compose(mail).split(b"\r\n")
    assert b"Message-ID: " + ids[2].encode() in lines
    assert b"In-Reply-To: " + ids[1].encode() in lines
    place = lines.index(b"References: " + ids[0].encode())
    assert b" " + ids[1].encode() == lines[place + 1]
    assert (ids[1], ids[:2]) == (parse_mail(compose(mail)).in_reply_to, parse_mail(compose(mail)).references)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_crash_the_reader(raw: bytes) -> None:
    """Any bytes give a mail with something to show or a word on what was wrong."""
    mail = parse_mail(raw)
    assert mail.defects or mail.from_address
    mail.text.encode()
    mail.subject.encode()


REAL = (
    b"From: =?utf-8?b?SsO2cmc=?= <j@x.test>\r\nTo: a@b.test, =?x?=, c@d.test\r\nSubject: =?iso-8859-1?q?=E4?= b\r\n"
    b"Message-ID: <1@x>\r\nReferences: <0@x> <2@x>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n'
    b"<p>Hi <a href='http://x.test'>there</a><script>no()</script>\r\n--b\r\n"
    b"Content-Disposition: attachment; filename*=utf-8''%C3%A4.txt\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--b--\r\n"
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.binary(max_size=3)), max_size=6))
def test_damaged_mail_is_still_read(changes: list[tuple[int, bytes]]) -> None:
    """A real mail with bytes changed anywhere is still read without a crash."""
    raw = bytearray(REAL)
    for place, data in changes:
        raw[place : place + 1] = data
    assert parse_mail(bytes(raw)) is not None


def test_a_real_mail() -> None:
    """Encoded words, an HTML body and an attachment's name are read as a person would."""
    mail = parse_mail(REAL)
    assert ("Jörg", "j@x.test", "ä b", ("a@b.test", "c@d.test")) == (
        mail.from_name,
        mail.from_address,
        mail.subject,
        mail.to,
    )
    assert "Hi there <http://x.test>\n" == mail.text
    assert [("ä.txt", 3)] == [(each.filename, each.size_bytes) for each in mail.attachments]
    assert ("<0@x>", "<2@x>") == mail.references


def test_deep_and_many_parts_end() -> None:
    """Thousands of parts and deep nesting are cut off and said so."""
    many = (
        b"Content-Type: multipart/mixed; boundary=b\r\nFrom: a@b.test\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 3_000 + b"--b--"
    )
    assert any("parts" in defect for defect in parse_mail(many).defects)
    deep = b"From: a@b.test\r\n" + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(400)
    )
    assert "a@b.test" == parse_mail(deep).from_address


@pytest.mark.parametrize(
    "text", ["a\r\nb", "a\tb", "\x7f", "\x85", "\u2028", "=?utf-8?q?=0A?=", "=?utf-8?b?Cg==?=", "x =?utf-7?q?+AAo-?= y",
             "=?utf-8?q?a?= =?utf-8?q?=0D?="],
)  # fmt: skip
def test_hidden_controls_are_refused(text: str) -> None:
    """Control characters are refused, plain or behind encoded words."""
    with pytest.raises(DomainError):
        check_header_text(text, "subject")


def test_recipients_decide_the_mail() -> None:
    """A mail ends when nobody is pending: in doubt before failed before sent before cancelled."""

    def state(*recipients: str) -> str:
        email = {
            "state": "sending",
            "lease": {},
            "recipients": [{"state": each, "dot": False, "contact": "c"} for each in recipients],
        }
        return states.without_person(email, "other", NOW)["state"]

    assert "sending" == state("accepted", "pending")
    assert ["sent", "failed", "in_doubt", "cancelled", "sent"] == [
        state("accepted"), state("accepted", "failed"), state("failed", "in_doubt"), state("cancelled"),
        state("cancelled", "accepted"),
    ]  # fmt: skip


def test_erasure_stops_what_can_be_stopped() -> None:
    """An erased person's pending hand-over is cancelled; behind a dot mark nobody can tell."""
    for dot, expected in ((False, "cancelled"), (True, "in_doubt")):
        email = {"state": "sending", "lease": {}, "recipients": [{"state": "pending", "dot": dot, "contact": "c"}]}
        assert expected == states.without_person(email, "c", NOW)["state"]


def test_modes() -> None:
    """The stricter of two modes holds, an empty one asks for nothing."""
    assert "monitored" == oversight.stricter("monitored", "")
    assert "read_only" == oversight.stricter("autonomous", "read_only")
    assert oversight.is_looser("autonomous", "monitored")
    assert not oversight.is_looser("monitored", "monitored")


def test_the_parent_is_the_nearest_known() -> None:
    """A mail answers what In-Reply-To names, else the last of its References that is known."""
    known = [{"headers": {"message_id": f"<{n}>"}, "thread": f"t{n}", "direction": "outbound"} for n in range(3)]
    assert known[0] is thread.parent_of(known, "<0>", ("<1>", "<2>"))
    assert known[2] is thread.parent_of(known, "<unknown>", ("<1>", "<2>"))
    assert thread.parent_of(known, "", ("<9>",)) is None


def nested(depth: int, lines: int) -> bytes:
    """A mail of parts inside parts, so deep, and at the bottom so many empty lines."""
    heads = [f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n" for level in range(depth)]
    return ("From: a@x.test\nSubject: deep\n" + "".join(heads) + "\n" * lines).encode()


def took_s(raw: bytes) -> float:
    """The shorter of two times to read a mail, in seconds of this thread alone."""
    times = []
    for _ in range(2):
        begun = time.thread_time()
        assert "a@x.test" == parse_mail(raw).from_address
        times.append(time.thread_time() - begun)
    return min(times)


def test_parts_inside_parts_cost_no_more_below_the_bound() -> None:
    """Parts nested far deeper than any real mail take little longer to read than those at the bound."""
    assert took_s(nested(300, 40_000)) < 4 * took_s(nested(MAX_DEPTH, 40_000))


def test_headers_without_end_are_cut() -> None:
    """A To header of thirty times the length that is read takes little longer than one of that length."""
    short, long = (b"From: a@x.test\nTo: " + b"a@b.test,\n " * count + b"c@d.test\n\nx" for count in (6_000, 180_000))
    assert took_s(long) < 8 * took_s(short)
    assert 1 == len(parse_mail(long).to)


def test_lines_beyond_the_bound_are_not_read() -> None:
    """A mail of more lines than are read says so, and shows what came before."""
    mail = parse_mail(b"From: a@x.test\n\nfirst\n" + b"\n" * MAX_LINES + b"last\n")
    assert mail.text.startswith("first")
    assert "last" not in mail.text
    assert [f"it has more than {MAX_LINES} lines; the rest was not read"] == list(mail.defects)


def test_what_was_let_in_late_answers_nothing_that_was_sent_after_it() -> None:
    """A mail that came before ours was sent, and was let in after it, leaves ours waiting for an answer."""
    ours = thread.with_sent(thread.new("thread_1", "acct", "s"), "email_2", NOW)
    late = thread.with_heard(ours, "email_1", "contact_1", NOW - timedelta(minutes=5))
    assert (NOW, None) == (late["awaiting_since"], late["unanswered_since"])
    answered = thread.with_heard(late, "email_3", "contact_1", NOW + timedelta(minutes=5))
    assert (None, "email_3") == (answered["awaiting_since"], answered["last_heard"]["email"])
    older = thread.with_heard(answered, "email_0", "contact_2", NOW + timedelta(minutes=1))
    assert (NOW + timedelta(minutes=1), "email_3") == (older["unanswered_since"], older["last_heard"]["email"])


@pytest.mark.parametrize("order", [1, -1])
def test_what_we_sent_is_the_parent_of_its_answer(order: int) -> None:
    """Of a mail that one of our mailboxes sent to another, the answer belongs to what was sent."""
    copies = [
        {"direction": direction, "headers": {"message_id": "<m@x.test>"}} for direction in ("outbound", "inbound")
    ]
    assert "outbound" == (thread.parent_of(copies[::order], "<m@x.test>", []) or {})["direction"]
