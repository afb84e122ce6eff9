"""`multimail contacts`: what is found, shown, changed and erased, and how it is told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
from typing import TYPE_CHECKING

import pytest
import typer
from rich.console import Console
from tests.cli.run import PROGRAM
from tests.clients.line import Line
from tests.rpc.calls import stubs

from multimail.cli import show
from multimail.v1 import contact_service_pb2

if TYPE_CHECKING:
    from tests.cli.run import Cli
    from tests.conftest import Account


async def test_a_contact_from_made_to_erased(cli: Cli) -> None:
    """Upsert makes and merges, update applies its operators, show tells all, delete erases; each in JSON too."""
    made = await cli.json("contacts", "upsert", "elena@acme.test", "--name", "Elena", "-s", "plan=pro",
                          "-s", "seats=2", "-s", 'zip="0150"', "-s", "address.city=Oslo")  # fmt: skip
    assert (made["outcome"], made["metadata"]) == (
        "created", {"plan": "pro", "seats": 2, "zip": "0150", "address": {"city": "Oslo"}}
    )  # fmt: skip
    merged = await cli.json("contacts", "upsert", "elena@acme.test", "--unset", "zip", "--metadata", '{"a": [1]}')
    assert merged["metadata"] == {"plan": "pro", "seats": 2, "address": {"city": "Oslo"}, "a": [1]}
    changed = await cli.json("contacts", "update", made["id"], "--increment", "seats=1", "--add", "tags=vip",
                             "--rename", "plan=tier", "--remove", "a=1", "--unset", "address.city")  # fmt: skip
    assert changed["metadata"] == {"tier": "pro", "seats": 3, "address": {}, "a": [], "tags": ["vip"]}
    shown = await cli.json("contacts", "show", "ELENA@acme.test")
    assert shown["contact"] | {"outcome": "updated"} == changed
    text = await cli.say("contacts", "show", made["id"])
    assert "metadata.tier  " in text
    assert re.search(r"last contacted +never", text)
    await cli.say("contacts", "delete", made["id"], code=1, stdin="no\n")
    assert (await cli.json("contacts", "search", "--count"))["count"] == 1
    await cli.say("contacts", "delete", made["id"], stdin="y\n")
    assert (await cli.json("contacts", "search", "--count"))["count"] == 0


async def test_what_a_search_finds(cli: Cli) -> None:
    """Conditions of every kind find whom they should, in the order asked for; a limit says that there are more."""
    for number in range(5):
        await cli.say("contacts", "upsert", f"p{number}@acme.test", "-s", f"n={number}", "-s", "plan=pro")
    await cli.say("contacts", "upsert", "o@other.test", "--name", "Other Person", "-s", 'n="3"')

    async def found(*args: str) -> list[str]:
        return [each["email"][:2] for each in (await cli.json("contacts", "search", *args))["contacts"]]

    assert await found("-w", "metadata.n>=1", "-w", "metadata.n<3", "-o", "email desc") == ["p2", "p1"]
    assert await found("-w", "metadata.n=3") == ["p3"]
    assert await found("-w", 'metadata.n="3"') == ["o@"]
    assert await found("-w", "metadata.plan!=pro") == ["o@"]
    assert await found("oth pers") == ["o@"]
    assert await found("--filter", "metadata.n = 0 OR metadata.n = 4", "-o", "email") == ["p0", "p4"]
    done = await cli.run("contacts", "search", "acme.test", "-n", "2", "-o", "email", "--explain")
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["EMAIL", "p0@acme.test", "p1@acme.test"]
    assert "more than 2" in done.err
    assert "index" in done.err
    assert (await cli.run("contacts", "search", "nobody.test")).err == "Nobody found.\n"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["contacts", "show", "nobody@acme.test"], 3, "No such contact"),
        (["contacts", "search", "--filter", "metadata.plan ="], 2, "filter: column"),
        (["contacts", "search", "--where", "nonsense"], 2, "write metadata.plan=pro"),
        (["contacts", "search", "-w", "metadata.a=1", "-w", "metadata.a=2"], 2, "two conditions"),
        (["contacts", "serch"], 2, "Did you mean 'search'?"),
        (["contacts", "upsert", "not-an-address"], 2, "email:"),
        (["contacts", "upsert", "a@b.test", "--set", "a.b=1", "--set", "a=2"], 2, "given twice"),
        (["contacts", "upsert", "a@b.test", "--metadata", "[1]"], 2, "must be a JSON object"),
        (["contacts", "update", "a@b.test", "--increment", "n=x"], 2, "not a number"),
        (["send", "--from", "x@y.test", "--to", "a@b.test", "--send-at", "soon", "hi"], 2, "no time"),
        (["send", "--from", "x@y.test", "--to", "a@b.test"], 2, "--body-file"),
        (["send", "--from", "nowhere@y.test", "--to", "a@b.test", "hi"], 3, "No such mailbox"),
        (["contacts", "import", "nowhere.csv"], 1, "nowhere.csv: No such file"),
        (["pending"], 4, "scope oversight"),
        (["--profile", "nowhere", "inbox"], 2, "multimail config set --profile nowhere"),
    ],
)
async def test_failures_say_what_to_do(cli: Cli, args: list[str], code: int, said: str) -> None:
    """Each kind of failure has its exit code, a sentence on stderr, and nothing on stdout; in JSON the same."""
    done = await cli.run(*args)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err
    if args[0] in ("contacts", "pending") and "import" not in args and code in (3, 4):
        told = json.loads((await cli.run(*args, "--json")).err)
        assert told["error"]["reason"]
        assert said in told["error"]["message"]


async def test_keys_and_services_that_fail(cli: Cli) -> None:
    """No key, a wrong key and a service that is away have their codes and say what to do."""
    none = await cli.run("inbox", MULTIMAIL_API_KEY=None)
    assert (none.code, "multimail config set api_key=-" in none.err) == (4, True)
    wrong = await cli.run("inbox", MULTIMAIL_API_KEY="mm_live_wrong")
    assert (wrong.code, "key" in wrong.err) == (4, True)
    for command in (["inbox"], ["contacts", "export"], ["watch"]):
        away = await cli.run("--timeout", "0.6", *command, MULTIMAIL_TARGET="127.0.0.1:9")
        assert (away.code, away.out) == (5, "")
        assert "Is the service running at 127.0.0.1:9?" in away.err or "--timeout" in away.err


async def test_a_time_without_a_zone_is_utc(cli: Cli) -> None:
    """When somebody was last written to means the same as an option, in a file and in a condition."""
    when = "2026-03-20"
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "contacts", "upsert", "a@acme.test", "--last-contacted", when, "--json",
        env=os.environ | cli.env | {"TZ": "EAST-9"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told = json.loads((await process.communicate())[0])
    await cli.say("contacts", "import", cli.file("in.csv", f"email,last_contacted\nb@acme.test,{when}\n"))
    other = await cli.json("contacts", "show", "b@acme.test")
    assert told["last_contacted"] == other["contact"]["last_contacted"] == "2026-03-20T00:00:00Z"
    assert (await cli.json("contacts", "search", "--count", "-w", f"last_contacted_before={when}"))["count"] == 0


async def test_an_erasure_of_unknown_outcome_can_be_repeated(
    cli: Cli, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its answer was lost, the error names all that makes the same command answer as the first would have."""
    await cli.say("contacts", "upsert", "a@acme.test")
    async with Line(account.running.grpc_port).up() as line:

        def agree(*_: object, **__: object) -> bool:
            line.mute = True
            return True

        monkeypatch.setattr(typer, "confirm", agree)
        lost = await cli.run("--timeout", "2", "contacts", "delete", "a@acme.test",
                             MULTIMAIL_TARGET=f"127.0.0.1:{line.port}")  # fmt: skip
    assert lost.code == 5
    again = shlex.split(re.search(r"say the same again with (.*), so that", lost.err)[1])  # type: ignore[index]
    assert again[0] == "--yes"
    assert (await cli.json("contacts", "delete", "a@acme.test", *again))["id"].startswith("erasure_")


