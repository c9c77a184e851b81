"""`python -m benchmarks`: measure, show the table, write bench.json, draw bench.png."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness import run
from benchmarks.picture import draw
from benchmarks.report import show
from benchmarks.result import Row, Scale, read, save
from benchmarks.suite import SUITE
from benchmarks.tables import console, spread

ROUNDS, ROUNDS_QUICK = 5, 2
app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="names of benchmarks, with commas between; all if empty")] = "",
    quick: Annotated[bool, typer.Option(help="small sizes and 2 rounds: 2 minutes instead of 20")] = False,
    rounds: Annotated[int, typer.Option(min=0, help="of each side; 0: 5, or 2 if quick")] = 0,
    compare: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="an older bench.json: then and now, row by row")
    ] = None,
    out: Annotated[Path, typer.Option(help="where the JSON goes, and the picture beside it")] = Path("bench.json"),
) -> None:
    """Measure eventray against its baselines."""
    names = only.split(",") if only else list(SUITE)
    unknown = set(names) - set(SUITE)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(SUITE)}")
    try:
        then = None if compare is None else read(compare)  # before anything is measured, and overwritten
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--compare") from error
    scale: Scale = "quick" if quick else "full"
    terminal = console()
    rows: list[Row] = []
    failed: list[str] = []
    with terminal.status("") as status:
        for name in names:
            try:
                for row in run(name, SUITE[name], scale, rounds or (ROUNDS_QUICK if quick else ROUNDS), status.update):
                    rows.append(row)
                    terminal.print(f"{name}: {row.what}: {spread(row.ours)} {row.unit}", style="dim")
            except Exception:  # the others are measured all the same
                terminal.print_exception()
                failed.append(name)
            found = save(rows, scale, out)  # after each: tens of minutes that are interrupted leave what they found
    show(found, terminal)
    if then is not None:
        show(found, terminal, then)
    try:
        draw(found, out.with_suffix(".png"))
    except ImportError:
        terminal.print("no picture: matplotlib is not installed (extra `bench`)")
    if failed:
        terminal.print(f"failed: {', '.join(failed)}", style="red")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
