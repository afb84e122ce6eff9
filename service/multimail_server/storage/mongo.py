"""The one seam to MongoDB: either driver behind one small interface, driver errors turned into our own."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import contextmanager
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from gridfs import AsyncGridFSBucket
from pymongo import errors as driver_errors
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from multimail_server.errors import DomainError, Reason
from multimail_server.storage.indexes import COLLECTIONS, INDEXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

Document = dict[str, Any]

log = logging.getLogger("multimail.storage")

WRITE_CONFLICT = 112
DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48

_MAJORITY = WriteConcern("majority", j=True)
_SNAPSHOT = ReadConcern("snapshot")
_MANY = 1_000_000  # documents in a reply, if they fit
# Asked for in one command's own words, since commands do not inherit the client's write concern.
_MAJORITY_DOCUMENT = {"w": "majority", "j": True}
_MAJORITY_READ = {"level": "majority"}


def up_to(moment: datetime) -> dict[str, Any]:
    """The condition that a time is this one or earlier.

    Times are kept in whole milliseconds. The embedded engine's `$lte` leaves out what is equal where the index has a
    field behind.
    """
    return {"$lt": moment + timedelta(milliseconds=1)}


class ConflictError(Exception):
    """Another transaction changed what this one read or wrote; nothing of this one remains."""


class OutcomeUnknownError(Exception):
    """A commit was sent and no answer came: it may or may not have happened."""


class WriteRefusedError(Exception):
    """The engine refused a write for its content; in a transaction nothing of it remains."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class DuplicateKeyError(WriteRefusedError):
    """A unique key is taken."""


def engine_unavailable(cause: str) -> DomainError:
    """The refusal while the engine does not answer; `cause` goes to the log only."""
    log.warning("engine unavailable: %s", cause)
    return DomainError(
        Reason.ENGINE_UNAVAILABLE, "The database does not answer; nothing was changed. Try again.", retry_after_s=1
    )


_NETWORK = (driver_errors.ConnectionFailure, driver_errors.ServerSelectionTimeoutError, driver_errors.ExecutionTimeout)
# Codes by which a server says that it is going, coming, or not the primary.
_NOT_NOW = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's errors into ours; what is a bug of ours passes as it is."""
    try:
        yield
    except driver_errors.OperationFailure as error:
        # Labelled so by servers that label: nothing of the transaction remains, and it may do better next time.
        transient = error.has_error_label("TransientTransactionError")
        raise _refused(WRITE_CONFLICT if transient else error.code or 0, str(error)) from error
    except _NETWORK as error:
        raise engine_unavailable(str(error)) from error
    except (BSONError, OverflowError) as error:  # it never got as far as the engine, which would not have it either
        raise WriteRefusedError(0, str(error)) from error


def _refused(code: int, message: str) -> Exception:
    if code == WRITE_CONFLICT:
        return ConflictError(message)
    if code == DUPLICATE_KEY:
        return DuplicateKeyError(code, message)
    if code in _NOT_NOW:
        return engine_unavailable(message)
    return WriteRefusedError(code, message)


async def _ready(value: Any) -> Any:
    """The value itself, awaited where this driver makes it awaitable."""
    return await value if inspect.isawaitable(value) else value


class Session:
    """One server session and the transaction open on it, if any. Use by one task at a time."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    @property
    def id(self) -> Mapping[str, Any]:
        """The session's id as `killSessions` takes it."""
        session_id: Mapping[str, Any] = self.raw.session_id
        return session_id

    async def begin(self) -> None:
        """Opens a transaction; one left open by a failure before ends by it, here and on the server."""
        await self.abort()
        with translated():
            await _ready(self.raw.start_transaction(read_concern=_SNAPSHOT, write_concern=_MAJORITY))

    async def commit(self) -> None:
        """Commits, majority and journaled.

        Raises:
            OutcomeUnknownError: No clear answer came, though the commit was sent twice.
            ConflictError: The transaction lost to another; nothing of it remains.
        """
        try:
            await self.raw.commit_transaction()
        except driver_errors.OperationFailure as error:
            if error.code == WRITE_CONFLICT:
                raise ConflictError(str(error)) from error
            # No such transaction may mean that the first sending of the commit went through.
            raise OutcomeUnknownError(str(error)) from error
        except driver_errors.PyMongoError as error:
            raise OutcomeUnknownError(str(error)) from error

    async def abort(self) -> None:
        """Ends the open transaction, if there is one, as far as the engine can be reached."""
        if self.raw.in_transaction:
            await self.raw.abort_transaction()

    async def close(self) -> None:
        """Gives the session back to the server."""
        await self.raw.end_session()


