"""What a tool is: its arguments, its answer, which scopes it takes, and what it says of itself."""

from __future__ import annotations

import copy
import difflib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp_types import Tool as ListedTool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import GenerateJsonSchema

from multimail._wire import minted
from multimail.errors import InvalidArgumentError, Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from multimail.aio import AsyncClient
    from multimail.mcp.told import Told

MIN_TOKENS, TOKENS, MAX_TOKENS = 1_000, 4_000, 50_000
# Who errs is told so within a budget, too.
_MAX_NAMES = 50
_MAX_PATH = 100


def _opened(value: object) -> object:
    """JSON that came as a text, as some models write objects and lists."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _listed(value: object) -> object:
    """A list, where one text stands for itself."""
    opened = _opened(value)
    return [opened] if isinstance(opened, str) else opened


Object = Annotated[dict[str, Any], BeforeValidator(_opened)]
Texts = Annotated[list[str], Field(fail_fast=True), BeforeValidator(_listed)]


def few(given: object) -> object:
    """An object of not too many names: each that does not fit is an error of its own."""
    if isinstance(given, dict) and len(given) > _MAX_NAMES:
        raise ValueError(f"holds {len(given)} names, too many")
    return given


class _Schema(GenerateJsonSchema):
    """Schemas without what a model pays for and learns nothing from: titles, empty defaults, that null is taken too."""

    def nullable_schema(self, schema: Any) -> Any:
        """What may be left out need not be null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> Any:
        """Only defaults that say something."""
        made = super().default_schema(schema)
        if not made.get("default"):
            made.pop("default", None)
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        del schema
        return False


@cache
def _schema(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """The schema of what a tool takes or answers; its title and description are the tool's own."""
    made = model.model_json_schema(mode=mode, schema_generator=_Schema)
    return {name: value for name, value in made.items() if name not in ("title", "description")}


class Arguments(BaseModel):
    """What a tool takes; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _are_few(cls, given: object) -> object:
        """Each unknown one is an error of its own, so that there may not be millions."""
        return few(given)


class Budgeted(Arguments):
    """Arguments of a tool whose answer may be long."""

    max_tokens: int = Field(
        TOKENS, ge=MIN_TOKENS, le=MAX_TOKENS, description="How long the answer may be, at about 4 bytes a token."
    )


class Paged(Budgeted):
    """Arguments of a tool that lists things."""

    limit: int = Field(20, ge=1, le=100, description="How many results at most.")
    cursor: str = Field(
        "", description="For the rest: `next_cursor` of the answer before, beside the same other arguments."
    )


class Changing(Arguments):
    """Arguments of a tool that changes something."""

    idempotency_key: str = Field(
        "",
        description="Leave it out, but when you repeat a call whose outcome is unknown: then the key its error named. "
        "One key, one effect.",
    )

    @cached_property
    def request_id(self) -> str:
        """What makes the call repeatable: the model's key, else one of this call's own."""
        return minted(self.idempotency_key)


@dataclass(frozen=True, slots=True)
class Action:
    """One of the things a tool with an `action` does.

    Attributes:
        scope: The scope it takes.
        takes: The arguments that go with it, besides `action`.
    """

    scope: str
    takes: frozenset[str]


def action(scope: str, takes: str) -> Action:
    """An action and the names of its arguments, separated by blanks."""
    return Action(scope, frozenset(takes.split()))


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        run: Does it.
        arguments: What it takes.
        answer: What it answers.
        title: Its name for people.
        scope: The scope it takes; empty where its actions say so.
        actions: What it does by its argument `action`; none for most tools.
        hints: What it does to the world.
    """

    run: Callable[[AsyncClient, Any], Awaitable[Told]]
    arguments: type[Arguments]
    answer: type[Told]
    title: str
    scope: str
    actions: Mapping[str, Action]
    hints: ToolAnnotations

    @property
    def name(self) -> str:
        """The name models call it by."""
        return self.run.__name__

    @property
    def description(self) -> str:
        """What it says of itself."""
        parts = (self.run.__doc__ or "").strip().split("\n\n")
        return "\n".join(" ".join(part.split()) for part in parts)

    def listed_for(self, scopes: frozenset[str]) -> ListedTool | None:
        """The tool as a key with these scopes may use it; None when it may not at all."""
        allowed = [name for name, each in self.actions.items() if each.scope in scopes]
        if not allowed and self.scope not in scopes:
            return None
        schema = copy.deepcopy(_schema(self.arguments, "validation"))
        hints = self.hints
        if self.actions:
            schema["properties"]["action"]["enum"] = allowed
            if all(self.actions[name].scope == "read" for name in allowed):
                hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        return ListedTool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=schema,
            output_schema=_schema(self.answer, "serialization"),
            annotations=hints,
        )

    def checked(self, given: Mapping[str, Any]) -> Arguments:
        """The arguments; InvalidArgumentError names every one that does not fit."""
        try:
            arguments = self.arguments.model_validate(given)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise _refused(_violation(self.arguments, each) for each in found) from None
        chosen = self.actions.get(getattr(arguments, "action", ""))
        if chosen:
            extra = arguments.model_fields_set - chosen.takes - {"action"}
            if extra:
                verb = arguments.action  # type: ignore[attr-defined]
                takes = ", ".join(sorted(chosen.takes))
                raise _refused(
                    Violation(each, f"does not go with action {verb}, which takes {takes}") for each in extra
                )
        return arguments


def _violation(arguments: type[Arguments], error: Any) -> Violation:
    """One thing that is wrong, by the name of its argument and in a sentence; never what was given."""
    path = ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))[:_MAX_PATH]
    if error["type"] == "extra_forbidden":
        known = sorted(arguments.model_fields)
        close = difflib.get_close_matches(path, known, 1)
        return Violation(
            path, f"there is no such argument; {f'did you mean {close[0]}?' if close else 'see the schema'}"
        )
    if error["type"] == "missing":
        return Violation(path, "is required")
    return Violation(path or "arguments", str(error["msg"]).removeprefix("Value error, "))


def _refused(violations: Any) -> InvalidArgumentError:
    found = sorted(violations, key=lambda each: each.field)
    said = "; ".join(f"{each.field}: {each.description}" for each in found)
    return InvalidArgumentError(said, reason="INVALID_FIELD", violations=found)


def tool(
    title: str,
    arguments: type[Arguments],
    answer: type[Told],
    *,
    scope: str = "",
    actions: Mapping[str, Action] | None = None,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
) -> Callable[[Callable[[AsyncClient, Any], Awaitable[Told]]], Tool]:
    """Makes a function a tool of its name, described by its docstring.

    Args:
        title: Its name for people.
        arguments: What it takes.
        answer: What it answers.
        scope: The scope it takes; `read` makes it a tool that only reads.
        actions: Instead of a scope, what each of its actions takes.
        destructive: Whether it may end something for good.
        idempotent: Whether doing it again does nothing more.
        open_world: Whether people outside may come to feel it.
    """
    hints = (
        ToolAnnotations(read_only_hint=True, open_world_hint=False)
        if scope == "read"
        else ToolAnnotations(
            read_only_hint=False,
            destructive_hint=destructive,
            idempotent_hint=idempotent,
            open_world_hint=open_world,
        )
    )

    def made(run: Callable[[AsyncClient, Any], Awaitable[Told]]) -> Tool:
        return Tool(run, arguments, answer, title, scope, actions or {}, hints)

    return made
