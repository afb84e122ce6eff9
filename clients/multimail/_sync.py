"""Made by `make sync` from the asyncio one, so edit that: mailboxes, threads, notifications, suppressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimail import delivery, mailboxes, notifications, threads
from multimail.streaming import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from multimail import words
    from multimail._caller import Caller
    from multimail.paging import Results
    from multimail.watching import Watch


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
