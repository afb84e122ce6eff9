"""The one settings object: read from the environment, checked before anything starts."""

from __future__ import annotations

import difflib
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_CLIENT_VARIABLES = frozenset({f"MULTIMAIL_{name}" for name in ("API_KEY", "TARGET", "TLS_CA", "PROFILE", "CONFIG")})
_PREFIX = "MULTIMAIL_"
_PUBLIC = re.compile(r"https://[A-Za-z0-9._~:/%\[\]-]{1,400}")
_ORIGIN = re.compile(r"\*|https?://[^\s/,*]+")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _own_hostname() -> str:
    """This host's name, in characters that SMTP takes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.") or "localhost"


def _is_public(url: str) -> bool:
    """Whether others can reach something by this URL."""
    try:
        return _PUBLIC.fullmatch(url) is not None and bool(urlsplit(url).hostname)
    except ValueError:
        return False


class Settings(BaseSettings):
    """How one process of the service runs; every field is an environment variable, `MULTIMAIL_` before its name.

    Attributes:
        mongodb_uri: `MONGODB_URI`; a MongoDB replica set. Empty: the embedded engine.
        database: The database's name.
        mongo_driver: `motor` or `pymongo`.
        engine: The embedded engine's binary; empty to look for one.
        data: The folder of the embedded engine's files, the first key and the outbox.
        host: Where gRPC listens.
        port: The gRPC port; 0 lets the system choose.
        http_host: Where HTTP listens.
        http_port: The HTTP port; 0 lets the system choose.
        public_url: Where the HTTP port is reached from outside, `https://…`: what links in mail begin with. Empty: mail
            has none.
        cors_origins: Pages in browsers that may call it, `https://app.example.com`, separated by commas; `*` for all.
        workers: How many processes serve on these ports; above 1 another one supervises them.
        connection_age_s: With several workers: seconds after which a connection is asked to move, so that clients
            spread over workers, and a worker that is restarted need not cut them.
        smtp_host: Where SMTP listens.
        smtp_port: The SMTP port; 0 lets the system choose.
        smtp_url: The relay for outgoing mail, `smtp://user:password@host:587`. Empty: mail for mailboxes here goes
            to our own listener, all other mail to the outbox folder.
        outbox: That folder; `<data>/outbox` unless given.
        hostname: What we call ourselves in SMTP.
        smtp_connections: How many connections to one mail server each worker may have at once.
        verp: Whether each mail's envelope sender tells which mail and recipient it was, so that every report about its
            delivery finds it. The relay must accept, and the domain deliver, `box+anything@domain`.
        authserv_ids: Names of the mail servers before ours whose Authentication-Results are believed, separated by
            commas.
        approval_ttl_h: Hours that held mail waits for a person, where its mailbox does not say.
        thread_open_days: Days that a thread counts as open after its newest mail.
        thread_sends_per_hour: Mails of ours in one thread within an hour; more look like a loop of agents.
        pair_sends_per_hour: Mails from one mailbox to one person within an hour.
        log_level: DEBUG, INFO, WARNING or ERROR.
        deadline_s: Deadline of a call that brings none, in seconds.
        max_concurrent: Reads, and changes, under way at once in each worker.
        rate_per_s: Calls a second per key in each worker; 0 for no bound.
        tls_cert: PEM file of the certificate chain that gRPC and HTTP show.
        tls_key: PEM file of its key.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    mongodb_uri: SecretStr = Field(SecretStr(""), validation_alias=AliasChoices("mongodb_uri", "MONGODB_URI"))
    database: str = Field("multimail", pattern=r"^[A-Za-z0-9_-]{1,38}$")
    mongo_driver: Literal["motor", "pymongo"] = "motor"
    engine: str = ""
    data: Path = Path("data")
    host: str = "127.0.0.1"
    port: int = Field(50051, ge=0, le=65535)
    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=0, le=65535)
    public_url: str = ""
    cors_origins: str = ""
    workers: int = Field(1, ge=1, le=64)
    connection_age_s: float = Field(30.0, ge=0.5, le=3600)
    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(2525, ge=0, le=65535)
    smtp_url: SecretStr = SecretStr("")
    outbox: Path | None = None
    hostname: str = Field(default_factory=_own_hostname, pattern=r"^[A-Za-z0-9.-]{1,253}$")
    smtp_connections: int = Field(8, ge=1, le=100)
    verp: bool = False
    authserv_ids: str = ""
    approval_ttl_h: float = Field(24.0, gt=0, le=720)
    thread_open_days: float = Field(14.0, gt=0, le=365)
    thread_sends_per_hour: int = Field(30, ge=1, le=1000)
    pair_sends_per_hour: int = Field(60, ge=1, le=1000)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    deadline_s: float = Field(30.0, gt=0, le=600)
    max_concurrent: int = Field(1024, ge=1)
    rate_per_s: float = Field(0.0, ge=0)
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("MULTIMAIL_TLS_CERT and MULTIMAIL_TLS_KEY go together: set both or neither")
        uri, relay = self.mongodb_uri.get_secret_value(), self.smtp_url.get_secret_value()
        if uri and not uri.startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("MONGODB_URI must begin with mongodb:// or mongodb+srv://")
        if relay and not _is_relay(relay):
            raise ValueError("MULTIMAIL_SMTP_URL must look like smtp://user:password@host:587")
        if self.public_url and not _is_public(self.public_url):
            raise ValueError("MULTIMAIL_PUBLIC_URL must look like https://mail.example.com")
        if not all(_ORIGIN.fullmatch(each) for each in self.allowed_origins):
            raise ValueError("MULTIMAIL_CORS_ORIGINS must list origins such as https://app.example.com, or be *")
        if self.workers > 1 and sys.platform != "linux":
            raise ValueError("MULTIMAIL_WORKERS above 1 needs Linux, which spreads connections; leave it at 1 here")
        return self

    @property
    def outbox_folder(self) -> Path:
        """Where mail goes that has no relay."""
        return self.outbox or self.data / "outbox"

    @property
    def allowed_origins(self) -> list[str]:
        """The pages in browsers that may call the HTTP port."""
        return [each.strip() for each in self.cors_origins.split(",") if each.strip()]

    @property
    def allowed_hosts(self) -> list[str]:
        """The names by which pages in browsers may reach the HTTP port, besides those of this machine; `*` for all."""
        if self.http_host not in _LOOPBACK:
            return ["*"]
        public = urlsplit(self.public_url).hostname
        return [public] if public else []

    @property
    def unsubscribe_links(self) -> str:
        """What links for unsubscribing begin with; empty when mail has none."""
        return f"{self.public_url.rstrip('/')}/u/" if self.public_url else ""

    @property
    def trusted_servers(self) -> frozenset[str]:
        """The mail servers whose Authentication-Results are believed."""
        return frozenset(each.strip().lower() for each in self.authserv_ids.split(",") if each.strip())

    @property
    def warnings(self) -> list[str]:
        """What works, but somebody should know."""
        if self.tls_cert is not None:
            return []
        return [
            f"{door} listens on {host} without TLS: keys travel in the clear. Set MULTIMAIL_TLS_CERT and _KEY."
            for door, host in (("gRPC", self.host), ("HTTP", self.http_host))
            if host not in _LOOPBACK
        ]


def _is_relay(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def from_environment(**given: Any) -> Settings:
    """The settings of this process; ends it with a message that says what to do when they do not fit.

    Args:
        given: What the command line says; it goes before the environment.
    """
    known = {_PREFIX + name.upper() for name in Settings.model_fields} | _CLIENT_VARIABLES
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(sorted(known - _CLIENT_VARIABLES))
            raise SystemExit(f"multimail-server: there is no setting {name}; {hint}")
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(_problem(each["loc"], each["msg"]) for each in error.errors())
        raise SystemExit(f"multimail-server: {problems}") from None


def environment_with(**changed: str) -> dict[str, str]:
    """This process's environment with some variables changed, for a process that it starts."""
    return os.environ | changed


def _problem(where: tuple[int | str, ...], message: str) -> str:
    words = message.removeprefix("Value error, ")
    if not where:
        return words
    name = str(where[0])
    return f"{name if name == 'MONGODB_URI' else _PREFIX + name.upper()}: {words}"
