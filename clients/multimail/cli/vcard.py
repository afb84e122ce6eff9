"""vCards (RFC 6350, 2426 and 2.1): read property by property, written as 3.0, which every address book takes."""

from __future__ import annotations

import json
import quopri
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import multimail

ERROR = "X-MULTIMAIL-ERROR"
_METADATA = "X-MULTIMAIL-METADATA"
_CONTACTED = "X-MULTIMAIL-LAST-CONTACTED"
_MAX_LINES = 200_000
_WIDTH = 75
# Property → the key in the metadata; all occurrences beyond the first go into an array.
_TEXTS = {"TEL": "phone", "TITLE": "title", "ROLE": "role", "URL": "url", "NOTE": "note", "BDAY": "birthday"}
_ADDRESS = ("po_box", "extended", "street", "city", "region", "postal_code", "country")


@dataclass(slots=True)
class Card:
    """One vCard as it stands in its file.

    Attributes:
        line: Where it begins.
        lines: Its lines as they are.
        whole: Whether its end was found.
    """

    line: int
    lines: list[str] = field(default_factory=list)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """One property: its name in capitals, its parameters by name in capitals, its value decoded but not unescaped."""

    name: str
    parameters: dict[str, list[str]]
    value: str


def cards(lines: Iterable[str]) -> Iterator[Card]:
    """The cards of a file; what stands between them is passed over."""
    card, depth, before = None, 0, ""
    for number, line in enumerate(lines, 1):
        bare = line.strip().upper()
        if bare == "BEGIN:VCARD":
            if card is not None and not before.startswith("AGENT"):  # in 2.1 an agent's card stands inside
                yield card
                card, depth = None, 0
            depth += 1
            card = card or Card(number)
        before = bare
        if card is None:
            continue
        if len(card.lines) < _MAX_LINES:
            card.lines.append(line.rstrip("\r\n"))
        if bare == "END:VCARD":
            depth -= 1
            if depth == 0:
                card.whole = len(card.lines) < _MAX_LINES
                yield card
                card = None
    if card is not None:
        yield card


def properties(card: Card) -> Iterator[Property]:
    """The properties of a card; ValueError for a line that is none."""
    for line in _unfolded(card.lines):
        if not line.strip():
            continue
        head, colon, value = _split_once(line, ":")
        if not colon:
            raise ValueError(f"the line {line[:60]!r} has no colon")
        name, *given = _split(head, ";")
        parameters: dict[str, list[str]] = {}
        for each in given:
            key, equals, text = each.partition("=")
            # In 2.1 a value stands for itself: TEL;HOME;VOICE, NOTE;QUOTED-PRINTABLE
            bare = {"QUOTED-PRINTABLE": "ENCODING", "BASE64": "ENCODING"}.get(key.upper(), "TYPE")
            values = [part.strip('"') for part in _split(text, ",")] if equals else [key]
            parameters.setdefault(key.upper() if equals else bare, []).extend(values)
        yield Property(name.rpartition(".")[2].upper(), parameters, _decoded(value, parameters))


def _unfolded(lines: list[str]) -> Iterator[str]:
    held = ""
    for line in lines:
        if held and held.endswith("=") and "QUOTED-PRINTABLE" in held.partition(":")[0].upper():
            held = held[:-1] + line
        elif held and line[:1] in (" ", "\t"):
            held += line[1:]
        else:
            if held:
                yield held
            held = line
    if held:
        yield held


def _split_once(text: str, mark: str) -> tuple[str, str, str]:
    """Like partition, but marks in quotes do not count."""
    quoted = False
    for at, letter in enumerate(text):
        quoted ^= letter == '"'
        if letter == mark and not quoted:
            return text[:at], mark, text[at + 1 :]
    return text, "", ""


def _split(text: str, mark: str) -> list[str]:
    parts, mark_found = [], mark
    while mark_found:
        part, mark_found, text = _split_once(text, mark)
        parts.append(part)
    return parts


def _decoded(value: str, parameters: dict[str, list[str]]) -> str:
    encoding = parameters.get("ENCODING", [""])[0].upper()
    if encoding != "QUOTED-PRINTABLE":
        return value
    charset = parameters.get("CHARSET", ["utf-8"])[0]
    try:
        return quopri.decodestring(value.encode("latin-1", "replace")).decode(charset)
    except (LookupError, UnicodeDecodeError):
        raise ValueError(f"its text is not in {charset}") from None


def _parts(value: str, mark: str) -> list[str]:
    """The parts of a value, unescaped."""
    parts, escaped = [""], False
    for letter in value:
        if escaped:
            parts[-1] += "\n" if letter in "nN" else letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == mark:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _text(value: str) -> str:
    return _parts(value, "")[0]


