"""Many contacts at once: rows, what became of each, and how they are cut into calls or streamed."""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from multimail import _json
from multimail._wire import Call, minted
from multimail._words import ref, refusal_from, word
from multimail.contacts import contact_from
from multimail.errors import InvalidArgumentError, MultimailError, NotFoundError, error_of
from multimail.streaming import AsyncStream, Stream
from multimail.v1 import contact_pb2
from multimail.v1 import contact_service_pb2 as pb

if TYPE_CHECKING:
    from datetime import datetime

    from multimail import words
    from multimail._wire import Reconnects
    from multimail.contacts import Contact

_SERVICE = "ContactService"
MAX_ROWS = 1000
_MAX_BYTES = 1 << 20
_AHEAD = 1000
_END: Any = object()


@dataclass(frozen=True, slots=True)
class ContactRow:
    """A contact to make, or to merge into the one that has the address; a dict with these keys does as well.

    Attributes:
        email: The address, bare: `elena@acmecorp.com`.
        name: The name, at most 512 characters; unchanged when left out.
        metadata: What to merge (RFC 7396): objects merge at every depth, None clears a key, all else replaces.
        last_contacted: When somebody last wrote to them elsewhere; moves the contact's forward, never back.
    """

    email: str
    name: str | None = None
    metadata: Mapping[str, Any] | None = None
    last_contacted: datetime | None = None


Row = ContactRow | Mapping[str, Any]
Rows = Iterable[Row]
AsyncRows = Iterable[Row] | AsyncIterable[Row]


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of one row.

    Attributes:
        row: Its number, from 0.
        contact_id: The contact's id; empty when the row was refused.
        outcome: What happened to the contact; empty when the row was refused.
        etag: The contact's etag after it; empty when the row was refused.
        error: Why the row was refused, as the exception that a call for it alone would raise; None when it was done.
    """

    row: int
    contact_id: str = ""
    outcome: words.UpsertOutcome | Literal[""] = ""
    etag: str = ""
    error: MultimailError | None = None


def _outcome(number: int, message: pb.ContactOutcome | pb.ImportContactsResponse) -> RowOutcome:
    if message.HasField("refusal"):
        return RowOutcome(number, error=error_of(refusal_from(message.refusal)))
    done = message.upserted
    return RowOutcome(number, done.contact_id, word(contact_pb2.UpsertOutcome, done.outcome), done.etag)


def _message(row: Row) -> pb.UpsertContactRequest | InvalidArgumentError:
    """The message of a row, or why it cannot be sent; TypeError for keys that no row has."""
    given = row if isinstance(row, ContactRow) else ContactRow(**row)
    try:
        return _json.message(
            pb.UpsertContactRequest,
            email=given.email,
            name=given.name,
            metadata=_json.to_struct(given.metadata, "metadata") if given.metadata else None,
            last_contacted=_json.to_timestamp(given.last_contacted, "last_contacted") if given.last_contacted else None,
        )
    except InvalidArgumentError as error:
        return error


def upsert_many(rows: Rows) -> tuple[list[RowOutcome], Iterator[Call[list[RowOutcome]]]]:
    """Those of the rows that cannot be sent, and BatchUpsertContacts for the others, cut to what a call may hold."""
    refused: list[RowOutcome] = []
    batches: list[dict[int, pb.UpsertContactRequest]] = [{}]
    left = _MAX_BYTES
    for number, message in enumerate(map(_message, rows)):
        if isinstance(message, InvalidArgumentError):
            refused.append(RowOutcome(number, error=message))
            continue
        left -= message.ByteSize()
        if batches[-1] and (left < 0 or len(batches[-1]) == MAX_ROWS):
            batches.append({})
            left = _MAX_BYTES - message.ByteSize()
        batches[-1][number] = message
    return refused, map(_upsert, filter(None, batches))


def _upsert(batch: dict[int, pb.UpsertContactRequest]) -> Call[list[RowOutcome]]:
    request = pb.BatchUpsertContactsRequest(contacts=batch.values(), request_id=minted(None))
    return Call(_SERVICE, "BatchUpsertContacts", request, lambda reply: list(map(_outcome, batch, reply.outcomes)))


def get_many(ids_or_emails: list[str]) -> Call[list[Contact | None]]:
    """BatchGetContacts."""
    asked = [_json.message(pb.GetContactRequest, **ref(each, "id", "email")) for each in ids_or_emails]
    request = pb.BatchGetContactsRequest(contacts=asked)
    return Call(_SERVICE, "BatchGetContacts", request, lambda reply: [_found(each) for each in reply.outcomes])


def _found(message: pb.FoundContact) -> Contact | None:
    """The contact; none where there is none, which is also what a text that is no address comes to."""
    if message.HasField("contact"):
        return contact_from(message.contact)
    error = error_of(refusal_from(message.refusal))
    if isinstance(error, NotFoundError | InvalidArgumentError):
        return None
    raise error


def is_too_much(error: InvalidArgumentError, asked: list[str]) -> bool:
    """Whether a call was refused because so many contacts are too large for one answer."""
    return len(asked) > 1 and [each.field for each in error.violations] == ["contacts"]


class Exported:
    """How far an export is: behind the last contact that was read."""

    ends = True

    def __init__(self, call: Call[Contact]) -> None:
        self._request = cast("Any", call.request)
        self._convert = call.convert

    def request(self) -> Any:
        """The request that goes on from here."""
        return self._request

    def take(self, response: Any) -> list[Contact]:
        """The next contact."""
        contact = self._convert(response)
        self._request.after_id = contact.id
        return [contact]


class _UnderWay:
    """The rows of an import that were taken and not answered yet, and the queue that leads into its stream.

    Attributes:
        complete: Whether there are no more rows to take.
    """

    ends = False

    def __init__(self, import_id: str, new_queue: Callable[[], Any]) -> None:
        self._import_id = import_id
        self._new_queue = new_queue
        self._queue = new_queue()
        self._taken = 0
        self._rows: deque[pb.ImportContactsRequest | RowOutcome] = deque()
        self.complete = False

    @property
    def has_room(self) -> bool:
        """Whether another row may be taken."""
        return not self.complete and len(self._rows) < _AHEAD

    @property
    def done(self) -> bool:
        """Whether every row was answered."""
        return self.complete and not self._rows

    def add(self, row: Row) -> None:
        """Takes the next row, or _END: there are no more."""
        if row is _END:
            self.complete = True
            self.leave()
            return
        message, number = _message(row), self._taken
        self._taken += 1
        if isinstance(message, InvalidArgumentError):
            self._rows.append(RowOutcome(number, error=message))
            return
        sent = _json.message(pb.ImportContactsRequest, import_id=self._import_id, row=number, contact=message)
        self._rows.append(sent)
        self._queue.put_nowait(sent)

    def refused(self) -> list[RowOutcome]:
        """The outcome of the next row if that could not be sent."""
        first = self._rows[0] if self._rows else None
        if not isinstance(first, RowOutcome):
            return []
        self._rows.popleft()
        return [first]

    def request(self) -> Any:
        """A queue into a new stream, with the rows that the one before did not answer."""
        self.leave()
        self._queue = self._new_queue()
        for row in self._rows:
            if not isinstance(row, RowOutcome):
                self._queue.put_nowait(row)
        if self.complete:
            self.leave()
        return self._queue

    def leave(self) -> None:
        """Says to whoever waits for rows to send that there are no more."""
        self._queue.put_nowait(None)

    def take(self, response: pb.ImportContactsResponse) -> list[RowOutcome]:
        """What became of the next row."""
        self._rows.popleft()
        return [_outcome(response.row, response)]


class Import(Stream[RowOutcome]):
    """What became of each row of an import, in their order; made by `client.contacts.import_`.

    Rows are taken in the thread that iterates, up to 1000 ahead of the outcomes, and kept until they are answered: a
    broken connection is taken up again with those that were not. An error of the rows themselves ends it; what had been
    sent by then may have been done, as importing them again under the same name tells.

    Attributes:
        import_id: The import's name: the same rows under the same name are done once, however often they are sent.
    """

    def __init__(self, connect: Callable[[Any], Any], rows: Rows, import_id: str, reconnects: Reconnects) -> None:
        """An import of these rows that opens its streams with `connect`, again as `reconnects` says."""
        self.import_id = import_id
        self._under_way = _UnderWay(import_id, queue.SimpleQueue)
        self._rows = iter(rows)
        super().__init__(lambda line: connect(iter(line.get, None)), self._under_way, reconnects)

    def _read(self) -> list[RowOutcome]:
        self._fill()
        if self._under_way.done:
            self.close()
            return []
        return self._under_way.refused() or super()._read()

    def _fill(self) -> None:
        """Takes as many rows as may be under way."""
        try:
            while self._under_way.has_room:
                self._under_way.add(next(self._rows, _END))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the import, also while another thread waits for an outcome."""
        super().close()
        self._under_way.leave()

    def __del__(self) -> None:
        self._under_way.leave()  # else grpc's thread waits for rows for ever


