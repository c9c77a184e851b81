"""How a figure is measured: sides in turns, round by round, so that a busy machine is busy for all of them."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from benchmarks.result import Figures, Goal, Point, Row, Scale

T = TypeVar("T")
Side = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. A side does it once, checks the result, and returns the figure in `unit`.

    A baseline that is None is not installed. `rounds`: of a figure that does not waver, or takes long, one is enough.
    `note`: what the reader of the table must know.
    """

    what: str
    unit: str
    ours: Side
    baselines: Mapping[str, Side | None] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    rounds: int | None = None
    note: str = ""
    point: Point | None = None


class Told(Generic[T]):
    """Runs that give several figures each: the first case makes them, the cases after it tell of the same ones."""

    def __init__(self, run: Callable[[], T]) -> None:
        self._run = run
        self._runs: list[T] = []

    def made(self, pick: Callable[[T], float]) -> Side:
        """Return a side that makes a run."""

        def side() -> float:
            self._runs.append(self._run())
            return pick(self._runs[-1])

        return side

    def told(self, pick: Callable[[T], float]) -> Side:
        """Return a side that tells of the runs that were made, in their order."""
        runs = iter(self._runs)
        return lambda: pick(next(runs))


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
"""A generator of cases, each measured before it goes on, so it may prepare and clean up."""


def run(
    name: str, benchmark: Benchmark, scale: Scale, rounds: int, say: Callable[[str], None] = lambda _: None
) -> Iterator[Row]:
    """Measure each case of a benchmark; `say` hears what is going on."""
    bench = Bench(scale)
    try:
        for case in benchmark(bench):
            yield _measured(name, case, bench, min(rounds, case.rounds or rounds), say)
    finally:
        bench.forget()


def _measured(name: str, case: Case, bench: Bench, rounds: int, say: Callable[[str], None]) -> Row:
    kept = bench.directories  # of the benchmark itself, for all its cases
    before = os.getloadavg()[0]
    sides = {"ours": case.ours} | {side: run for side, run in case.baselines.items() if run is not None}
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
    return Row(
        name,
        case.what,
        case.unit,
        Figures(ours),
        {side: _against(ours, figures.get(side, [])) for side in case.baselines},
        list(case.goals),
        (before, os.getloadavg()[0]),
        case.note,
        case.point,
    )


def _against(ours: list[float], rounds: list[float]) -> Figures:
    return Figures(rounds, [a / b for a, b in zip(ours, rounds, strict=False)])
