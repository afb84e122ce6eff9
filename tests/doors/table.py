"""Every RPC, and the way to it through each door; a door without a way says why."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.doors.said import Refused

if TYPE_CHECKING:
    from collections.abc import Callable


def whole(answer: Any) -> Any:
    """The answer as it is."""
    return answer


@dataclass(frozen=True)
class Way:
    """How a door is asked, and what it makes of the answer.

    Attributes:
        call: The method, tool or command.
        names: What a field of the request is called there; for a command `--option`, `<argument` or `@file`.
        gives: From gRPC's answer to what this door says of it.
        shows: From what this door says to the part that is the answer.
        fixed: Arguments that go with every call.
        prepared: The arguments as the door wants them.
    """

    call: str
    names: dict[str, str] = field(default_factory=dict)
    gives: Callable[[Any], Any] = whole
    shows: Callable[[Any], Any] = whole
    fixed: dict[str, Any] = field(default_factory=dict)
    prepared: Callable[[dict[str, Any]], dict[str, Any]] = whole


@dataclass(frozen=True)
class Row:
    """An RPC. A text instead of a way says why there is none."""

    method: str
    sdk: Any
    mcp: Any
    cli: Any


def part(name: str) -> Callable[[Any], Any]:
    """One part of an answer."""
    return lambda answer: answer.get(name)


def beside(name: str) -> Callable[[Any], Any]:
    """One part, with what the answer says beside it among its fields."""
    return lambda answer: answer[name] | {each: answer[each] for each in answer if each != name}


def first(name: str) -> Callable[[Any], Any]:
    """The one thing of a list."""
    return lambda answer: answer[name][0]


def each(name: str) -> Callable[[Any], Any]:
    """That part of every response of a stream."""
    return lambda answer: [response[name] for response in answer]


def _rows(outcomes: Any) -> Any:
    """What became of each row of many."""
    told = ((one.get("upserted") or {"error": one["refusal"]}) for one in outcomes)
    return [{"row": number} | one for number, one in enumerate(told)]


def _counts(outcomes: Any) -> Any:
    """How often a file's rows came to what."""
    words = [one.get("upserted", {}).get("outcome", "refused") for one in outcomes]
    return {"rows": len(words)} | {word: words.count(word) for word in words}


def _decided(answer: Any) -> Any:
    """The one decision: the mail, or the refusal it comes to where it is a call of its own."""
    (outcome,) = answer["outcomes"]
    refusal = outcome.get("refusal")
    return Refused(refusal["reason"], refusal["metadata"]) if refusal else outcome["email"]


def _pair(given: dict[str, Any]) -> dict[str, Any]:
    (decision,) = given.pop("emails")
    return decision | given


def _pairs(given: dict[str, Any]) -> dict[str, Any]:
    return given | {"emails": [(one["email_id"], one["content_sha256"]) for one in given["emails"]]}


def _pair_options(given: dict[str, Any]) -> dict[str, Any]:
    decided = _pair(given)
    return {"<id": decided.pop("email_id"), "--content-sha256": decided.pop("content_sha256")} | decided


def _guard_options(given: dict[str, Any]) -> dict[str, Any]:
    guard = given.pop("guard", {})
    if "filters" in guard:
        guard["where"] = guard.pop("filters")
    return given | {"--" + name.replace("_", "-"): value for name, value in guard.items()}


def _who(given: dict[str, Any]) -> Any:
    return {"ids_or_emails": [one.get("email") or one["id"] for one in given["contacts"]]}


def _held(answer: Any) -> Any:
    """Held mail as a model sees it: people are named beside each, without their logs."""
    return [one["email"] | {"people": [who["contact"] for who in one["people"]]} for one in answer["emails"]]


def _file_told(told: Any) -> Any:
    """A file's size, and its text from between the marks and below its name."""
    (block,) = told["untrusted"]
    text = "\n".join(block["text"].split("\n")[2:-1])
    return {"size_bytes": told["attachment"]["size_bytes"], "content": base64.b64encode(text.encode()).decode()}


def _file(answer: Any) -> Any:
    return {"size_bytes": answer["attachment"]["size_bytes"], "content": answer["content"]}


def _context(answer: Any) -> Any:
    told = {name: answer.get(name) for name in ("suppression", "truncated")}
    return told | {"contact_id": answer["contact"]["id"], "etag": answer["contact"]["etag"]}


