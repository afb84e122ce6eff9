"""Files: read as text with flat memory, whatever wrote them; written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_LONGEST = 4 << 20
STDIN = "-"


class Source:
    """A text that is read line by line: a file, or stdin.

    Attributes:
        path: The file; `-` is stdin.
        encoding: How its characters are written.
        line_count: How many lines it has; None until `digest` has read them.
    """

    def __init__(self, path: Path, encoding: str | None) -> None:
        """The text of a file in this encoding; where none is given its first bytes tell, and UTF-8 is assumed."""
        self.path = path
        self._is_stdin = str(path) == STDIN
        self._raw: Any = sys.stdin.buffer if self._is_stdin else path.open("rb", buffering=0)
        self._bytes: Any = io.BufferedReader(self._raw, 1 << 16)
        first = self._bytes.peek(4)[:4]
        self.encoding = encoding or next((name for mark, name in _MARKS if first.startswith(mark)), "utf-8")
        self.line_count: int | None = None
        self._line = 0
        try:
            self._text = io.TextIOWrapper(self._bytes, self.encoding, errors="strict", newline="")
        except LookupError:
            raise typer.BadParameter(
                f"{self.encoding} is no encoding known here; try cp1252, latin-1 or utf-16."
            ) from None

    @property
    def can_be_read_again(self) -> bool:
        """Whether it is a file, and no stream that is gone when it was read."""
        return not self._is_stdin and self.path.is_file()

    def lines(self) -> Iterator[str]:
        """Its lines, each with its end."""
        while True:
            self._line += 1
            try:
                line = self._text.readline(_LONGEST + 1)
            except UnicodeError:
                raise typer.BadParameter(
                    f"{self.path} is not written in {self.encoding} (near line {self._line}); "
                    "say how it is: --encoding cp1252 for many Windows programs."
                ) from None
            if not line:
                return
            if len(line) > _LONGEST:
                raise typer.BadParameter(
                    f"Line {self._line} of {self.path} is longer than 4 MiB; is this the right file?"
                )
            yield line

    def digest(self) -> str:
        """The hash of all of it; what cannot be read shows here, before anything is done."""
        seen = hashlib.sha256(self.encoding.encode())
        for line in self.lines():
            seen.update(line.encode("utf-8", "surrogatepass"))
        self.line_count = self._line - 1
        self.rewind()
        return seen.hexdigest()

    def rewind(self) -> None:
        """Goes back to the beginning."""
        self._text.seek(0)
        self._line = 0

    def close(self) -> None:
        """Closes the file; stdin stays open."""
        if self._is_stdin:
            self._text.detach().detach()
        else:
            self._text.close()


@contextlib.contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A file to write in UTF-8, which appears under its name when it is whole; new ones are their owner's only."""
    if path.exists() and not path.is_file():  # a pipe or device has no whole
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    real = path.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(real.parent)) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if real.exists():
            Path(name).chmod(real.stat().st_mode & 0o777)
        Path(name).replace(real)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def standard_output() -> Iterator[TextIO]:
    """Stdout in UTF-8, whatever the terminal's own encoding, with line ends as they are written."""
    sys.stdout.flush()
    text = io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline="", write_through=True)
    try:
        yield text
    finally:
        text.detach()
