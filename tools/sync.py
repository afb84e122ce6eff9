"""Makes the synchronous client from the asyncio one, word for word, docstrings included; or checks that it is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "clients" / "multimail"
RUFF = Path(sys.executable).parent / "ruff"
# For each file: what it is made from, and the phrases that differ.
MADE = {
    "client.py": (
        "aio.py",
        {
            "The asyncio client: the same calls as the synchronous one, awaited.": (
                "The synchronous client; made from aio.py by `make sync`, so edit that."
            ),
            (
                "Multimail for asyncio. A client belongs to the loop it is first used on: "
                "make one inside each `asyncio.run`."
            ): "Multimail. One client serves any number of threads.",
        },
    ),
    "_sync.py": (
        "_async.py",
        {
            "What hangs on the asyncio client:": "Made by `make sync` from the asyncio one, so edit that:",
        },
    ),
    "_sync_contacts.py": (
        "_async_contacts.py",
        {
            "What hangs on the asyncio client as": "Made by `make sync` from the asyncio one, so edit that:",
        },
    ),
}
# What makes Python asynchronous.
WORDS = {
    r"\basync (?=def |for |with )": "",
    r"\bawait ": "",
    r"\bAsync(?=[A-Z])": "",
    r"\b__a(?=enter__|exit__)": "__",
    r"\b_async(?=\b|_contacts\b)": "_sync",
}


def made(name: str) -> str:
    """What a file should hold."""
    source, phrases = MADE[name]
    text = (CLIENT / source).read_text()
    for phrase, other in phrases.items():
        if phrase not in text:
            sys.exit(f"{source} says no more: {phrase!r}; mend tools/sync.py")
        text = text.replace(phrase, other)
    for word, other in WORDS.items():
        text = re.sub(word, other, text)
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        path = str(CLIENT / name)
        done = subprocess.run(
            [str(RUFF), *command, "--stdin-filename", path, "-"], input=text, text=True, capture_output=True, check=True
        )
        text = done.stdout
    return text


if __name__ == "__main__":
    for name in MADE:
        if sys.argv[1] == "generate":
            (CLIENT / name).write_text(made(name))
        elif made(name) != (CLIENT / name).read_text():
            sys.exit(f"{name} is not what {MADE[name][0]} makes; run: make sync")
    print("sync: the synchronous client is as made from the asyncio one")
