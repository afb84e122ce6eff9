"""What each command of `multimail-server` does, and what it prints."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from multimail_server.accounts.store import KeyStore
from multimail_server.app import Service, new_id
from multimail_server.fsck import check_accounts
from multimail_server.storage.embedded import find_binary, find_running
from multimail_server.storage.mongo import connect
from multimail_server.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from multimail_server.app import Running
    from multimail_server.settings import Settings
    from multimail_server.storage.mongo import Database
    from multimail_server.supervisor import Supervised

_FIRST_KEY_SCOPES = ("read", "write", "send", "admin")
_MANY_CONTACTS = 20_000


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's loop where it is installed, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  an optional speed-up
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def start_logging(settings: Settings, who: str = "") -> None:
    """Logs to stderr; `who` tells the processes of one service apart."""
    speaker = f"[{who}] " if who else ""
    logging.basicConfig(
        level=settings.log_level, format=f"%(asctime)s %(levelname)s {speaker}%(name)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's, which names addresses
    logging.getLogger("mcp").setLevel(logging.WARNING)  # a line for each request, which has one of ours
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # faults are told by us, noise by nobody


def spare_collecting() -> None:
    """Has Python look for unreachable cycles more rarely, and never among what lasts as long as the process.

    Calls leave hardly any; looking for them after each 700 new objects took a quarter of a batch's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def serve(settings: Settings, *, as_json: bool = False) -> int:
    """Runs the service, in one process or in several, until it is asked to stop.

    Args:
        settings: How it runs.
        as_json: Say where everything is first in one line of JSON, for a program that waits for it.
    """
    alone = settings.workers == 1
    start_logging(settings, "" if alone else "supervisor")
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    stop = asyncio.Event()
    started = False

    def asked() -> None:
        stop.set()
        if not started and running is not None:
            running.cancel()  # nothing to finish yet: what was started is stopped again

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        async with Service(settings) if alone else Supervisor(settings) as service:
            started = True
            spare_collecting()
            key = await first_key(settings, service.keys)
            place = _place(settings, service)
            if as_json:
                _say(json.dumps(place | {"api_key": key}))
            else:
                _greet(settings, place, key)
            await stop.wait()
            _say("Stopping …")
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    _say("Stopped.")
    return 0


async def first_key(settings: Settings, keys: KeyStore) -> str:
    """The ready key: made once and kept in a file that only its owner can read; the database holds its hash."""
    path = settings.data / "api-key"
    if path.exists():
        key = path.read_text().strip()
        if await keys.is_known(key):
            return key
    key, _ = await keys.create("main", "first-key", _FIRST_KEY_SCOPES)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key + "\n")
    draft.replace(path)
    return key


def _place(settings: Settings, running: Running | Supervised) -> dict[str, str]:
    """Where everything is."""
    scheme = "http" if settings.tls_cert is None else "https"
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    return {
        "grpc": f"{settings.host}:{running.grpc_port}",
        "http": f"{scheme}://{host}:{running.http_port}",
        "smtp": f"{settings.smtp_host}:{running.smtp_port}",
        "outbox": str(settings.outbox_folder.resolve()),
    }


