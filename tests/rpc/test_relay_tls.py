"""The relay's security: STARTTLS, TLS from the start and AUTH really done, and nothing said where they are missing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from tests.rpc.relays import Peer, certificate

from multimail_server.mail.smtp import Outcome, Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# Reaches this machine, but not by a name that counts as this machine: what a relay elsewhere is to the service.
ELSEWHERE = "127.1"


@asynccontextmanager
async def relay(scheme: str, host: str, peer: Peer, user: str = "") -> AsyncIterator[Relay]:
    """A relay on the way to the peer."""
    made = Relay(f"{scheme}://{user}{host}:{peer.port}", "us.test", connections=1)
    try:
        yield made
    finally:
        await made.close()


async def hand_over(to: Relay) -> Outcome:
    """Hands one mail over."""

    async def mark() -> bool:
        return True

    return await to.deliver(
        sender="a@x.test",
        recipient="b@y.test",
        message=b"Subject: x\r\n\r\nsecret\r\n",
        smtputf8=False,
        before_dot=mark,
    )


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp", False), ("smtps", True)])
async def test_tls_and_auth_are_really_done(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, implicit: bool
) -> None:
    """By STARTTLS or from the start, credentials and mail go over TLS once the server's certificate is trusted."""
    context, trusted = certificate(tmp_path, ELSEWHERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with (
        Peer(tls=context, implicit=implicit).listening() as peer,
        relay(scheme, ELSEWHERE, peer, "us%40x.test:pass%2Fword@") as way,
    ):
        assert "accepted" == (await hand_over(way)).state
        assert "accepted" == (await hand_over(way)).state
        (session,) = peer.sessions
        assert (True, "us@x.test", "pass/word", 2) == (
            session.tls, session.user, session.password, len(peer.deliveries),
        )  # fmt: skip
        if not implicit:
            verbs = [command.split(b" ")[0] for command in session.commands]
            assert [b"EHLO", b"STARTTLS", b"(TLS)", b"EHLO", b"AUTH", b"MAIL"] == verbs[:6]


async def test_without_starttls_nothing_is_said_elsewhere(tmp_path: Path) -> None:
    """A relay elsewhere that offers no STARTTLS hears neither credentials nor mail, and the mail is tried later."""
    async with Peer().listening() as peer, relay("smtp", ELSEWHERE, peer, "us:pw@") as way:
        outcome = await hand_over(way)
    assert ("retry", True) == (outcome.state, "STARTTLS" in outcome.response)
    verbs = {command.split(b" ")[0] for session in peer.sessions for command in session.commands}
    assert {b"EHLO"} >= verbs - {b"QUIT"}


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp", False), ("smtps", True)])
@pytest.mark.parametrize("names", [(ELSEWHERE,), ("other.test",)])
async def test_a_certificate_nobody_trusts_is_refused(
    scheme: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, implicit: bool
) -> None:
    """An untrusted certificate, or a trusted one for another name, ends the conversation before anything is said."""
    context, path = certificate(tmp_path, *names)
    if names != (ELSEWHERE,):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with (
        Peer(tls=context, implicit=implicit).listening() as peer,
        relay(scheme, ELSEWHERE, peer, "us:pw@") as way,
    ):
        outcome = await hand_over(way)
        assert ("retry", True) == (outcome.state, "certificate" in outcome.response.lower())
        assert [("", [])] * len(peer.sessions) == [(each.user, each.recipients) for each in peer.sessions]


async def test_on_this_machine_tls_is_used_when_offered(tmp_path: Path) -> None:
    """A relay on this machine needs no TLS; offered, it is used, whoever signed its certificate."""
    context, _ = certificate(tmp_path, "whoever.test")
    for peer_made, tls in ((Peer(), False), (Peer(tls=context), True)):
        async with peer_made.listening() as peer, relay("smtp", "127.0.0.1", peer) as way:
            assert "accepted" == (await hand_over(way)).state
            assert [tls] == [session.tls for session in peer.sessions]


async def test_refused_credentials_are_tried_later(tmp_path: Path) -> None:
    """A relay that refuses our credentials says it of us, not of the mail: nothing is lost, it goes later."""
    async with Peer().listening() as peer:
        peer.say("AUTH", b"535 5.7.8 bad credentials\r\n")
        async with relay("smtp", "127.0.0.1", peer, "us:wrong@") as way:
            outcome = await hand_over(way)
            assert ("retry", True) == (outcome.state, "535" in outcome.response)
            assert "accepted" == (await hand_over(way)).state
