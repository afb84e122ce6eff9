"""Makes the stubs and their comments from the protos, and checks the contract: lint, format, compatibility, both so."""

from __future__ import annotations

import filecmp
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import google.api
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
BIN = Path(sys.executable).parent
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
GOOGLE = Path(google.api.__path__[0]).parent.parent


def run(*command: str, cwd: Path = ROOT) -> None:
    """Runs a command; its failure is ours."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{Path(command[0]).name} {command[1]}: failed\n{done.stdout}{done.stderr}")


def sources(protos: Path) -> list[str]:
    """Every proto file, relative to the folder of protos."""
    return sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))


def generate(target: Path) -> None:
    """Writes the stubs of `multimail/v1` and their comments; files without a service get no gRPC stub."""
    with tempfile.TemporaryDirectory() as folder:
        out = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        run(
            sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{GOOGLE}", f"-I{WELL_KNOWN}", *out,
            *sources(PROTOS),
        )  # fmt: skip
        made = Path(folder) / "multimail" / "v1"
        for stub in made.glob("*_pb2_grpc.py*"):
            if not stub.name.endswith(("_service_pb2_grpc.py", "_service_pb2_grpc.pyi")):
                stub.unlink()
        (made / "__init__.py").write_text('"""Stubs made from protos/multimail/v1; never edited by hand."""\n')
        (made / "comments.json").write_text(json.dumps(comments(), indent=0, ensure_ascii=False) + "\n", "utf-8")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)


def comments() -> dict[str, str]:
    """The comment of everything in the protos by its full name: stubs carry none, and the HTTP reference needs them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "now.binpb"
        image(PROTOS, path)
        files = FileDescriptorSet.FromString(path.read_bytes()).file
    found = {}
    for file in files:
        if file.package.startswith("multimail."):
            for location in file.source_code_info.location:
                name = full_name(file, location.path)
                if location.leading_comments and name:
                    lines = location.leading_comments.rstrip().split("\n")
                    found[name] = "\n".join(line.removeprefix(" ") for line in lines)
    return dict(sorted(found.items()))


def full_name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """The name of what a path of numbers leads to, fields of descriptor.proto and places in them by turns.

    Empty for what has no name of its own: the file itself, its imports, and what stands inside options.
    """
    names, here = [file.package], file
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = here.DESCRIPTOR.fields_by_number[number]
        if field.message_type is None or not field.is_repeated:
            return ""
        here = getattr(here, field.name)[index]
        names.append(here.name)
    return ".".join(names) if len(names) > 1 else ""


def image(protos: Path, target: Path) -> None:
    """Writes the protos as one descriptor set, which buf reads without asking any registry."""
    run(
        sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{GOOGLE}", f"-I{WELL_KNOWN}",
        "--include_imports", "--include_source_info", f"--descriptor_set_out={target}", *sources(protos),
    )  # fmt: skip


def breaking(old: Path, new: Path) -> None:
    """Refuses a change that breaks callers, source code included."""
    with tempfile.TemporaryDirectory() as folder:
        before, now = Path(folder) / "before.binpb", Path(folder) / "now.binpb"
        image(old, before)
        image(new, now)
        run("buf", "breaking", str(now), "--against", str(before), "--config", str(ROOT / "buf.yaml"),
            "--exclude-imports", "--path", "multimail", cwd=new)  # fmt: skip


def protos_at_head(folder: Path) -> Path | None:
    """The protos of the last commit; None when it has none."""
    archive = subprocess.run(["git", "archive", "HEAD", "protos"], cwd=ROOT, check=False, capture_output=True)
    if archive.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "protos"


def check() -> None:
    """Everything the contract promises."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        now = folder / "now.binpb"
        image(PROTOS, now)
        run("buf", "lint", str(now), "--config", str(ROOT / "buf.yaml"), "--path", "multimail", cwd=PROTOS)
        run("buf", "format", "--diff", "--exit-code")
        stubs = folder / "stubs"
        generate(stubs)
        committed = ROOT / "clients" / "multimail" / "v1"
        names = sorted(path.name for path in stubs.iterdir())
        there = sorted(path.name for path in committed.iterdir() if path.is_file())
        different = filecmp.cmpfiles(stubs, committed, names, shallow=False)
        if names != there or different[1] or different[2]:
            sys.exit("the committed stubs are not what the protos make; run: make protos")
        old = protos_at_head(folder / "head")
        if old is None:
            print("contract: no protos in the last commit to compare with")
        else:
            breaking(old, PROTOS)
    print("contract: lint, format, compatibility and stubs are clean")


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        generate(ROOT / sys.argv[2])
    elif sys.argv[1] == "check":
        check()
    else:
        breaking(Path(sys.argv[2]), Path(sys.argv[3]))