def _greet(settings: Settings, place: dict[str, str], key: str) -> None:
    """Says where everything is, and gives a first call to paste."""
    grpcurl = Path(sys.executable).parent / "grpcurl"
    engine = "your MongoDB (MONGODB_URI)"
    if not settings.mongodb_uri.get_secret_value():
        engine = f"embedded, files in {settings.data.resolve()}; for trials and up to some {_MANY_CONTACTS:,} contacts"
    relay = f"the relay {settings.smtp_url}"
    if not settings.smtp_url.get_secret_value():
        relay = f"no relay set: mail for others is written to {place['outbox']}"
    target, web = place["grpc"], place["http"]
    transport = "-plaintext" if settings.tls_cert is None else ""
    _say(
        f"""
Multimail is running. Ctrl-C stops it.

  gRPC      {target}
  HTTP      {web}
  MCP       {f"{web}/mcp" if find_spec("mcp") else "not installed; it comes with: pip install 'multimail[mcp]'"}
  SMTP      {place["smtp"]} (incoming mail for your mailboxes)
  Outgoing  {relay}
  Engine    {engine}
  API key   {key}
            (account main; scopes {", ".join(_FIRST_KEY_SCOPES)}; kept in {(settings.data / "api-key").resolve()})

Try it:

  {grpcurl if grpcurl.exists() else "grpcurl"} {transport} -H 'authorization: Bearer {key}' \\
    -d '{{"email": "elena@acmecorp.com", "name": "Elena Ruiz", "metadata": {{"plan": "pro"}}}}' \\
    {target} multimail.v1.ContactService/UpsertContact

  curl {web}/contacts -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{"email": "elena@acmecorp.com", "name": "Elena Ruiz", "metadata": {{"plan": "pro"}}, "upsert": true}}'
"""
    )
    for warning in settings.warnings:
        _say(f"WARNING: {warning}\n")


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    """The database of a service that runs, or the one that was set."""
    uri = settings.mongodb_uri.get_secret_value() or find_running(settings.data)
    if not uri:
        raise SystemExit(
            f"multimail-server: no service runs on the data folder {settings.data}. Start one with: make run, "
            "or set MONGODB_URI or MULTIMAIL_DATA as it is set for the service."
        )
    database = connect(uri, settings.database, driver=settings.mongo_driver)
    try:
        yield database
    finally:
        await database.close()


def _key_store(database: Database) -> KeyStore:
    return KeyStore(database, new_id=new_id, randomness=os.urandom, clock=asyncio.get_running_loop().time)


async def create_key(settings: Settings, account: str, agent: str, scopes: str) -> int:
    """Makes a key and prints it."""
    async with _database(settings) as database:
        await database.prepare()
        key, row = await _key_store(database).create(account, agent, scopes.split(","))
    _say(f"{key}\n\nThis is {row['_id']} of account {account}, agent {agent}, scopes {', '.join(row['scopes'])}.")
    _say("It is stored nowhere: keep it now. Revoke it with: multimail-server keys revoke " + row["_id"])
    return 0


async def list_keys(settings: Settings, account: str) -> int:
    """Prints one line per key."""
    async with _database(settings) as database:
        rows = await _key_store(database).list(account)
    for row in rows:
        state = f"revoked {row['revoke_time']:%Y-%m-%d %H:%M}" if row["revoke_time"] else "active"
        used = f"{row['last_used_at']:%Y-%m-%d %H:%M}" if row["last_used_at"] else "never"
        _say(
            f"{row['_id']}  …{row['hint']}  {row['account']}/{row['agent']}  {','.join(row['scopes'])}  {state}  "
            f"used {used}"
        )
    _say(f"{len(rows)} keys")
    return 0


async def revoke_key(settings: Settings, key_id: str) -> int:
    """Revokes a key."""
    async with _database(settings) as database:
        if not await _key_store(database).revoke(key_id):
            _say(f"There is no key {key_id}; see: multimail-server keys list")
            return 1
    _say(f"{key_id} is revoked; it stops working within five seconds.")
    return 0


async def doctor(settings: Settings) -> int:
    """Checks the set-up and says what to do."""
    if not settings.mongodb_uri.get_secret_value():
        _say(f"engine    {find_binary(settings.engine)}")
    async with _database(settings) as database:
        await database.check()
        counts = {name: await database.count(name) for name in ("accounts", "contacts", "emails", "mailboxes")}
    _say("database  answers, and has transactions")
    _say("holds     " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for warning in settings.warnings:
        _say(f"WARNING   {warning}")
    if counts["contacts"] > _MANY_CONTACTS and not settings.mongodb_uri.get_secret_value():
        _say("WARNING   the embedded engine is outgrown: set MONGODB_URI to a MongoDB replica set")
    return 0


async def fsck(settings: Settings) -> int:
    """Checks every account and prints what does not fit."""
    async with _database(settings) as database:
        report = await check_accounts(database, progress=_progress)
    for problem in report.problems:
        _say(f"WRONG     {problem}")
    _say(
        f"{report.accounts} accounts, {report.contacts:,} contacts, {report.emails:,} mails, "
        f"{report.notifications:,} notifications checked: {len(report.problems)} problems"
    )
    return 1 if report.problems else 0


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
