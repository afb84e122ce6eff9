"""The plugin for users' own tests, as a user runs it: pytest in a process of its own, on a folder of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from multimail.testing import ServiceError, running_service

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
import pytest

pytest_plugins = ["multimail.testing"]


@pytest.fixture(scope="session")
def multimail_settings():
    return {"MULTIMAIL_LOG_LEVEL": "DEBUG"}
"""
TESTS = """
import asyncio
import pathlib
import time
import urllib.request

import multimail


def test_a_client_at_once(multimail_service):
    pathlib.Path("target").write_text(multimail_service.target)
    client = multimail_service.client()
    client.mailboxes.create(email="sales@example.test")
    client.send_email(from_mailbox="sales@example.test", to="elena@acmecorp.com", subject="Hello", body="Hello")
    client.contacts.update(email="elena@acmecorp.com", metadata={"plan": "pro"})
    for _ in range(200):
        if written := list(multimail_service.outbox.glob("*.eml")):
            break
        time.sleep(0.05)
    assert b"Subject: Hello" in written[0].read_bytes()
    assert " DEBUG " in multimail_service.log.read_text()


def test_accounts_are_apart(multimail_service):
    other = multimail_service.client("other", agent="ann", scopes=("read",))
    assert not other.contacts.search(email="elena@acmecorp.com")

    async def ours():
        async with multimail_service.async_client() as client:
            return (await client.contacts.get(email="elena@acmecorp.com")).metadata

    assert {"plan": "pro"} == asyncio.run(ours())


def test_http_answers(multimail_service):
    assert 200 == urllib.request.urlopen(multimail_service.http_url + "/readyz").status
"""


def test_the_plugin_as_a_user_runs_it(tmp_path: Path) -> None:
    """A user's tests get one real service, untouched by what is set around them, which is gone when they end."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(TESTS)
    around = {"MONGODB_URI": "mongodb://127.0.0.1:1", "MULTIMAIL_API_KEY": "mm_live_none", "MULTIMAIL_PORT": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | around, capture_output=True, text=True, check=False, timeout=100
    )
    assert (0, True) == (done.returncode, "3 passed" in done.stdout), done.stdout + done.stderr
    host, _, port = (tmp_path / "target").read_text().rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 1)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Where the service's own packages are not installed, the error says which extras to install."""
    (tmp_path / "motor").mkdir()
    (tmp_path / "motor" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'motor'\")\n")
    where = {"PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    with pytest.raises(ServiceError, match=r"multimail\[server,embedded\]"), running_service(tmp_path, where):
        raise AssertionError


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    """A service that does not start says why, in the error."""
    wrong = {"MULTIMAIL_DEADLINE_S": "soon"}
    with pytest.raises(ServiceError, match="MULTIMAIL_DEADLINE_S"), running_service(tmp_path, wrong):
        raise AssertionError
