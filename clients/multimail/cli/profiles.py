"""The file of profiles: where the services are and which key goes with each, readable by its owner only."""

from __future__ import annotations

import contextlib
import os
import stat
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import tomlkit
import typer

from multimail.cli import files, show

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST = "default"


@dataclass(frozen=True, slots=True)
class Profile:
    """One service and how it is spoken to; what is None is left to the environment or its default.

    Attributes:
        target: `host:port`.
        api_key: The key.
        api_key_file: A file that holds the key, relative to the file of profiles.
        tls_ca: A file of certificates to trust, likewise.
        tls: Whether the connection is encrypted.
    """

    target: str | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    tls_ca: str | None = None
    tls: bool | None = None


SETTINGS = tuple(each.name for each in fields(Profile))


def default_path() -> Path:
    """Where the profiles are unless something else is said."""
    return platformdirs.user_config_path("multimail", appauthor=False) / "config.toml"


class Profiles:
    """The profiles of a file, which need not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._read: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._read = {}
        except (ValueError, OSError) as error:
            raise typer.BadParameter(f"{path} cannot be read: {error}") from None
        found = self._read.get("profiles", {})
        if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
            raise typer.BadParameter(f"{path}: profiles must be tables, as in [profiles.{_FIRST}].")
        self._profiles: dict[str, dict[str, Any]] = found

    @property
    def names(self) -> list[str]:
        """The names of all profiles."""
        return list(self._profiles)

    @property
    def used(self) -> str:
        """The name of the profile that holds when none is named."""
        named = self._read.get("use", _FIRST)
        return named if isinstance(named, str) else _FIRST

    def get(self, name: str | None) -> Profile:
        """The profile of that name, or the one in use; one that was never made is empty unless it was named."""
        wanted = name or self.used
        if wanted not in self._profiles:
            if name is None and wanted == _FIRST:
                return Profile()
            known = ", ".join(self._profiles) or "none yet"
            raise typer.BadParameter(
                f"There is no profile {wanted!r} in {self.path} (there: {known}). Make it with: "
                f"multimail config set --profile {wanted} target=host:port"
            )
        values = self._profiles[wanted]
        for key, value in values.items():
            if key not in SETTINGS or not isinstance(value, bool if key == "tls" else str):
                raise typer.BadParameter(
                    f"{self.path}: {key} of profile {wanted} is not one of {', '.join(SETTINGS)}, or no "
                    f"{'true or false' if key == 'tls' else 'text'}."
                )
        return Profile(**values)

    def key_of(self, profile: Profile) -> str:
        """The key of a profile; says so when others on this machine can read it too."""
        if profile.api_key:
            _warn_if_open(self.path)
            return profile.api_key
        file = self.beside(profile.api_key_file or "")
        _warn_if_open(file)
        try:
            return file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise typer.BadParameter(f"{file} holds no key: it is no text in UTF-8.") from None

    def beside(self, named: str) -> Path:
        """The file a profile names."""
        return self.path.parent / Path(named).expanduser()

    def set(self, name: str, values: dict[str, Any]) -> None:
        """Changes what is given of a profile; None takes a setting out."""
        with self._edited() as document:
            table = document.setdefault("profiles", tomlkit.table(is_super_table=True)).setdefault(
                name, tomlkit.table()
            )
            for key, value in values.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value

    def use(self, name: str) -> None:
        """Makes a profile the one that holds when none is named."""
        self.get(name)
        with self._edited() as document:
            document["use"] = name

    def remove(self, name: str) -> None:
        """Forgets a profile."""
        self.get(name)
        with self._edited() as document:
            del document["profiles"][name]
            if document.get("use") == name:
                del document["use"]

    @contextlib.contextmanager
    def _edited(self) -> Iterator[Any]:
        """The file as a document that keeps its comments; what is changed is written whole, or not at all."""
        real = self.path.resolve()
        document: Any = tomlkit.parse(real.read_text(encoding="utf-8") if real.exists() else "")
        yield document
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if real.exists():
            real.chmod(0o600)
        with files.written(real) as file:
            file.write(tomlkit.dumps(document))


def _warn_if_open(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        show.note(f"{path} holds a key and is open to others on this machine; close it with: chmod 600 {path}")
