"""What was measured: the figures, their ratios, and how they are shown as tables, JSON and a plot."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

OURS, PEER, ECHO, CHAIN, ONE_CALL, RAW = (
    "Multimail", "FastAPI peer", "bare echo", "echo behind our chain", "one driver call", "raw driver",
)  # fmt: skip
USUAL = 64  # callers, where one number stands for a case


@dataclass(frozen=True)
class Result:
    """One case of one system.

    Attributes:
        system: Which system.
        case: Which case.
        callers: How many called at once.
        calls: How many calls were answered.
        rows: Contacts one call wrote.
        per_s: Calls a second.
        p50_ms: Half the calls took at most so long.
        p99_ms: 99 of 100 took at most so long.
        cpu_us: CPU the server used per call, in µs; of the raw driver, the load itself.
        engine_us: CPU the engine used per call, in µs; 0 where it is not ours to measure.
        load_busy: Which part of a core the load used.
        size: Contacts or interactions there were, where that was measured.
    """

    system: str
    case: str
    callers: int
    calls: int
    rows: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    engine_us: float
    load_busy: float
    size: int = 0

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells it from the others of a run."""
        return self.system, self.case, self.callers, self.size


def middle(rounds: Sequence[Result]) -> Result:
    """The same case measured several times, as the median of each figure."""
    measured = ("per_s", "p50_ms", "p99_ms", "cpu_us", "engine_us", "load_busy")
    medians = {name: statistics.median(getattr(each, name) for each in rounds) for name in measured}
    return replace(rounds[0], calls=sum(each.calls for each in rounds), **medians)


