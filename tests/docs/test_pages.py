"""What README and docs publish works as it is written there, against a live service."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.docs.pages import Example, _shows, examples, run
from tests.rpc.relays import certificate, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@asynccontextmanager
async def published(engine_uri: str, folder: Path, page: Path) -> AsyncIterator[dict[str, str]]:
    """A folder and services as a page has them; what it says of where they are → where they are."""
    _, cert = certificate(folder, "localhost")
    cert.rename(folder / "cert.pem")
    tls = {"tls_cert": folder / "cert.pem", "tls_key": folder / "peer.key"}
    name = "page_" + page.stem.lower()
    async with (
        serving(engine_uri, folder, name) as account,
        serving(engine_uri, folder, name, host="localhost", **tls) as secure,
    ):
        (folder / "data").mkdir()
        (folder / "data" / "api-key").write_text(await account.key() + "\n")
        (folder / "data" / "oversight-key").write_text(await account.key("read", "oversight") + "\n\nThis is …\n")
        (folder / ".venv").symlink_to(sys.prefix)
        yield {
            "127.0.0.1:50051": f"127.0.0.1:{account.running.grpc_port}",
            "localhost:50052": f"localhost:{secure.running.grpc_port}",
            "127.0.0.1:8080": f"127.0.0.1:{account.running.http_port}",
            "127.0.0.1:2525": f"127.0.0.1:{account.running.smtp_port}",
        }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_the_examples_of_a_page(engine_uri: str, tmp_path: Path, page: Path) -> None:
    """Every example does what the page shows."""
    async with published(engine_uri, tmp_path, page) as replaced:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MULTIMAIL_", "MONGODB_"))}
        await asyncio.to_thread(run, page, tmp_path, replaced, own | {"MULTIMAIL_TARGET": replaced["127.0.0.1:50051"]})


def test_pages_have_examples() -> None:
    """The pages are read: each has examples, and the recipes are all there."""
    counted = {page.stem: len(examples(page)) for page in PAGES}
    assert all(counted.values())
    assert counted["grpcurl"] >= 15


@pytest.mark.parametrize(
    ("shown", "is_json", "output"),
    [
        ('{"a": {"b": "x_…"}, "c": [1]}', True, '{"a": {"b": "x_9", "d": 1}, "c": [1, 2]}'),
        ('{"a": 1}', True, '{"a": 1}\n{"a": 1}'),
        ('{"a": 1}', True, "ERROR: no"),
        ('{"a": "…x"}', True, '{"a": "y"}'),
        ("one\nthree", False, "three two one"),
    ],
)
def test_what_is_not_as_shown_is_seen(shown: str, is_json: bool, output: str) -> None:  # noqa: FBT001
    """A list of another length, another document, another text or another order is not what is shown."""
    assert not _shows(Example(1, "sh", "", shown, is_json), output)
