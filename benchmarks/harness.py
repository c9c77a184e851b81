"""How a figure is measured: sides in turns, round by round, so that a busy machine is busy for all of them."""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Scale = Literal["full", "quick", "tiny"]
Side = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the figure itself, or on its ratio to a baseline: the one named `to`, else the first."""

    sign: Literal[">=", "<="]
    bound: float
    of: Literal["figure", "ratio"] = "ratio"
    to: str = ""

    def met(self, figure: float, ratios: Mapping[str, float | None]) -> bool | None:
        """Tell whether it is met; None when there was no baseline to compare with."""
        first = next(iter(ratios), "")
        value = figure if self.of == "figure" else ratios.get(self.to or first)
        if value is None:
            return None
        return value >= self.bound if self.sign == ">=" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. A side does it once, checks the result, and returns the figure in `unit`.

    `rounds`: of a figure that does not waver, one is enough. `note`: what the reader of the table must know.
    """

    what: str
    unit: str
    ours: Side
    baselines: Mapping[str, Side] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    rounds: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """The rounds of one side, in order, with the ratio of ours to it, round by round (None: it is ours)."""

    name: str
    rounds: list[float]
    ratios: list[float] | None = None

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)

    @property
    def ratio(self) -> float | None:
        """The middle ratio."""
        return None if self.ratios is None else statistics.median(self.ratios)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that was measured; `load`: runnable processes of the last minute, before and after."""

    benchmark: str
    case: Case
    ours: Figures
    baselines: list[Figures]
    load: tuple[float, float]

    @property
    def met(self) -> bool | None:
        """Whether all goals are met; None: there is none, or nothing to compare with."""
        ratios = {baseline.name: baseline.ratio for baseline in self.baselines}
        found = [goal.met(self.ours.median, ratios) for goal in self.case.goals]
        if False in found:
            return False
        return None if None in found or not found else True


class Bench:
    """What a benchmark gets: its scale, and directories that are gone when its case is over."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self._made: list[Path] = []

    def pick(self, *, full: int, quick: int, tiny: int) -> int:
        """Return the size for this scale."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.scale]

    def directory(self) -> Path:
        """Return a new empty directory, on the disk that the system's temporary files are on."""
        path = Path(tempfile.mkdtemp(prefix="bench-"))
        self._made.append(path)
        return path

    def forget(self, count: int = 0) -> None:
        """Remove all directories but the first `count`."""
        for path in self._made[count:]:
            shutil.rmtree(path, ignore_errors=True)
        del self._made[count:]

    @property
    def directories(self) -> int:
        """How many directories there are."""
        return len(self._made)


Benchmark = Callable[[Bench], Iterator[Case]]
BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str) -> Callable[[Benchmark], Benchmark]:
    """Register a benchmark: a generator of cases, each measured before it goes on, so it may prepare and clean up."""

    def register(found: Benchmark) -> Benchmark:
        assert name not in BENCHMARKS
        BENCHMARKS[name] = found
        return found

    return register


def run(name: str, scale: Scale, rounds: int, say: Callable[[str], None] = lambda _: None) -> Iterator[Outcome]:
    """Measure each case of a benchmark; `say` hears what is going on."""
    bench = Bench(scale)
    try:
        for case in BENCHMARKS[name](bench):
            yield _measured(name, case, bench, case.rounds or rounds, say)
    finally:
        bench.forget()


def _measured(name: str, case: Case, bench: Bench, rounds: int, say: Callable[[str], None]) -> Outcome:
    kept = bench.directories  # of the benchmark itself, for all its cases
    before = os.getloadavg()[0]
    sides = {"ours": case.ours, **case.baselines}
    figures: dict[str, list[float]] = {side: [] for side in sides}
    warm_up = 0 if rounds == 1 else 1
    for number in range(-warm_up, rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for side in order:
            turn = "warm-up" if number < 0 else f"round {number + 1} of {rounds}"
            say(f"{name}, {case.what}: {side}, {turn}")
            gc.collect()
            figure = sides[side]()
            bench.forget(kept)
            if number >= 0:
                figures[side].append(figure)
    ours = figures.pop("ours")
    baselines = [
        Figures(side, found, [a / b for a, b in zip(ours, found, strict=True)]) for side, found in figures.items()
    ]
    return Outcome(name, case, Figures("ours", ours), baselines, (before, os.getloadavg()[0]))
