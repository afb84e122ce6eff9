"""Reflection that also finds a method by its full name, as `grpcurl describe` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import descriptor_pool

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FileDescriptor


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
