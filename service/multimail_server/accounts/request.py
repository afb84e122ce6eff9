"""Turns a changing RPC and its caller into the request an operation is made from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from multimail_server.accounts.caller import current_caller
from multimail_server.storage.documents import Actor
from multimail_server.storage.operation import Request

if TYPE_CHECKING:
    from google.protobuf.message import Message


def changing(method: str, message: Message, request_id: str) -> Request:
    """The request of the call under way.

    Args:
        method: The RPC's name.
        message: Its request message.
        request_id: The message's request_id; may be empty.
    """
    caller = current_caller()
    return Request(
        account=caller.account,
        method=method,
        actor=Actor(caller.key_id, caller.agent),
        request_id=request_id,
        fingerprint=_fingerprint(method, message) if request_id else "",
        size=message.ByteSize(),
    )


def _fingerprint(method: str, message: Message) -> str:
    """Digest of the content; maps serialise in one order only when asked to."""
    content = type(message)()
    content.CopyFrom(message)
    content.ClearField("request_id")
    return hashlib.sha256(method.encode() + b"\0" + content.SerializeToString(deterministic=True)).hexdigest()
