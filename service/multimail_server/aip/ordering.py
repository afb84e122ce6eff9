"""order_by as AIP-132 says: fields by name, each rising unless `desc` follows; what they are called in the database."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from multimail_server.errors import Violations, invalid_field

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FIELDS = 3

SortKey = tuple[str, int]
BY_ID: tuple[SortKey, ...] = (("_id", 1),)


def parse_order_by(text: str, fields: Mapping[str, str], where: str = "order_by") -> tuple[SortKey, ...]:
    """Reads an order.

    Args:
        text: `last_contacted desc, email`; empty for the order of ids.
        fields: What can be ordered by: its name in the API, and where the document keeps it.
        where: The text's path in the request.

    Returns:
        Fields of the document, each with 1 for rising or -1; `_id`, which ends every order, last.

    Raises:
        DomainError: INVALID_FIELD, naming everything in it that is no order.
    """
    keys: dict[str, int] = {}
    problems = Violations()
    parts = text.split(",") if text.strip() else []
    if len(parts) > MAX_FIELDS:
        raise invalid_field(where, f"names {len(parts)} fields; at most {MAX_FIELDS} are allowed")
    for part in parts:
        with problems.collected():
            name, direction = _read(part, where)
            if name not in fields:
                close = difflib.get_close_matches(name, fields, 1, 0.6)
                hint = f"did you mean {close[0]}?" if close else "use one of " + ", ".join(fields)
                raise invalid_field(where, f"there is no field {name[:80]!r} to order by; {hint}")
            if fields[name] in keys:
                raise invalid_field(where, f"names {name} twice")
            keys[fields[name]] = direction
    problems.raise_if_any()
    return (*keys.items(), *BY_ID)


def _read(part: str, where: str) -> SortKey:
    match part.split():
        case [name] | [name, "asc"]:
            return name, 1
        case [name, "desc"]:
            return name, -1
        case _:
            raise invalid_field(
                where, f"is not fields joined by commas, each alone or before desc: {part.strip()[:80]!r}"
            )
