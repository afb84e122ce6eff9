"""Measures the service beside what stands below it and what would be written instead, in one run on one machine.

Every case is bounded in time; everything runs on loopback. Ratios within one run are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cases, growth, processes
from bench.figures import Figures, middle, plot
from bench.growth import Extent

if TYPE_CHECKING:
    from bench.cases import Case
    from bench.processes import Engine, System

SINGLES = (cases.GET, cases.UPSERT_EXISTING, cases.UPSERT_NEW, cases.APPEND, cases.SEARCH)
BATCHES = (cases.BATCH_EXISTING, cases.BATCH_NEW)
ECHOED = (cases.GET, cases.UPSERT_EXISTING)  # with the messages of each
TOLD = (1, 4, 64)
RAW = (cases.GET, cases.UPSERT_EXISTING, cases.UPSERT_NEW, cases.SEARCH, *BATCHES, cases.BATCH_NUMBERED)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: Of each measurement.
        rounds: How often each is made at the numbers of callers that ratios are told of; medians count.
        callers: At how many callers each case is measured.
        extent: How far growth is taken.
    """

    seconds: float
    rounds: int
    callers: tuple[int, ...]
    extent: Extent


QUICK = Plan(1.0, 1, (1, 64), Extent((10_000, 20_000), (10, 2_000), 10_000, 5_000, 1.0))
FULL = Plan(2.0, 3, cases.CALLERS, Extent((10_000, 100_000), (10, 100_000), 50_000, 50_000, 3.0))
# What takes an hour or more: a million contacts, half a million calls, a million rows.
LONG = Plan(2.5, 3, cases.CALLERS, Extent((10_000, 100_000, 1_000_000), (10, 1_000, 100_000), 500_000, 1_000_000, 5.0))


async def side_by_side(engine: Engine, plan: Plan, figures: Figures) -> None:
    """Every system with every case it knows; the systems take turns within a case, so that a noisy minute hits all."""
    async with AsyncExitStack() as running:
        known: list[tuple[System, tuple[Case, ...]]] = [
            (await running.enter_async_context(processes.echo("bare echo", "bare")), ECHOED),
            (await running.enter_async_context(processes.echo("echo behind our chain", "chain")), ECHOED),
        ]
        rest, handler, raw = await running.enter_async_context(processes.peer(engine, cases.CONTACTS))
        ours = await running.enter_async_context(processes.service(engine, cases.CONTACTS))
        known += [
            (handler, (cases.GET,)),
            (raw, RAW),
            (rest, (*SINGLES, *BATCHES)),
            (ours, (*SINGLES, cases.UPSERT_REPEATABLE, *BATCHES)),
        ]
        for case in (*SINGLES, cases.UPSERT_REPEATABLE, *BATCHES, cases.BATCH_NUMBERED):
            for callers in case.callers:
                if callers not in plan.callers and case.callers == cases.CALLERS:
                    continue
                able = [system for system, knows in known if case in knows]
                rounds = [
                    [await processes.measure(system, case, callers, plan.seconds, engine) for system in able]
                    for _ in range(plan.rounds if callers in TOLD else 1)
                ]
                for each in zip(*rounds, strict=True):
                    figures.add(middle(each))
            print(f"{time.strftime('%H:%M:%S')} measured: {case.name}", flush=True)


def machine(engine: Engine) -> str:
    """What it ran on, in words."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {os.cpu_count()} cores shared by load, servers and engine ({engine.name}), {platform.machine()}"


async def main() -> None:
    """Runs everything, prints it, and writes it where asked."""
    arguments = argparse.ArgumentParser(description=__doc__)
    how = arguments.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_const", const=QUICK, dest="plan", help="about two minutes")
    how.add_argument("--long", action="store_const", const=LONG, dest="plan", help="as far as growth goes: hours")
    arguments.add_argument("--only", choices=("cases", "contacts", "interactions", "memory"), help="one part only")
    arguments.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments.add_argument("--beside", type=Path, help="show and write them beside an earlier run's, from its JSON")
    arguments.add_argument("--plot", type=Path, help="also draw them into this PNG file")
    given = arguments.parse_args()
    plan = given.plan or FULL
    parts = {
        "cases": lambda engine, figures: side_by_side(engine, plan, figures),
        "contacts": lambda engine, figures: growth.contacts(engine, plan.extent, figures),
        "interactions": lambda engine, figures: growth.interactions(engine, plan.extent, figures),
        "memory": lambda engine, figures: growth.memory(engine, plan.extent, figures),
    }
    async with processes.engine() as engine:
        figures = Figures.read(given.beside) if given.beside else Figures(machine(engine))
        figures.note(f"Load average before {given.only or 'all'}:", f"{os.getloadavg()[0]:.1f}.")
        print(figures.machine, figures.notes[-1], sep="\n", flush=True)
        for name, part in parts.items():
            if given.only in (None, name):
                await part(engine, figures)
                print(f"{time.strftime('%H:%M:%S')} done: {name}", flush=True)
                if given.json:
                    figures.write(given.json)  # now: a later part may fail
    figures.show()
    if given.plot:
        plot(figures, given.plot)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
