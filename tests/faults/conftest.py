"""Shared by the fault tests: the warm process, an engine, the seed, how much to do, and the table at the end."""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.faults.forge import Forge
from tests.faults.world import best_engine, own_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

FULL = os.environ.get("FAULTS") == "full"
SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The full counts take minutes each; a test that hangs still ends."""
    for item in items:
        if FULL and "tests/faults" in str(item.path):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
async def forge() -> AsyncIterator[Forge]:
    """The process that services are forked from."""
    async with Forge() as made:
        yield made


@pytest.fixture(scope="session")
async def fault_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """An engine that no test kills."""
    async with own_engine(tmp_path_factory.mktemp("faults")) as uri:
        yield uri


@pytest.fixture
def seed() -> int:
    """The run's seed; FAULTS_SEED repeats it."""
    print(f"FAULTS_SEED={SEED}")
    return SEED


@pytest.fixture
def amount() -> Callable[[int, int], int]:
    """Picks how much to do: the first number in CI, the second by `make faults`."""
    return lambda short, full: full if FULL else short


class Row:
    """A row of the table: what a run did."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.count = ""
        self.started = self.shown = time.monotonic()

    def progress(self, text: str) -> None:
        """Says how far a long run is, every ten seconds."""
        if FULL and time.monotonic() - self.shown > 10:
            self.shown = time.monotonic()
            os.write(2, f"\n  {self.run}: {text}, {self.shown - self.started:.0f} s".encode())


@pytest.fixture
def table(record_property: Callable[[str, object], None]) -> Callable[[str], object]:
    """A context that notes a run for the table; its row takes the count."""

    @contextmanager
    def noting(run: str) -> Iterator[Row]:
        row, result = Row(run), "failed"
        try:
            yield row
            result = "0 problems"
        finally:
            took = f"{time.monotonic() - row.started:.0f} s"
            record_property("fault run", [run, row.count or "?", str(SEED), result, took])

    return noting


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table, ready for the README, of whichever process ran the tests."""
    told = [each for found in terminalreporter.stats.values() for each in found]
    done = [each for each in told if isinstance(each, pytest.TestReport) and each.when == "call"]
    rows = [row for each in done for name, row in each.user_properties if name == "fault run"]
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line("| run | count | seed | result | time |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(row)} |")
    engine = "secantusd-rs" if "rs" in best_engine().rsplit("/", 1)[-1] else "secantusd-py"
    terminalreporter.write_line(f"engine: {engine}; {os.cpu_count()} processors")
