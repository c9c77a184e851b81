"""bench.png: how much of each goal is reached, and what costs depend on. Needs matplotlib (extra `bench`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.curves import Curve, curves
from benchmarks.result import Run
from benchmarks.tables import goal, machine

MET, MISSED = "#2a7f4f", "#b5482f"
CURVE = "#2f5f8f"
COLUMNS = 3
_BAR_INCHES, _CURVES_INCHES, _WIDTH_INCHES = 0.3, 2.6, 13.0


def draw(run: Run, path: Path) -> None:
    """Write the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars, lines = _reached(run), curves(run)
    rows = -(-len(lines) // COLUMNS)
    heights = [_BAR_INCHES * max(4, len(bars)) + 1, *([_CURVES_INCHES * rows] if rows else [])]
    figure = pyplot.figure(figsize=(_WIDTH_INCHES, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), height_ratios=heights, squeeze=False)[:, 0]
    _draw_bars(parts[0].subplots(), bars)
    parts[0].suptitle(machine(run), fontsize=8)
    for number, curve in enumerate(lines):
        _draw_curve(parts[1].add_subplot(rows, COLUMNS, number + 1), curve)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _reached(run: Run) -> list[tuple[str, float]]:
    """What was wanted, and how much of it is reached: 1 or more is met."""
    return [
        (f"{row.benchmark}: {row.what}, {goal(wanted, row.unit)}", reached)
        for row in run.rows
        for wanted in row.goals
        if (reached := row.reached(wanted)) is not None
    ]


def _draw_bars(axes: Any, bars: list[tuple[str, float]]) -> None:
    names, values = [name for name, _ in bars], [value for _, value in bars]
    colours = [MET if value >= 1 else MISSED for value in values]
    drawn = axes.barh(names, [value - 1 for value in values], left=1, color=colours)
    axes.bar_label(drawn, [f"{value:.2g}" for value in values], padding=3, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("how much of the goal is reached (right of 1: met)")


def _draw_curve(axes: Any, curve: Curve) -> None:
    name, over, unit, points = curve
    axes.plot([at for at, _ in points], [value for _, value in points], "o-", color=CURVE)
    axes.set_xscale("log", base=2 if over == "shards" else 10)
    if over == "shards":
        axes.set_xticks([at for at, _ in points], [str(at) for at, _ in points])
    axes.set_ylim(bottom=0)
    axes.set_title(f"{name} over {over}", fontsize=9)
    axes.set_xlabel(over, fontsize=8)
    axes.set_ylabel(unit, fontsize=8)