class Database:
    """The collections of one Multimail installation.

    Reads are at majority on the primary and see every write answered before; writes are at majority, journaled.
    Every method raises DomainError ENGINE_UNAVAILABLE when the engine cannot be reached.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._db = client.get_database(
            name,
            codec_options=CodecOptions(document_class=dict, tz_aware=True),
            read_concern=ReadConcern("majority"),
            write_concern=_MAJORITY,
            read_preference=ReadPreference.PRIMARY,
        )
        self._collections = {collection: self._db[collection] for collection in COLLECTIONS}

    async def find(
        self,
        collection: str,
        where: Mapping[str, Any],
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
        session: Session | None = None,
    ) -> list[Document]:
        """The documents that match, in the order of `sort`, at most `limit` (0: all)."""
        command: Document = {"find": collection, "filter": where, "batchSize": _MANY}
        if projection:
            command["projection"] = projection
        if sort:
            command["sort"] = dict(sort)
        if limit:
            command["limit"] = limit
        return await self._read(command, session)

    async def aggregate(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]], *, session: Session | None = None
    ) -> list[Document]:
        """What the pipeline yields."""
        command = {"aggregate": collection, "pipeline": pipeline, "cursor": {"batchSize": _MANY}}
        return await self._read(command, session)

    async def _read(self, command: Document, session: Session | None) -> list[Document]:
        """All documents a command finds; outside a transaction it is sent once more if the connection breaks.

        As a plain command, for a driver's cursor costs as much again as the query itself.
        """
        if session is None:
            command["readConcern"] = _MAJORITY_READ
        with translated():
            try:
                return await self._answered(command, session)
            except driver_errors.AutoReconnect:
                if session is not None:
                    raise
                return await self._answered(command, session)

    async def _answered(self, command: Document, session: Session | None) -> list[Document]:
        raw, codec_options = session and session.raw, self._db.codec_options
        reply = await self._db.command(command, session=raw, codec_options=codec_options)
        found = reply["cursor"]
        if not found["id"]:
            return found["firstBatch"]  # type: ignore[no-any-return]
        # More than fits into one reply: again from the beginning by what keeps a session to read on in.
        collection = found["ns"].partition(".")[2]
        await self._db.command({"killCursors": collection, "cursors": [found["id"]]}, session=raw)
        cursor = await self._db.cursor_command(command, session=raw, codec_options=codec_options)
        return await cursor.to_list(None)  # type: ignore[no-any-return]

    async def count(self, collection: str) -> int:
        """How many documents there are, roughly."""
        with translated():
            return int(await self._collections[collection].estimated_document_count())

    async def insert_one(self, collection: str, document: Mapping[str, Any]) -> None:
        """Inserts one document.

        Raises:
            DuplicateKeyError: A unique key of it is taken.
        """
        await self.insert_many(collection, [document])

    async def insert_many(
        self, collection: str, documents: Sequence[Mapping[str, Any]], *, session: Session | None = None
    ) -> None:
        """Inserts the documents in one command; inside a session as part of its transaction."""
        await self._write({"insert": collection, "documents": documents, "ordered": False}, session)

    async def update_one(
        self, collection: str, where: Mapping[str, Any], update: Mapping[str, Any], *, upsert: bool = False
    ) -> int:
        """Updates at most one document and returns how many matched (an upsert counts as one)."""
        return await self.update_many(collection, [{"q": where, "u": update, "upsert": upsert}])

    async def update_many(
        self, collection: str, updates: Sequence[Mapping[str, Any]], *, session: Session | None = None
    ) -> int:
        """Runs the updates (`{"q": …, "u": …}` each) in one command and returns how many documents matched."""
        return await self._write({"update": collection, "updates": updates, "ordered": False}, session)

    async def delete_many(
        self, collection: str, wheres: Sequence[Mapping[str, Any]], *, session: Session | None = None
    ) -> int:
        """Deletes at most one document per filter in one command and returns how many are gone."""
        deletes = [{"q": where, "limit": 1} for where in wheres]
        return await self._write({"delete": collection, "deletes": deletes, "ordered": False}, session)

    async def delete_all(self, collection: str, where: Mapping[str, Any]) -> int:
        """Deletes every document that matches in one command and returns how many are gone."""
        return await self._write({"delete": collection, "deletes": [{"q": where, "limit": 0}]}, None)

    async def _write(self, command: Document, session: Session | None) -> int:
        if session is None:
            command["writeConcern"] = _MAJORITY_DOCUMENT
        with translated():
            reply = await self._db.command(command, session=session and session.raw)
        for error in reply.get("writeErrors", ()):
            raise _refused(error["code"], error.get("errmsg", ""))
        if "writeConcernError" in reply:
            raise engine_unavailable(str(reply["writeConcernError"]))
        return int(reply["n"])

    def files(self) -> Any:
        """The driver's GridFS bucket, which knows no transactions."""
        if isinstance(self._client, pymongo.AsyncMongoClient):
            return AsyncGridFSBucket(self._db)
        from motor.motor_asyncio import AsyncIOMotorGridFSBucket  # noqa: PLC0415  only the driver in use is imported

        return AsyncIOMotorGridFSBucket(self._db)

    async def now(self) -> datetime:
        """The engine's clock: the only one that leases and commits go by."""
        moment: datetime = (await self._hello())["localTime"]
        return moment.replace(tzinfo=UTC)  # commands decode without the client's options

    async def _hello(self) -> Document:
        with translated():
            reply: Document = await self._client.admin.command("hello")
            return reply

    async def check(self) -> None:
        """Refuses an engine that cannot do transactions, saying what to do about it."""
        hello = await self._hello()
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise SystemExit(
                "The MongoDB server is a standalone one and has no transactions. Start it as a replica set of one: "
                "mongod --replSet rs0, then once: mongosh --eval 'rs.initiate()'"
            )

    async def prepare(self) -> None:
        """Makes the collections and indexes that are missing; safe beside a running service."""
        with translated():
            present = set(await self._db.list_collection_names())
        for collection in COLLECTIONS:
            if collection not in present:
                await self._create(collection)
        for index in INDEXES:
            with translated():
                await self._collections[index.collection].create_index(
                    list(index.keys), name=index.name, unique=index.unique
                )

    async def _create(self, collection: str) -> None:
        try:
            with translated():
                await self._db.command("create", collection)
        except WriteRefusedError as error:
            if error.code != NAMESPACE_EXISTS:  # another process was first: as good
                raise

    async def start_session(self) -> Session:
        """A session for transactions; close it."""
        with translated():
            return Session(await _ready(self._client.start_session()))

    async def kill_sessions(self, ids: Sequence[Mapping[str, Any]]) -> None:
        """Ends sessions that a dead process left behind, and the transactions open on them."""
        try:
            with translated():
                await self._client.admin.command({"killSessions": list(ids)})
        except WriteRefusedError as error:
            log.warning("could not end sessions of a dead process, their locks end by themselves: %s", error)

    async def close(self) -> None:
        """Closes every connection."""
        if inspect.iscoroutinefunction(self._client.close):
            await self._client.close()
        else:  # Motor's blocks until the server took leave
            await asyncio.to_thread(self._client.close)


def connect(uri: str, database: str, *, driver: str, listeners: Sequence[Any] = ()) -> Database:
    """Opens the database with the named driver, `motor` or `pymongo`; the first call connects.

    Args:
        uri: A MongoDB connection string; its own read and write concerns are overruled.
        database: The database's name.
        driver: Which driver to use.
        listeners: `pymongo.monitoring` listeners, for counting commands.
    """
    options: dict[str, Any] = {
        "appname": "multimail",
        "tz_aware": True,
        "retryWrites": False,  # we decide by what is in the database, not by the driver's bookkeeping
        "retryReads": True,
        "serverSelectionTimeoutMS": 3_000,
        "connectTimeoutMS": 3_000,
        "socketTimeoutMS": 30_000,
        "event_listeners": list(listeners),
    }
    try:
        if driver == "motor":
            from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415  only the driver in use is imported

            return Database(AsyncIOMotorClient(uri, **options), database)
        return Database(pymongo.AsyncMongoClient(uri, **options), database)
    except driver_errors.ConfigurationError as error:
        raise SystemExit(f"multimail-server: MONGODB_URI cannot be used: {error}") from None