@dataclass(frozen=True)
class Reach:
    """One thing to reach: a figure, and its bound."""

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is reached."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass
class Figures:
    """Everything one run measured.

    Attributes:
        machine: What it ran on, in words.
        results: The cases side by side.
        growth: The same with more and more contacts or interactions.
        pages: First and last page of a long log: its number, and ms.
        memory: Resident MiB of the service, by moment.
        notes: What a reader must know.
    """

    machine: str
    results: list[Result] = field(default_factory=list)
    growth: list[Result] = field(default_factory=list)
    pages: dict[int, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Figures:
        """The figures of an earlier run, as `write` wrote them."""
        told = json.loads(path.read_text())
        return cls(
            told["machine"],
            [Result(**each) for each in told["results"]],
            [Result(**each) for each in told["growth"]],
            {int(number): ms for number, ms in told["pages"].items()},
            told["memory"],
            told["notes"],
        )

    def add(self, result: Result) -> None:
        """Takes in one case, in the place of an earlier run's."""
        found = self.growth if result.size else self.results
        for place, each in enumerate(found):
            if each.key == result.key:
                found[place] = result
                return
        found.append(result)

    def note(self, about: str, said: str) -> None:
        """Takes in what a reader must know, in the place of what an earlier run said about it."""
        self.notes[:] = [each for each in self.notes if not each.startswith(about)] + [f"{about} {said}"]

    def of(self, system: str, case: str, callers: int = USUAL) -> Result | None:
        """The figures of one case."""
        found = (each for each in self.results if (each.system, each.case, each.callers) == (system, case, callers))
        return next(found, None)

    def echo_of(self, case: str, callers: int = USUAL) -> Result | None:
        """The bare echo a case is compared with: that of an upsert for upserts, that of a get for all others."""
        return self.of(ECHO, "upsert existing" if case.startswith("upsert") else "get", callers)

    def reach(self) -> Iterator[Reach]:
        """What was to be reached, as far as it was measured."""
        for case, of_echo, of_peer in (("get", 1.9, 0.6), ("upsert existing", 2.2, 0.4)):
            ours, peer, echo = self.of(OURS, case), self.of(PEER, case), self.echo_of(case)
            if ours and peer and echo:
                yield Reach(f"{case}: server CPU per call ÷ bare echo's", ours.cpu_us / echo.cpu_us, of_echo)
                yield Reach(f"{case}: server CPU per call ÷ FastAPI peer's", ours.cpu_us / peer.cpu_us, of_peer)
        for case in ("batch existing", "batch new"):
            ours, raw = self.of(OURS, case, 4), self.of(RAW, case, 4)
            if ours and raw:
                yield Reach(f"{case}: rows/s ÷ raw driver's bulk write", ours.per_s / raw.per_s, 0.7, at_least=True)
        lone, plain = self.of(OURS, "get", 1), self.of(ONE_CALL, "get", 1)
        if lone and plain:
            yield Reach("a lone get: p50 ÷ one driver call's", lone.p50_ms / plain.p50_ms, 1.3)
        yield from self._grown("search", 1.3)
        yield from self._grown("append", 1.2)
        quarters = [mb for moment, mb in self.memory.items() if moment.startswith("after")]
        if quarters:
            yield Reach("memory after all calls ÷ after a quarter of them", quarters[-1] / quarters[0], 1.05)
        if {"idle", "import, most"} <= self.memory.keys():
            yield Reach("import: MiB above idle", self.memory["import, most"] - self.memory["idle"], 50)

    def _grown(self, case: str, bound: float) -> Iterator[Reach]:
        found = sorted((each for each in self.growth if each.case == case), key=lambda each: each.size)
        if len(found) > 1:
            small, *_, large = found
            yield Reach(f"{case}: p50 at {large.size:,} ÷ at {small.size:,}", large.p50_ms / small.p50_ms, bound)

    def show(self) -> None:
        """Prints everything."""
        print(f"\n{self.machine}\n")
        _table(_rows(self))
        if self.growth:
            print()
            _table(_growth_rows(self.growth))
        for number, ms in self.pages.items():
            print(f"page {number:,} of the log: {ms:.1f} ms")
        for moment, mb in self.memory.items():
            print(f"resident memory, {moment}: {mb:.0f} MiB")
        print()
        _table(_reach_rows(self.reach()))
        for note in self.notes:
            print(note)

    def write(self, path: Path) -> None:
        """Writes everything as JSON."""
        reach = [asdict(each) | {"is_met": each.is_met} for each in self.reach()]
        path.write_text(json.dumps(_rounded(asdict(self) | {"reach": reach}), indent=1, ensure_ascii=False) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    yield (
        *("case", "callers", "system", "calls/s", "rows/s", "p50 ms", "p99 ms"),
        *("CPU µs/call", "engine µs", "× echo", "÷ peer"),
    )
    for each in figures.results:
        echo = figures.echo_of(each.case, each.callers)
        other = figures.of(PEER, each.case, each.callers)
        yield (
            each.case,
            str(each.callers),
            each.system,
            f"{each.per_s:,.0f}",
            f"{each.per_s * each.rows:,.0f}" if each.rows > 1 else "",
            f"{each.p50_ms:.2f}",
            f"{each.p99_ms:.2f}",
            f"{each.cpu_us:,.0f}",
            f"{each.engine_us:,.0f}" if each.engine_us else "",
            f"{each.cpu_us / echo.cpu_us:.1f}" if echo and each.rows == 1 else "",
            f"{each.cpu_us / other.cpu_us:.2f}" if other and each.system == OURS else "",
        )


def _growth_rows(growth: Iterable[Result]) -> Iterator[tuple[str, ...]]:
    yield "case", "there are", "callers", "p50 ms", "p99 ms", "CPU µs/call", "engine µs"
    for each in growth:
        numbers = f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}", f"{each.cpu_us:,.0f}", f"{each.engine_us:,.0f}"
        yield each.case, f"{each.size:,}", str(each.callers), *numbers


def _reach_rows(reach: Iterable[Reach]) -> Iterator[tuple[str, ...]]:
    yield "to reach", "is", "bound", ""
    for each in reach:
        sign = "≥" if each.at_least else "≤"
        yield each.what, f"{each.value:.2f}", f"{sign} {each.bound:g}", "reached" if each.is_met else "missed"


def _table(rows: Iterable[tuple[str, ...]]) -> None:
    """Prints rows in columns: the first to the left, the others to the right."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print("  ".join(cells).rstrip())


def plot(figures: Figures, path: Path) -> None:
    """Draws server CPU per call, and calls a second by the number of callers."""
    import matplotlib as mpl  # noqa: PLC0415  only where a plot is wanted

    mpl.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    canvas, (left, right) = pyplot.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(3, 2), layout="constrained")
    _draw_cpu(figures, left)
    _draw_rates(figures, right)
    canvas.savefig(path, dpi=100)


COLOURS = {OURS: "#1f6f8b", PEER: "#d98e32"}


def _draw_cpu(figures: Figures, axes: Any) -> None:
    names = [each.case for each in figures.results if (each.system, each.callers) == (OURS, USUAL)]
    names = [name for name in names if figures.of(PEER, name)]
    for offset, system in ((0.2, OURS), (-0.2, PEER)):
        found = [figures.of(system, name) for name in names]
        bars = axes.barh(
            [len(names) - place + offset for place in range(len(names))],
            [each.cpu_us if each else 0 for each in found],
            height=0.38,
            color=COLOURS[system],
            label=system,
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=2)
    axes.set_yticks([len(names) - place for place in range(len(names))], names)
    if echo := figures.of(ECHO, "get"):
        axes.axvline(echo.cpu_us, color="#888", linestyle=":", label=ECHO)
    axes.set_title(f"Server CPU per call, µs ({USUAL} callers)", loc="left")
    axes.legend(frameon=False, loc="best")


def _draw_rates(figures: Figures, axes: Any) -> None:
    for case, style in (("get", "-"), ("upsert existing", "--")):
        for system, colour in COLOURS.items():
            found = [each for each in figures.results if (each.system, each.case) == (system, case)]
            found.sort(key=lambda each: each.callers)
            axes.plot(
                [each.callers for each in found],
                [each.per_s for each in found],
                style,
                color=colour,
                marker="o",
                markersize=3,
                label=f"{system}, {case}",
            )
    axes.set_xscale("log", base=4)
    axes.set_xticks([1, 16, 64, 256], ["1", "16", "64", "256"])
    axes.set_ylim(0, 1.5 * axes.get_ylim()[1])  # room for the legend
    axes.set_title("Calls a second, by callers", loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
