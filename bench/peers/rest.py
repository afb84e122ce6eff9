"""What a good engineer would write instead: FastAPI, uvicorn and Motor, one worker, tuned.

The same contact documents, indexes, checks and limits as the service: where those are pure rules, they are the
service's own functions. An upsert reads, merges and writes if the revision is still the one it read, then adds a row to
the history; that row bears no number, for which a transaction would be needed, and no request is recognised when it
comes again.
"""

from __future__ import annotations

import email.policy
import socket
import sys
import time
from datetime import UTC, date, datetime
from email.parser import BytesParser
from email.utils import parseaddr
from typing import Annotated, Any

import orjson
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError
from ulid import ULID

from bench.peers import driver
from multimail_server.accounts.keys import key_hash
from multimail_server.aip.address import Address, parse_address
from multimail_server.aip.etag import etag_of
from multimail_server.contacts import contact as rules
from multimail_server.contacts import metadata as metadata_rules
from multimail_server.contacts.facets import equality
from multimail_server.contacts.store import PROJECTION
from multimail_server.errors import DomainError

Document = dict[str, Any]

KEYS_REMEMBERED_S = 5.0
KEPT_INTERACTIONS = 50
WHOLE = {"interactions": 0}
SHOWN = ("create_time", "update_time", "interaction_count", "thread_count", "latest_thread_id")
TIMES = ("last_contacted_at", "last_inbound_at")


def checked_address(text: str) -> Address:
    """The address, for pydantic."""
    try:
        return parse_address(text, "email")
    except DomainError as error:
        raise ValueError(error.message) from None


def checked_metadata(value: Document) -> Document:
    """Metadata within the limits, for pydantic."""
    try:
        clean = metadata_rules.normalise(value, "metadata")
        metadata_rules.check_limits(metadata_rules.merge({}, clean))
    except DomainError as error:
        raise ValueError(error.message) from None
    return clean


