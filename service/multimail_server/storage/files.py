"""Files too large for a document, in GridFS, which knows no transactions: a file is there before what refers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridfs.errors import FileExists, NoFile

from multimail_server.storage.mongo import translated

if TYPE_CHECKING:
    from multimail_server.storage.mongo import Database


class Files:
    """Keeps bytes under names. Every method raises ENGINE_UNAVAILABLE when the engine cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, name: str, data: bytes) -> None:
        """Keeps a file; one that is there already stays as it is."""
        with translated():
            try:
                await self._database.files().upload_from_stream_with_id(name, name, data)
            except FileExists:
                return

    async def read(self, name: str) -> bytes | None:
        """The file's bytes; None when it is not there."""
        with translated():
            try:
                stream = await self._database.files().open_download_stream(name)
                data: bytes = await stream.read()
            except NoFile:
                return None
            return data

    async def delete(self, name: str) -> None:
        """Removes a file; one that is not there is as good as removed."""
        with translated():
            try:
                await self._database.files().delete(name)
            except NoFile:
                return