def _shown_context(answer: Any) -> Any:
    return {name: answer.get(name) for name in ("contact", "suppression", "open_threads", "pending", "interactions")}


def _thread(answer: Any) -> Any:
    return answer["thread"] | {"emails": answer["emails"]}


def _thread_newest_first(answer: Any) -> Any:
    return answer["thread"] | {"emails": answer["emails"][::-1]}


def _inbox(answer: Any) -> Any:
    return [one for one in answer["emails"] if one["direction"] == "inbound"]


def _rules(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value["entries"] if name == "allow_list" else value for name, value in given.items()}


_BOX = {"mailbox_email": "mailbox", "mailbox_id": "mailbox"}
_ONE_BOX = {"email": "mailbox", "id": "mailbox"}
_FROM = {"from_mailbox_email": "from_mailbox", "from_mailbox_id": "from_mailbox"}
_PERSON = {"contact_email": "contact", "contact_id": "contact"}
_KEY = {"request_id": "idempotency_key"}
_MORE = {"page_size": "limit", "page_token": "cursor"}
_LONG = {"max_tokens": 50_000}
_REPEAT = {"request_id": "--request-id", "etag": "--etag"}
_WHO = {"email": "<who", "id": "<who"}
_ALL = {"page_size": "--limit"}
_FIND = {"query": "<query", "email": "--email", "domain": "--domain", "name": "--name", "filter": "--filter",
         "filters": "--where", "order_by": "--order-by"} | _ALL  # fmt: skip
_ABOUT = {"name": "--name", "metadata": "--metadata", "last_contacted": "--last-contacted"}
_CHANGES = {
    "set": "--set", "unset": "--unset", "rename": "--rename", "increment": "--increment", "add_to_set": "--add",
    "remove": "--remove", "replace_metadata": "--replace",
}  # fmt: skip
_RULES = {
    "display_name": "--name", "oversight_mode": "--mode", "hold_first_contact": "--hold-first-contact",
    "approval_ttl": "--approval-ttl", "in_doubt_policy": "--in-doubt",
}  # fmt: skip
_TEXT = {"subject": "--subject", "body": "<body"}
_TO = {
    "to": "--to", "cc": "--cc", "bcc": "--bcc", "reply_to": "--reply-to", "send_time": "--send-at",
    "oversight_mode": "--mode", "list_unsubscribe": "--unsubscribe",
}  # fmt: skip
_CONTACT = beside("contact")
_ACCOUNT_OF_KEY = "a key is chosen by whoever starts it, and shows in what may be done"
_FOR_MANY = "many rows are no job for a model"
_FEED = "a provider's webhook or a mail server brings it, not this user"


def _contacts(action: str, **way: Any) -> Way:
    """A tool's way to contacts."""
    names = {**_KEY, **_MORE}
    return Way("manage_contacts", names, fixed={"action": action} | (_LONG if action != "delete" else {}), **way)


def _mailboxes(action: str) -> Way:
    """A tool's way to mailboxes."""
    one = action != "list"
    return Way(
        "manage_mailboxes", {**_KEY, **_MORE, **(_ONE_BOX if one else {})}, prepared=_rules,
        fixed={"action": action} | (_LONG if action in ("list", "get") else {}),
        gives=whole if one else part("mailboxes"), shows=first("mailboxes") if one else part("mailboxes"),
    )  # fmt: skip


def _suppressions(action: str) -> Way:
    """A tool's way to suppressions."""
    gives = {"list": part("suppressions"), "lift": part("suppression")}.get(action, whole)
    shows = part("suppressions") if action == "list" else first("suppressions")
    return Way("manage_suppressions", {**_KEY, **_MORE}, gives, shows, {"action": action})


def _mail(tool: str, names: dict[str, str], gives: Callable[[Any], Any] = whole, **way: Any) -> Way:
    """A tool's way to one mail."""
    return Way(tool, {**_KEY, **names}, gives, part("email"), **way)


def _listed(call: str, name: str, names: dict[str, str], **way: Any) -> Way:
    """A tool's way to a list."""
    return Way(call, {**_MORE, **names}, way.pop("gives", part(name)), part(name), fixed=_LONG)


_ID = {"id": "email_id"}
_SIZED = {"page_size": "limit"}

