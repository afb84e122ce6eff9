"""What a benchmark's figures say when a part of them was measured anew."""

from __future__ import annotations

from dataclasses import replace

from bench.figures import OURS, Figures, Result

ONE = Result(OURS, "search", 1, 100, 1, 50.0, 2.0, 3.0, 400.0, 100.0, 0.2)
SIZES = (10_000, 100_000, 1_000_000)


def test_what_was_measured_anew_takes_its_earlier_place() -> None:
    """A second measurement of the same replaces the first where it stood; one of something else comes behind."""
    figures = Figures("a machine")
    for case in ("get", "search", "append"):
        figures.add(replace(ONE, case=case))
    figures.add(replace(ONE, case="get", per_s=60.0))
    figures.add(replace(ONE, case="get", callers=4))
    assert [("get", 1, 60), ("search", 1, 50), ("append", 1, 50), ("get", 4, 50)] == [
        (each.case, each.callers, each.per_s) for each in figures.results
    ]


def test_growth_is_from_the_least_to_the_most() -> None:
    """Growth compares the smallest with the largest, in whatever order they were measured."""
    for order in (SIZES, SIZES[::-1]):
        figures = Figures("a machine")
        for size in order:
            figures.add(replace(ONE, size=size, p50_ms=size / 10_000))
        (reach,) = figures.reach()
        assert ("search: p50 at 1,000,000 ÷ at 10,000", 100.0, False) == (reach.what, reach.value, reach.is_met)


def test_an_upsert_is_compared_with_the_echo_of_an_upsert() -> None:
    """Each upsert's echo is that of an upsert, everything else's that of a get."""
    figures = Figures("a machine")
    for case in ("get", "upsert existing"):
        figures.add(replace(ONE, system="bare echo", case=case, callers=64))
    told = {case: figures.echo_of(case) for case in ("get", "search", "upsert existing", "upsert new")}
    assert {"get": "get", "search": "get", "upsert existing": "upsert existing", "upsert new": "upsert existing"} == {
        case: echo.case if echo else "" for case, echo in told.items()
    }
