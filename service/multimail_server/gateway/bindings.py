"""Which HTTP calls stand for which RPCs: read off the services' descriptors, not a line per method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.api import annotations_pb2

from multimail_server.gateway import http_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.api.http_pb2 import HttpRule
    from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

ALL = "*"


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP call of an RPC.

    Attributes:
        http_method: `GET`, `POST`, … or `*` for any.
        path: The template as it stands in the proto.
        template: The same, parsed.
        body: What the body holds: `*` for the whole request, a field's name, or empty for none.
        response_body: The field of the response that is answered; empty for the whole.
        rpc: The RPC.
        number: 0 for its main binding, 1 and up for additional ones.
    """

    http_method: str
    path: str
    template: http_rule.Template
    body: str
    response_body: str
    rpc: MethodDescriptor
    number: int

    @property
    def grpc_path(self) -> str:
        """The RPC as gRPC calls it, `/package.Service/Method`."""
        return f"/{self.rpc.containing_service.full_name}/{self.rpc.name}"


def bindings_of(services: Iterable[ServiceDescriptor]) -> list[Binding]:
    """All bindings of these services, in the order of the protos; ValueError for a rule that makes no sense."""
    return [binding for service in services for rpc in service.methods for binding in _bindings_of(rpc)]


def table_of(bindings: Iterable[Binding]) -> http_rule.Table[Binding]:
    """The table that finds them; ValueError when two stand for the same call."""
    table: http_rule.Table[Binding] = http_rule.Table()
    for each in bindings:
        table.add(each.http_method, each.template, each)
    return table


def field_at(message: Descriptor, path: str) -> FieldDescriptor:
    """The field at a dotted path below a message; ValueError when there is none, or one on the way is repeated."""
    first, _, rest = path.partition(".")
    found: FieldDescriptor | None = message.fields_by_name.get(first)
    if found is None:
        raise ValueError(f"{message.full_name} has no field {first}")
    if not rest:
        return found
    if found.message_type is None or found.is_repeated:
        raise ValueError(f"{message.full_name}.{first} has no fields")
    return field_at(found.message_type, rest)


def _bindings_of(rpc: MethodDescriptor) -> Iterator[Binding]:
    options = rpc.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    rule: HttpRule = options.Extensions[annotations_pb2.http]
    for number, each in enumerate([rule, *rule.additional_bindings]):
        yield _checked(_binding(rpc, each, number))


def _binding(rpc: MethodDescriptor, rule: HttpRule, number: int) -> Binding:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise ValueError(f"{rpc.full_name}: an HTTP rule has no path")
    method, path = (rule.custom.kind, rule.custom.path) if kind == "custom" else (kind.upper(), getattr(rule, kind))
    return Binding(method, path, http_rule.parse(path), rule.body, rule.response_body, rpc, number)


def _checked(binding: Binding) -> Binding:
    """The binding, whose fields must exist and be of a kind that can stand where they stand."""
    request, response = binding.rpc.input_type, binding.rpc.output_type
    for variable in binding.template.variables:
        field = field_at(request, variable.field)
        if field.is_repeated or field.message_type is not None:
            raise ValueError(f"{binding.path}: {variable.field} cannot stand in a path")
    if binding.body not in ("", ALL):
        field_at(request, binding.body)
    if binding.response_body:
        field_at(response, binding.response_body)
    return binding
