"""Curves: one cost at several sizes, or over more and more shards."""

from __future__ import annotations

from benchmarks.result import Row, Run
from benchmarks.tables import Cells, number

Curve = tuple[str, str, str, list[tuple[int, float]]]  # its name, over what, its unit, its points


def curves(run: Run) -> list[Curve]:
    """Return the curves of a run, those over events first."""
    found: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for row in run.rows:
        if row.point is not None:
            found.setdefault((row.point.over, row.point.curve), []).append((row.point.at, row))
    return [
        (name, over, points[0][1].unit, sorted((at, row.ours.median) for at, row in points))
        for (over, name), points in sorted(found.items())
    ]


def cells(run: Run, over: str) -> tuple[Cells, list[Cells]]:
    """Return the columns and lines of a table with a line for each curve over something."""
    shown = [curve for curve in curves(run) if curve[1] == over]
    places = sorted({at for *_, points in shown for at, _ in points})
    lines: list[Cells] = []
    for name, _, unit, points in shown:
        values = dict(points)
        lines.append([f"{name}, {unit}", *(number(values[at]) if at in values else "" for at in places)])
    return ["", *(f"{at:,} {over}" for at in places)], lines
