"""`python -m benchmarks`: measure, show the table, write the JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import append, callers, care, dedicated, ingest, lag, load, memory, rebuild, reopen, size, start  # noqa: F401 - each registers itself
from benchmarks.harness import BENCHMARKS, Outcome, Scale, run
from benchmarks.report import spread, table, write

ROUNDS = 5
app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="names of benchmarks, with commas between; all if empty")] = "",
    quick: Annotated[bool, typer.Option(help="small sizes: minutes instead of tens of them")] = False,
    rounds: Annotated[int, typer.Option(min=5, help="of each side")] = ROUNDS,
    out: Annotated[Path, typer.Option(help="where the JSON goes")] = Path("bench.json"),
) -> None:
    """Measure eventray against its baselines."""
    names = only.split(",") if only else list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(BENCHMARKS)}")
    scale: Scale = "quick" if quick else "full"
    console = Console()
    outcomes: list[Outcome] = []
    with console.status("") as status:
        for name in names:
            for outcome in run(name, scale, rounds, status.update):
                outcomes.append(outcome)
                console.print(f"{name}: {outcome.case.what}: {spread(outcome.ours)} {outcome.case.unit}", style="dim")
    console.print(table(outcomes))
    write(outcomes, scale, out)


if __name__ == "__main__":
    app()
