"""What the client says of itself: every word of the API is typed, every field and argument explained."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Any, get_args

import pytest

import multimail
from multimail import _async, _async_contacts, _sync, _sync_contacts, words
from multimail._words import word
from multimail.v1 import contact_pb2, mail_pb2, mail_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES = {name: found for name, found in vars(words).items() if get_args(found)}
ENUMS = {
    name: enum
    for module in (contact_pb2, mail_pb2, mail_service_pb2)
    for name in module.DESCRIPTOR.enum_types_by_name
    for enum in [getattr(module, name)]
}
DATA = [found for found in vars(multimail).values() if dataclasses.is_dataclass(found)]
METHODS = [
    method
    for module in (multimail, _sync, _sync_contacts, _async, _async_contacts)
    for owner in vars(module).values()
    if inspect.isclass(owner) and owner.__module__.startswith("multimail.")
    for name, method in inspect.getmembers(owner, inspect.isfunction)
    if name[0] != "_"
]


def explained(found: Any, section: str) -> set[str]:
    """The names that a section of a docstring explains."""
    text = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", inspect.getdoc(found) or "", re.MULTILINE)
    return set(re.findall(r"^    (\w+): ", text[1], re.MULTILINE)) if text else set()


@pytest.mark.parametrize("name", ENUMS)
def test_every_word_is_typed(name: str) -> None:
    """The words of a type are those of the API's enum of the same name, in its order."""
    enum: Any = ENUMS[name]
    assert [word(enum, value) for value in enum.values() if value] == list(get_args(TYPES[name]))


def test_no_type_is_made_up() -> None:
    """There is a type for each of the API's enums, and one for the reasons that the API has as a text."""
    assert set(TYPES) == set(ENUMS) | {"HoldReason"}


@pytest.mark.parametrize("shown", DATA, ids=lambda found: found.__name__)
def test_every_field_is_explained(shown: type) -> None:
    """What callers get, or fill in, says what each of its fields is."""
    assert explained(shown, "Attributes") == {field.name for field in dataclasses.fields(shown)}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.__module__}-{method.__qualname__}")
def test_every_argument_is_explained(method: Callable[..., Any]) -> None:
    """Every public call says what each of its arguments is."""
    assert explained(method, "Args") == set(inspect.signature(method).parameters) - {"self"}
