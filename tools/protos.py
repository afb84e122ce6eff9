"""Makes the stubs from the protos, and checks the contract: lint, format, compatibility, stubs as generated."""

from __future__ import annotations

import filecmp
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import google.api
import grpc_tools

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
    """Writes the stubs of `multimail/v1` into the folder; files without a service get no gRPC stub."""
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
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)


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
