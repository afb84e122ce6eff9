"""How long callers wait for each other: who is alone for nobody, the others for those who are likely to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from multimail_server.storage import gather

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Row(NamedTuple):
    """Something that waits."""

    asker: object


def asked(many: int) -> Iterator[Row]:
    """What so many callers ask for."""
    return (Row(object()) for _ in range(many))


async def pauses(monkeypatch: pytest.MonkeyPatch, there: int, coming: Sequence[int], answered: int = 0) -> int:
    """How many pauses are made when so many are there at first and so many come in each pause."""
    queue, made = list(asked(there)), 0

    async def sleep(seconds: float) -> None:
        nonlocal made
        if seconds:
            queue.extend(asked(coming[made] if made < len(coming) else 0))
            made += 1

    monkeypatch.setattr(gather, "sleep", sleep)
    await gather.gathered(queue, asked(answered))
    return made


@pytest.mark.parametrize(
    ("there", "coming", "answered", "made"),
    [
        pytest.param(1, [], 0, 0, id="the first and only one"),
        pytest.param(1, [], 1, 1, id="one waits while another was answered"),
        pytest.param(0, [], 1, 0, id="a lone caller was answered"),
        pytest.param(2, [], 0, 1, id="two, and nobody more"),
        pytest.param(2, [1, 1, 0, 9], 0, 3, id="until nobody more comes"),
        pytest.param(5, [1, 40, 17, 0, 9], 1, 4, id="until nobody more comes, however many there were"),
        pytest.param(0, [1, 1, 2, 9], 4, 3, id="until all are back who were answered"),
        pytest.param(4, [1, 3, 9], 4, 2, id="those who waited count as well"),
        pytest.param(0, [0, 0, 0, 2, 0, 9], 64, 5, id="nobody waits until the first is back"),
        pytest.param(0, [1, 0, 9], 64, 2, id="whoever is back waits once for the others"),
        pytest.param(256, [1], 0, 0, id="as many as share one round trip"),
        pytest.param(200, [56, 1], 256, 1, id="as many as share one round trip, with more to come"),
        pytest.param(2, [1] * 99, 0, 15, id="for 30 ms"),
        pytest.param(0, [], 64, 15, id="nobody comes back for 30 ms"),
    ],
)
async def test_waits_for_those_who_are_likely_to_come(
    monkeypatch: pytest.MonkeyPatch, there: int, coming: Sequence[int], answered: int, made: int
) -> None:
    """A pause is made only where somebody else is known, or several wait, and none that brought nobody is followed."""
    assert made == await pauses(monkeypatch, there, coming, answered)


@pytest.mark.parametrize(
    ("waiting", "answered"),
    [
        pytest.param({"one": 20}, {}, id="a call with many rows"),
        pytest.param({"one": 20}, {"one": 256}, id="a call with more rows than one round trip takes"),
        pytest.param({"one": 200, "two": 56}, {}, id="rows that fill a round trip"),
        pytest.param({"one": 200, "two": 300}, {"two": 100, "three": 1}, id="rows that fill it after others"),
    ],
)
async def test_who_is_alone_or_fills_a_round_trip_waits_for_no_clock(
    monkeypatch: pytest.MonkeyPatch, waiting: dict[str, int], answered: dict[str, int]
) -> None:
    """Calls are counted where others may come, rows where there is room for no more."""

    async def sleep(seconds: float) -> None:
        assert not seconds

    monkeypatch.setattr(gather, "sleep", sleep)
    await gather.gathered(*([Row(asker) for asker in each for _ in range(each[asker])] for each in (waiting, answered)))
