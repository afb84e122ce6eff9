"""What a mail says, ready to send: a text part, a safe HTML part, and files, each checked against its bounds."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
from dataclasses import dataclass

import nh3
from markdown_it import MarkdownIt

from multimail_server import errors
from multimail_server.errors import Violations
from multimail_server.mail.headers import check_header_text
from multimail_server.mail.html import MAX_DEPTH, is_too_deep, text_from_html
from multimail_server.mail.mime import MAX_BODY_BYTES

MAX_FILES = 100
MAX_FILES_BYTES = 10 << 20
_MAX_FILENAME = 255
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}")
_STYLES = {
    *("background-color", "border", "border-bottom", "border-collapse", "border-left", "border-right", "border-top"),
    *("color", "font-family", "font-style", "font-weight", "line-height", "margin", "padding", "text-align"),
    *("text-decoration", "vertical-align", "width"),
}
_ATTRIBUTES = {tag: set(names) | {"style"} for tag, names in nh3.ALLOWED_ATTRIBUTES.items()} | {
    tag: {"style"} for tag in ("p", "div", "span", "ul", "ol", "li", "b", "i", "strong", "em", "h1", "h2", "h3", "h4")
}
_CLEANER = nh3.Cleaner(attributes=_ATTRIBUTES, url_schemes={"http", "https", "mailto"}, filter_style_properties=_STYLES)
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Content:
    """The two parts of a mail; `html` may be empty."""

    text: str
    html: str = ""

    @property
    def sha256(self) -> str:
        """Digest of both parts."""
        return hashlib.sha256(json.dumps([self.text, self.html]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class File:
    """A file to send: its name without path, its media type, its bytes."""

    filename: str
    content_type: str
    data: bytes


def content_of(body: str, html_body: str, markdown_body: str) -> Content:
    """What a mail says; refuses what is too long, cannot be written, or is said in two ways."""
    problems = Violations()
    for field, text in (("body", body), ("html_body", html_body), ("markdown_body", markdown_body)):
        with problems.collected():
            _check_text(text, field)
    if markdown_body and (body or html_body):
        problems.add("markdown_body", "cannot stand beside body or html_body: both parts are made from it")
    problems.raise_if_any()
    if markdown_body:
        return Content(markdown_body, _safe(_MARKDOWN.render(markdown_body), "markdown_body"))
    if html_body:
        html = _safe(html_body, "html_body")
        return Content(body or text_from_html(html), html)
    return Content(body)


def _safe(html: str, field: str) -> str:
    """The HTML without what could harm a reader, never longer or deeper than a mail may be."""
    if is_too_deep(html):
        raise errors.invalid_field(field, f"is nested deeper than {MAX_DEPTH} elements, or leaves as many unclosed")
    clean = _CLEANER.clean(html)
    if len(clean.encode()) > 2 * MAX_BODY_BYTES:
        raise errors.invalid_field(field, "makes an HTML part that is too long")
    return clean


def _check_text(text: str, field: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BODY_BYTES:
        raise errors.invalid_field(field, f"is longer than {MAX_BODY_BYTES} bytes")
    if "\0" in text:
        raise errors.invalid_field(field, "holds a NUL character")


def check_files(files: list[File]) -> list[File]:
    """The files, each with a media type; refuses names and types that no mail should carry, and too much."""
    problems = Violations()
    if len(files) > MAX_FILES:
        problems.add("attachments", f"are {len(files)}; at most {MAX_FILES} are allowed")
    if sum(len(file.data) for file in files) > MAX_FILES_BYTES:
        problems.add("attachments", f"hold more than {MAX_FILES_BYTES} bytes in all")
    checked = []
    for number, file in enumerate(files):
        path = f"attachments[{number}]"
        name = file.filename.strip()
        if not 1 <= len(name) <= _MAX_FILENAME:
            problems.add(f"{path}.filename", f"must be 1 to {_MAX_FILENAME} characters long")
        elif "/" in name or "\\" in name:
            problems.add(f"{path}.filename", "holds a path")
        elif "=?" in name:  # arrives as something else than was shown to whoever approved it
            problems.add(f"{path}.filename", "holds =?, which mail programs decode; name the file otherwise")
        else:
            with problems.collected():
                check_header_text(name, f"{path}.filename")
        kind = file.content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        if not _MEDIA_TYPE.fullmatch(kind) or kind.lower().startswith(("multipart/", "message/")):
            problems.add(f"{path}.content_type", "is no media type a file can have")
        checked.append(File(name, kind.lower(), file.data))
    problems.raise_if_any()
    return checked
