"""Made by `make sync` from the asyncio one, so edit that: `client.contacts`, `.mailboxes`, `.threads` and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail import contacts, delivery, mailboxes, notifications, threads
from multimail.streaming import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from multimail import words
    from multimail._caller import Caller
    from multimail.paging import Results
    from multimail.watching import Watch


class Contacts:
    """`client.contacts`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create(
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
        return self._caller.run(contacts.create(email, name, metadata, last_contacted, request_id, upsert=upsert))

    def upsert(
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
        return self._caller.run(contacts.upsert(email, name, metadata, last_contacted, request_id))

    def get(self, *, email: str | None = None, id: str | None = None) -> contacts.Contact:  # noqa: A002
        """One contact; NotFoundError when there is none.

        Args:
            email: Its address, in any case; this or `id`.
            id: Its id.
        """
        return self._caller.run(contacts.get(email, id))

    def search(
        self,
        *,
        query: str = "",
        email: str = "",
        domain: str = "",
        name: str = "",
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Results[contacts.Contact]:
        """Contacts that meet every condition, in order of id.

        Args:
            query: An address, a domain, or words of the name, each matched from its beginning.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions, at most 32: a path in the metadata and what must be there, or operators of
                `gt gte lt lte ne in exists prefix`; one of the times `last_contacted`, `last_inbound`, `created` and
                `updated` with `_before` or `_after`; `never_contacted`.
            limit: How many results there may be; iterating walks on without one.

        Example:
            filters={
                "metadata.plan": "pro",  # or an array that holds it
                "metadata.open_tickets": {"gte": 2, "lt": 10},
                'metadata."a.b"': {"exists": True},  # a key that itself holds a dot
                "last_contacted_before": "2026-03-20",  # its start in UTC; people never contacted count
            }
        """
        return self._caller.results(
            lambda token, size: contacts.search(query, email, domain, name, filters, token, size), limit
        )

    def update(
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
            client.contacts.update(
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
        return self._caller.run(
            contacts.update(
                email, id, name=name, metadata=metadata, replace_metadata=replace_metadata, set=set, unset=unset,
                rename=rename, increment=increment, add_to_set=add_to_set, remove=remove, etag=etag,
                request_id=request_id,
            )
        )  # fmt: skip

    def delete(
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
        return self._caller.run(contacts.delete(email, id, etag, request_id))

    def interactions(
        self,
        *,
        email: str | None = None,
        id: str | None = None,  # noqa: A002
        limit: int | None = None,
    ) -> Results[contacts.Interaction]:
        """A contact's log, newest first; NotFoundError when there is no such contact.

        Args:
            email: Its address, in any case; this or `id`.
            id: Its id.
            limit: How many results there may be; iterating walks on without one.
        """
        return self._caller.results(lambda token, size: contacts.interactions(email, id, token, size), limit)


class Mailboxes:
    """`client.mailboxes`; a mailbox is named by its address or id."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create(
        self,
        *,
        email: str,
        display_name: str = "",
        oversight_mode: words.OversightMode | None = None,
        hold_first_contact: bool | None = None,
        allow_list: Sequence[str] = (),
        approval_ttl: timedelta | None = None,
        in_doubt_policy: words.InDoubtPolicy | None = None,
        request_id: str | None = None,
    ) -> mailboxes.Mailbox:
        """Makes a mailbox; AlreadyExistsError when its address is taken.

        Args:
            email: The address.
            display_name: The name shown in From.
            oversight_mode: `monitored` when left out; a looser one needs the scope oversight.
            hold_first_contact: Hold the first mail to every person for approval, whatever the mode.
            allow_list: Addresses and domains to which mail goes without approval, at most 1000; needs oversight.
            approval_ttl: How long held mail waits for a person: a minute to 30 days; 24 hours when left out.
            in_doubt_policy: What becomes of mail of which nobody can tell whether it was handed over; `retry` when left
                out.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(
            mailboxes.create(
                email, display_name, oversight_mode, allow_list, approval_ttl, in_doubt_policy, request_id,
                hold_first_contact=hold_first_contact,
            )
        )  # fmt: skip

    def get(self, mailbox: str) -> mailboxes.Mailbox:
        """One mailbox; NotFoundError when there is none.

        Args:
            mailbox: Its address, or its id, by which a deleted one is found too.
        """
        return self._caller.run(mailboxes.get(mailbox))

    def list(self, *, limit: int | None = None) -> Results[mailboxes.Mailbox]:
        """The mailboxes that are not deleted, in order of id.

        Args:
            limit: How many results there may be; iterating walks on without one.
        """
        return self._caller.results(mailboxes.list_all, limit)

    def update(
        self,
        mailbox: str,
        *,
        display_name: str | None = None,
        oversight_mode: words.OversightMode | None = None,
        hold_first_contact: bool | None = None,
        allow_list: Sequence[str] | None = None,
        approval_ttl: timedelta | None = None,
        in_doubt_policy: words.InDoubtPolicy | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> mailboxes.Mailbox:
        """Changes what is given, and leaves the rest. What makes people watch less needs the scope oversight.

        Args:
            mailbox: Its address or id.
            display_name: The name shown in From; an empty one clears it.
            oversight_mode: The new mode.
            hold_first_contact: Whether to hold the first mail to every person for approval, whatever the mode.
            allow_list: The whole new list of addresses and domains to which mail goes without approval, at most 1000.
            approval_ttl: How long held mail waits for a person: a minute to 30 days.
            in_doubt_policy: What becomes of mail of which nobody can tell whether it was handed over.
            etag: Change only while this is its version; else AbortedError.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(
            mailboxes.update(
                mailbox, display_name, oversight_mode, allow_list, approval_ttl, in_doubt_policy, etag, request_id,
                hold_first_contact=hold_first_contact,
            )
        )  # fmt: skip

    def delete(self, mailbox: str, *, etag: str = "", request_id: str | None = None) -> mailboxes.Mailbox:
        """Deletes a mailbox: its address is free again, mail that waits does not go, log entries stay.

        Args:
            mailbox: Its address or id.
            etag: Delete only while this is its version; else AbortedError.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(mailboxes.delete(mailbox, etag, request_id))


class Threads:
    """`client.threads`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def get(self, thread_id: str) -> threads.Thread:
        """One conversation with its newest mails; NotFoundError when there is none.

        Args:
            thread_id: Its id, such as the `thread_id` of a mail.
        """
        return self._caller.run(threads.get(thread_id))

    def list(
        self,
        *,
        mailbox: str | None = None,
        contact: str | None = None,
        awaiting_reply_before: datetime | None = None,
        unanswered: bool = False,
        limit: int | None = None,
    ) -> Results[threads.Thread]:
        """Conversations in order of id; all conditions given must hold.

        Args:
            mailbox: Only those that went through it; by address or id.
            contact: Only those this person takes part in; by address or id.
            awaiting_reply_before: Only those in which we have waited for an answer since before this time.
            unanswered: Only those in which somebody waits for our answer.
            limit: How many results there may be; iterating walks on without one.
        """
        return self._caller.results(
            lambda token, size: threads.list_all(
                mailbox, contact, awaiting_reply_before, token, size, unanswered=unanswered
            ),
            limit,
        )


class Notifications:
    """`client.notifications`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self,
        *,
        after_seq: int = 0,
        types: words.NotificationType | Sequence[words.NotificationType] = (),
        mailbox: str | None = None,
        limit: int | None = None,
    ) -> Results[notifications.Notification]:
        """What happened, oldest first; kept for 30 days.

        Args:
            after_seq: Only those numbered higher.
            types: Only this type, or these.
            mailbox: Only what is about this mailbox; by address or id.
            limit: How many results there may be; iterating walks on without one.

        Raises:
            FailedPreconditionError: What came after `after_seq` is no longer kept, reason POSITION_TOO_OLD.
        """
        return self._caller.results(
            lambda token, size: notifications.list_all(after_seq, types, mailbox, token, size), limit
        )

    def watch(
        self,
        *,
        after_seq: int = 0,
        only_new: bool = False,
        types: words.NotificationType | Sequence[words.NotificationType] = (),
        mailbox: str | None = None,
        patience: float = PATIENCE_S,
    ) -> Watch[notifications.Notification]:
        """What happens, as it happens: every notification once, in order, also across broken connections.

        Args:
            after_seq: Begin behind this number, such as the `seq` of an earlier watch; 0 for the oldest kept.
            only_new: Begin with what happens once this call has returned; not beside `after_seq`.
            types: Only this type, or these.
            mailbox: Only what is about this mailbox, deleted meanwhile or not; by id, or by the address it has now.
            patience: Seconds for which a service that cannot be reached is waited for before UnavailableError.

        Raises:
            NotFoundError: No mailbox has this address.
            FailedPreconditionError: What came after `after_seq` is no longer kept, reason POSITION_TOO_OLD; the first
                step of the iteration says so.

        Example:
            with client.notifications.watch(types="email_held", only_new=True) as watch:
                for notification in watch:
                    print(notification.email_id)
        """
        if mailbox and "@" in mailbox:  # an address may be given to another mailbox while the watch reconnects
            found = self._caller.run(mailboxes.get(mailbox))
            mailbox = found.id
        return self._caller.watch(notifications.watch(after_seq, types, mailbox, only_new=only_new), patience)


class Suppressions:
    """`client.suppressions`: addresses no mailbox of the account writes to."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self, *, address: str = "", limit: int | None = None) -> Results[delivery.Suppression]:
        """The suppressed addresses, in no order that means anything.

        Args:
            address: Only this one, if it is suppressed.
            limit: How many results there may be; iterating walks on without one.
        """
        return self._caller.results(lambda token, size: delivery.list_suppressions(address, token, size), limit)

    def add(self, address: str, *, request_id: str | None = None) -> delivery.Suppression:
        """Suppresses an address: sends to it are refused.

        Args:
            address: The address, bare.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(delivery.add_suppression(address, request_id))

    def remove(self, address: str, *, request_id: str | None = None) -> delivery.Suppression:
        """Lifts a suppression, whatever its reason; NotFoundError when there is none.

        Args:
            address: The address.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(delivery.remove_suppression(address, request_id))
