"""The composition root: builds everything, starts it in order, stops it in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from ulid import ULID

from multimail.v1 import contact_service_pb2_grpc, mail_service_pb2_grpc
from multimail_server.accounts.store import KeyStore
from multimail_server.aip.paging import KEY_BYTES, PageTokens
from multimail_server.contacts.erasure import Erasures
from multimail_server.contacts.interactions import Interactions
from multimail_server.contacts.searches import Searches
from multimail_server.contacts.servicer import ContactServicer
from multimail_server.contacts.store import PROJECTION as CONTACT_PROJECTION
from multimail_server.contacts.store import ContactStore
from multimail_server.errors import DomainError
from multimail_server.gateway.gateway import Gateway, private_target
from multimail_server.jobs import Jobs
from multimail_server.mail.bounds import Bounds
from multimail_server.mail.carriers import Carriers
from multimail_server.mail.inbound import Inbound
from multimail_server.mail.listener import Listener
from multimail_server.mail.mailboxes import MailboxStore
from multimail_server.mail.outbox import Outbox
from multimail_server.mail.servicer import MailServicer
from multimail_server.mail.store import MailStore
from multimail_server.mail.suppressions import SuppressionStore
from multimail_server.mail.tags import KEY_BYTES as TAG_KEY_BYTES
from multimail_server.mail.tags import Tags
from multimail_server.mail.views import WITHOUT_CONTENT, MailViews
from multimail_server.notifications.feed import Feed
from multimail_server.notifications.store import NotificationStore
from multimail_server.rpc.admission import Admission
from multimail_server.rpc.auth import Auth
from multimail_server.rpc.boundary import Boundary
from multimail_server.rpc.health import Health
from multimail_server.rpc.reflection import add_reflection
from multimail_server.storage.commit import Committer
from multimail_server.storage.embedded import AlreadyRunningError, DataLock, EmbeddedEngine, find_binary
from multimail_server.storage.files import Files
from multimail_server.storage.mongo import DuplicateKeyError, WriteRefusedError, connect
from multimail_server.storage.processes import Process
from multimail_server.storage.reads import Reader
from multimail_server.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

    from multimail_server.gateway.door import Door
    from multimail_server.settings import Settings
    from multimail_server.storage.mongo import Database

log = logging.getLogger("multimail")

T = TypeVar("T")

SERVICES = ("multimail.v1.ContactService", "multimail.v1.MailService")
_MAX_MESSAGE_BYTES = 16 << 20
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients of ours ping every 15 s
    # A client that went without a word, and with it its streams, is noticed too.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]
_DRAIN_S = 4.0
_HAND_BACK_S = 2.0


class _Ids:
    """Makes ids that sort by when they were made, also within a millisecond."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, prefix: str) -> str:
        """A new id, `<prefix>_<ULID>`."""
        made = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
        self._last = max(self._last + 1, made)
        return f"{prefix}_{ULID.from_int(self._last)}"