HOSTILE = "[red]x[/red] \u202eevil :smile: \u009b31m\x7f\U000e0041"


async def test_hostile_text_is_harmless(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Markup stays text, and what a terminal would obey is written out, in lines, tables and JSON alike."""
    await cli.say("contacts", "upsert", "evil@acme.test", "--metadata", json.dumps({"note": HOSTILE}))
    for command in (["contacts", "show", "evil@acme.test"], ["contacts", "search"], ["contacts", "search", "--json"]):
        text = await cli.say(*command)
        assert "[red]x[/red]" in text
        assert ":smile:" in text
        assert not set(text) & set("\u202e\u009b\x1b\x7f\U000e0041")
    assert (await cli.json("contacts", "show", "evil@acme.test"))["contact"]["metadata"]["note"] == HOSTILE

    screen = Console(force_terminal=True, width=80, markup=False, highlight=False, emoji=False, record=True)
    monkeypatch.setattr(show, "console", lambda **_: screen)
    show.table(("EMAIL", "NOTE"), [("email_01M89YKN8WBWK4V87BPY9FFQN0", HOSTILE + "\x1b]0;x\a" * 50)])
    drawn = screen.export_text()
    assert "[red]x[/red] \\u202eevil :smile:" in drawn
    assert "email_01M89YKN8WBWK4V87BPY9FFQN0" in drawn
    assert max(map(len, drawn.splitlines())) <= 80


async def test_json_is_that_of_the_api(cli: Cli, account: Account) -> None:
    """What a command answers in JSON has the fields, times and words of the API's own messages."""
    made = await cli.json(
        "contacts", "upsert", "elena@acme.test", "--set", "n=1", "--last-contacted", "2026-01-02T03:04Z"
    )
    async with stubs(account) as (contacts, _):
        message = await contacts.GetContact(contact_service_pb2.GetContactRequest(email="elena@acme.test"))
    fields = set(message.DESCRIPTOR.fields_by_name)
    assert set(made) - {"outcome"} <= fields
    assert fields - set(made) == {"last_inbound"}  # which never was
    assert made["last_contacted"] == message.last_contacted.ToJsonString() == "2026-01-02T03:04:00Z"
    assert made["update_time"] == message.update_time.ToJsonString()
