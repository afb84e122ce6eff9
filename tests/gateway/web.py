"""The HTTP port as a test calls it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account

LINES = {"content-type": "application/x-ndjson"}


@asynccontextmanager
async def web(account: Account, *scopes: str, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a new key of the account; all an agent may do when no scope is named."""
    headers = {"authorization": f"Bearer {await account.key(*scopes)}"}
    base = f"http://127.0.0.1:{account.running.http_port}"
    async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=20, **options) as client:
        yield client


def reason_of(response: httpx2.Response) -> str:
    """Why a request was refused; the answer must have the one form that all errors have."""
    error = response.json()["error"]
    assert {"code", "message", "status", "details"} == set(error)
    assert response.status_code == error["code"]
    info = error["details"][0]
    assert "type.googleapis.com/google.rpc.ErrorInfo" == info["@type"]
    return str(info["reason"])


def fields_of(response: httpx2.Response) -> list[str]:
    """The bad fields that a refusal names."""
    return [
        each["field"] for detail in response.json()["error"]["details"] for each in detail.get("field_violations", ())
    ]


def lines(text: str) -> list[Any]:
    """The objects of an answer in lines."""
    return [json.loads(line) for line in text.splitlines()]
