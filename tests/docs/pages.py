"""Published pages as programs: their blocks run in order in one shell, and what they show is compared."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from pathlib import Path

# Commands that install or start things: a page's test has all that already.
NOT_RUN = re.compile(r"^\s*(make|pip|git|npm|go|kill|\.venv/bin/multimail-server)\b", re.MULTILINE)
# What a machine with Python and make alone may lack.
NOT_HERE = [name for name in ("curl",) if shutil.which(name) is None]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One block that runs, and what the page shows of its output.

    Attributes:
        line: Where it stands.
        language: `sh` or `python`.
        text: The block.
        shown: The block behind it, when that is `json` or `text`; else empty.
        is_json: Whether it is the former.
    """

    line: int
    language: str
    text: str
    shown: str = ""
    is_json: bool = False

    @property
    def exit_code(self) -> int:
        """What grpcurl ends with: 64 and the code of the status that is shown."""
        code = re.search(r"^Code: (\w+)", self.shown, re.MULTILINE)
        if code is None:
            return 0
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code[1]).upper()
        return 64 + int(grpc.StatusCode[name].value[0])


def examples(page: Path) -> list[Example]:
    """The blocks of a page that run."""
    text, found = page.read_text(), []
    for match in FENCED.finditer(text):
        language, body = match.groups()
        if language in ("json", "text") and found:
            before = found.pop()
            found.append(Example(before.line, before.language, before.text, body, language == "json"))
        elif language == "python" or (language == "sh" and _runs(body)):
            found.append(Example(text.count("\n", 0, match.start()) + 1, language, body))
    return found


def _runs(block: str) -> bool:
    """Whether the block of a shell runs here."""
    return not NOT_RUN.search(block) and not any(re.search(rf"^{name}\b", block, re.MULTILINE) for name in NOT_HERE)


def run(page: Path, folder: Path, replaced: dict[str, str], environment: dict[str, str]) -> None:
    """Runs a page's blocks in the folder, and fails with every one that did not do what is shown.

    Args:
        page: The page.
        folder: Where they run.
        replaced: What a page says → what it is here: its ports.
        environment: The variables there are.
    """
    script = ["exec 2>&1", "trap 'failed=$?' ERR"]
    found = examples(page)
    for example in found:
        text = example.text
        for said, here in replaced.items():
            text = text.replace(said, here)
        if example.language == "python":
            (folder / f"line_{example.line}.py").write_text(text)
            text = f"{sys.executable} line_{example.line}.py\n"
        script.append(f"failed=0\n{text}printf '\\0%s\\0' $failed")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    printed = done.stdout.split("\0")
    wrong = []
    for example, output, code in zip(found, printed[0::2], printed[1::2], strict=False):
        if (int(code), True) != (example.exit_code, _shows(example, output)):
            wrong.append(f"{page.name}:{example.line} ended with {code}, not {example.exit_code}, and said:\n{output}")
    assert (len(found) * 2 + 1, []) == (len(printed), wrong), "\n".join([*wrong, printed[-1], done.stderr])


def _shows(example: Example, output: str) -> bool:
    """Whether the output holds what is shown of it."""
    if not example.is_json:
        parts = [_pattern(line.strip()) for line in example.shown.splitlines()]
        return re.search(".*".join(parts), output, re.DOTALL) is not None
    shown, actual = _documents(example.shown), _documents(output)
    return len(shown) == len(actual) and all(map(_holds, actual, shown))


def _documents(text: str) -> list[Any]:
    """The JSON documents that stand one behind the other in a text; the text itself where it is none."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        try:
            document, end = decoder.raw_decode(text)
        except ValueError:
            return [text]
        found.append(document)
        text = text[end:].strip()
    return found


def _holds(actual: Any, shown: Any) -> bool:
    """Whether an answer holds at least what is shown of it."""
    if isinstance(shown, dict):
        return isinstance(actual, dict) and all(
            key in actual and _holds(actual[key], value) for key, value in shown.items()
        )
    if isinstance(shown, list):
        return isinstance(actual, list) and len(actual) == len(shown) and all(map(_holds, actual, shown))
    if isinstance(shown, str) and isinstance(actual, str):
        return re.fullmatch(_pattern(shown), actual, re.DOTALL) is not None
    return bool(actual == shown)


def _pattern(text: str) -> str:
    """The pattern of a text in which `…` stands for anything."""
    return ".*".join(map(re.escape, text.split("…")))