TABLE = {row.method: row for row in (
    Row("GetCaller", Way("get_caller"), _ACCOUNT_OF_KEY, _ACCOUNT_OF_KEY),
    Row("CreateContact", Way("contacts.create", gives=_CONTACT),
        "upsert is the one way: a model is not to be refused for what it did not know", "upsert is the one way"),
    Row("UpsertContact", Way("contacts.upsert", gives=_CONTACT),
        _contacts("upsert", gives=_CONTACT, shows=first("contacts")),
        Way("contacts upsert", {"email": "<email", **_ABOUT, **_REPEAT}, _CONTACT)),
    Row("BatchUpsertContacts",
        Way("contacts.upsert_many", gives=lambda answer: _rows(answer["outcomes"]),
            prepared=lambda given: {"rows": given["contacts"]}),
        _FOR_MANY, "import takes any number of rows"),
    Row("ImportContacts",
        Way("contacts.import_", gives=_rows,
            prepared=lambda given: {"rows": [given["contact"]], "import_id": given["import_id"]}),
        _FOR_MANY,
        Way("contacts import", {"import_id": "--import-id", "contact": "@rows.jsonl"}, _counts,
            lambda told: {name: told[name] for name in told if name not in ("import_id", "refusals")})),
    Row("GetContact", Way("contacts.get"), _contacts("get", shows=first("contacts")),
        Way("contacts show", _WHO, shows=part("contact"))),
    Row("BatchGetContacts",
        Way("contacts.get_many", prepared=_who,
            gives=lambda answer: [one.get("contact") for one in answer["outcomes"]]),
        _FOR_MANY, "show tells of one, search and export of many"),
    Row("GetContactContext", Way("contacts.context"), Way("get_contact_context", gives=_context, fixed=_LONG),
        Way("contacts show", _WHO, _shown_context)),
    Row("UpdateContact", Way("contacts.update", gives=_CONTACT),
        _contacts("update", gives=_CONTACT, shows=first("contacts")),
        Way("contacts update", {**_WHO, **_ABOUT, **_CHANGES, **_REPEAT}, _CONTACT)),
    Row("DeleteContact", Way("contacts.delete"), _contacts("delete", shows=part("erasure")),
        Way("contacts delete --yes", {**_WHO, **_REPEAT})),
    Row("SearchContacts", Way("contacts.search", _SIZED, part("contacts")),
        _contacts("search", gives=part("contacts"), shows=part("contacts")),
        Way("contacts search", _FIND, part("contacts"), part("contacts"))),
    Row("CountContacts", Way("contacts.count", gives=part("count")), "a model reads what it counts",
        Way("contacts search --count", _FIND)),
    Row("ExportContacts", Way("contacts.export", gives=each("contact")), _FOR_MANY,
        Way("contacts export", _FIND, each("contact"))),
    Row("WatchContacts", Way("contacts.watch"), "a model does not wait",
        Way("watch --contacts", {"filter": "--filter"}, fixed={"--after-seq": "0", "--limit": "3"})),
    Row("ListInteractions", Way("contacts.interactions", _SIZED, part("interactions")),
        _listed("list_interactions", "interactions", {}),
        Way("contacts show", {**_WHO, **_ALL}, part("interactions"), part("interactions"))),
    Row("CreateMailbox", Way("mailboxes.create"), _mailboxes("create"),
        Way("mailboxes create", {"email": "<email", **_RULES, **_REPEAT})),
    Row("GetMailbox", Way("mailboxes.get", _ONE_BOX), _mailboxes("get"), "list shows each whole"),
    Row("ListMailboxes", Way("mailboxes.list", _SIZED, part("mailboxes")), _mailboxes("list"),
        Way("mailboxes list", _ALL, part("mailboxes"), part("mailboxes"))),
    Row("UpdateMailbox", Way("mailboxes.update", _ONE_BOX, prepared=_rules), _mailboxes("update"),
        Way("mailboxes update", {**_WHO, **_RULES, **_REPEAT})),
    Row("DeleteMailbox", Way("mailboxes.delete", _ONE_BOX), _mailboxes("delete"),
        Way("mailboxes delete --yes", {**_WHO, **_REPEAT})),
    Row("SendEmail", Way("send_email", _FROM, beside("email")), _mail("send_email", _FROM, part("email")),
        Way("send", {"from_mailbox_email": "--from", "from_mailbox_id": "--from", **_TO, **_TEXT, **_REPEAT},
            part("email"), prepared=_guard_options)),
    Row("ReplyEmail", Way("reply_email", gives=beside("email")), _mail("reply_email", {}, part("email")),
        Way("reply", {"email_id": "<email", "reply_all": "--all", **_TEXT, **_REPEAT}, part("email"))),
    Row("CancelEmail", Way("cancel_email", _ID), _mail("cancel_email", _ID), Way("cancel", {"id": "<id", **_REPEAT})),
    Row("UpdateEmail", Way("update_email", _ID), _mail("update_email", _ID),
        "there a mail is cancelled and written anew"),
    Row("ListHeldEmails", Way("list_held_emails", {**_BOX, **_SIZED}, part("emails")),
        _listed("list_pending", "emails", _BOX, gives=_held),
        Way("pending", {"mailbox_email": "--mailbox", "mailbox_id": "--mailbox", **_ALL}, part("emails"),
            part("emails"))),
    Row("ApproveEmails", Way("approve_emails", gives=part("outcomes"), prepared=_pairs),
        _mail("approve_email", {}, _decided, prepared=_pair),
        Way("approve", {"reason": "--reason", **_REPEAT}, prepared=_pair_options)),
    Row("RejectEmails", Way("reject_emails", gives=part("outcomes"), prepared=_pairs),
        _mail("reject_email", {}, _decided, prepared=_pair),
        Way("reject", {"reason": "--reason", **_REPEAT}, prepared=_pair_options)),
    Row("ResolveEmail", Way("resolve_email", _ID), _mail("resolve_email", _ID),
        Way("resolve", {"id": "<id", "resolution": "<resolution", **_REPEAT})),
    Row("BatchCheckSends", Way("check_sends", _FROM, part("checks")),
        _listed("check_sends", "checks", _FROM, gives=lambda answer: [
            {"address": one["address"], "state": one.get("state"), "reason": one.get("refusal", {}).get("reason"),
             "message": one.get("refusal", {}).get("message"), "facts": one.get("refusal", {}).get("metadata")}
            for one in answer["checks"]
        ]),
        "send --dry-run tells it of one mail"),
    Row("IngestEvent", Way("ingest_event", gives=beside("email")), _FEED, _FEED),
    Row("ListSuppressions", Way("suppressions.list", _SIZED, part("suppressions")), _suppressions("list"),
        Way("suppressions list", {"address": "--address", **_ALL}, part("suppressions"), part("suppressions"))),
    Row("AddSuppression", Way("suppressions.add"), _suppressions("add"),
        Way("suppressions add", {"address": "<address", **_REPEAT})),
    Row("RemoveSuppression", Way("suppressions.remove", gives=part("suppression")), _suppressions("lift"),
        Way("suppressions remove", {"address": "<address", **_REPEAT}, part("suppression"))),
    Row("IngestEmail", Way("ingest_email", _BOX, beside("email")), _FEED, _FEED),
    Row("GetEmail", Way("get_email", _ID), _mail("read_email", _ID, fixed=_LONG), Way("read", {"id": "<id"})),
    Row("GetAttachment", Way("get_attachment", gives=beside("attachment")),
        Way("read_attachment", gives=_file, shows=_file_told, fixed=_LONG), "read --save writes the files themselves"),
    Row("ListEmails", Way("list_emails", {**_BOX, **_PERSON, **_SIZED}, part("emails")),
        _listed("list_emails", "emails", {**_BOX, **_PERSON}),
        Way("inbox --all", {"mailbox_email": "<mailbox", "contact_email": "--contact", **_ALL}, _inbox,
            part("emails"))),
    Row("ListThreads", Way("threads.list", {**_BOX, **_PERSON, **_SIZED}, part("threads")),
        _listed("list_threads", "threads", {**_BOX, **_PERSON}),
        Way("threads", {"mailbox_email": "--mailbox", "contact_email": "--contact", **_ALL}, part("threads"),
            part("threads"))),
    Row("GetThread", Way("threads.get", {"id": "thread_id"}, _thread),
        Way("get_thread", {"id": "thread_id"}, _thread_newest_first, _thread, fixed=_LONG),
        Way("thread", {"id": "<id"}, _thread)),
    Row("ListNotifications", Way("notifications.list", {**_BOX, **_SIZED}, part("notifications")),
        _listed("list_notifications", "notifications", _BOX), "watch --after-seq begins in the past"),
    Row("WatchNotifications", Way("notifications.watch", _BOX, each("notification")), "a model does not wait",
        Way("watch", {"mailbox_email": "--mailbox"}, each("notification"),
            fixed={"--after-seq": "0", "--limit": "3"})),
)}  # fmt: skip
