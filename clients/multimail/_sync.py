"""Made by `make sync` from the asyncio one, so edit that: `client.contacts`, `.mailboxes`, `.threads` and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimail import contacts, delivery, mail, mailboxes, notifications
from multimail.watching import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

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
        """Makes a contact; AlreadyExistsError when the address is known, unless `upsert`."""
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
        """Makes the contact, or merges into it: objects merge at every depth, None clears a key."""
        return self._caller.run(contacts.upsert(email, name, metadata, last_contacted, request_id))

    def get(self, *, email: str | None = None, id: str | None = None) -> contacts.Contact:  # noqa: A002
        """One contact, by address or id."""
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
            query: An address, a domain, or words of the name.
            email: The whole address.
            domain: The whole domain.
            name: Words of the name.
            filters: Typed conditions: `{"metadata.plan": "pro", "last_contacted_before": "2026-03-20"}`.
            limit: How many results there may be; iterating walks on without one.
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
        """Changes a known contact; all parts apply together or not at all. Paths are keys joined by dots."""
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
        """Erases a person: gone from every answer at once, their mail scrubbed soon after."""
        return self._caller.run(contacts.delete(email, id, etag, request_id))

    def interactions(
        self,
        *,
        email: str | None = None,
        id: str | None = None,  # noqa: A002
        limit: int | None = None,
    ) -> Results[contacts.Interaction]:
        """The contact's log, newest first."""
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
        oversight_mode: str | None = None,
        hold_first_contact: bool | None = None,
        allow_list: Sequence[str] = (),
        approval_ttl: timedelta | None = None,
        in_doubt_policy: str | None = None,
        request_id: str | None = None,
    ) -> mailboxes.Mailbox:
        """Makes a mailbox; AlreadyExistsError when its address is taken.

        Args:
            email: The address.
            display_name: The name shown in From.
            oversight_mode: `monitored` when left out; a looser one needs the scope oversight.
            hold_first_contact: Hold the first mail to every person for approval, whatever the mode.
            allow_list: Addresses and domains to which mail goes without approval.
            approval_ttl: How long held mail waits for a person: a minute to 30 days.
            in_doubt_policy: `retry` or `hold` mail of which nobody can tell whether it was handed over.
            request_id: Makes the call repeatable across processes; minted when left out.
        """
        return self._caller.run(
            mailboxes.create(
                email, display_name, oversight_mode, allow_list, approval_ttl, in_doubt_policy, request_id,
                hold_first_contact=hold_first_contact,
            )
        )  # fmt: skip

    def get(self, mailbox: str) -> mailboxes.Mailbox:
        """One mailbox."""
        return self._caller.run(mailboxes.get(mailbox))

    def list(self, *, limit: int | None = None) -> Results[mailboxes.Mailbox]:
        """The mailboxes that are not deleted."""
        return self._caller.results(mailboxes.list_all, limit)

    def update(
        self,
        mailbox: str,
        *,
        display_name: str | None = None,
        oversight_mode: str | None = None,
        hold_first_contact: bool | None = None,
        allow_list: Sequence[str] | None = None,
        approval_ttl: timedelta | None = None,
        in_doubt_policy: str | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> mailboxes.Mailbox:
        """Changes what is given, and leaves the rest; an `allow_list` is the whole new one."""
        return self._caller.run(
            mailboxes.update(
                mailbox, display_name, oversight_mode, allow_list, approval_ttl, in_doubt_policy, etag, request_id,
                hold_first_contact=hold_first_contact,
            )
        )  # fmt: skip

    def delete(self, mailbox: str, *, etag: str = "", request_id: str | None = None) -> mailboxes.Mailbox:
        """Deletes a mailbox; its log entries stay."""
        return self._caller.run(mailboxes.delete(mailbox, etag, request_id))


class Threads:
    """`client.threads`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def get(self, thread_id: str) -> mail.Thread:
        """One conversation with its newest mails."""
        return self._caller.run(mail.get_thread(thread_id))

    def list(
        self,
        *,
        mailbox: str | None = None,
        contact: str | None = None,
        awaiting_reply_before: datetime | None = None,
        unanswered: bool = False,
        limit: int | None = None,
    ) -> Results[mail.Thread]:
        """Conversations in order of id; all conditions given must hold.

        Args:
            mailbox: Only those that went through it; by address or id.
            contact: Only those this person takes part in; by address or id.
            awaiting_reply_before: Only those in which we have waited for an answer since before this time.
            unanswered: Only those in which somebody waits for our answer.
            limit: How many results there may be; iterating walks on without one.
        """
        return self._caller.results(
            lambda token, size: mail.list_threads(
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
        types: str | Sequence[str] = (),
        mailbox: str | None = None,
        limit: int | None = None,
    ) -> Results[notifications.Notification]:
        """What happened, oldest first, numbered higher than `after_seq`; by type and mailbox where given."""
        return self._caller.results(
            lambda token, size: notifications.list_all(after_seq, types, mailbox, token, size), limit
        )

    def watch(
        self,
        *,
        after_seq: int = 0,
        only_new: bool = False,
        types: str | Sequence[str] = (),
        mailbox: str | None = None,
        patience: float = PATIENCE_S,
    ) -> Watch:
        """What happens, as it happens: every notification once, in order, also across broken connections.

        Args:
            after_seq: Begin behind this number, such as the `seq` of an earlier watch; 0 for the oldest kept.
            only_new: Begin with what happens once this call has returned, instead.
            types: Only these types, such as `email_held`.
            mailbox: Only what is about this mailbox; by address or id.
            patience: Seconds for which a service that cannot be reached is waited for before UnavailableError.

        Raises:
            FailedPreconditionError: What came after `after_seq` is no longer kept, reason POSITION_TOO_OLD; the first
                step of the iteration says so.

        Example:
            for notification in client.notifications.watch(types=["email_held"], only_new=True):
                print(notification.email_id)
        """
        request = notifications.watch(after_seq, types, mailbox, only_new=only_new)
        return self._caller.watch(request, patience)


class Suppressions:
    """`client.suppressions`: addresses no mailbox of the account writes to."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self, *, address: str = "", limit: int | None = None) -> Results[delivery.Suppression]:
        """The suppressed addresses, or the one asked for if it is suppressed."""
        return self._caller.results(lambda token, size: delivery.list_suppressions(address, token, size), limit)

    def add(self, address: str, *, request_id: str | None = None) -> delivery.Suppression:
        """Suppresses an address: sends to it are refused."""
        return self._caller.run(delivery.add_suppression(address, request_id))

    def remove(self, address: str, *, request_id: str | None = None) -> delivery.Suppression:
        """Lifts a suppression, whatever its reason; NotFoundError when there is none."""
        return self._caller.run(delivery.remove_suppression(address, request_id))
