"""A service that uses what google.api.http has and our protos do not, made at run time from its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

_F = descriptor_pb2.FieldDescriptorProto
_FILE = "tests/library.proto"
# Name, number, type; `*` before a type repeats it, `?` makes it optional, `{}` maps texts to it.
_MESSAGES: dict[str, list[tuple[str, str]]] = {
    "Author": [("name", "string"), ("born", "int32"), ("rank", ".Rank")],
    "Book": [
        ("name", "string"), ("author", ".Author"), ("tags", "*string"), ("pages", "?int32"), ("copies", "int64"),
        ("price", "double"), ("cover", "bytes"), ("rank", ".Rank"), ("ranks", "*.Rank"), ("sold", "bool"),
        ("rating", ".google.protobuf.DoubleValue"), ("note", ".google.protobuf.StringValue"),
        ("printed", ".google.protobuf.Timestamp"), ("loan", ".google.protobuf.Duration"),
        ("extra", ".google.protobuf.Struct"), ("any", ".google.protobuf.Value"), ("ids", "*uint64"),
        ("mask", ".google.protobuf.FieldMask"), ("inner", ".Book"), ("shelves", "{}.Author"), ("counts", "{}int32"),
        ("seq", "int64"), ("row", "int64"),
    ],
    "Change": [("book", ".Book"), ("dry", "bool"), ("mode", "string"), ("request_id", "string")],
    "Shown": [("book", ".Book"), ("dry", "bool"), ("mode", "string")],
}  # fmt: skip
_RULES: dict[str, Any] = {
    "Get": {"get": "/v1/{name=shelves/*/books/*}", "additional_bindings": [{"get": "/v1/{name=files/**}:raw"}]},
    "Change": {"patch": "/v1/{book.name=shelves/*/books/*}", "body": "book", "response_body": "book"},
    "Replace": {"put": "/v1/books/{book.author.name}/{book.pages}", "body": "*"},
    "Any": {"custom": {"kind": "*", "path": "/any/{name}"}},
    "Report": {"custom": {"kind": "REPORT", "path": "/books/{name}"}},
    "Search": {"get": "/books"},
    "Browse": {"get": "/v1/authors/{author.name}/books"},
    "Watch": {"get": "/books:watch", "response_body": "author"},
    "Pour": {"post": "/books:pour", "body": "*"},
}
_TAKES = {"Change": "Change", "Replace": "Change"}
_GIVES = {"Change": "Shown", "Replace": "Shown"}
_STREAMS = {"Watch": (False, True), "Pour": (True, True)}


def _field(message: Any, name: str, kind: str, number: int) -> None:
    field = message.field.add(name=name, number=number, label=_F.LABEL_OPTIONAL)
    if kind.startswith("{}"):
        entry = message.nested_type.add(name=name.capitalize() + "Entry")
        entry.options.map_entry = True
        _field(entry, "key", "string", 1)
        _field(entry, "value", kind[2:], 2)
        field.label, field.type = _F.LABEL_REPEATED, _F.TYPE_MESSAGE
        field.type_name = f".library.{message.name}.{entry.name}"
        return
    if kind[0] == "*":
        field.label = _F.LABEL_REPEATED
    if kind[0] == "?":
        field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
        message.oneof_decl.add(name="_" + name)
    kind = kind.lstrip("*?")
    if not kind.startswith("."):
        field.type = getattr(_F, "TYPE_" + kind.upper())
        return
    field.type = _F.TYPE_ENUM if kind == ".Rank" else _F.TYPE_MESSAGE
    field.type_name = kind if kind.startswith(".google") else ".library" + kind


def _described() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package="library", syntax="proto3")
    needed = (timestamp_pb2, duration_pb2, struct_pb2, wrappers_pb2, field_mask_pb2, annotations_pb2)
    file.dependency.extend(each.DESCRIPTOR.name for each in needed)
    rank = file.enum_type.add(name="Rank")
    for number, name in enumerate(("RANK_UNSPECIFIED", "RANK_LOW", "RANK_VERY_HIGH")):
        rank.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            _field(message, field, kind, number)
    service = file.service.add(name="Library")
    for name, rule in _RULES.items():
        client, server = _STREAMS.get(name, (False, False))
        method = service.method.add(
            name=name, input_type=f".library.{_TAKES.get(name, 'Book')}",
            output_type=f".library.{_GIVES.get(name, 'Book')}", client_streaming=client, server_streaming=server,
        )  # fmt: skip
        method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    return file


_pool = descriptor_pool.Default()
_pool.AddSerializedFile(_described().SerializeToString())
SERVICE = _pool.FindServiceByName("library.Library")


def kind(name: str) -> Any:
    """The class of one of its messages."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"library.{name}"))


def describe(name: str, **rule: Any) -> Any:
    """A service of one RPC with another rule."""
    file = descriptor_pb2.FileDescriptorProto(name=f"tests/{name}.proto", package=name, syntax="proto3")
    file.dependency.extend([_FILE, annotations_pb2.DESCRIPTOR.name])
    method = file.service.add(name="Odd").method.add(name="Do", input_type=".library.Book", output_type=".library.Book")
    method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    pool = _pool
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{name}.Odd")


def book(**fields: Any) -> Message:
    """A book."""
    made: Message = kind("Book")(**fields)
    return made
