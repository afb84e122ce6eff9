"""Unsubscribing by one click (RFC 8058): offered where there is a public URL, done by POST alone, never forged."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.gateway.web import reason_of
from tests.rpc.calls import made, settled, stubs
from tests.rpc.relays import serving

from multimail.v1 import mail_pb2
from multimail.v1 import mail_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from email.message import EmailMessage

    from tests.conftest import Account

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture(scope="module")
async def public(engine_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Account]:
    """An account of a service that is reached from outside."""
    url = "https://mail.example/multimail/"
    async with serving(engine_uri, tmp_path_factory.mktemp("public"), "public", public_url=url) as account:
        yield account


async def arrived(account: Account, mail: Any, box: str) -> EmailMessage:
    """The newest mail that arrived in a mailbox of ours."""
    found = (await mail.ListEmails(pb.ListEmailsRequest(mailbox_email=box))).emails
    (row,) = await account.running.database.find("emails", {"_id": found[0].id})
    return message_from_bytes(bytes(row["raw"]), policy=policy.default)


async def suppressed(mail: Any) -> dict[str, int]:
    """Who is suppressed, and why."""
    found = (await mail.ListSuppressions(pb.ListSuppressionsRequest())).suppressions
    return {each.address: each.reason for each in found}


def client_of(account: Account) -> httpx2.AsyncClient:
    """Somebody without a key."""
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{account.running.http_port}")


@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
async def test_one_click(public: Account, form: str) -> None:
    """Each recipient's mail has a link of their own; looking changes nothing, one click suppresses them, twice too."""
    async with stubs(public) as (_, mail), client_of(public) as browser:
        names = [f"{form}{name}" for name in ("box", "one", "two")]
        box, one, two = [await made(public, name) for name in names]
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[one, two], list_unsubscribe=True)
        await settled(mail, (await mail.SendEmail(request)).email.id)
        messages = [await arrived(public, mail, each) for each in (one, two)]
        links = []
        for message in messages:
            header = re.fullmatch(r"<(https://[^>]+)>, *<mailto:[^>]+>", str(message["List-Unsubscribe"]))
            assert header
            assert "List-Unsubscribe=One-Click" == message["List-Unsubscribe-Post"]
            links.append(header[1])
        assert 2 == len(set(links))
        assert links[1].startswith("https://mail.example/multimail/u/")
        path = links[1].removeprefix("https://mail.example/multimail")
        page = await browser.get(path)
        assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
        assert '<form method="post">' in page.text
        assert two not in page.text
        assert two not in await suppressed(mail)
        for _ in range(2):
            sent = (
                {"data": ONE_CLICK} if form == "urlencoded" else {"files": {k: (None, v) for k, v in ONE_CLICK.items()}}
            )
            done = await browser.post(path, **sent)
            assert (200, True) == (done.status_code, "You are unsubscribed" in done.text)
            assert mail_pb2.SUPPRESSION_REASON_UNSUBSCRIBED == (await suppressed(mail))[two]
        assert one not in await suppressed(mail)


async def test_nothing_else_unsubscribes(public: Account) -> None:
    """A forged link is not there, a POST without the words of RFC 8058 is refused, and neither suppresses anybody."""
    async with stubs(public) as (_, mail), client_of(public) as browser:
        box, there = await made(public, "forgebox"), await made(public, "forgethere")
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[there], list_unsubscribe=True)
        await settled(mail, (await mail.SendEmail(request)).email.id)
        link = str((await arrived(public, mail, there))["List-Unsubscribe"])
        found = re.search(r"/u/([a-z0-9]+)>", link)
        assert found
        token = found[1]
        other = "a" if token[-2] != "a" else "b"
        forged = [
            token[:-2] + other + token[-1],
            token[:26] + "01" + token[28:],
            token.upper(),
            token + "a",
            "x",
            "%00",
        ]
        for each in forged:
            for response in (await browser.get(f"/u/{each}"), await browser.post(f"/u/{each}", data=ONE_CLICK)):
                assert (404, "METHOD_UNKNOWN") == (response.status_code, reason_of(response)), each
        for sent in (
            {},
            {"data": {"List-Unsubscribe": "no"}},
            {"json": ONE_CLICK},
            {"files": {"x": (None, "One-Click")}},
        ):
            assert 400 == (await browser.post(f"/u/{token}", **sent)).status_code, sent
        assert 413 == (await browser.post(f"/u/{token}", data={"x": "y" * 5000})).status_code
        assert there not in await suppressed(mail)


async def test_without_a_public_url_there_is_no_link(account: Account) -> None:
    """A service that does not know where it is reached offers unsubscribing by mail only."""
    async with stubs(account) as (_, mail):
        box, there = await made(account), await made(account, "there")
        request = pb.SendEmailRequest(from_mailbox_email=box, to=[there], list_unsubscribe=True)
        await settled(mail, (await mail.SendEmail(request)).email.id)
        message = await arrived(account, mail, there)
        assert str(message["List-Unsubscribe"]).startswith("<mailto:")
        assert "List-Unsubscribe-Post" not in message
