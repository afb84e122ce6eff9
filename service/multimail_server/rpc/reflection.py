"""Reflection v1 and v1alpha, which also finds a method by its full name, as `grpcurl describe` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import Descriptor, FileDescriptor
    from google.protobuf.descriptor_pool import DescriptorPool

_VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Has the server tell of these services, and of reflection itself, by both versions."""
    _declare_newer()
    servicer = reflection.aio.ReflectionServicer((*services, *_VERSIONS), pool=cast("DescriptorPool", Pool()))
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(version, {"ServerReflectionInfo": info}) for version in _VERSIONS]
    )


def _declare_newer() -> None:
    """Makes the newer version's descriptors known: the two differ in their package only, and grpcio has the older."""
    declared = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(declared)
    text = text_format.MessageToString(declared).replace("v1alpha", "v1")
    newer = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    descriptor_pool.Default().AddSerializedFile(newer.SerializeToString())


class Pool:
    """The default descriptor pool; a symbol it does not know may be a method: then its service's file holds it."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  the pool's name for it
        """The file that declares a message, enum, service or method; KeyError when none does."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            if method not in self._pool.FindServiceByName(service).methods_by_name:
                raise
            return self._pool.FindFileContainingSymbol(service)

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802
        """The file with this name."""
        return self._pool.FindFileByName(name)

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802
        """The message with this name."""
        return self._pool.FindMessageTypeByName(name)

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> object:  # noqa: N802
        """The message's extension with this number."""
        return self._pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[object]:  # noqa: N802
        """All extensions of the message."""
        return list(self._pool.FindAllExtensions(message))
