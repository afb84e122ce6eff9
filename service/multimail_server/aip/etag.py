"""Etags: short, opaque, and different for every version of every resource."""

from __future__ import annotations

import base64
import hashlib


def etag_of(identifier: str, revision: int) -> str:
    """The etag of one version: the revision mixed with the id, so that no etag fits another resource."""
    digest = hashlib.blake2b(f"{identifier}\0{revision}".encode(), digest_size=9).digest()
    return base64.urlsafe_b64encode(digest).decode()
