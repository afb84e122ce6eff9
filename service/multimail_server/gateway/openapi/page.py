"""The page at /docs: the OpenAPI document, laid out for people."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from multimail_server.gateway.openapi.words import summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from multimail_server.gateway.openapi.schemas import Schema

_BOUNDS = ("default", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def page(document: dict[str, Any]) -> str:
    """The page of a document, whole but for its style sheet and script."""
    return _Page(document).html()


class _Page:
    """One document, and where on the page each of its names stands."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]
        self._markdown = MarkdownIt("commonmark", {"html": False})
        self._operations = list(_operations(document))
        self._anchors = {name: f"schema-{name}" for name in self._schemas}
        for name, schema in self._schemas.items():
            self._anchors |= {f"{name}.{field}": f"schema-{name}.{field}" for field in schema.get("properties", ())}
        for each in self._operations:
            name = each["operationId"]
            self._anchors |= {name: f"op-{name}", f"{each['tags'][0]}.{name}": f"op-{name}"}
        for status, each in _refusals(document).items():
            self._anchors |= dict.fromkeys(each["content"]["application/json"]["examples"], f"status-{status}")
        names = "|".join(re.escape(each) for each in sorted(self._anchors, key=len, reverse=True))
        self._names = re.compile(rf"(<[^>]*>)|(?<![\w./])({names})(?![\w/]|\.\w)")

    def html(self) -> str:
        """The page."""
        environment = Environment(
            loader=PackageLoader("multimail_server.gateway.openapi", "assets"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"markdown": self._prose, "line": self._line, "type": self._type, "pretty": _pretty}
        return environment.get_template("page.html").render(
            document=self._document,
            by_tag={tag["name"]: self._calls(tag["name"]) for tag in self._document["tags"]},
            refusals=_refusals(self._document),
            schemas=self._schemas,
            resolved=self._resolved,
            bounds=_bounds,
        )

    def _calls(self, tag: str) -> list[list[dict[str, Any]]]:
        """The operations of a tag, each with the further ways to the same call behind it."""
        calls: dict[str, list[dict[str, Any]]] = {}
        for each in self._operations:
            if tag in each["tags"]:
                calls.setdefault(each["operationId"].partition("_")[0], []).append(each)
        return [sorted(ways, key=lambda way: str(way["operationId"])) for ways in calls.values()]

    def _line(self, text: str) -> Markup:
        """The first sentence of Markdown as HTML."""
        return Markup(self._markdown.renderInline(summary(text)))  # noqa: S704  as in _prose

    def _prose(self, text: str) -> Markup:
        """Markdown as HTML; names of the document lead to where they stand."""
        html = self._markdown.render(text)
        linked = self._names.sub(lambda found: found[1] or self._link(found[2]), html)
        return Markup(linked)  # noqa: S704  the renderer escapes what it is given, and takes no HTML

    def _link(self, name: str) -> str:
        return f'<a href="#{self._anchors[name]}">{name}</a>'

    def _resolved(self, schema: Schema) -> Schema:
        """The schema itself where there is a reference to it."""
        return self._schemas[_name_of(schema)] if "$ref" in schema else schema

    def _type(self, schema: Schema) -> Markup:
        """A few words for what a value is."""
        if "$ref" in schema:
            return Markup(self._link(_name_of(schema)))  # noqa: S704  a name of ours
        if "anyOf" in schema:
            return Markup(" or ").join(self._type(each) for each in schema["anyOf"])
        kind = schema.get("type", "any JSON")
        if kind == "array":
            return Markup("list of {}").format(self._type(schema["items"]))
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return Markup("map to {}").format(self._type(schema["additionalProperties"]))
        detail = schema.get("format") or schema.get("contentEncoding")
        words = kind if isinstance(kind, str) else " or ".join(kind)
        return escape(f"{words} ({detail})" if detail else words)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every operation with its verb and path, its parameters whole and described by their schemas."""
    shared = document["components"]["parameters"]
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            found = [shared[_name_of(each)] if "$ref" in each else each for each in operation["parameters"]]
            whole = [each | {"schema": each["schema"] | {"description": each["description"]}} for each in found]
            yield operation | {"verb": verb, "path": path, "parameters": whole}


def _refusals(document: dict[str, Any]) -> dict[str, Any]:
    """The answers of refused calls by their status."""
    every = [each for verbs in document["paths"].values() for each in verbs.values()]
    names = {code: _name_of(told) for each in every for code, told in each["responses"].items() if "$ref" in told}
    return {code: document["components"]["responses"][name] for code, name in sorted(names.items())}


def _name_of(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _bounds(schema: Schema) -> str:
    """The bounds of a value, in JSON Schema's words."""
    samples = [f"such as {' or '.join(schema['examples'])}"] if "examples" in schema else []
    return ", ".join([*(f"{name} {schema[name]}" for name in _BOUNDS if name in schema), *samples])


def _pretty(value: Any, kind: str = "") -> str:
    """A value as JSON; of a kind that has one value a line as such a line."""
    return json.dumps(value, indent=None if "ndjson" in kind else 2, ensure_ascii=False)
