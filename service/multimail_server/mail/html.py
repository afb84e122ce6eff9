"""HTML as mail carries it: how deep it is nested, and what there is to read in it, in time linear in its length."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape

import nh3

# Far more than any real page; the time a parser takes grows with the length times the depth.
MAX_DEPTH = 256
# Elements without content, and those that the next of their kind ends: many in a row are not nested.
_FLAT = frozenset(
    (
        *("area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option", "p"),
        *("param", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "wbr"),
    )
)
_ENDS_A_LINE = frozenset(("p", "div", "tr", "li", "h1", "h2", "h3", "h4", "blockquote"))
_READABLE = nh3.Cleaner(
    tags={"a", "br", *_ENDS_A_LINE},
    clean_content_tags={"script", "style", "title"},
    attributes={"a": {"href"}},
    url_schemes={"http", "https", "mailto"},
    link_rel=None,
)
_STARTED = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_TAG = re.compile(r'<(/?)([a-z][a-z0-9]*)((?:[^"<>]|"[^"]*")*)>')
_HREF = re.compile(r'\shref="([^"]*)"')
_LOOSE_TAG = re.compile(r"<[^<>]*>")
# The parser's time grows with the square of the ampersands that stand for themselves: it gets a noncharacter instead.
_BARE_AMPERSAND = re.compile(r"&(?![A-Za-z#])")
_STAND_IN = "\ufdd0"


def is_too_deep(html: str) -> bool:
    """Whether more elements are open at once than MAX_DEPTH, by a count that may take sloppy pages for deeper."""
    unclosed: Counter[str] = Counter()
    depth = 0
    for tag in _STARTED.finditer(html):
        name = tag[2].lower()
        if name in _FLAT:
            continue
        if not tag[1]:
            unclosed[name] += 1
            depth += 1
        elif unclosed[name]:
            unclosed[name] -= 1
            depth -= 1
        if depth > MAX_DEPTH:
            return True
    return False


def text_from_html(html: str) -> str:
    """The readable text of a page: no scripts, no styles; a link's target stands behind its words."""
    plain = _BARE_AMPERSAND.sub(_STAND_IN, html.replace(_STAND_IN, ""))
    text = unescape(_LOOSE_TAG.sub(" ", plain)) if is_too_deep(plain) else _read(_READABLE.clean(plain))
    text = text.replace(_STAND_IN, "&")
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _read(clean: str) -> str:
    """The text of HTML that was cleaned, so that each `<` begins one of the tags that were left in it."""
    pieces: list[str] = []
    links: list[tuple[int, str]] = []  # where the words of an open link begin, and its target
    at = 0
    for tag in _TAG.finditer(clean):
        pieces.append(unescape(clean[at : tag.start()]))
        at = tag.end()
        closing, name = bool(tag[1]), tag[2]
        if name == "a" and not closing:
            href = _HREF.search(tag[3])
            links.append((len(pieces), unescape(href[1]) if href else ""))
        elif name == "a" and links:
            begin, target = links.pop()
            if target and target not in "".join(pieces[begin:]):
                pieces.append(f" <{target}>")
        elif name == "br" or closing:
            pieces.append("\n")
    pieces.append(unescape(clean[at:]))
    return "".join(pieces)
