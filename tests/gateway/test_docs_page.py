from __future__ import annotations

import copy
from html.parser import HTMLParser

from multimail_server.gateway.openapi.document import document
from multimail_server.gateway.openapi.page import page
from multimail_server.gateway.parts import SERVICES

DOCUMENT = document(SERVICES, "1.2.3")
# Elements without an end.
VOID = {"meta", "link", "input", "br", "hr"}


class Outline(HTMLParser):
    """What a page holds: its elements' attributes, ids, links, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.tags: list[str] = []
        self.inline = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.tags.append(tag)
        self._open += [] if tag in VOID else [tag]
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "action"):
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        """Closes an element."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Notes what stands in scripts and styles."""
        if self._open and self._open[-1] in ("script", "style"):
            self.inline += data


OUTLINE = Outline(page(DOCUMENT))


def test_page_loads_nothing_from_elsewhere() -> None:
    """The page refers to itself, its two files and the document only, and holds no script, style or handler itself."""
    outside = {link for link in OUTLINE.links if not link.startswith("#")}
    assert outside == {"docs/assets/page.css", "docs/assets/page.js", "openapi.json"}
    assert OUTLINE.inline == ""
    assert "style" not in OUTLINE.attributes
    assert not {name for name in OUTLINE.attributes if name.startswith("on")}
    assert not {"iframe", "img", "object", "embed", "base"} & set(OUTLINE.tags)


def test_page_holds_everything_once_and_links_lead_somewhere() -> None:
    """Every operation, schema and status has one place on the page, and every link within leads to one."""
    assert len(OUTLINE.ids) == len(set(OUTLINE.ids))
    places = set(OUTLINE.ids)
    assert {link[1:] for link in OUTLINE.links if link.startswith("#")} <= places
    operations = [each["operationId"] for verbs in DOCUMENT["paths"].values() for each in verbs.values()]
    assert {f"op-{name}" for name in operations} <= places
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= places
    assert {"status-400", "status-401", "status-404", "status-429", "status-504"} <= places
    assert "#schema-SendEmailRequest.send_time" in OUTLINE.links
    assert "#status-409" in OUTLINE.links


def test_page_shows_texts_as_texts() -> None:
    """HTML in a description or an example is shown, not taken for the page's own."""
    hostile = copy.deepcopy(DOCUMENT)
    attack = "<script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1))"
    operation = hostile["paths"]["/v1/contacts"]["post"]
    operation["description"] = operation["summary"] = attack
    operation["requestBody"]["content"]["application/json"]["example"] = {"name": attack + "</textarea></pre>"}
    hostile["components"]["schemas"]["Contact"]["description"] = attack
    outline = Outline(page(hostile))
    assert outline.inline == ""
    assert (outline.tags.count("script"), outline.tags.count("img")) == (1, 0)
    assert not {link for link in outline.links if "javascript" in link}
    assert "onerror" not in outline.attributes