new_id = _Ids()


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs, and where.

    Attributes:
        private_target: Where its gRPC is reached by this process's own doors.
        door: Its HTTP port.
    """

    grpc_port: int
    smtp_port: int
    private_target: str
    door: Door
    mongodb_uri: str
    database: Database
    keys: KeyStore
    committer: Committer

    @property
    def http_port(self) -> int:
        """The HTTP port."""
        return self.door.port


class Startable(ABC, Generic[T]):
    """Something of many parts; use as an async context manager. It stops in the reverse order of its start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()

    @abstractmethod
    async def _start(self) -> T:
        """Starts every part, noting on the stack how it stops."""

    async def __aenter__(self) -> T:
        """Starts everything; what was started is stopped again when a later part fails."""
        try:
            return await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Stops everything."""
        await self._stack.aclose()


class Service(Startable[Running]):
    """One process of the service.

    Args:
        settings: How it runs.
        listeners: `pymongo.monitoring` listeners, for counting commands.
    """

    def __init__(self, settings: Settings, *, listeners: Sequence[Any] = ()) -> None:
        super().__init__(settings)
        self._listeners = listeners

    async def _start(self) -> Running:
        settings, later = self._settings, self._stack.push_async_callback
        uri = await self._stack.enter_async_context(engine_of(settings))
        database = connect(uri, settings.database, driver=settings.mongo_driver, listeners=self._listeners)
        later(database.close)
        parts = _Parts(settings, database)

        server = grpc.aio.server(interceptors=[parts.boundary], options=[*_SERVER_OPTIONS, *_port_options(settings)])
        checks = Health(SERVICES)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        add_reflection((*SERVICES, health.SERVICE_NAME), server)
        contact_service_pb2_grpc.add_ContactServiceServicer_to_server(parts.contact_servicer, server)
        mail_service_pb2_grpc.add_MailServiceServicer_to_server(parts.mail_servicer, server)
        private = self._stack.enter_context(private_target())
        server.add_insecure_port(private)
        gateway = Gateway(settings, private, parts.boundary.auth.caller, parts.inbound, new_id)
        gateway.door.reserve()
        self._stack.callback(gateway.door.release)
        later(server.stop, 1.0)
        if settings.workers == 1:
            # The server is there before the engine answers: health says so, calls are refused until the boundary opens.
            port = await _listen(server, settings)

        await _until_answering(database)
        await database.check()
        await database.prepare()
        parts.tokens.unlock(await _secret(database, "page_tokens", KEY_BYTES))
        parts.tags.unlock(await _secret(database, "tags", TAG_KEY_BYTES))
        await parts.process.start()
        later(parts.process.stop)
        later(parts.committer.settle, _HAND_BACK_S)
        parts.carriers.local_port = await parts.listener.start(
            settings.smtp_host, settings.smtp_port, shared=settings.workers > 1
        )
        later(parts.listener.stop)
        later(parts.carriers.close)
        parts.outbox.start()
        later(parts.outbox.stop, _HAND_BACK_S)
        for worker in (parts.feed_look, parts.jobs, parts.waited, parts.trimming):
            worker.start()
            later(worker.stop)
        watch = Worker("health", lambda: _watch(database, checks), interval_s=1.0)
        parts.boundary.open()
        later(gateway.close)
        later(parts.boundary.drain, _DRAIN_S)
        watch.start()
        later(checks.say, serves=False)
        later(watch.stop)
        await checks.say(serves=True)
        if settings.workers > 1:
            # Only now: the other workers serve what would come here before.
            port = await _listen(server, settings)
        await gateway.open()
        self._stack.callback(gateway.door.leave)
        return Running(
            port, parts.carriers.local_port, private, gateway.door, uri, database, parts.keys, parts.committer
        )


@asynccontextmanager
async def engine_of(settings: Settings) -> AsyncIterator[str]:
    """The URI of the engine: the one that was set, else our own, started, watched and stopped in the end."""
    configured = settings.mongodb_uri.get_secret_value()
    if configured:
        yield configured
        return
    data = settings.data
    lock = DataLock(data)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except AlreadyRunningError as error:
        raise SystemExit(f"multimail-server: {error}") from None
    except OSError as error:
        raise SystemExit(
            f"multimail-server: the data folder {data} cannot be used ({error.strerror}); "
            "choose another with MULTIMAIL_DATA."
        ) from None
    try:
        engine = EmbeddedEngine(data, find_binary(settings.engine))
        try:
            yield await engine.start()
        finally:
            await engine.stop()
    finally:
        lock.release()


class _Parts:
    """Every part of one process, built and wired, not yet started."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.keys = KeyStore(database, new_id=new_id, randomness=os.urandom, clock=time.monotonic)
        admission = Admission(
            max_concurrent=settings.max_concurrent, rate_per_s=settings.rate_per_s, clock=time.monotonic
        )
        self.boundary = Boundary(Auth(self.keys.find), admission, settings.deadline_s, new_id)
        self.tokens = PageTokens(os.urandom)
        self.process = Process(database, new_id=new_id, on_death=self._take_over)
        notifications = NotificationStore(database)
        feed = Feed(database, notifications)
        self.feed_look = Worker("feed", feed.look, interval_s=0.5)
        self.committer = Committer(
            database, self.process, new_id=new_id, jitter=random.random, committed=feed.committed
        )
        reader = Reader(database, {"contacts": CONTACT_PROJECTION, "emails": WITHOUT_CONTENT})
        mailboxes = MailboxStore(database, reader, self.committer)
        files = Files(database)
        bounds = Bounds(
            open_for=timedelta(days=settings.thread_open_days),
            approval_ttl=timedelta(hours=settings.approval_ttl_h),
            thread_per_hour=settings.thread_sends_per_hour,
            pair_per_hour=settings.pair_sends_per_hour,
        )
        views = MailViews(database, reader, files)
        mail = MailStore(
            database,
            views,
            self.committer,
            files=files,
            bounds=bounds,
            trusted=settings.trusted_servers,
            new_id=new_id,
        )
        suppressions = SuppressionStore(database, self.committer)
        self.tags = Tags(os.urandom(TAG_KEY_BYTES))
        self.inbound = Inbound(mailboxes, mail, self.tags)
        self.listener = Listener(accepts=self.inbound.accepts, take_in=self.inbound.take_in, hostname=settings.hostname)
        self.carriers = Carriers(settings, mailboxes)
        self.outbox = Outbox(
            database,
            self.committer,
            carrier_for=self.carriers.carrier_for,
            files=files,
            suppressions=suppressions,
            bounds=bounds,
            tags=self.tags,
            unsubscribe_links=settings.unsubscribe_links,
            verp=settings.verp,
            process_id=self.process.id,
            new_id=new_id,
            jitter=random.random,
        )
        contacts = ContactStore(database, reader, self.committer)
        jobs = Jobs(database, self.committer, files, bounds)
        self.jobs = Worker("jobs", jobs.step, interval_s=1.0)
        self.waited = Worker("waiting", jobs.come_due, interval_s=1.0)
        self.trimming = Worker("trimming", notifications.trim, interval_s=600.0)
        interactions = Interactions(database, reader)
        self.contact_servicer = ContactServicer(
            contacts=contacts,
            searches=Searches(database),
            erasures=Erasures(self.committer),
            interactions=interactions,
            views=views,
            suppressions=suppressions,
            feed=feed,
            tokens=self.tokens,
            bounds=bounds,
        )
        self.mail_servicer = MailServicer(
            mailboxes=mailboxes,
            mail=mail,
            views=views,
            suppressions=suppressions,
            contacts=contacts,
            interactions=interactions,
            notifications=notifications,
            feed=feed,
            outbox=self.outbox,
            tokens=self.tokens,
            tags=self.tags,
            bounds=bounds,
        )

    async def _take_over(self, dead: str) -> None:
        await self.outbox.reclaim(dead)


