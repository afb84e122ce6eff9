"""Makes the stubs in other languages from the protos, each by its language's own generator; needs npm and Go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.protos import GOOGLE, PROTOS, ROOT, WELL_KNOWN, sources

CLIENTS = ROOT / "clients"
BUILD = ROOT / "build" / "stubs"
# What the protos import and TypeScript has no package for; Go's modules have it.
GOOGLES = ("google/api/annotations.proto", "google/api/field_behavior.proto", "google/api/http.proto",
           "google/rpc/error_details.proto")  # fmt: skip
GO_MODULE = "multimail"
GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
)


class StubsError(Exception):
    """A generator, or what it needs, cannot be had."""


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a command prints; StubsError with all it said when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, check=False, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise StubsError(f"{' '.join(command[:3])}: failed\n{done.stdout}{done.stderr}")
    return done.stdout


def protoc(plugins: Path, *arguments: str) -> None:
    """Runs protoc with the plugins of a folder."""
    path = f"{plugins}{os.pathsep}{os.environ['PATH']}"
    includes = [f"-I{folder}" for folder in (PROTOS, GOOGLE, WELL_KNOWN)]
    run(sys.executable, "-m", "grpc_tools.protoc", *includes, *arguments, PATH=path)


def npm_installed() -> Path:
    """The folder, outside of git, where everything is installed that the TypeScript package names; once per lock."""
    folder = BUILD / "typescript"
    folder.mkdir(parents=True, exist_ok=True)
    lock, installed = CLIENTS / "typescript" / "package-lock.json", folder / ".installed"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(CLIENTS / "typescript" / name, folder)
        run("npm", "ci", "--ignore-scripts", "--prefer-offline", cwd=folder)
        shutil.copy(lock, installed)
    return folder


def make_typescript(target: Path) -> None:
    """Writes the TypeScript stubs: JavaScript modules with their types, so that nobody has to compile them."""
    target.mkdir(parents=True)
    protoc(
        npm_installed() / "node_modules" / ".bin", f"--es_out={target}", "--es_opt=target=js+dts,import_extension=js",
        *sources(PROTOS), *GOOGLES,
    )  # fmt: skip


def make_go(target: Path) -> None:
    """Writes the Go stubs."""
    target.mkdir(parents=True)
    plugins = BUILD / "go"
    for plugin in GO_PLUGINS:
        run("go", "install", plugin, GOBIN=str(plugins))
    packages = [f"M{name}={GO_MODULE}/{Path(name).parent.name};multimailv1" for name in sources(PROTOS)]
    options = [f"--{kind}_opt={each}" for kind in ("go", "go-grpc") for each in (f"module={GO_MODULE}", *packages)]
    with tempfile.TemporaryDirectory() as made:
        protoc(plugins, f"--go_out={made}", f"--go-grpc_out={made}", *options, *sources(PROTOS))
        shutil.copytree(Path(made) / "v1", target, dirs_exist_ok=True)


MAKERS = {CLIENTS / "typescript" / "gen": make_typescript, CLIENTS / "go" / "v1": make_go}


def main() -> None:
    """Makes all anew, and leaves what is there when that fails."""
    for place, make in MAKERS.items():
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "stubs"
            try:
                make(fresh)
            except FileNotFoundError as error:
                sys.exit(f"{place.relative_to(ROOT)} is left as it is: {error.filename} is not on the PATH; install it")
            except StubsError as error:
                sys.exit(f"{place.relative_to(ROOT)} is left as it is: {error}")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(fresh, place)
        print(f"made {place.relative_to(ROOT)}")
    # Deadlines and what is tried again are the same for every language; Go embeds files of its own folders only.
    shutil.copy(CLIENTS / "multimail" / "service_config.json", CLIENTS / "go")


if __name__ == "__main__":
    main()
