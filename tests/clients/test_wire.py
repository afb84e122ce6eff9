"""When a call is tried again, when a stream is taken up again, and for how long: by a clock that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import multimail
from multimail._channel import POLICY
from multimail._wire import Attempts, Endpoint, Reconnects
from multimail.v1 import contact_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
ACCEPTED = (("x-request-id", "req_1"),)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Failed(grpc.RpcError):
    """A call that failed with a code, perhaps with a word on when to come back."""

    def __init__(self, code: grpc.StatusCode, retry_after_s: int = 0, log_id: str = "") -> None:
        self._code, self._retry_after_s, self._log_id = code, retry_after_s, log_id

    def code(self) -> grpc.StatusCode:
        """The code."""
        return self._code

    def details(self) -> str:
        """Some text."""
        return "failed"

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The word, where there is one."""
        if not self._retry_after_s:
            return (("x-request-id", self._log_id),) if self._log_id else ()
        status, retry = status_pb2.Status(), error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = self._retry_after_s
        status.details.add().Pack(retry)
        return (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.fixture
def clock() -> Clock:
    """The test's own."""
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    """The attempts of a change that may take 30 seconds."""
    request = contact_service_pb2.UpsertContactRequest(request_id="r-1")
    return Attempts(Endpoint("here:1", "k", 30, tls=False), request, clock)


@pytest.fixture
def reconnects(clock: Clock) -> Reconnects:
    """The reconnects of a stream that waits ten seconds for a service that cannot be reached."""
    return Reconnects(Endpoint("here:1", "k", 30, tls=False), 10, clock)


def passes(clock: Clock, after: Callable[[Any], float], error: grpc.RpcError | None) -> float:
    """Fails once, and waits as told."""
    pause = after(error)
    clock.now += pause
    return pause


def test_every_attempt_gets_what_is_left_of_the_timeout(clock: Clock, attempts: Attempts) -> None:
    """The timeout is for all attempts together, and what is left of it never gets to zero, which would mean none."""
    assert 30 == attempts.left
    clock.now += 12
    assert 18 == attempts.left
    pause = passes(clock, attempts.after, Failed(UNAVAILABLE))
    assert pytest.approx(18 - pause) == attempts.left
    clock.now += 100
    assert 0 < attempts.left < 0.01


def test_no_attempt_begins_after_the_timeout(clock: Clock, attempts: Attempts) -> None:
    """When the pause before the next attempt would outlast the timeout, the failure is told now."""
    clock.now += 29.95
    with pytest.raises(multimail.UnavailableError) as failed:
        attempts.after(Failed(UNAVAILABLE))
    assert "r-1" == failed.value.request_id


def test_attempts_are_few_and_their_pauses_short(clock: Clock, attempts: Attempts) -> None:
    """What was not done is tried a bounded number of times, with pauses that grow to two seconds at most."""
    pauses = [passes(clock, attempts.after, Failed(UNAVAILABLE)) for _ in range(POLICY.max_attempts - 1)]
    assert all(0.1 <= pause <= min(0.1 * 4 ** (n + 1), 2) for n, pause in enumerate(pauses))
    with pytest.raises(multimail.UnavailableError):
        attempts.after(Failed(UNAVAILABLE))


def test_attempts_come_back_when_they_are_told(attempts: Attempts) -> None:
    """Who is sent away for a while comes back then if the timeout allows; who is sent away for good does not."""
    assert 7 == attempts.after(Failed(EXHAUSTED, 7))
    for error in (Failed(EXHAUSTED, 31), Failed(EXHAUSTED)):
        with pytest.raises(multimail.ResourceExhaustedError):
            attempts.after(error)


@pytest.mark.parametrize("code", [UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_patience_ends_when_every_try_failed_for_so_long(
    clock: Clock, reconnects: Reconnects, code: grpc.StatusCode
) -> None:
    """A stream is taken up again with pauses of two seconds at most until the patience is over, not before or after."""
    began, pauses = clock.now, []
    with pytest.raises(multimail.MultimailError):
        while clock.now < began + 20:
            pauses.append(passes(clock, reconnects.after, Failed(code)))
    assert (True, True) == (began + 8 <= clock.now <= began + 10, all(0.1 <= pause <= 2 for pause in pauses))


@pytest.mark.parametrize("form", ["heard", "opened"])
def test_patience_begins_anew_when_the_service_was_reached(clock: Clock, reconnects: Reconnects, form: str) -> None:
    """A response, or only the word that the stream was accepted, shows that the service is there."""
    for _ in range(20):
        passes(clock, reconnects.after, Failed(UNAVAILABLE))
        clock.now += 6
        reconnects.heard() if form == "heard" else reconnects.opened(ACCEPTED)
    assert reconnects.after(Failed(UNAVAILABLE)) <= 0.2


@pytest.mark.parametrize("metadata", [None, (), (("server", "proxy"),)])
def test_what_a_proxy_says_is_no_word_of_the_service(clock: Clock, reconnects: Reconnects, metadata: Any) -> None:
    """Patience goes on running while streams are opened that the service never accepted."""
    reconnects.after(Failed(UNAVAILABLE))
    clock.now += 10
    reconnects.opened(metadata)
    with pytest.raises(multimail.UnavailableError):
        reconnects.after(Failed(UNAVAILABLE))


def test_streams_come_back_when_they_are_told(clock: Clock, reconnects: Reconnects) -> None:
    """A stream that was sent away for a while waits that long; one refused for good, or too long, is not repeated."""
    assert 5 == passes(clock, reconnects.after, Failed(EXHAUSTED, 5))
    for error, expected in (
        (Failed(EXHAUSTED, 6), multimail.ResourceExhaustedError),
        (Failed(EXHAUSTED), multimail.ResourceExhaustedError),
        (Failed(grpc.StatusCode.PERMISSION_DENIED), multimail.PermissionDeniedError),
    ):
        with pytest.raises(expected):
            reconnects.after(error)


def test_an_internal_error_of_the_service_ends_a_stream(clock: Clock, reconnects: Reconnects) -> None:
    """A stream goes on after an INTERNAL that only grpc speaks of, and ends with one that the service tells."""
    passes(clock, reconnects.after, Failed(grpc.StatusCode.INTERNAL))
    with pytest.raises(multimail.InternalError):
        reconnects.after(Failed(grpc.StatusCode.INTERNAL, log_id="req_1"))


def test_a_service_that_ends_its_streams_is_there(clock: Clock, reconnects: Reconnects) -> None:
    """A stream that the service just ended is taken up again, however long that has been going on."""
    for _ in range(30):
        assert passes(clock, reconnects.after, None) <= 2
