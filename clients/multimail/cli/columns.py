"""What the columns of an import mean: their places in a contact, and the row that becomes of their values."""

from __future__ import annotations

import contextlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import typer

from multimail import ContactRow
from multimail.cli import values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

ERROR, LINE = "multimail_error", "multimail_line"
IGNORED = "-"
# Names as they are spread, with nothing but letters and digits left of them.
_KNOWN = {
    "email": ("email", "emailaddress", "mail", "mailaddress", "emailadresse", "email1value", "primaryemail"),
    "name": ("name", "fullname", "displayname", "contactname"),
    "first_name": ("firstname", "givenname", "forename", "vorname"),
    "last_name": ("lastname", "familyname", "surname", "nachname"),
    "last_contacted": ("lastcontacted",),
}
_PLACES = {name: place for place, names in _KNOWN.items() for name in names}
# What an export of ours says of a contact and no import can set.
_OURS = frozenset(
    (
        *("id", "etag", "create_time", "update_time", "last_inbound"),
        *("interaction_count", "thread_count", "latest_thread_id", "outcome"),
    )
)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,15})(\.\d{1,15})?")


class RowError(Exception):
    """Why a row cannot become a contact, in words that follow `line 17: `."""


class Columns:
    """How columns become a contact.

    Args:
        given: Column → place, from `--map`.
        typed: Whether numbers, true, false and JSON in texts become such values.
        named_by_people: Whether names of columns are headings, to be made into keys: `Open Tickets`, `open_tickets`.
    """

    def __init__(self, given: Mapping[str, str], *, typed: bool, named_by_people: bool) -> None:
        self._given = {column: _place(place) for column, place in given.items()}
        places = [place for place in self._given.values() if place != IGNORED]
        if twice := next((place for place in places if places.count(place) > 1), None):
            raise typer.BadParameter(f"--map: two columns go to {twice}; leave one out with 'COLUMN=-'.")
        self._typed = typed
        self._named_by_people = named_by_people
        self.places = lru_cache(maxsize=1024)(self._places)

    def check(self, names: list[str]) -> None:
        """BadParameter unless each column of `--map` is there, and one holds the address."""
        known = ", ".join(map(repr, names))
        for column in self._given:
            if column not in names:
                raise typer.BadParameter(f"--map: there is no column {column!r}. There are: {known}.")
        if "email" not in self.places(tuple(names)).values():
            raise typer.BadParameter(
                f"No column is known to hold the address; say which with --map 'COLUMN=email'. There are: {known}."
            )

    def _places(self, names: tuple[str, ...]) -> dict[str, str]:
        """Column → place, for columns that come together."""
        ours = {"etag", "interaction_count"} <= set(names)
        taken = set(self._given.values())
        places: dict[str, str] = {}
        for name in names:
            place = self._given.get(name) or self._guess(name, taken, ours=ours)
            if place in taken and name not in self._given:
                place = self._beside(place, taken)
            if place != IGNORED:
                taken.add(place)
            places[name] = place
        return places

    def _guess(self, name: str, taken: set[str], *, ours: bool) -> str:
        if name in (ERROR, LINE, "") or (ours and name in _OURS):
            return IGNORED
        if name == "metadata" or name.startswith("metadata."):
            with contextlib.suppress(typer.BadParameter):  # which is no path, so it is one key
                return _place(name)
        guess = _PLACES.get(re.sub(r"[\W_]", "", name.casefold()))
        if guess and guess not in taken:
            return guess
        key = re.sub(r"\W+", "_", name.casefold()).strip("_") if self._named_by_people else name
        return "metadata." + values.path_of([key or "column"])

    @staticmethod
    def _beside(place: str, taken: set[str]) -> str:
        return next(each for number in range(2, 10_000) if (each := f"{place}_{number}") not in taken)

    def row(self, fields: Mapping[str, Any]) -> ContactRow:
        """The contact of these values; RowError when they make none."""
        places = self.places(tuple(fields))
        metadata: dict[str, Any] = {}
        told: dict[str, Any] = {}
        for column, value in fields.items():
            place = places[column]
            value = value.strip() if isinstance(value, str) and self._named_by_people else value  # noqa: PLW2901
            if place == IGNORED or value == "":
                continue
            if place == "metadata":
                self._merge(metadata, value)
            elif place.startswith("metadata."):
                self._put(metadata, place, self._value(value))
            else:
                told[place] = value
        return ContactRow(
            email=_email(told.get("email")),
            name=_name(told),
            metadata=metadata or None,
            last_contacted=_moment(told.get("last_contacted")),
        )

    def _value(self, value: Any) -> Any:
        if not (self._typed and isinstance(value, str)):
            return value
        if value in {"true", "false"} or _NUMBER.fullmatch(value) or value[:1] in "[{":
            return values.json_or_text(value)
        return value

    def _merge(self, metadata: dict[str, Any], value: Any) -> None:
        whole = values.json_or_text(value) if isinstance(value, str) else value
        if whole is None:
            return
        if not isinstance(whole, dict):
            raise RowError("metadata is no JSON object")
        for key, inner in whole.items():
            self._put(metadata, "metadata." + values.path_of([key]), inner)

    @staticmethod
    def _put(metadata: dict[str, Any], place: str, value: Any) -> None:
        try:
            values.put(metadata, values.keys_of(place)[1:], value)
        except typer.BadParameter as error:
            raise RowError(error.message) from None


def explicit(given: Iterable[str]) -> dict[str, str]:
    """Column → place of `--map`s."""
    pairs = [text.rpartition("=") for text in given]
    for column, equals, _ in pairs:
        if not equals or not column:
            raise typer.BadParameter("--map: write 'COLUMN=place', as in 'E-Mail=email' or 'Company=metadata.company'.")
    return {column.strip(): place.strip() for column, _, place in pairs}


def _place(place: str) -> str:
    if place in (*_KNOWN, "metadata", IGNORED):
        return place
    if place.startswith("metadata."):
        return values.path_of(values.keys_of(place))
    raise typer.BadParameter(
        f"{place!r} is no place in a contact: use {', '.join(_KNOWN)}, metadata.{place or 'key'}, or - to leave it out."
    )


def _email(value: Any) -> str:
    if value is None:
        raise RowError("has no e-mail address")
    if not isinstance(value, str):
        raise RowError(f"the address is no text but {json.dumps(value)[:60]}")
    return value


def _name(told: Mapping[str, Any]) -> str | None:
    parts = [told.get("name")] if told.get("name") else [told.get("first_name"), told.get("last_name")]
    for part in parts:
        if not isinstance(part, str | None):
            raise RowError(f"the name is no text but {json.dumps(part)[:60]}")
    return " ".join(part.strip() for part in parts if part) or None


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return values.past(value)
    except typer.BadParameter as error:
        raise RowError(f"last_contacted: {error.message}") from None
