"""The stubs in other languages: as their generators make them, compiled, and called against the live service."""

from __future__ import annotations

import asyncio
import filecmp
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, TypeVar

import pytest
from tools import stubs

from multimail import _channel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Account

T = TypeVar("T")
# What npm and Go say when they do not reach their registries.
AWAY = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|E40[37]|ENOTCACHED"
    r"|dial tcp|no such host|i/o timeout|connection refused|proxyconnect|40[37] Forbidden|module lookup disabled",
    re.IGNORECASE,
)
SAID = ["CREATED elena@acmecorp.com", "1 found: elena@acmecorp.com", "CONTACT_NOT_FOUND", "multimail.v1.Contact"]


def needs(program: str, asked: str, least: tuple[int, int]) -> None:
    """Skips where a toolchain is not at hand, or too old."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    said = subprocess.run([program, asked], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < least:
        pytest.skip(f"{program} is {said.strip()}, older than {least[0]}.{least[1]}")


def had(get: Callable[[], T]) -> T:
    """What is got from the registries; skips where they are not reached."""
    try:
        return get()
    except stubs.StubsError as error:
        if (why := AWAY.search(str(error))) is not None:
            pytest.skip(f"its packages cannot be fetched here: {why[0]}")
        raise


@pytest.fixture(scope="module")
def npm() -> Path:
    """The folder with the TypeScript package's tools, as Node.js finds them."""
    needs("node", "--version", (20, 0))
    needs("npm", "--version", (9, 0))
    return had(stubs.npm_installed)


@pytest.fixture(scope="module")
def go() -> Path:
    """The Go module, whose dependencies are there."""
    needs("go", "version", (1, 25))
    folder = stubs.CLIENTS / "go"
    had(lambda: stubs.run("go", "mod", "download", cwd=folder, GOTOOLCHAIN="local"))
    return folder


def same(made: Path, committed: Path) -> None:
    """Fails unless both folders hold the same files."""

    def names(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    assert names(made) == names(committed), "run: make stubs"
    assert ([], []) == filecmp.cmpfiles(made, committed, names(made), shallow=False)[1:], "run: make stubs"


def test_typescript_is_as_made(npm: Path, tmp_path: Path) -> None:
    """The committed TypeScript stubs are what the protos make."""
    stubs.make_typescript(tmp_path / "gen")
    same(tmp_path / "gen", stubs.CLIENTS / "typescript" / "gen")


@pytest.mark.timeout(400)  # Go compiles all there is, the first time on a machine
def test_go_is_as_made(go: Path, tmp_path: Path) -> None:
    """The committed Go stubs are what the protos make."""
    had(lambda: stubs.make_go(tmp_path / "v1"))
    same(tmp_path / "v1", go / "v1")


def test_go_embeds_the_service_config() -> None:
    """The service config in the Go module is the one of the Python client."""
    assert _channel._CONFIG == (stubs.CLIENTS / "go" / "service_config.json").read_text(), "run: make stubs"


async def said(account: Account, *command: str, cwd: Path) -> str:
    """What an example prints, told where the service is."""
    target, key = f"127.0.0.1:{account.running.grpc_port}", await account.key()
    return await asyncio.to_thread(stubs.run, *command, cwd=cwd, MULTIMAIL_TARGET=target, MULTIMAIL_API_KEY=key)


async def test_the_typescript_example(npm: Path, account: Account) -> None:
    """The TypeScript example compiles, strictly, and does against the service what it says."""
    shutil.copytree(stubs.CLIENTS / "typescript" / "gen", npm / "gen", dirs_exist_ok=True)
    for name in ("example.ts", "tsconfig.json", "package.json"):
        shutil.copy(stubs.CLIENTS / "typescript" / name, npm)
    printed = await said(account, "npm", "run", "--silent", "example", cwd=npm)
    assert [*SAID[:2], f"NotFound {SAID[2]}", SAID[3]] == printed.splitlines()


@pytest.mark.timeout(400)
async def test_the_go_example(go: Path, account: Account) -> None:
    """The Go module compiles, vet finds nothing, and the example does against the service what it says."""
    program = stubs.BUILD / "go" / "example"
    await asyncio.to_thread(stubs.run, "go", "build", "-o", str(program), "./example", cwd=go)
    await asyncio.to_thread(stubs.run, "go", "vet", "./...", cwd=go)
    printed = await said(account, str(program), cwd=go)
    assert [f"UPSERT_OUTCOME_{SAID[0]}", SAID[1], f"NotFound {SAID[2]}", SAID[3]] == printed.splitlines()
