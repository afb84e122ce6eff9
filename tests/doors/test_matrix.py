"""The same request through every door: gRPC, REST, the library, the tools for models and the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import Account
from tests.doors.cases import CASES, FOREIGN, LONG, Case
from tests.doors.doors import RPCS, Doors, doors, head
from tests.doors.said import MEANINGS, Refused, bare, differences
from tests.doors.scene import changed, scene_of
from tests.doors.table import TABLE, Way
from tests.rpc.calls import until
from tests.rpc.relays import Peer, serving
from tests.rpc.stage import CHANGING

from multimail.v1 import mail_service_pb2 as pb
from multimail_server.rpc.auth import SCOPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.doors.scene import Scene

AGENT, OVERSEER = ("read", "write", "send", "admin"), ("read", "admin", "oversight")
NEEDED = {path.rpartition("/")[2]: scope for path, scope in SCOPES.items()}
# What a model is not shown: what it cannot act on, what is long, and what outsiders wrote, which stands beside.
HIDDEN = frozenset((
    "create_time", "update_time", "settle_time", "html_body", "message_id", "in_reply_to", "snippet", "subject", "body",
    "defects", "untrusted", "response", "content_type", "hold_detail", "state_detail", "filename", "detail", "kind",
))  # fmt: skip
# What is said to a model beside the facts.
ADDED = frozenset(("note", "text", "untrusted", "index", "attachment_count", "recipient_count", "cut"))
# What lists of mail leave to reading one, and a change of one to reading it again.
LISTED = HIDDEN | {
    "cc", "bcc", "reply_to", "content_sha256", "oversight_mode", "decision", "recipients", "events", "attachments",
    "authentication", "truncated",
}  # fmt: skip
# Of mail that waits the people are told, as far as a decision needs it, instead of how each recipient stands.
HELD = HIDDEN | {"recipients", "etag", "thread_count", "latest_thread_id", "metadata"}
NONE: frozenset[str] = frozenset()
# Changes behind which others find nothing left to change.
ENDING = ("CancelEmail", "ApproveEmails", "RejectEmails", "DeleteContact", "DeleteMailbox")
UNDER_WAY = ("queued", "sending")


@pytest.fixture(scope="session")
async def place(engine_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Account, Peer]]:
    """A service whose mail goes to a peer that can leave it in doubt."""
    peer = Peer()
    async with (
        peer.listening(),
        serving(
            engine_uri, tmp_path_factory.mktemp("doors"), "doors", smtp_url=f"smtp://127.0.0.1:{peer.port}"
        ) as account,
    ):
        yield account, peer


@pytest.fixture(scope="session")
async def calm(place: tuple[Account, Peer]) -> Scene:
    """A scene that nobody changes."""
    return await scene_of(named(place[0], "calm"), place[1])


def fitting(method: str) -> tuple[str, ...]:
    """The scopes of a key that may call the method: who sends may not oversee."""
    return OVERSEER if NEEDED[method] == "oversight" else AGENT


@pytest.fixture(scope="session")
async def busy(place: tuple[Account, Peer]) -> Scene:
    """A scene for changes that leave the others possible."""
    return await scene_of(named(place[0], "busy"), place[1])


def named(account: Account, name: str) -> Account:
    """Another account on the same service."""
    return Account(f"doors-{name.lower()}", account.running, account.commands)


async def compare(opened: Doors, method: str, request: Any, without: tuple[str, ...] = ()) -> tuple[Any, list[str]]:
    """What gRPC says to a request, and where the other doors say something else."""
    row, found = TABLE[method], []
    told = await opened.by_grpc(method, request)
    for path, other in await opened.by_rest(method, request):
        found += _unlike(told, other, path, 0, NONE, NONE)
    for form in ("async", "sync") if "sdk" not in without else ():
        other = await opened.by_sdk(form, row, request)
        found += _unlike(_given(row.sdk, told), other, f"sdk {form}", 1, NONE, NONE)
    if isinstance(row.mcp, Way) and "mcp" not in without:
        other = await opened.by_mcp(row, request)
        hidden = {"read_email": HIDDEN, "list_pending": HELD}.get(row.mcp.call, LISTED)
        expected = _renamed(_given(row.mcp, told), row.mcp.names)
        found += _unlike(expected, _shown(row.mcp, other), f"mcp {row.mcp.call}", None, hidden, ADDED)
        found += [f"mcp {row.mcp.call} does not tell of {each!r}" for each in _subjects(expected) - _texts(other)]
    if isinstance(row.cli, Way) and "cli" not in without:
        other = await opened.by_cli(row, request)
        found += _unlike(_given(row.cli, told), _shown(row.cli, other), f"cli {row.cli.call}", 2, NONE, NONE)
    return told, found


async def rest(opened: Doors, told: Any) -> None:
    """Waits until the mail that an answer is about is under way no more."""
    assert not isinstance(told, Refused), told
    outcome = told["outcomes"][0] if "outcomes" in told else told
    about = outcome.get("email", told)
    if isinstance(about, dict) and about.get("id", "").startswith("email_"):
        look = pb.GetEmailRequest(id=about["id"])
        await until(lambda: opened.by_grpc("GetEmail", look), holds=lambda mail: mail["state"] not in UNDER_WAY)


def _given(way: Way, told: Any) -> Any:
    return told if isinstance(told, Refused) else way.gives(told)


def _renamed(told: Any, names: dict[str, str]) -> Any:
    """A refusal whose fields bear the names that a tool has for them."""
    if not isinstance(told, Refused):
        return told
    fields = [head(path) for path in told.fields]
    return replace(told, fields=tuple(sorted(names.get(name, name) + below for name, below in fields)))


def _shown(way: Way, told: Any) -> Any:
    return told if isinstance(told, Refused) else way.shows(told)


def _subjects(answer: Any) -> set[str]:
    """Every subject in an answer; a model finds it among the facts, or among what outsiders wrote."""
    if isinstance(answer, list):
        return {each for one in answer for each in _subjects(one)}
    if not isinstance(answer, dict):
        return set()
    own = {answer["subject"]} if answer.get("subject") else set()
    return own | _subjects([each for each in answer.values() if isinstance(each, dict | list)])


def _texts(answer: Any) -> set[str]:
    """Every line of every text in an answer, `Subject: ` before it or not."""
    if isinstance(answer, list | dict):
        inner = answer.values() if isinstance(answer, dict) else answer
        return {each for one in inner for each in _texts(one)}
    return {line.removeprefix("Subject: ") for line in answer.splitlines()} if isinstance(answer, str) else set()


def _unlike(
    first: Any, other: Any, door: str, meaning: int | None, hidden: frozenset[str], added: frozenset[str]
) -> list[str]:
    """Where a door differs; `meaning` says which of the meanings of a status is its own."""
    if not isinstance(first, Refused) or not isinstance(other, Refused):
        return [f"{door}{each}" for each in differences(bare(first), bare(other), hidden, added)]
    wrong = [
        f"{door} {name}: {getattr(first, name)!r}, but {getattr(other, name)!r}"
        for name in ("reason", "metadata", "fields", "message")
        if getattr(first, name) != getattr(other, name) and (name != "message" or other.message is not None)
    ]
    if meaning is not None:
        expected = MEANINGS[first.meaning][meaning]
        kin = isinstance(expected, type) and issubclass(other.meaning, expected)
        wrong += [] if kin or expected == other.meaning else [f"{door} means {other.meaning}, not {expected}"]
    near = (first.retry_s is None) == (other.retry_s is None) and abs((first.retry_s or 0) - (other.retry_s or 0)) < 30
    return wrong if near else [*wrong, f"{door} comes back in {other.retry_s}, not {first.retry_s}"]


def test_every_rpc_has_its_row() -> None:
    """The table holds exactly the RPCs of both services, and cases of each that takes anything."""
    assert set(RPCS) == set(TABLE)
    assert set(RPCS) - {"GetCaller"} == {case.method for case in CASES}


def test_every_door_without_a_way_says_why() -> None:
    """gRPC, REST and the library have a way to every RPC; the others have one, or a reason that is written down."""
    assert all(isinstance(row.sdk, Way) for row in TABLE.values())
    for door in ("mcp", "cli"):
        ways = {name: getattr(row, door) for name, row in TABLE.items()}
        assert all(isinstance(way, Way) or len(way) > 10 for way in ways.values())
    lacking = {
        door: {name for name, row in TABLE.items() if not isinstance(getattr(row, door), Way)}
        for door in ("mcp", "cli")
    }
    assert lacking == {
        "mcp": {
            "GetCaller", "CreateContact", "BatchUpsertContacts", "ImportContacts", "BatchGetContacts", "CountContacts",
            "ExportContacts", "WatchContacts", "IngestEvent", "IngestEmail", "WatchNotifications",
        },
        "cli": {
            "GetCaller", "CreateContact", "BatchUpsertContacts", "BatchGetContacts", "GetMailbox", "UpdateEmail",
            "BatchCheckSends", "IngestEvent", "IngestEmail", "GetAttachment", "ListNotifications",
        },
    }  # fmt: skip


async def happened(scene: Scene) -> list[tuple[int, str]]:
    """What changed in the account; the library names no row of many, so such calls leave word that nothing changed."""
    return [each for each in await scene.changes() if each[1] != "unchanged"]


async def agree(scene: Scene, folder: Path, method: str, request: Any, without: tuple[str, ...] = ()) -> None:
    """Every door gives the same answer; a change happens once."""
    async with doors(scene.account, folder, *fitting(method)) as opened:
        if method in CHANGING:  # what comes next is a repetition by every door, gRPC too
            await rest(opened, await opened.by_grpc(method, request))
        before = await happened(scene)
        told, found = await compare(opened, method, request, without)
        assert told
        assert not isinstance(told, Refused), told
        assert before == await happened(scene)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("method", sorted(RPCS))
async def test_answers(place: tuple[Account, Peer], calm: Scene, busy: Scene, tmp_path: Path, method: str) -> None:
    """Every door gives the same answer; a change under one request_id happens once, whichever door repeats it."""
    changing = busy if method in CHANGING else calm
    scene = await scene_of(named(place[0], method), place[1]) if method in ENDING else changing
    await agree(scene, tmp_path, method, scene.asked(method))


@pytest.mark.parametrize("long", LONG, ids=lambda each: each.method)
async def test_long_requests(calm: Scene, busy: Scene, tmp_path: Path, long: Case) -> None:
    """Whatever a request says, every door says it: a repetition in which one field differs would be refused."""
    scene = busy if long.method in CHANGING else calm
    request = changed(scene.asked(long.method), long.changes(scene))
    if long.method in CHANGING:
        request.request_id = f"long-{LONG.index(long)}"
    await agree(scene, tmp_path, long.method, request, long.without)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_refusals(calm: Scene, tmp_path: Path, case: Case) -> None:
    """Every door refuses the same request for the same reason, with the same facts and fields."""
    request = changed(calm.asked(case.method), case.changes(calm))
    async with doors(calm.account, tmp_path, *fitting(case.method)) as opened:
        told, found = await compare(opened, case.method, request, case.without)
    assert case.reason == (told if isinstance(told, Refused) else TABLE[case.method].mcp.gives(told)).reason
    assert not found, "\n".join(found)


async def test_a_stranger_finds_nothing(place: tuple[Account, Peer], calm: Scene, tmp_path: Path) -> None:
    """What belongs to one account is not there for another, through every door alike."""
    found: list[str] = []
    stranger = named(place[0], "stranger")
    async with doors(stranger, tmp_path, *AGENT) as agent, doors(stranger, tmp_path, *OVERSEER) as overseer:
        for method, reason in FOREIGN.items():
            opened = overseer if NEEDED[method] == "oversight" else agent
            told, wrong = await compare(opened, method, calm.asked(method))
            said = told if isinstance(told, Refused) else TABLE[method].mcp.gives(told)
            found += [f"{method}: {each}" for each in wrong] + ([] if reason == said.reason else [f"{method}: {said}"])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scope", sorted({*AGENT, *OVERSEER}))
async def test_scopes(calm: Scene, tmp_path: Path, scope: str) -> None:
    """A key without the scope of a call is refused by every door, and told which it lacks."""
    needing = [method for method, needed in NEEDED.items() if needed == scope]
    found: list[str] = []
    async with doors(calm.account, tmp_path, "send" if scope == "read" else "read") as opened:
        for method in needing:
            told, wrong = await compare(opened, method, calm.asked(method))
            assert (told.reason, told.metadata["scope"]) == ("SCOPE_MISSING", scope)
            found += [f"{method}: {each}" for each in wrong]
    assert not found, "\n".join(found)
