"""What a run has found, as it is saved in bench.json: tables, pictures and comparisons are made of nothing else."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

Scale = Literal["full", "quick", "tiny"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the figure itself, or on its ratio to a baseline: the one named `to`, else the first."""

    sign: Literal[">=", "<="]
    bound: float
    of: Literal["figure", "ratio"] = "ratio"
    to: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A place on a curve: `curve` is what is drawn, `over` what it is drawn over, `at` where."""

    curve: str
    over: Literal["events", "shards"]
    at: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The rounds of one side, in order, none if it is not installed; of a baseline, the ratios of ours to it."""

    rounds: list[float]
    ratios: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)

    @property
    def ratio(self) -> float | None:
        """The middle ratio."""
        return statistics.median(self.ratios) if self.ratios else None


@dataclass(frozen=True, slots=True)
class Row:
    """A case that was measured; `load`: runnable processes of the last minute, before and after."""

    benchmark: str
    what: str
    unit: str
    ours: Figures
    baselines: dict[str, Figures]
    goals: list[Goal]
    load: tuple[float, float]
    note: str = ""
    point: Point | None = None

    def reached(self, goal: Goal) -> float | None:
        """How much of a goal is reached, 1 or more: it is met; None when there was no baseline to compare with."""
        if goal.of == "figure":
            value: float | None = self.ours.median
        else:
            baseline = self.baselines.get(goal.to or next(iter(self.baselines), ""))
            value = baseline.ratio if baseline else None
        if value is None:
            return None
        return value / goal.bound if goal.sign == ">=" else goal.bound / value

    def met(self, goal: Goal) -> bool | None:
        """Whether a goal is met; None when that cannot be told."""
        reached = self.reached(goal)
        return None if reached is None else reached >= 1


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    cores: int = os.cpu_count() or 0
    system: str = f"{platform.system()} {platform.machine()}"
    python: str = sys.version.split()[0]
    sqlite: str = sqlite3.sqlite_version


@dataclass(frozen=True, slots=True)
class Run:
    """All of it; `made`: when, in UTC."""

    scale: Scale
    rows: list[Row]
    made: str = ""
    machine: Machine = field(default_factory=Machine)


def save(rows: Sequence[Row], scale: Scale, path: Path) -> Run:
    """Write bench.json, every round included, and return what is in it."""
    run = Run(scale, list(rows), datetime.now(UTC).isoformat(timespec="seconds"))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    return run


def read(path: Path) -> Run:
    """Read a bench.json.

    Raises:
        ValueError: it is none, or one of another format.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a bench.json of this version: {error}") from error
