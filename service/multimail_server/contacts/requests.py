"""Requests of ContactService, read and checked: which contact, which contacts, and what to make of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from multimail_server import errors
from multimail_server.aip.address import parse_address
from multimail_server.contacts import convert, filters
from multimail_server.contacts import metadata as metadata_rules
from multimail_server.contacts.contact import check_name
from multimail_server.contacts.store import Payload
from multimail_server.errors import Violations
from multimail_server.storage.documents import Need

if TYPE_CHECKING:
    from multimail_server.contacts.filters import Search
    from multimail_server.storage.mongo import Document

MAX_ROWS = 1000
MIN_CHARACTERS, DEFAULT_CHARACTERS, MAX_CHARACTERS = 500, 8_000, 100_000


def need_of(request: Any) -> Need:
    """The one contact a request names, by id or by address."""
    if request.WhichOneof("contact") == "id":
        return Need("contacts", "_id", (request.id,))
    return Need("contacts", "email_keys", (parse_address(request.email, "email").key,))


def search_of(account: str, request: Any) -> Search:
    """The contacts a request selects by query, email, domain, name, filters and filter."""
    return filters.compile_search(
        account,
        query=request.query,
        email=request.email,
        domain=request.domain,
        name=request.name,
        filters={key: convert.value_to_json(value) for key, value in request.filters.items()},
        filter=request.filter,
        now=datetime.now(UTC),
    )


def payload_of(request: Any) -> Payload:
    """What a CreateContact or UpsertContact request says; refuses it naming every bad field."""
    problems = Violations()
    metadata: Document = {}
    with problems.collected():
        address = parse_address(request.email, "email")
    with problems.collected():
        check_name(request.name, "name")
    with problems.collected():
        metadata = metadata_rules.normalise(convert.struct_to_json(request.metadata), "metadata")
        metadata_rules.check_limits(metadata_rules.merge({}, metadata))
    last_contacted = None
    if request.HasField("last_contacted"):
        with problems.collected():
            last_contacted = convert.moment(request.last_contacted, "last_contacted")
    problems.raise_if_any()
    return Payload(address, request.name if request.HasField("name") else None, metadata, last_contacted)


def row_payload(request: Any) -> Payload:
    """The same for one row of a batch, which has no request_id of its own."""
    if request.request_id:
        raise errors.invalid_field("request_id", "must be empty in a row; the batch has one for all")
    return payload_of(request)


def check_rows(count: int) -> None:
    """Refuses a batch with too many rows."""
    if count > MAX_ROWS:
        raise errors.invalid_field("contacts", f"holds {count} rows; at most {MAX_ROWS} are allowed")


def budget_of(request: Any) -> int:
    """How many characters a context may have."""
    wanted = request.max_characters or DEFAULT_CHARACTERS
    if not MIN_CHARACTERS <= wanted <= MAX_CHARACTERS:
        raise errors.invalid_field("max_characters", f"must be from {MIN_CHARACTERS} to {MAX_CHARACTERS}")
    return int(wanted)
