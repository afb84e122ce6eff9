"""What MailService's requests say, read and checked, everything wrong with them at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.aip.address import Address, parse_address, parse_domain
from multimail_server.contacts.convert import value_to_json
from multimail_server.errors import DomainError, Violations
from multimail_server.mail import convert
from multimail_server.mail.accepting import MAX_RECIPIENTS, Target
from multimail_server.mail.compose import MAX_SUBJECT
from multimail_server.mail.content import Content, File, check_files, content_of
from multimail_server.mail.email import KINDS, Letter
from multimail_server.mail.guard import Guard, dedupe_mark
from multimail_server.mail.headers import check_header_text
from multimail_server.mail.mailboxes import Rules
from multimail_server.mail.store import NO_GUARD, Message
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from google.protobuf.duration_pb2 import Duration

    from multimail.v1 import mail_service_pb2

MAX_REPLY_TO = 10
MAX_CHECKS = 1000
MAX_DECISIONS = 500
MAX_REASON = 1000
MAX_DISPLAY_NAME = 256
MAX_ALLOWED = 1000
_MAX_DEDUPE_KEY = 256
_LONGEST_GUARD = timedelta(days=3660)
_FURTHEST = timedelta(days=366)
_TTL = (timedelta(minutes=1), timedelta(days=30))


def mailbox_need(request: Any, oneof: str) -> Need:
    """The one mailbox a request names, by id or by address."""
    field = request.WhichOneof(oneof)
    value = getattr(request, field)
    if field.endswith("email"):
        return Need("mailboxes", "email_key", (parse_address(value, field).key,))
    return Need("mailboxes", "_id", (value,))


def contact_need(request: Any) -> Need:
    """The one contact a list is limited to, by id or by address."""
    if request.WhichOneof("contact") == "contact_id":
        return Need("contacts", "_id", (request.contact_id,))
    return Need("contacts", "email_keys", (parse_address(request.contact_email, "contact_email").key,))


def targets_of(request: mail_service_pb2.SendEmailRequest) -> list[Target]:
    """Everyone a mail shall go to, each once."""
    problems = Violations()
    count = len(request.to) + len(request.cc) + len(request.bcc)
    if count > MAX_RECIPIENTS:
        raise errors.invalid_field("to", f"holds {count} addresses, cc and bcc counted; at most {MAX_RECIPIENTS} may")
    targets: dict[str, Target] = {}
    for kind in KINDS:
        for number, text in enumerate(getattr(request, kind)):
            field = f"{kind}[{number}]"
            with problems.collected():
                address = parse_address(text, field)
                if address.key in targets:
                    problems.add(field, "is there twice")
                targets[address.key] = Target(address, kind, field)
    problems.raise_if_any()
    return list(targets.values())


def checked_targets(texts: Sequence[str]) -> list[Target | DomainError]:
    """The addresses of a batch, each a mail of its own, or why it is none."""
    if len(texts) > MAX_CHECKS:
        raise errors.invalid_field("to", f"holds {len(texts)} addresses; at most {MAX_CHECKS} are allowed")
    targets: list[Target | DomainError] = []
    for number, text in enumerate(texts):
        try:
            targets.append(Target(parse_address(text, f"to[{number}]"), "to", f"to[{number}]"))
        except DomainError as error:
            targets.append(error)
    return targets


def message_of(request: Any, *, now: datetime) -> Message:
    """What a SendEmail or ReplyEmail request says; what only the one has is left out for the other."""
    problems = Violations()
    reply_to: list[Address] = []
    files: list[File] = []
    content = Content("")
    send_at = None
    with problems.collected():
        check_subject(request.subject)
    with problems.collected():
        content = content_of(request.body, request.html_body, request.markdown_body)
    with problems.collected():
        files = check_files([File(each.filename, each.content_type, each.content) for each in request.attachments])
    for number, text in enumerate(getattr(request, "reply_to", ())[: MAX_REPLY_TO + 1]):
        with problems.collected():
            if number == MAX_REPLY_TO:
                raise errors.invalid_field("reply_to", f"holds more than {MAX_REPLY_TO} addresses")
            reply_to.append(parse_address(text, f"reply_to[{number}]"))
    with problems.collected():
        send_at = _send_time(request, now)
    problems.raise_if_any()
    letter = Letter(
        subject=request.subject,
        content=content,
        reply_to=tuple(address.display for address in reply_to),
        list_unsubscribe=getattr(request, "list_unsubscribe", False),
        send_at=send_at,
    )
    return Message(letter, files, convert.MODE_NAMES[request.oversight_mode], request.validate_only)


def _send_time(request: Any, now: datetime) -> datetime | None:
    if not request.HasField("send_time"):
        return None
    moment = moment_of(request, "send_time")
    if moment - now > _FURTHEST:
        raise errors.invalid_field("send_time", f"lies more than {_FURTHEST.days} days ahead")
    return moment if moment > now else None


def moment_of(request: Any, field: str) -> datetime:
    """The time in a Timestamp field, to the millisecond, as the database keeps it."""
    try:
        moment: datetime = getattr(request, field).ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise errors.invalid_field(field, "is no time between the years 1 and 9999") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def guard_of(request: Any, account: str, now: datetime) -> Guard:
    """The guard of a send, its conditions understood."""
    if not request.HasField("guard"):
        return NO_GUARD
    given = request.guard
    problems = Violations()
    within = timedelta()
    with problems.collected():
        within = _duration(given.not_contacted_within, "guard.not_contacted_within", timedelta(), _LONGEST_GUARD)
    if len(given.dedupe_key) > _MAX_DEDUPE_KEY:
        problems.add("guard.dedupe_key", f"is longer than {_MAX_DEDUPE_KEY} characters")
    problems.raise_if_any()
    guard = Guard(
        not_contacted_within=within,
        no_open_thread=given.no_open_thread,
        contact_etag=given.contact_etag,
        require_contact=given.require_contact,
        filters={key: value_to_json(value) for key, value in given.filters.items()} or None,
        filter=given.filter,
        dedupe_key=given.dedupe_key,
    )
    try:
        guard.search(account, now)
    except DomainError as error:
        inside = [replace(each, field=f"guard.{each.field}") for each in error.violations]
        raise errors.invalid(inside, error.reason) from None
    return guard


def guarded(message: Message, targets: Sequence[Target], guard: Guard) -> Message:
    """The message with its guard noted; refuses a guard over more than one recipient in To."""
    if guard == NO_GUARD:
        return message
    first, *others = [target for target in targets if target.kind == "to"]
    if others:
        raise errors.invalid_field("guard", f"needs exactly one address in to; there are {len(others) + 1}")
    mark = dedupe_mark(first.address.key, guard.dedupe_key)
    return message.with_letter(guard=guard.to_doc(), dedupe=mark)


def _duration(given: Duration, field: str, least: timedelta, most: timedelta) -> timedelta:
    try:
        value: timedelta = given.ToTimedelta()
    except (ValueError, OverflowError):
        raise errors.invalid_field(field, "is no duration") from None
    if not least <= value <= most:
        raise errors.invalid_field(field, f"must be from {least} to {most}")
    return value


def rules_of(request: Any, entries: Sequence[str] | None, *, ttl: timedelta | None) -> Rules:
    """The rules of a mailbox that a request gives; `entries` is its allow-list, `ttl` what holds without one."""
    problems = Violations()
    allowed: list[str] | None = None
    if entries is not None:
        allowed = []
        if len(entries) > MAX_ALLOWED:
            problems.add("allow_list", f"holds {len(entries)} entries; at most {MAX_ALLOWED} are allowed")
        for number, entry in enumerate(entries[:MAX_ALLOWED]):
            with problems.collected():
                allowed.append(_allowed(entry, f"allow_list[{number}]"))
    if request.HasField("approval_ttl"):
        with problems.collected():
            ttl = _duration(request.approval_ttl, "approval_ttl", *_TTL)
    problems.raise_if_any()
    return Rules(
        hold_first_contact=request.hold_first_contact if request.HasField("hold_first_contact") else None,
        allow_list=None if allowed is None else list(dict.fromkeys(allowed)),
        approval_ttl=ttl,
        in_doubt_policy=convert.POLICY_NAMES[request.in_doubt_policy],
    )


def _allowed(entry: str, field: str) -> str:
    return parse_address(entry, field).key if "@" in entry else parse_domain(entry, field)


def decisions_of(
    request: mail_service_pb2.ApproveEmailsRequest | mail_service_pb2.RejectEmailsRequest,
) -> list[tuple[str, str]]:
    """Id and content hash of every mail to decide about."""
    problems = Violations()
    if len(request.emails) > MAX_DECISIONS:
        problems.add("emails", f"holds {len(request.emails)} mails; at most {MAX_DECISIONS} are allowed")
    if len(request.reason) > MAX_REASON:
        problems.add("reason", f"is longer than {MAX_REASON} characters")
    for number, each in enumerate(request.emails):
        for name in ("email_id", "content_sha256"):
            value = getattr(each, name)
            if not value or len(value) > 64 or "\0" in value:
                problems.add(f"emails[{number}].{name}", "is required, and at most 64 characters long")
    problems.raise_if_any()
    return [(each.email_id, each.content_sha256) for each in request.emails]


def check_subject(subject: str) -> None:
    """Refuses a subject that is too long or could break out of its header."""
    if len(subject) > MAX_SUBJECT:
        raise errors.invalid_field("subject", f"is {len(subject)} characters long; at most {MAX_SUBJECT} are allowed")
    check_header_text(subject, "subject")


def check_display_name(name: str) -> None:
    """Refuses a display name that is too long or could break out of its header."""
    if len(name) > MAX_DISPLAY_NAME:
        raise errors.invalid_field("display_name", f"is longer than {MAX_DISPLAY_NAME} characters")
    check_header_text(name, "display_name")
