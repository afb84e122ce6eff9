"""What hangs on the asyncio client as `client.contacts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail import bulk, contacts, context
from multimail.errors import InvalidArgumentError
from multimail.streaming import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from multimail._caller import AsyncCaller
    from multimail.paging import AsyncResults
    from multimail.streaming import AsyncStream
    from multimail.watching import AsyncWatch


class Contacts:
    """`client.contacts`."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create(
        self,
        *,
        email: str,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        upsert: bool = False,
        last_contacted: datetime | None = None,
        request_id: str | None = None,
    ) -> contacts.Contact:
        """Makes a contact.

        Args:
            email: The address, bare: `elena@acmecorp.com`.
            name: The name, at most 512 characters.
            metadata: Free JSON, at most 64 KiB, 16 levels, 512 keys and 512 values.
            upsert: Merge into the contact when the address is known, as `upsert` does.
            last_contacted: When somebody last wrote to them elsewhere; moves the contact's forward, never back.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            AlreadyExistsError: The address is known, and `upsert` was not asked for.
        """
        return await self._caller.run(contacts.create(email, name, metadata, last_contacted, request_id, upsert=upsert))

    async def upsert(
        self,
        *,
        email: str,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        last_contacted: datetime | None = None,
        request_id: str | None = None,
    ) -> contacts.Contact:
        """Makes the contact when its address is new, else merges what is given into it.

        Args:
            email: The address, bare: `elena@acmecorp.com`.
            name: The name, at most 512 characters; unchanged when left out.
            metadata: What to merge (RFC 7396): objects merge at every depth, None clears a key, all else replaces.
            last_contacted: When somebody last wrote to them elsewhere; moves the contact's forward, never back.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(contacts.upsert(email, name, metadata, last_contacted, request_id))

    async def get(self, *, email: str | None = None, id: str | None = None) -> contacts.Contact:  # noqa: A002
        """One contact; NotFoundError when there is none.

        Args:
            email: Its address, in any case; this or `id`.
            id: Its id.
        """
        return await self._caller.run(contacts.get(email, id))

    async def upsert_many(self, rows: bulk.Rows) -> list[bulk.RowOutcome]:
        """Makes or merges many contacts, as `upsert` does each; one outcome for each row, in their order.

        A row that is refused leaves the others alone, and is no error of the call: see `RowOutcome.error`. They travel
        in calls of up to 1000 rows; when one of these fails, what was done before it stays done, and so does it when
        all is sent again. For more than fits into memory, or to be resumed, see `import_`.

        Args:
            rows: The contacts: `ContactRow`, or dicts with its keys; the same address may stand in several.
        """
        refused, calls = bulk.upsert_many(rows)
        return sorted([*refused, *await self._caller.run_all(calls)], key=lambda each: each.row)

    async def get_many(self, ids_or_emails: str | Iterable[str]) -> list[contacts.Contact | None]:
        """Many contacts, in the order asked for; None where there is none, or what was asked for is no address.

        Args:
            ids_or_emails: Their ids, or their addresses in any case; as many as you like.
        """
        asked = [ids_or_emails] if isinstance(ids_or_emails, str) else [*ids_or_emails]
        most, at = bulk.MAX_ROWS, 0
        found: list[contacts.Contact | None] = []
        while at < len(asked):
            part = asked[at : at + most]
            try:
                outcomes = await self._caller.run(bulk.get_many(part))
            except InvalidArgumentError as error:
                if not bulk.is_too_much(error, part):
                    raise
                most = len(part) // 2
            else:
                found += outcomes
                at += len(part)
        return found

    async def import_(
        self, rows: bulk.AsyncRows, import_id: str | None = None, *, patience: float = PATIENCE_S
    ) -> bulk.AsyncImport:
        """Makes or merges any number of contacts, as `upsert` does each, and yields what became of each row, in order.

        Rows are taken as fast as they are written, so memory stays flat however many there are. A broken connection is
        taken up again by itself. To take up an import that was ended itself, send the same rows under the same name:
        within 30 days none is done twice, and each is answered as it was at first.

        Args:
            rows: The contacts: `ContactRow`, or dicts with its keys; anything that can be iterated.
            import_id: Names the import, at most 64 characters; minted when left out, see `import_id` of the result.
            patience: Seconds for which a service that cannot be reached is waited for before UnavailableError.

        Example:
            rows = ({"email": each["E-Mail"], "name": each["Name"]} for each in csv.DictReader(file))
            async for outcome in await client.contacts.import_(rows, "crm-2026-03"):
                if outcome.error:
                    print(f"row {outcome.row}: {outcome.error}")
        """
        return self._caller.import_(rows, import_id, patience)

    async def context(
        self,
        *,
        email: str | None = None,
        id: str | None = None,  # noqa: A002
        max_characters: int = 8_000,
    ) -> context.ContactContext:
        """What is worth knowing of somebody before an act, in one read; NotFoundError when there is no such contact.

        Args:
            email: Their address, in any case; this or `id`.
            id: Their contact's id.
            max_characters: How long `text` may be, 500 to 100,000; a token is about four of them.
        """
        return await self._caller.run(context.get(email, id, max_characters))

    async def search(
        self,
        *,
        query: str = "",
        email: str = "",
        domain: str = "",
        name: str = "",
        filters: Mapping[str, Any] | None = None,
        filter: str = "",  # noqa: A002
        order_by: str = "",
        explain: bool = False,
        limit: int | None = None,
    ) -> AsyncResults[contacts.Contact]:
        """Contacts that meet every condition, in order of id, or as `order_by` says.

        Args:
            query: An address, a domain, or words of the name, each matched from its beginning.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions, at most 32: a path in the metadata and what must be there, or operators of
                `gt gte lt lte ne in exists prefix`; one of the times `last_contacted`, `last_inbound`, `created` and
                `updated` with `_before` or `_after`; `never_contacted`, `awaiting_reply`, `has_open_thread`.
            filter: Conditions as text (AIP-160), at most 4096 characters, with AND, OR, NOT and brackets.
            order_by: Up to 3 of `email`, `name`, `create_time`, `update_time`, `last_contacted`, `last_inbound`,
                `interaction_count` and `thread_count`, joined by commas, each falling when `desc` follows.
            explain: Tell in `plan` of the results how the first page was found.
            limit: How many results there may be; iterating walks on without one.

        Raises:
            FailedPreconditionError: No index serves the conditions or the order, and there are too many contacts to
                look at each; reason FILTER_TOO_BROAD.

        Example:
            found = await client.contacts.search(
                filter='metadata.plan = "pro" AND last_contacted < -30d AND NOT has_open_thread',
                order_by="last_contacted desc",
            )
            same = await client.contacts.search(
                filters={
                    "metadata.plan": "pro",  # or an array that holds it
                    "metadata.open_tickets": {"gte": 2, "lt": 10},
                    'metadata."a.b"': {"exists": True},  # a key that itself holds a dot
                    "last_contacted_before": "2026-03-20",  # its start in UTC; people never contacted count
                }
            )
        """
        chosen = contacts.conditions(query, email, domain, name, filters, filter)
        return await self._caller.results(
            lambda token, size: contacts.search(chosen, order_by, token, size, explain=explain), limit
        )

    async def count(
        self,
        *,
        query: str = "",
        email: str = "",
        domain: str = "",
        name: str = "",
        filters: Mapping[str, Any] | None = None,
        filter: str = "",  # noqa: A002
    ) -> int:
        """How many contacts `search` would find, under the same bound.

        Args:
            query: See `search`; so for all arguments.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions.
            filter: Conditions as text.
        """
        return await self._caller.run(contacts.count(contacts.conditions(query, email, domain, name, filters, filter)))

    async def export(
        self,
        *,
        query: str = "",
        email: str = "",
        domain: str = "",
        name: str = "",
        filters: Mapping[str, Any] | None = None,
        filter: str = "",  # noqa: A002
        patience: float = PATIENCE_S,
    ) -> AsyncStream[contacts.Contact]:
        """Every contact that `search` would find, in order of id, over one stream; the first step says what is wrong.

        Args:
            query: See `search`; so for all conditions.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions.
            filter: Conditions as text.
            patience: Seconds for which a service that cannot be reached is waited for before UnavailableError.

        Example:
            async for contact in await client.contacts.export(filter="metadata.plan = pro"):
                print(contact.email)
        """
        chosen = contacts.conditions(query, email, domain, name, filters, filter)
        return self._caller.export(contacts.export(chosen), patience)

    async def watch(
        self,
        *,
        query: str = "",
        email: str = "",
        domain: str = "",
        name: str = "",
        filters: Mapping[str, Any] | None = None,
        filter: str = "",  # noqa: A002
        after_seq: int = 0,
        only_new: bool = False,
        patience: float = PATIENCE_S,
    ) -> AsyncWatch[contacts.ContactChange]:
        """Every contact as it changes, in order and without a gap, and whether it meets the conditions of `search`.

        Args:
            query: See `search`; so for all conditions.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions.
            filter: Conditions as text.
            after_seq: Begin behind this number, such as the `seq` of an earlier watch; 0 for the oldest kept.
            only_new: Begin with what changes once this call has returned; not beside `after_seq`.
            patience: Seconds for which a service that cannot be reached is waited for before UnavailableError.

        Raises:
            FailedPreconditionError: What came after `after_seq` is no longer kept, reason POSITION_TOO_OLD; the first
                step of the iteration says so.

        Example:
            async with await client.contacts.watch(filter="metadata.plan = pro", only_new=True) as watch:
                async for change in watch:
                    print(change.contact_id, change.matches)
        """
        chosen = contacts.conditions(query, email, domain, name, filters, filter)
        return await self._caller.watch(contacts.watch(chosen, after_seq, only_new=only_new), patience)

    async def update(
        self,
        *,
        email: str | None = None,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        replace_metadata: bool = False,
        set: Mapping[str, Any] | None = None,  # noqa: A002
        unset: Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        increment: Mapping[str, float] | None = None,
        add_to_set: Mapping[str, Any] | None = None,
        remove: Mapping[str, Any] | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> contacts.Contact:
        """Changes a known contact; all parts apply together or not at all.

        Paths are keys joined by dots: `address.city`; a key that holds a dot is quoted: `"a.b".c`. Operators apply in
        the order of their arguments; two that touch one path are refused.

        Args:
            email: Its address, in any case; this or `id`.
            id: Its id.
            name: The new name; an empty one clears it, None leaves it.
            metadata: What to merge (RFC 7396): objects merge at every depth, None clears a key, all else replaces.
            replace_metadata: Make `metadata` the whole new metadata instead.
            set: Path → value that replaces whatever is there; objects on the way are made.
            unset: Paths to remove; one that is not there is no error.
            rename: Old path → new path; the old one must be there, and the new one must not.
            increment: Path → number to add; a missing one counts as 0.
            add_to_set: Path → value to append to an array unless an equal one is in it; a missing array is made.
            remove: Path → value whose every equal is removed from an array.
            etag: Change only while this is its version.
            request_id: Makes the call repeatable across processes; minted when left out.

        Raises:
            NotFoundError: There is no such contact.
            AbortedError: It has changed since, reason ETAG_MISMATCH.

        Example:
            await client.contacts.update(
                email="elena@acmecorp.com",
                metadata={"plan": "pro", "trial": None},
                set={"address": {"city": "Oslo"}},
                unset=["draft"],
                rename={"phone": "phones.work"},
                increment={"open_tickets": 1},
                add_to_set={"tags": "vip"},
                remove={"tags_old": "lead"},
            )
        """
        return await self._caller.run(
            contacts.update(
                email, id, name=name, metadata=metadata, replace_metadata=replace_metadata, set=set, unset=unset,
                rename=rename, increment=increment, add_to_set=add_to_set, remove=remove, etag=etag,
                request_id=request_id,
            )
        )  # fmt: skip

    async def delete(
        self,
        *,
        email: str | None = None,
        id: str | None = None,  # noqa: A002
        etag: str = "",
        request_id: str | None = None,
    ) -> contacts.Erasure:
        """Erases a person: gone from every answer at once, their mail scrubbed within 24 hours.

        Mail to them that has not left is cancelled. NotFoundError when there is no such contact.

        Args:
            email: Their address, in any case; this or `id`.
            id: Their contact's id.
            etag: Erase only while this is its version; else AbortedError.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return await self._caller.run(contacts.delete(email, id, etag, request_id))

    async def interactions(
        self,
        *,
        email: str | None = None,
        id: str | None = None,  # noqa: A002
        limit: int | None = None,
    ) -> AsyncResults[contacts.Interaction]:
        """A contact's log, newest first; NotFoundError when there is no such contact.

        Args:
            email: Its address, in any case; this or `id`.
            id: Its id.
            limit: How many results there may be; iterating walks on without one.
        """
        return await self._caller.results(lambda token, size: contacts.interactions(email, id, token, size), limit)
