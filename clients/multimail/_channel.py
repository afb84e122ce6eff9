"""What a channel to the service is told: message sizes, when to doubt a silent line, deadlines, what to try again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# gRPC's own format, so that stubs in any language take it as it is. Changes are tried again only where the service says
# that it did nothing (RESOURCE_EXHAUSTED): after a broken connection, who gave no request_id could write a mail twice.
_CONFIG = Path(__file__).with_name("service_config.json").read_text()

_LIMITS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # The server takes a ping every ten seconds. A dead line is noticed within 25 s, so that a call can be tried again
    # within its deadline.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # grpc waits for the longer of the two
    ("grpc.http2.max_pings_without_data", 0),  # else a quiet watch stops looking
    ("grpc.max_reconnect_backoff_ms", 5_000),  # else a service that was away for long is looked for every two minutes
)

# What the clients here use: they try again themselves. grpc's own tries go on until the deadline and then tell of that,
# not of what failed, and they cannot know that every change of ours carries a request_id.
OWN_OPTIONS = [*_LIMITS, ("grpc.enable_retries", 0)]


def channel_options() -> list[tuple[str, Any]]:
    """What to make a channel with for calling the generated stubs: limits, keepalive, deadlines, what is tried again.

    Example:
        channel = grpc.insecure_channel("127.0.0.1:50051", options=multimail.channel_options())
        contacts = contact_service_pb2_grpc.ContactServiceStub(channel)
    """
    return [
        *_LIMITS,
        ("grpc.service_config", _CONFIG),
        ("grpc.per_rpc_retry_buffer_size", 16 << 20),  # else a request over 256 KiB is never tried again
    ]


@dataclass(frozen=True, slots=True)
class Policy:
    """Deadline and tries of a call that may happen any number of times; times are in seconds."""

    timeout_s: float
    max_attempts: int
    first_pause_s: float
    longest_pause_s: float
    multiplier: float
    codes: frozenset[str]

    @classmethod
    def of(cls, method: dict[str, Any]) -> Policy:
        """The policy of a `methodConfig`."""
        retry = method["retryPolicy"]
        return cls(
            timeout_s=_seconds(method["timeout"]),
            max_attempts=retry["maxAttempts"],
            first_pause_s=_seconds(retry["initialBackoff"]),
            longest_pause_s=_seconds(retry["maxBackoff"]),
            multiplier=retry["backoffMultiplier"],
            codes=frozenset(retry["retryableStatusCodes"]),
        )


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


# The first entry is that of reads. It holds for every call made here, for each change carries a request_id.
POLICY = Policy.of(json.loads(_CONFIG)["methodConfig"][0])
