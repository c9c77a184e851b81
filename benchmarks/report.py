"""The figures as a table for people and as JSON for the next run to compare with."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.harness import Case, Figures, Goal, Outcome

_SCALES = ((1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    for size, name in _SCALES:
        if abs(value) >= size * 10:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def spread(figures: Figures) -> str:
    """Return the median, and the least and the most of the rounds."""
    if len(figures.rounds) == 1:
        return number(figures.median)
    return f"{number(figures.median)} ({number(min(figures.rounds))} to {number(max(figures.rounds))})"


def goal(given: Goal, case: Case) -> str:
    """Return a goal as the table shows it."""
    if given.of == "figure":
        return f"{given.sign} {number(given.bound)} {case.unit}"
    return f"{given.sign} {given.bound:g} x" + (f" {given.to}" if given.to else "")


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return one row per case and baseline."""
    found = Table(caption=_caption(outcomes), caption_justify="left")
    for column in ("benchmark", "what", "ours", "baseline", "ratio", "goal", ""):
        found.add_column(column, overflow="fold")
    for outcome in outcomes:
        case = outcome.case
        goals = " and ".join(goal(one, case) for one in case.goals)
        verdict = {True: "[green]met", False: "[red]missed", None: ""}[outcome.met]
        what = f"{case.what}, {case.unit}" + (f" ({case.note})" if case.note else "")
        for row, baseline in enumerate(outcome.baselines or [None]):
            found.add_row(
                *((outcome.benchmark, what, spread(outcome.ours)) if row == 0 else ("", "", "")),
                f"{baseline.name}: {spread(baseline)}" if baseline else "",
                f"{baseline.ratio:.2f} x" if baseline and baseline.ratio is not None else "",
                *((goals, verdict) if row == 0 else ("", "")),
            )
    return found


def _caption(outcomes: Sequence[Outcome]) -> str:
    loads = [load for outcome in outcomes for load in outcome.load] or [0.0]
    return (
        f"Medians of rounds in turns (least to most); ratios round by round; PRAGMA synchronous is FULL on every side. "
        f"{os.cpu_count()} cores, load {min(loads):.1f} to {max(loads):.1f}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}."
    )


def _figures(figures: Figures) -> dict[str, Any]:
    return {"median": figures.median, "rounds": figures.rounds, "ratio": figures.ratio}


def as_json(outcomes: Sequence[Outcome], scale: str) -> dict[str, Any]:
    """Return all of it, every round included."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "scale": scale,
        "machine": {
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": sys.version.split()[0],
            "sqlite": sqlite3.sqlite_version,
        },
        "rows": [
            {
                "benchmark": outcome.benchmark,
                "what": outcome.case.what,
                "unit": outcome.case.unit,
                "note": outcome.case.note,
                "ours": _figures(outcome.ours),
                "baselines": {figures.name: _figures(figures) for figures in outcome.baselines},
                "goals": [goal(one, outcome.case) for one in outcome.case.goals],
                "met": outcome.met,
                "load": outcome.load,
            }
            for outcome in outcomes
        ],
    }


def write(outcomes: Sequence[Outcome], scale: str, path: Path) -> None:
    """Write the JSON."""
    path.write_text(json.dumps(as_json(outcomes, scale), indent=1) + "\n")
