"""The program itself: profiles, help, signals, pipes, terminals, and what happens without its extra."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.run import PROGRAM, Cli

from multimail.cli.show import span
from multimail.cli.values import duration, keys_of, path_of

if TYPE_CHECKING:
    from tests.conftest import Account


async def program(cli: Cli, *args: str, columns: int = 80) -> tuple[int, str]:
    """What the program prints on a terminal, and its exit code."""
    master, slave = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *args, stdin=slave, stdout=slave, stderr=slave,
        env=env | cli.env | {"TERM": "xterm", "COLUMNS": str(columns)},
    )  # fmt: skip
    os.close(slave)
    printed = b""
    reading = asyncio.get_running_loop()
    while True:
        try:
            part = await reading.run_in_executor(None, os.read, master, 65_536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        printed += part
    os.close(master)
    return await process.wait(), printed.decode()


async def test_on_a_terminal(cli: Cli, account: Account) -> None:
    """Tables fit the terminal with ids uncut, NO_COLOR is heeded, and where it is narrow they become facts."""
    async with await account.client() as client:
        await client.mailboxes.create(email=account.mailbox("b" * 40), display_name="x" * 80)
        box = (await client.mailboxes.get(account.mailbox("b" * 40))).id
    code, wide = await program(cli, "mailboxes", "list")
    assert (code, box in wide, "\x1b[1m" in wide) == (0, True, True)
    cli.env["NO_COLOR"] = "1"
    _, plain = await program(cli, "mailboxes", "list")
    assert "\x1b[3" not in plain
    assert max(len(line) for line in plain.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()) <= 80
    _, narrow = await program(cli, "mailboxes", "list", columns=40)
    assert f"b{account.name}.test".replace("b", "b" * 40 + "@", 1) in narrow.replace("\r\n", "")


async def test_an_import_on_a_terminal(cli: Cli) -> None:
    """A bar says how far it is and how fast, and is gone in the end; an export to the screen obeys nobody's text."""
    rows = "".join(f'{{"email": "p{n}@acme.test", "note": "\\u009b2J"}}\n' for n in range(80))
    code, shown = await program(cli, "contacts", "import", str(cli.file("in.jsonl", rows)))
    assert code == 0
    assert "80 rows: 80 created" in shown.splitlines()[-1]
    assert "%" in shown
    _, exported = await program(cli, "contacts", "export", "-w", "metadata.note=x", "--format", "csv")
    assert exported.startswith("email,name,")
    code, exported = await program(cli, "contacts", "export", "p1@acme.test", "--format", "csv")
    assert (code, "\\x9b2J" in exported, "\u009b" in exported) == (0, True, False)


async def test_a_watch_ends_with_ctrl_c(cli: Cli, account: Account) -> None:
    """SIGINT ends it with 130 and no traceback, and what was told before is on the other end of the pipe."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "watch", "--after-seq", "0", "--json", env=os.environ | cli.env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have it ignored behind an &
    )  # fmt: skip
    await cli.say("contacts", "upsert", "a@acme.test")
    assert process.stdout is not None
    assert b"contact_created" in await asyncio.wait_for(process.stdout.readline(), 20)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (130, b"")


async def test_a_pipe_that_closes_is_no_error_of_ours(cli: Cli) -> None:
    """Whoever reads only the beginning gets it; nothing is said about the rest."""
    rows = "".join(f'{{"email": "p{n}@acme.test", "text": "{"x" * 2000}"}}\n' for n in range(100))
    await cli.say("contacts", "import", cli.file("in.jsonl", rows))
    command = f"'{PROGRAM}' contacts export | head -c 100; '{PROGRAM}' contacts search -n 500 | head -n 1"
    process = await asyncio.create_subprocess_shell(
        command, env=os.environ | cli.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert out.startswith(b'{"id": "contact_')
    assert b"EMAIL\tNAME" in out
    assert errors == b""


async def test_without_its_extra_it_says_how_to_install_it() -> None:
    """One sentence, no traceback."""
    hidden = "import sys; sys.modules['typer'] = None; from multimail.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", hidden, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert errors.decode().strip().endswith("pip install 'multimail[cli]'")
    assert len(errors.splitlines()) == 1


async def test_tools_for_agents_need_their_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra mcp is missing, `multimail mcp` says how to install it."""
    monkeypatch.setitem(sys.modules, "multimail.mcp.stdio", None)
    done = await cli.run("mcp")
    assert (done.code, done.out) == (1, "")
    assert "pip install 'multimail[mcp]'" in done.err


