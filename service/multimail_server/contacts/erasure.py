"""Erasing a person: gone from every answer in one operation, their mail scrubbed by a job that survives restarts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from multimail_server import errors
from multimail_server.contacts import contact as rules
from multimail_server.contacts.store import adoption_id, found
from multimail_server.mail import email as email_rules
from multimail_server.mail import oversight, states, thread
from multimail_server.mail.removal import removal
from multimail_server.mail.suppressions import need_suppressions, suppression_of
from multimail_server.storage.documents import MoreNeededError, Need
from multimail_server.storage.mongo import up_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multimail_server.storage.commit import Committer
    from multimail_server.storage.documents import Draft
    from multimail_server.storage.mongo import Database, Document
    from multimail_server.storage.operation import Request

SCRUB_WITHIN = timedelta(hours=24)
_LEAVING = (("state", {"$in": sorted(states.UNSETTLED)}),)


class Erasures:
    """Erases people."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    async def erase(self, request: Request, need: Need, etag: str) -> Document:
        """Erases the contact and returns the erasure's record; CONTACT_NOT_FOUND when there is none."""

        def rule(draft: Draft) -> Document:
            return _erase(draft, found(draft, need, etag))

        return await self._committer.run(request.operation([need], rule, _again))


def _erase(draft: Draft, contact: Document) -> Document:
    identifier, keys = contact["_id"], contact["email_keys"]
    draft.see([need_suppressions(draft.account, keys)])
    for email in _leaving(draft, identifier):
        stopped = states.without_person(email, identifier, draft.now)
        draft.put("emails", stopped)
        if states.is_settled(stopped):
            shown = oversight.is_shown(email["mode"])
            about = {"email": email["_id"], "mailbox": email["mailbox"], "thread": email["thread"]}
            draft.notify("email_settled", shown=shown, **about, state=stopped["state"])
    for key in keys:
        if draft.get("jobs", adoption_id(draft.account, key)) is not None:
            draft.delete("jobs", adoption_id(draft.account, key))
    for key in keys:  # who is suppressed stays so, without being named
        if (suppression := suppression_of(draft, key)) is not None:
            draft.put("suppressions", suppression | {"address": ""})
    draft.put("contacts", rules.tombstone(contact, draft.now))
    draft.empty("contacts", identifier)
    erasure: Document = {
        "_id": draft.new_id("erasure"),
        "account": draft.account,
        "contact": identifier,
        "done": False,
        "create_time": draft.now,
        "scrub_by": draft.now + SCRUB_WITHIN,
    }
    draft.put("erasures", erasure)
    draft.put(
        "jobs",
        {
            "_id": f"scrub/{draft.account}/{erasure['_id']}",
            "account": draft.account,
            "type": "scrub",
            "erasure": erasure["_id"],
            "contact": identifier,
            "keys": keys,
            "until": draft.now,
            "due_at": draft.now,
        },
    )
    draft.notify("contact_deleted", contact=identifier)
    draft.outcome = {"erasure": erasure["_id"]}
    return erasure


def _leaving(draft: Draft, contact: str) -> list[Document]:
    """The person's mail that has not left yet."""
    try:
        emails = draft.all("emails", "people", contact)
    except MoreNeededError:
        raise MoreNeededError(Need("emails", "people", (contact,), _LEAVING)) from None
    return [email for email in emails if email["direction"] == "outbound" and not states.is_settled(email)]


def _again(draft: Draft, outcome: Document) -> Document:
    """The answer to a repeated request: the erasure as it is now."""
    erasure = draft.get("erasures", outcome["erasure"])
    if erasure is None:
        raise errors.not_found("contact")
    return erasure


async def mail_to_scrub(database: Database, job: Document, limit: int) -> list[str]:
    """Ids of mails that still name the person, none of them newer than the erasure."""
    account, until = job["account"], up_to(job["until"])
    by_address = await database.find(
        "emails", {"account": account, "named": {"$in": job["keys"]}, "at": until}, projection={"_id": 1}, limit=limit
    )
    by_id = await database.find(
        "emails", {"account": account, "people": job["contact"], "at": until}, projection={"_id": 1}, limit=limit
    )
    return list(dict.fromkeys(email["_id"] for email in [*by_address, *by_id]))[:limit]


def scrub(draft: Draft, job: Document, ids: Sequence[str]) -> None:
    """Takes the person out of these mails and their threads."""
    for identifier in ids:
        email = draft.get("emails", identifier)
        if email is None:
            continue
        left = draft.put("emails", email_rules.scrubbed(email, job["contact"], job["keys"]))
        files = [each["file"] for each in email["attachments"] if "file" in each]
        if files and not left["attachments"]:
            draft.put("jobs", removal(draft.account, identifier, files, draft.now))
        conversation = draft.get("threads", email["thread"])
        if conversation is not None:
            draft.put("threads", thread.without_person(conversation, job["contact"], job["keys"]))
    draft.notify("emails_scrubbed", shown=False, contact=job["contact"])


def finish(draft: Draft, job: Document) -> None:
    """Closes the erasure: nothing names the person any more."""
    if draft.get("jobs", job["_id"]) is None:  # another process was first
        return
    erasure = draft.get("erasures", job["erasure"])
    if erasure is not None:
        draft.put("erasures", erasure | {"done": True})
    draft.delete("jobs", job["_id"])
    draft.notify("emails_scrubbed", contact=job["contact"])
