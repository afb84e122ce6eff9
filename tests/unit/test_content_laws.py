"""What mails say, and what others make of it: names of files, HTML in time linear in its length, reports."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from multimail_server.errors import DomainError
from multimail_server.mail.compose import Outgoing, compose
from multimail_server.mail.content import File, check_files, content_of
from multimail_server.mail.html import MAX_DEPTH, is_too_deep, text_from_html
from multimail_server.mail.mime import parse_mail

MAIL = Outgoing("a@x.test", "", ("b@y.test",), "s", "t", "<1@x.test>", datetime(2026, 1, 1, tzinfo=UTC))
# Beginnings that a parser can be made to look for the end of, again and again.
UNENDED = (
    "<a ",
    "<div>",
    '<a a="',
    "<!--",
    "<b>",
    '<a href="http://x.test">',
    "<table><tr><td>",
    "&",
    "<",
    "<b><div></b>",
)


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=60))
@example("a  b.txt")
@example(" a")
@example('quo"te.txt')
@example("semi;colon=x.txt")
@example("日本語" * 20)
@example("x" * 255)
@example("<a>")
@example("UTF-8''a%0D%0Ab")
def test_names_of_files_read_back(name: str) -> None:
    """A file's name that is not refused arrives as those characters, trimmed, and adds no header to its part."""
    try:
        (file,) = check_files([File(name, "text/plain", b"data")])
        composed = compose(dataclasses.replace(MAIL, files=(file,)))
    except DomainError:
        assume(False)
    read = message_from_bytes(composed, policy=policy.default)
    (part,) = read.iter_attachments()
    assert (name.strip(), b"data") == (part.get_filename(), part.get_payload(decode=True))
    assert {"content-type", "content-transfer-encoding", "content-disposition", "mime-version"} >= {
        key.lower()
        for key in part.keys()  # noqa: SIM118  a message is no mapping
    }


@pytest.mark.parametrize(
    "name",
    ["=?utf-8?q?a=0D=0AX-Evil=3A_1?=.txt", "=?utf-8?b?YQ0KWC1FdmlsOiAx?=", "a\r\nX-Evil: 1", "a\u2028b", "\ud800"],
)
def test_names_that_hide_a_header_are_refused(name: str) -> None:
    """A control character in a file's name is refused; so are encoded words, and half a character."""
    with pytest.raises(DomainError) as refused:
        check_files([File(name, "", b"")])
    assert ["attachments[0].filename"] == [each.field for each in refused.value.violations]


def took_s(html: str) -> float:
    """The shortest of three times to read the text, in seconds of this thread alone."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        text_from_html(html)
        times.append(time.thread_time() - begun)
    return min(times)


@pytest.mark.parametrize("piece", UNENDED)
def test_reading_html_grows_with_its_length(piece: str) -> None:
    """Sixteen times as much takes at most some forty times as long, whatever is left without an end: no square."""
    little = piece * (4_000 // len(piece))
    assert took_s(little * 16) < 40 * max(took_s(little), 0.0002)


def test_html_too_deep_is_refused_when_sent_and_read_when_received() -> None:
    """HTML nested deeper than the bound is refused in what we send; in what arrives its words are still read."""
    deep = "<div>" * (MAX_DEPTH + 1) + "words"
    with pytest.raises(DomainError) as refused:
        content_of("", deep, "")
    assert ["html_body"] == [each.field for each in refused.value.violations]
    assert "words\n" == text_from_html(deep)
    page = "<table><tr><td>" * 60 + "words" + "</table>" * 60 + "<p>a" * 2_000 + "<br>" * 2_000
    assert not is_too_deep(page)
    assert content_of("", page, "").text.startswith("words")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\nb\n"),
        ("a<br>b &lt;c&gt; &amp;amp;", "a\nb <c> &amp;\n"),
        ("R & D && M&M &copy &#38;lt;\ufdd0 &", "R & D && M&M © &lt; &\n"),
        ('<a href="http://x.test/?a=1&2&b=3">a</a>', "a <http://x.test/?a=1&2&b=3>\n"),
        ('<a href="http://x.test/?a=1&amp;b=%22>">here</a>', "here <http://x.test/?a=1&b=%22>>\n"),
        ('<a href="http://x.test">see http://x.test</a>', "see http://x.test\n"),
        ('<a href="javascript:x()">no</a>', "no\n"),
        ("<title>t</title><style>s</style><script>q</script><p title='>'>shown</p><!-- not -->", "shown\n"),
    ],
)
def test_text_of_html(html: str, text: str) -> None:
    """Words stay, in lines; a link's target stands behind them unless they name it; scripts and styles go."""
    assert text == text_from_html(html)


def test_a_report_with_endless_headers_is_read_in_little_memory() -> None:
    """The headers a delivery report quotes are read as far as any real ones go, not in memory of many times theirs."""
    head = b"Message-ID: <1@x.test>\n" + b" a\n" * 1_000_000
    raw = (
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        b"--b\nContent-Type: text/rfc822-headers\n\n" + head + b"\n--b--\n"
    )
    tracemalloc.start()
    mail = parse_mail(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "<1@x.test>" == mail.reported_id
    assert peak < 40 * len(raw)
