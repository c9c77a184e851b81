"""`python -m benchmarks.profile` (`make profile`): where the processor time of each hot path goes, layer by layer.

Each path runs twice, in processes of its own: as it is, for the processor time of an item (/proc), and under a
stopwatch, for the shares of the layers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import pages, tables
from benchmarks.layers import LAYERS, Spent, cost_of_the_hook, shares
from benchmarks.paths import PATHS

TITLES = {
    "one_caller": "1 caller, local",
    "many_callers": "64 callers, local",
    "ingest": "`ingest` on Ray",
    "hot": "`hot` on Ray, 64",
    "loading": "`load`, an event",
    "rebuilding": "`rebuild` local, an event",
}
app = typer.Typer(add_completion=False)
Column = tuple[str, dict[str, float], float, float]  # title, us of each layer, their sum, us by the clock


@app.command()
def main(
    only: Annotated[str, typer.Option(help="names of paths, with commas between; all if empty")] = "",
    page: Annotated[Path | None, typer.Option(help="a page whose table is made anew")] = None,
) -> None:
    """Measure where the time goes."""
    names = only.split(",") if only else list(PATHS)
    unknown = set(names) - set(PATHS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(PATHS)}")
    console = tables.console()
    found: list[Column] = []
    with console.status("") as status:
        hook_s = cost_of_the_hook()
        for name in names:
            status.update(name)
            found += columns(name, hook_s)
    heads, lines = table(found)
    console.print(tables.for_terminal(heads, lines, "us of processor time for a command (or an event), all threads"))
    if page is not None:
        pages.put(page, "layers", tables.markdown(heads, lines))


def columns(name: str, hook_s: float) -> list[Column]:
    """Measure a path: a column for the client, or for all if it is one process, and one for the shards."""
    plain = _run(name)
    with tempfile.TemporaryDirectory() as directory:
        hooked = _run(name, directory)
    found = []
    for side in plain["after"]:
        cpu_us = 1e6 * _cpu_s(plain, side) / plain["items"]
        parts = shares(_layers(hooked, side), hook_s, _cpu_s(hooked, side))
        title = TITLES[name] + (f": {side}" if len(plain["after"]) > 1 else "")
        clock_us = 1e6 * plain["seconds"] / plain["items"]
        found.append((title, {layer: cpu_us * part for layer, part in parts.items()}, cpu_us, clock_us))
    return found


def table(found: Sequence[Column]) -> tuple[tables.Cells, list[tables.Cells]]:
    """Return columns and lines: a line for each layer, then what they come to, and the time by the clock."""
    lines: list[tables.Cells] = [
        [layer, *(f"{parts[layer]:.1f}" if parts.get(layer, 0) >= 0.05 else "" for _, parts, _, _ in found)]
        for layer in LAYERS
    ]
    lines.append(["all of it", *(f"{cpu_us:.1f}" for *_, cpu_us, _ in found)])
    lines.append(["by the clock", *(f"{clock_us:.1f}" for *_, clock_us in found)])
    return ["us", *(title for title, *_ in found)], lines


def _run(name: str, *directory: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.paths", name, *directory]
    # A worker is hooked before Ray has told it where the driver's modules are.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def _cpu_s(run: dict[str, Any], side: str) -> float:
    return float(run["after"][side]["cpu_s"] - run["before"][side]["cpu_s"])


def _layers(run: dict[str, Any], side: str) -> Spent:
    before, after = run["before"][side]["layers"], run["after"][side]["layers"]
    return {
        layer: (spent[0] - before.get(layer, (0, 0))[0], spent[1] - before.get(layer, (0, 0))[1])
        for layer, spent in after.items()
    }


if __name__ == "__main__":
    app()