class AsyncImport(AsyncStream[RowOutcome]):
    """The same for asyncio; who gives up a wait while a row is being taken ends the import.

    Attributes:
        import_id: The import's name: the same rows under the same name are done once, however often they are sent.
    """

    def __init__(self, connect: Callable[[Any], Any], rows: AsyncRows, import_id: str, reconnects: Reconnects) -> None:
        """An import of these rows that opens its streams with `connect`, again as `reconnects` says."""
        self.import_id = import_id
        self._under_way = _UnderWay(import_id, asyncio.Queue)
        self._rows = aiter(rows) if isinstance(rows, AsyncIterable) else _one_by_one(rows)
        super().__init__(lambda line: connect(_until_none(line)), self._under_way, reconnects)

    async def _read(self) -> list[RowOutcome]:
        await self._fill()
        if self._under_way.done:
            await self.close()
            return []
        return self._under_way.refused() or await super()._read()

    async def _fill(self) -> None:
        """Takes as many rows as may be under way."""
        try:
            while self._under_way.has_room:
                self._under_way.add(await anext(self._rows, _END))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the import, also while another task waits for an outcome."""
        await super().close()
        self._under_way.leave()


async def _one_by_one(rows: Rows) -> AsyncIterator[Row]:
    for row in rows:
        yield row


async def _until_none(line: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (row := await line.get()) is not None:
        yield row
