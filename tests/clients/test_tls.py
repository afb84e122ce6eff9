"""Whom the clients trust: over TLS only what they were told to, by argument or environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.clients.forms import FORMS, InThreads
from tests.rpc.relays import certificate, serving

import multimail

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("form", FORMS)
async def test_a_self_signed_service_is_trusted_when_told_to(
    engine_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The certificate is given as a path, as bytes or in the environment; without it the error says to give it."""
    _, path = certificate(tmp_path, "localhost")
    tls = {"tls_cert": path, "tls_key": path.with_suffix(".key")}
    async with serving(engine_uri, tmp_path, f"tls{form}", **tls) as account:
        key, target = await account.key(), f"localhost:{account.running.grpc_port}"

        async def reach(**more: str | Path | bytes | bool) -> None:
            named = {"api_key": key, "target": target, "timeout": 3.0} | more
            if form == "async":
                async with multimail.AsyncClient(**named) as client:  # type: ignore[arg-type]
                    assert await client.contacts.search() is not None
            else:
                with multimail.Client(**named) as sync:  # type: ignore[arg-type]
                    assert await InThreads(sync).contacts.search() is not None

        for ca in (path, str(path), path.read_bytes()):
            await reach(ca=ca)
        with pytest.raises(multimail.UnavailableError, match=r"ca= or MULTIMAIL_TLS_CA"):
            await reach(tls=True)
        monkeypatch.setenv("MULTIMAIL_TLS_CA", str(path))
        await reach()
    with pytest.raises(multimail.InvalidArgumentError, match=r"^ca: .*nowhere\.pem"):
        multimail.Client(api_key="k", ca=tmp_path / "nowhere.pem")