class Given(BaseModel):
    """What a contact is to be made of, or merged with."""

    model_config = ConfigDict(extra="forbid")
    email: Annotated[str, AfterValidator(checked_address)]
    name: Annotated[str | None, Field(max_length=rules.MAX_NAME, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = None
    metadata: Annotated[Document, AfterValidator(checked_metadata)] = {}


class Batch(BaseModel):
    """Many of them."""

    contacts: Annotated[list[Given], Field(max_length=1000)]


class Search(BaseModel):
    """Equality on metadata, and recency."""

    filters: dict[str, str | bool | float]
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class Contacts:
    """Everything the service does with the database."""

    def __init__(self, database: Any) -> None:
        self._contacts = database.contacts
        self._history = database.history
        self._emails = database.emails
        self._keys = database.api_keys
        self._remembered: dict[str, tuple[float, str]] = {}

    async def account(self, request: Request) -> str:
        """Whose key the call bears; a key is looked up once in five seconds."""
        digest = key_hash(request.headers.get("authorization", "").removeprefix("Bearer "))
        until, account = self._remembered.get(digest, (0.0, ""))
        if until < time.monotonic():
            row = await self._keys.find_one({"hash": digest, "revoke_time": None})
            if row is None:
                raise HTTPException(401, "This API key is unknown or revoked.")
            account = row["account"]
            self._remembered[digest] = time.monotonic() + KEYS_REMEMBERED_S, account
        return account

    async def get(self, account: str, address: Address) -> Document:
        """One contact."""
        found: Document | None = await self._contacts.find_one(
            {"account": account, "email_keys": address.key}, PROJECTION
        )
        if found is None:
            raise HTTPException(404, "There is no such contact.")
        return found

    async def upsert(self, account: str, given: Given) -> tuple[Document, str]:
        """Makes a contact or merges; begins again when another change came between."""
        while True:
            known = await self._contacts.find_one({"account": account, "email_keys": given.email.key}, WHOLE)
            contact = merged(account, known, given)
            if contact is known:
                return contact, "unchanged"
            try:
                if known is None:
                    await self._contacts.insert_one(contact)
                elif not (await self._contacts.update_one(*difference(known, contact))).matched_count:
                    continue
            except DuplicateKeyError:
                continue
            outcome = "updated" if known else "created"
            await self._history.insert_one(line(account, contact, outcome))
            return contact, outcome

    async def upsert_many(self, account: str, rows: list[Given]) -> list[tuple[Document, str]]:
        """The same for many: one read, one bulk write; row by row where another change came between."""
        keys = list({row.email.key for row in rows})
        found = await self._contacts.find({"account": account, "email_keys": {"$in": keys}}, WHOLE).to_list()
        known = {contact["email_keys"][0]: contact for contact in found}
        writes, outcomes = [], []
        for row in rows:
            before = known.get(row.email.key)
            contact = merged(account, before, row)
            if before is None:
                writes.append(InsertOne(contact))
            elif contact is not before:
                writes.append(UpdateOne(*difference(before, contact)))
            outcomes.append((contact, "created" if before is None else "updated"))
        try:
            done = await self._contacts.bulk_write(writes, ordered=False)
        except BulkWriteError:
            return [await self.upsert(account, row) for row in rows]
        if done.matched_count + done.inserted_count != len(writes):
            return [await self.upsert(account, row) for row in rows]
        await self._history.insert_many([line(account, *each) for each in outcomes], ordered=False)
        return outcomes

    async def append(self, account: str, raw: bytes) -> str:
        """Keeps a mail that came in, in its author's log."""
        parsed = BytesParser(policy=email.policy.default).parsebytes(raw)
        author = checked_address(parseaddr(parsed["from"])[1])
        body = parsed.get_body(("plain", "html"))
        contact = await self.get(account, author)
        thread, now = f"thread_{ULID()}", datetime.now(UTC)
        entry = {"at": now, "email": f"email_{ULID()}", "thread": thread, "direction": "inbound"}
        document = {
            "_id": entry["email"],
            "account": account,
            "contact": contact["_id"],
            "thread": thread,
            "message_id": parsed["message-id"],
            "headers": {name: parsed[name] for name in ("from", "to", "subject", "in-reply-to", "references")},
            "body": body.get_content() if body else "",
            "raw": raw,
            "at": now,
        }
        try:
            await self._emails.insert_one(document)
        except DuplicateKeyError:
            return "known"
        push = {"interactions": {"$each": [entry], "$sort": {"at": 1}, "$slice": -KEPT_INTERACTIONS}}
        moved = {"latest_thread_id": thread, "latest_at": now, "last_inbound_at": now}
        await self._contacts.update_one(
            {"_id": contact["_id"]},
            {"$inc": {"interaction_count": 1, "thread_count": 1}, "$set": moved, "$push": push},
        )
        await self._history.insert_one(line(account, contact, "email received"))
        return str(entry["email"])

    async def search(self, account: str, search: Search) -> list[Document]:
        """The contacts that match; the clause that an index serves comes first."""
        where: Document = {}
        for name, value in search.filters.items():
            if name == "last_contacted_before":
                where["last_contacted_at"] = {"$lt": start_of(str(value))}
            else:
                where.setdefault("facets", {"$all": []})["$all"].append(equality(account, name, value))
        if len(facets := where.get("facets", {}).get("$all", ())) == 1:
            where["facets"] = facets[0]
        cursor = self._contacts.find(where | {"account": account}, PROJECTION).sort("_id").limit(search.limit)
        found: list[Document] = await cursor.to_list()
        return found


def start_of(day: str) -> datetime:
    """When a day began, in UTC."""
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)


def merged(account: str, known: Document | None, given: Given) -> Document:
    """The contact as it is to be; the known one itself when nothing changes."""
    if known is None:
        metadata = metadata_rules.merge({}, given.metadata)
        identifier = f"contact_{ULID()}"
        now = datetime.now(UTC)
        return rules.new(identifier, account, given.email, name=given.name or "", metadata=metadata, now=now)
    before = rules.metadata_of(known)
    metadata = metadata_rules.merge(before, given.metadata)
    name = known["name"] if given.name is None else given.name
    if name == known["name"] and metadata_rules.json_equal(before, metadata):
        return known
    metadata_rules.check_limits(metadata)
    return rules.described(known, name=name, metadata=metadata, now=datetime.now(UTC))


def difference(known: Document, contact: Document) -> tuple[Document, Document]:
    """Filter and update that make one of the other, if nobody changed it since."""
    changed = {name: value for name, value in contact.items() if known.get(name) != value}
    return {"_id": known["_id"], "revision": known["revision"]}, {"$set": changed}


def line(account: str, contact: Document, outcome: str) -> Document:
    """A row of the history."""
    return {"account": account, "contact": contact["_id"], "type": outcome, "at": datetime.now(UTC)}


def shown(contact: Document) -> Document:
    """A contact as JSON shows it."""
    times = {name: contact[name] for name in TIMES if contact[name] != rules.NEVER}
    return {
        "id": contact["_id"],
        "email": contact["email"],
        "name": contact["name"],
        "metadata": rules.metadata_of(contact),
        "etag": etag_of(contact["_id"], contact["revision"]),
        **{name: contact[name] for name in SHOWN},
        **times,
    }


def reply(content: object) -> Response:
    """Content as JSON, straight from orjson."""
    return Response(orjson.dumps(content), media_type="application/json")


def app_of(contacts: Contacts) -> FastAPI:
    """The routes."""
    app = FastAPI(openapi_url=None)
    caller = Depends(contacts.account)

    @app.get("/contacts/{address}")
    async def get(address: str, account: str = caller) -> Response:
        return reply(shown(await contacts.get(account, checked_address(address))))

    @app.post("/contacts")
    async def upsert(given: Given, account: str = caller) -> Response:
        contact, outcome = await contacts.upsert(account, given)
        return reply({"contact": shown(contact), "outcome": outcome})

    @app.post("/contacts/batch")
    async def batch(given: Batch, account: str = caller) -> Response:
        done = await contacts.upsert_many(account, given.contacts)
        return reply([{"contact_id": contact["_id"], "outcome": outcome} for contact, outcome in done])

    @app.post("/contacts/search")
    async def search(given: Search, account: str = caller) -> Response:
        return reply({"contacts": [shown(each) for each in await contacts.search(account, given)]})

    @app.post("/emails")
    async def append(request: Request, account: str = caller) -> Response:
        return reply({"id": await contacts.append(account, await request.body())})

    return app


def main(uri: str, database: str) -> None:
    """Serves until it is killed; prints its port."""
    door = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = app_of(Contacts(driver.connect(uri, database)))
    app.router.on_startup.append(lambda: print(door.getsockname()[1], flush=True))
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning", timeout_keep_alive=75
    )
    uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main(*sys.argv[1:])
