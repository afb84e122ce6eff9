"""API keys: what the service tells of the one a client has."""

from __future__ import annotations

from dataclasses import dataclass

from multimail import _json
from multimail._wire import Call
from multimail.v1 import contact_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of an API key.

    Attributes:
        account: The account that everything the key sees belongs to.
        key_id: The key's id, `key_` and 26 characters; never the key.
        agent: The name under which the key's acts stand in logs and notifications.
        scopes: What it may do: some of `read`, `write`, `send`, `admin` and `oversight`.
    """

    account: str
    key_id: str
    agent: str
    scopes: frozenset[str]


def get_caller() -> Call[Caller]:
    """GetCaller."""
    return Call("ContactService", "GetCaller", _json.message(pb.GetCallerRequest), _caller)


def _caller(message: pb.Caller) -> Caller:
    return Caller(message.account, message.key_id, message.agent, frozenset(message.scopes))
