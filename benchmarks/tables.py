"""The figures as tables, for the terminal and for Markdown: both are made of the same cells."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.result import Figures, Goal, Row, Run

_SCALES = ((1e6, "M"), (1e3, "k"))
_VERDICTS = {True: "met", False: "missed", None: "not known"}
_STYLES = {"met": "[green]met[/]", "missed": "[red]missed[/]"}
COLUMNS = ("benchmark", "what", "ours", "baseline", "ratio", "goal", "", "load")
COMPARED = ("benchmark", "what", "then", "now", "now / then", "baseline", "ratio then", "ratio now", "now / then")

WIDTH = 180  # of what is no terminal

Cells = Sequence[str]


def console() -> Console:
    """Return what tables are printed on."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    for size, name in _SCALES:
        if abs(value) >= size * 10:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def spread(figures: Figures) -> str:
    """Return the median, and the least and the most of the rounds."""
    if not figures.rounds:
        return "not installed"
    if len(figures.rounds) == 1:
        return number(figures.median)
    return f"{number(figures.median)} ({number(min(figures.rounds))} to {number(max(figures.rounds))})"


def goal(given: Goal, unit: str) -> str:
    """Return a goal as the table shows it."""
    if given.of == "figure":
        return f"{given.sign} {number(given.bound)} {unit}"
    return f"{given.sign} {given.bound:g} x" + (f" {given.to}" if given.to else "")


def cells(row: Row) -> Iterator[Cells]:
    """Return the lines of a row: as many as it has baselines or goals."""
    what = f"{row.what}, {row.unit}" + (f" ({row.note})" if row.note else "")
    baselines, goals = list(row.baselines.items()), row.goals
    for line in range(max(1, len(baselines), len(goals))):
        name, figures = baselines[line] if line < len(baselines) else ("", None)
        wanted = goals[line] if line < len(goals) else None
        yield (
            *((row.benchmark, what, spread(row.ours)) if line == 0 else ("", "", "")),
            f"{name}: {spread(figures)}" if figures else "",
            times(figures.ratio) if figures else "",
            goal(wanted, row.unit) if wanted else "",
            _VERDICTS[row.met(wanted)] if wanted else "",
            f"{max(row.load):.1f}" if line == 0 else "",
        )


def compared(then: Run, now: Run) -> Iterator[Cells]:
    """Return a line for each row of both; the ratios to its first baseline are what the machine spares."""
    before = {(row.benchmark, row.what): row for row in then.rows}
    for row in now.rows:
        old = before.get((row.benchmark, row.what))
        if old is None:
            continue
        name = next(iter(row.baselines), "")
        ratios = [one.baselines[name].ratio if name in one.baselines else None for one in (old, row)]
        yield (
            row.benchmark,
            f"{row.what}, {row.unit}",
            number(old.ours.median),
            number(row.ours.median),
            times(row.ours.median / old.ours.median),
            name,
            *(times(ratio) for ratio in ratios),
            times(ratios[1] / ratios[0]) if ratios[0] and ratios[1] else "",
        )


def times(ratio: float | None) -> str:
    """Return a ratio, or nothing."""
    return "" if ratio is None else f"{ratio:.2f} x"


def for_terminal(columns: Cells, lines: Iterable[Cells], caption: str = "") -> Table:
    """Return a table that rich draws."""
    found = Table(caption=caption, caption_justify="left")
    for column in columns:
        found.add_column(column, overflow="fold")
    for line in lines:
        found.add_row(*(_STYLES.get(cell, cell) for cell in line))
    return found


def markdown(columns: Cells, lines: Iterable[Cells]) -> str:
    """Return a table for a page."""
    shown = [columns, ["---"] * len(columns), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in shown)


def machine(run: Run) -> str:
    """Say when and on what the figures were measured, and how busy it was."""
    loads = [load for row in run.rows for load in row.load] or [0.0]
    on = run.machine
    return (
        f"{run.made[:10]}, sizes: {run.scale}. Medians of rounds in turns (least to most); ratios round by round; "
        f"every side syncs each commit (checked). {on.cores} cores, load {min(loads):.1f} to {max(loads):.1f}, "
        f"{on.system}, Python {on.python}, SQLite {on.sqlite}."
    )