async def test_the_tools_for_agents_end_with_ctrl_c(cli: Cli) -> None:
    """SIGINT ends `multimail mcp` at once, while it waits for the next line of an open stdin."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "mcp", env=os.environ | cli.env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    assert await asyncio.wait_for(process.stdout.readline(), 20)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGINT


async def test_profiles(cli: Cli) -> None:
    """What is kept is found again; options beat a named profile, that the environment, that the one in use."""
    target, key = cli.env.pop("MULTIMAIL_TARGET"), cli.env.pop("MULTIMAIL_API_KEY")
    path = cli.folder / "config" / "multimail" / "config.toml"
    assert (await cli.say("config", "path")).strip() == str(path)
    await cli.say("config", "set", f"target={target}", "api_key=-", stdin=key + "\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await cli.say("mailboxes", "list")

    path.write_text("# mine\n" + path.read_text())
    (path.parent / "key").write_text(key)
    (path.parent / "key").chmod(0o600)
    await cli.say("config", "set", "-p", "away", "target=127.0.0.1:9", "api_key_file=key", "tls=false")
    assert path.read_text().startswith("# mine\n")
    listed = await cli.json("config", "list")
    assert [(each["name"], each["used"]) for each in listed["profiles"]] == [("default", True), ("away", False)]
    assert key not in await cli.say("config", "list")

    async def ends(*args: str, **env: str) -> int:
        return (await cli.run(*args, "mailboxes", "list", **env)).code

    soon = ("--timeout", "0.6")
    assert await ends(*soon, "-p", "away") == 5
    assert await ends(*soon, "-p", "away", MULTIMAIL_TARGET=target) == 5
    assert await ends("-p", "away", "--target", target, "--api-key", key) == 0
    await cli.say("config", "use", "away")
    assert await ends(*soon) == 5
    assert await ends(MULTIMAIL_TARGET=target, MULTIMAIL_API_KEY=key) == 0
    await cli.say("config", "remove", "away")
    assert await ends() == 0

    path.chmod(0o644)
    assert "chmod 600" in (await cli.run("mailboxes", "list")).err
    assert (await cli.run("config", "set", "nonsense=1")).code == 2
    path.write_text("[profiles\n")
    broken = await cli.run("mailboxes", "list")
    assert (broken.code, str(path) in broken.err) == (2, True)


async def test_a_key_goes_to_its_own_service_only(cli: Cli) -> None:
    """A profile's key is kept from every other target, its target from another key; a new key ends the old."""
    target, key = cli.env.pop("MULTIMAIL_TARGET"), cli.env.pop("MULTIMAIL_API_KEY")
    await cli.say("config", "set", f"target={target}", f"api_key={key}")
    for args, env in (
        (["--target", "127.0.0.1:9"], {}),
        (["-p", "default", "--target", "127.0.0.1:9"], {}),
        ([], {"MULTIMAIL_TARGET": "127.0.0.1:9"}),
    ):
        done = await cli.run(*args, "inbox", **env)
        assert (done.code, "No API key for 127.0.0.1:9. Keep one" in done.err) == (4, True)
    assert (await cli.run("inbox", MULTIMAIL_API_KEY="mm_live_wrong")).code == 0
    assert (await cli.run("inbox", MULTIMAIL_API_KEY="mm_live_wrong", MULTIMAIL_TARGET=target)).code == 4

    file = cli.file("key", b"\xff\xfe")
    file.chmod(0o600)
    await cli.say("config", "set", f"api_key_file={file}")
    broken = await cli.run("inbox")
    assert (broken.code, "holds no key" in broken.err) == (2, True)
    file.write_text(key)
    assert (await cli.run("inbox")).code == 0
    assert (await cli.run("config", "set", "api_key=a", "api_key_file=b")).code == 2


async def test_help_and_completion(cli: Cli) -> None:
    """Every command has help with a sentence, most with an example; the version and the completion are told."""
    assert "Exit codes" in await cli.say("--help")
    assert (await cli.say("--version")).startswith("multimail ")
    for command in ("contacts import", "contacts search", "send", "approve", "watch", "config set"):
        text = await cli.say(*command.split(), "--help")
        assert "$ multimail " + command in text
    completed = await cli.run(_MULTIMAIL_COMPLETE="complete_bash", COMP_WORDS="multimail cont", COMP_CWORD="1")
    assert "contacts" in completed.out


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1).filter(lambda key: key == key.strip()), min_size=1, max_size=5))
def test_paths_are_read_as_they_are_written(keys: list[str]) -> None:
    """Any keys make a path that is read back as the same keys."""
    assert keys_of(path_of(keys)) == keys


@pytest.mark.parametrize("text", ["7d", "1d12h", "90s", "2w", "0s"])
def test_lengths_of_time_are_read_as_they_are_written(text: str) -> None:
    """A length of time is told as it may be typed, and means the same."""
    assert duration(span(duration(text))) == duration(text)
