"""How calls travel: target, transport, key, deadlines, and which failures are tried again."""

from __future__ import annotations

import os
import random
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

from multimail._channel import OWN_OPTIONS, POLICY
from multimail.errors import CancelledError, InvalidArgumentError, MultimailError, UnauthenticatedError, error_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

T = TypeVar("T")

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = POLICY.timeout_s
# What the service sends at once with every stream it accepts, long before there may be anything to tell.
_ACCEPTED = "x-request-id"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One logical call.

    Attributes:
        service: `ContactService` or `MailService`.
        method: The RPC's name.
        request: Its request.
        convert: Turns the reply, or each one of a stream, into what the caller gets.
    """

    service: str
    method: str
    request: Message
    convert: Callable[[Any], T]


def minted(request_id: str | None) -> str:
    """The caller's request id, else a new one: every attempt of a logical call carries the same."""
    return request_id or str(uuid.uuid4())


def closed(request: Message) -> CancelledError:
    """The error of a request to a client that was closed."""
    return CancelledError(
        "The client is closed.", reason="CLOSED", hint="Make a new one.", request_id=request_id_of(request)
    )


def request_id_of(request: Message) -> str:
    """What makes a request repeatable; empty for reads."""
    return getattr(request, "request_id", "")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the service is and how to speak to it.

    Attributes:
        target: `host:port`, or `unix:` and a socket's path.
        api_key: The key.
        timeout: Seconds for a whole logical call.
        tls: Whether the connection is encrypted.
        ca: The certificates in PEM that are trusted to vouch for the service; None for those of the system.
    """

    target: str
    api_key: str
    timeout: float
    tls: bool
    ca: bytes | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.api_key}"),)

    def with_key(self, api_key: str) -> Endpoint:
        """The same with another key."""
        _check_key(api_key)
        return replace(self, api_key=api_key)

    @property
    def unreached(self) -> str:
        """What to do when nobody answers."""
        if self.tls:
            return (
                f"Is the service running at {self.target}, with a certificate that is trusted here? "
                "Give its own, or that of its authority, with ca= or MULTIMAIL_TLS_CA."
            )
        return f"Is the service running at {self.target}? Start it with: make run."

    def channel(self) -> grpc.Channel:
        """A synchronous channel; it connects with its first call."""
        if self.tls:
            return grpc.secure_channel(self.target, grpc.ssl_channel_credentials(self.ca), options=OWN_OPTIONS)
        return grpc.insecure_channel(self.target, options=OWN_OPTIONS)

    def aio_channel(self) -> grpc.aio.Channel:
        """The same for asyncio."""
        if self.tls:
            return grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(self.ca), options=OWN_OPTIONS)
        return grpc.aio.insecure_channel(self.target, options=OWN_OPTIONS)


def endpoint(
    api_key: str | None, target: str | None, timeout: float, *, tls: bool | None, ca: str | Path | bytes | None
) -> Endpoint:
    """The endpoint of these arguments, MULTIMAIL_API_KEY, MULTIMAIL_TARGET and MULTIMAIL_TLS_CA.

    Plaintext is used by itself only towards this machine: elsewhere the key would travel in the clear.
    """
    key = api_key or os.environ.get("MULTIMAIL_API_KEY", "")
    where = target or os.environ.get("MULTIMAIL_TARGET", "") or DEFAULT_TARGET
    if not key:
        raise UnauthenticatedError(
            "No API key.",
            reason="KEY_MISSING",
            hint="Give one with api_key= or MULTIMAIL_API_KEY; `make run` prints one, `multimail-server keys create` "
            "makes more.",
        )
    _check_key(key)
    host = where.rpartition(":")[0].strip("[]") or where
    local = host in {"localhost", "::1"} or host.startswith("127.") or where.startswith("unix:")
    trusted = _certificates(ca or os.environ.get("MULTIMAIL_TLS_CA") or None)
    return Endpoint(where, key, timeout, trusted is not None or not local if tls is None else tls, trusted)


def _check_key(key: str) -> None:
    if not key.isascii() or not key.isprintable():
        raise UnauthenticatedError("The API key holds characters no key has.", reason="KEY_INVALID")


def _certificates(given: str | Path | bytes | None) -> bytes | None:
    """The certificates in PEM of a file, or as given."""
    if given is None or isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"ca: the file {given} cannot be read ({error.strerror}).", reason="INVALID_FIELD"
        ) from None


class Attempts:
    """The attempts of one logical call: how long each may take, and whether and when there is another.

    Args:
        where: The endpoint, and how many seconds all of them may take together.
        request: What is asked.
        clock: Seconds that only grow.
    """

    def __init__(self, where: Endpoint, request: Message, clock: Callable[[], float]) -> None:
        self._where = where
        self._request_id = request_id_of(request)
        self._clock = clock
        self._ends = clock() + where.timeout
        self._number = 1

    @property
    def left(self) -> float:
        """Seconds left for the whole call."""
        return max(self._ends - self._clock(), 0.001)

    def after(self, error: grpc.RpcError) -> float:
        """Seconds to wait before trying again; raises our own error when there is no other try.

        Only what the service says it has not done (UNAVAILABLE), or asks to be sent later, is tried again; a change
        carries the same request_id each time, so it happens once all the same.
        """
        failure = _failure(error, self._where, self._request_id)
        code = error.code()
        again = code.name in POLICY.codes and (
            code is not grpc.StatusCode.RESOURCE_EXHAUSTED or failure.retry_after is not None
        )
        pause = failure.retry_after or _pause(self._number, POLICY.multiplier)
        if not again or self._number >= POLICY.max_attempts or pause >= self.left:
            raise failure from None
        self._number += 1
        return pause


class Reconnects:
    """When a stream that broke is taken up again, and when the service has been away for too long.

    Args:
        where: The endpoint.
        patience: Seconds for which a service that cannot be reached is waited for.
        clock: Seconds that only grow.
    """

    def __init__(self, where: Endpoint, patience: float, clock: Callable[[], float]) -> None:
        self._where = where
        self._patience = patience
        self._clock = clock
        self._number = 0
        self._since: float | None = None  # since when every try failed

    def opened(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """A stream was opened; its initial metadata tells whether the service accepted it."""
        if any(key == _ACCEPTED for key, _ in metadata or ()):
            self.heard()

    def heard(self) -> None:
        """The service answered: it is there."""
        self._since = None

    def after(self, error: grpc.RpcError | None) -> float:
        """Seconds to wait before the next try; raises our own error when there is none.

        Args:
            error: What ended the stream; None when the service just ended it.
        """
        now = self._clock()
        if self._since is None:
            self._since, self._number = now, 0
        self._number += 1
        pause = _pause(min(self._number, 10), 2)
        if error is None:
            return pause
        failure = _failure(error, self._where)
        # CANCELLED is how some servers and proxies end streams; what the caller cancels never comes here.
        # INTERNAL, where it is not the service's word, is what grpc's asyncio client makes of a stream that
        # ends while it is written to.
        broken = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or (
            error.code() is grpc.StatusCode.INTERNAL and not failure.log_id
        )
        if not broken and (error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or failure.retry_after is None):
            raise failure from None
        pause = max(pause, failure.retry_after or 0)
        if now + pause - self._since > self._patience:
            raise failure from None
        return pause


def _pause(number: int, multiplier: float) -> float:
    """Seconds before the next try, somewhere up to a bound that grows with each."""
    longest = min(POLICY.first_pause_s * multiplier**number, POLICY.longest_pause_s)
    return random.uniform(POLICY.first_pause_s, longest)  # noqa: S311  spreads load, no secret


def _failure(error: Any, where: Endpoint, request_id: str = "") -> MultimailError:
    return error_from(error.code(), error.details() or "", error.trailing_metadata() or (), where.unreached, request_id)