def fields(card: Card) -> dict[str, Any]:
    """What a card says of a person: `email`, `name`, `last_contacted`, `metadata`, or keys of the metadata."""
    if not card.whole:
        raise ValueError("the card has no END:VCARD, or is too long")
    found: dict[str, Any] = {}
    emails: list[tuple[int, str]] = []
    several: dict[str, list[str]] = {}
    for each in properties(card):
        text = _text(each.value)
        if not text:
            continue
        if each.name == "EMAIL":
            emails.append((_preference(each), text.removeprefix("mailto:")))
        elif each.name == "CATEGORIES":
            several.setdefault("tags", []).extend(filter(None, _parts(each.value, ",")))
        elif each.name in _TEXTS:
            several.setdefault(_TEXTS[each.name], []).append(text.removeprefix("tel:"))
        elif each.name in _SINGLE:
            key, meaning = _SINGLE[each.name]
            found.setdefault(key, meaning(each.value))
    emails.sort(key=lambda pair: pair[0])  # stable: the first of the most preferred
    return _told(found, [address for _, address in emails], several)


def _told(found: dict[str, Any], emails: list[str], several: dict[str, list[str]]) -> dict[str, Any]:
    composed = found.pop("composed", "")
    if emails:
        found["email"] = emails[0]
    if found.get("name") in (None, *emails):
        found.pop("name", None)
        if composed and composed not in emails:
            found["name"] = composed
    own = found.pop("metadata", None)
    if emails[1:]:
        found["other_emails"] = emails[1:]
    for key, texts in several.items():
        found[key] = texts if key == "tags" or len(texts) > 1 else texts[0]
    return found if own is None else _edited(found, own)


def _edited(found: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A card of ours: its metadata, but for the texts that were changed, or came to it, in an address book."""
    told = {key: found.pop(key) for key in ("email", "name", "last_contacted") if key in found}
    edits = {
        key: value
        for key, value in found.items()
        if isinstance(before := own.get(key, ""), str) and _parts(_escape(before), "")[0] != value
    }
    return told | {"metadata": own | edits}


def _preference(email: Property) -> int:
    """From 1, the most preferred, to 100."""
    given = email.parameters.get("PREF", [""])[0]
    if given.isdigit():
        return int(given)
    return 1 if "pref" in (each.lower() for each in email.parameters.get("TYPE", ())) else 100


def _metadata(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        found: dict[str, Any] = dict(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"{_METADATA} is no JSON object") from None
    return found


def _composed(value: str) -> str:
    family, given, *_ = [*_parts(value, ";"), ""]
    return " ".join(filter(None, (given, family)))


def _address(value: str) -> dict[str, str]:
    return {key: part for key, part in zip(_ADDRESS, _parts(value, ";"), strict=False) if part}


# Property → the key and how its value is read; the first one counts.
_SINGLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "FN": ("name", _text),
    "N": ("composed", _composed),
    "ORG": ("company", lambda value: _parts(value, ";")[0]),
    "ADR": ("address", _address),
    _CONTACTED: ("last_contacted", _text),
    _METADATA: ("metadata", lambda value: _metadata(_text(value))),
}


def card_of(contact: multimail.Contact) -> str:
    """The card of a contact; what address books have a place for stands there too."""
    data = contact.metadata
    given, _, family = contact.name.rpartition(" ")
    lines = [
        "BEGIN:VCARD",
        "VERSION:3.0",
        f"UID:{_escape(contact.id)}",
        f"FN:{_escape(contact.name or contact.email)}",
        f"N:{_escape(family)};{_escape(given)};;;",
        f"EMAIL;TYPE=INTERNET:{_escape(contact.email)}",
    ]
    if isinstance(company := data.get("company"), str):
        lines.append(f"ORG:{_escape(company)}")
    lines += [f"{name}:{_escape(data[key])}" for name, key in _TEXTS.items() if isinstance(data.get(key), str)]
    if contact.last_contacted:
        lines.append(f"{_CONTACTED}:{contact.last_contacted.isoformat()}")
    lines.append(f"{_METADATA}:{_escape(json.dumps(data, ensure_ascii=False))}")
    lines.append("END:VCARD")
    return "".join(map(_folded, lines))


def with_error(card: Card, why: str) -> str:
    """A card as it stood, with why it was refused; one without an end gets none, and stays refused."""
    kept: list[str] = []
    dropped = False
    for line in card.lines:
        dropped = line.startswith(ERROR) or (dropped and line[:1] in (" ", "\t"))
        if not dropped:
            kept.append(line + "\r\n")
    end = kept.pop() if kept[-1].strip().upper() == "END:VCARD" else ""
    return "".join(kept) + _folded(f"{ERROR}:{_escape(why)}") + end


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return re.sub(r"\r\n?|\n", r"\\n", text)


def _folded(line: str) -> str:
    """The line cut to 75 octets, never inside a character."""
    cut, width = [""], 0
    for letter in line:
        size = len(letter.encode("utf-8", "surrogatepass"))
        if width + size > _WIDTH:
            cut.append(" ")
            width = 1
        cut[-1] += letter
        width += size
    return "\r\n".join(cut) + "\r\n"
