"""Mailboxes in the database: made, changed and deleted; their addresses are claimed across accounts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.aip.etag import etag_of
from multimail_server.errors import DomainError, Reason
from multimail_server.mail import oversight
from multimail_server.mail.accepting import living_mailbox
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from multimail_server.aip.address import Address
    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Draft
    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.operation import Request
    from multimail_server.storage.reads import Reader


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a mailbox's mail besides its mode; None leaves what was.

    Attributes:
        hold_first_contact: Whether the first mail to a person waits for approval.
        allow_list: Address keys and domains that need no approval.
        approval_ttl: How long held mail waits.
        in_doubt_policy: `retry` or `hold`.
    """

    hold_first_contact: bool | None = None
    allow_list: Sequence[str] | None = None
    approval_ttl: timedelta | None = None
    in_doubt_policy: str | None = None

    @property
    def complete(self) -> Rules:
        """These rules for a new mailbox: what was not given is as it usually is."""
        return replace(
            self,
            hold_first_contact=bool(self.hold_first_contact),
            allow_list=self.allow_list or (),
            in_doubt_policy=self.in_doubt_policy or "retry",
        )

    def over(self, known: Document) -> Document:
        """These rules, and where one is None the known one."""
        given = {
            "hold_first_contact": self.hold_first_contact,
            "allow_list": None if self.allow_list is None else list(self.allow_list),
            "approval_ttl_s": None if self.approval_ttl is None else self.approval_ttl.total_seconds(),
            "in_doubt_policy": self.in_doubt_policy,
        }
        return {name: known.get(name) if value is None else value for name, value in given.items()}


class MailboxStore:
    """Reads and changes mailboxes; a change is atomic, and no two mailboxes anywhere share an address."""

    def __init__(self, database: Database, reader: Reader, committer: Committer) -> None:
        self._database = database
        self._reader = reader
        self._committer = committer

    async def get(self, account: str, need: Need) -> Document:
        """The mailbox, by id even when deleted, or MAILBOX_NOT_FOUND."""
        found = await self._reader.one(account, need.collection, need.field, need.values[0])
        if found is None:
            raise errors.not_found("mailbox")
        return found

    async def list(self, account: str, *, after: str, limit: int) -> list[Document]:
        """The mailboxes that are not deleted, in order of id, those behind the id `after`, at most `limit`."""
        return await self._database.find(
            "mailboxes",
            {"account": account, "_id": {"$gt": after}, "delete_time": None},
            sort=[("_id", 1)],
            limit=limit,
        )

    async def owner_of(self, key: str) -> Document | None:
        """Whose mailbox an address is: `{_id: address key, account, mailbox}`, or None when it is nobody's here."""
        found = await self._database.find("addresses", {"_id": key})
        return found[0] if found else None

    async def create(
        self, request: Request, address: Address, *, display_name: str, mode: str, rules: Rules
    ) -> Document:
        """Makes a mailbox, or refuses with ADDRESS_TAKEN."""

        def rule(draft: Draft) -> Document:
            if draft.get("addresses", address.key) is not None:
                raise DomainError(Reason.ADDRESS_TAKEN, "A mailbox has this address already; choose another.")
            mailbox: Document = {
                "_id": draft.new_id("mbx"),
                "account": draft.account,
                "email": address.display,
                "email_key": address.key,
                "domain": address.domain,
                "display_name": display_name,
                "mode": mode,
                **rules.over({}),
                "revision": 1,
                "create_time": draft.now,
                "update_time": draft.now,
                "delete_time": None,
            }
            draft.put("mailboxes", mailbox)
            draft.put("addresses", {"_id": address.key, "account": draft.account, "mailbox": mailbox["_id"]})
            return _told(draft, mailbox, "mailbox_created")

        return await self._run(request, Need("addresses", "_id", (address.key,)), rule)

    async def update(
        self,
        request: Request,
        need: Need,
        *,
        display_name: str | None,
        mode: str,
        rules: Rules,
        etag: str,
        may_loosen: Callable[[], None],
    ) -> Document:
        """Changes a mailbox; `may_loosen` raises when the caller may not make people watch it less."""

        def rule(draft: Draft) -> Document:
            known = _current(draft, need, etag)
            mailbox = known | {
                "display_name": known["display_name"] if display_name is None else display_name,
                "mode": mode or known["mode"],
                **rules.over(known),
            }
            if oversight.is_looser(mailbox["mode"], known["mode"]) or _loosens(mailbox, known):
                may_loosen()
            draft.outcome = {"mailbox": known["_id"]}
            if mailbox == known:
                return known
            mailbox |= {"revision": known["revision"] + 1, "update_time": draft.now}
            draft.put("mailboxes", mailbox)
            return _told(draft, mailbox, "mailbox_updated")

        return await self._run(request, need, rule)

    async def delete(self, request: Request, need: Need, *, etag: str, may_loosen: Callable[[], None]) -> Document:
        """Deletes a mailbox and frees its address; its row stays, so that log entries stay readable.

        `may_loosen` raises when the caller may not make people watch less: a new mailbox could take the address over.
        """

        def rule(draft: Draft) -> Document:
            known = _current(draft, need, etag)
            if known["hold_first_contact"] or oversight.is_looser(oversight.DEFAULT, known["mode"]):
                may_loosen()
            mailbox = known | {
                "email_key": known["_id"],
                "revision": known["revision"] + 1,
                "update_time": draft.now,
                "delete_time": draft.now,
            }
            draft.put("mailboxes", mailbox)
            if draft.get("addresses", known["email_key"]) is not None:
                draft.delete("addresses", known["email_key"])
            return _told(draft, mailbox, "mailbox_deleted")

        return await self._run(request, need, rule)

    async def _run(self, request: Request, need: Need, rule: Callable[[Draft], Document]) -> Document:
        return await self._committer.run(request.operation([need], rule, _again))


def _loosens(mailbox: Document, before: Document) -> bool:
    """Whether the rules of a mailbox let pass what they did not before."""
    longer = mailbox["approval_ttl_s"] > before["approval_ttl_s"]
    no_more = before["hold_first_contact"] and not mailbox["hold_first_contact"]
    return longer or no_more or not set(mailbox["allow_list"]) <= set(before["allow_list"])


def _current(draft: Draft, need: Need, etag: str) -> Document:
    known = living_mailbox(draft, need)
    current = etag_of(known["_id"], known["revision"])
    if etag and etag != current:
        raise errors.etag_mismatch("mailbox", current)
    return known


def _told(draft: Draft, mailbox: Document, kind: str) -> Document:
    draft.notify(kind, mailbox=mailbox["_id"])
    draft.outcome = {"mailbox": mailbox["_id"]}
    return mailbox


def _again(draft: Draft, outcome: Document) -> Document:
    """The answer to a repeated request: the mailbox as it is now."""
    mailbox = draft.get("mailboxes", outcome["mailbox"])
    if mailbox is None:
        raise errors.not_found("mailbox")
    return mailbox