def _port_options(settings: Settings) -> list[tuple[str, int]]:
    """Whether the port is shared: a second service there must fail, workers share it and pass connections on."""
    if settings.workers == 1:
        return [("grpc.so_reuseport", 0)]
    return [("grpc.so_reuseport", 1), ("grpc.max_connection_age_ms", round(settings.connection_age_s * 1000))]


async def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    """Starts the server on its port, and returns that."""
    port = _bind(server, settings)
    await server.start()
    return port


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    """Takes the gRPC port, or ends with a message that says who may have it."""
    address = f"{settings.host}:{settings.port}"
    try:
        if settings.tls_cert is None or settings.tls_key is None:
            return int(server.add_insecure_port(address))
        credentials = grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())])
        return int(server.add_secure_port(address, credentials))
    except RuntimeError:
        raise SystemExit(
            f"multimail-server: the port {address} is taken, perhaps by another service that runs. "
            "Stop it first, or choose another port with MULTIMAIL_PORT."
        ) from None


async def _until_answering(database: Database) -> None:
    """Waits for the engine, saying so."""
    while True:
        try:
            await database.now()
        except DomainError:
            log.warning("waiting for the database to answer")
            await asyncio.sleep(1)
        except WriteRefusedError as error:
            raise SystemExit(f"multimail-server: the database refuses us, see MONGODB_URI: {error}") from None
        else:
            return


async def _secret(database: Database, name: str, size: int) -> bytes:
    """A key that is the same for every process; made by the first."""
    row = {"_id": name, "key": os.urandom(size)}
    try:
        await database.insert_one("secrets", row)
    except DuplicateKeyError:
        row = (await database.find("secrets", {"_id": name}))[0]
    return bytes(row["key"])  # type: ignore[arg-type]


async def _watch(database: Database, checks: Health) -> bool:
    """Keeps health true to whether the engine answers."""
    try:
        await database.now()
    except DomainError:
        await checks.say(serves=False)
    else:
        await checks.say(serves=True)
    return False
