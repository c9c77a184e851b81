"""`python -m benchmarks.report bench.json`: what a run has found, as a table, a picture, and in the pages of docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import curves, pages, tables
from benchmarks.picture import draw
from benchmarks.result import Run, read

app = typer.Typer(add_completion=False)


@app.command()
def main(
    found: Annotated[Path, typer.Argument(help="the bench.json to report")] = Path("bench.json"),
    compare: Annotated[Path | None, typer.Option(help="an older one: then and now, row by row")] = None,
    page: Annotated[Path | None, typer.Option(help="a page whose tables are made anew, its picture beside it")] = None,
    markdown: Annotated[bool, typer.Option(help="print the table for a page")] = False,
) -> None:
    """Report a run that was saved."""
    run = read(found)
    if markdown:
        print(_rows(run), end="")
    else:
        show(run, tables.console(), None if compare is None else read(compare))
    if page is not None:
        into_page(run, page)


def show(run: Run, console: Console, then: Run | None = None) -> None:
    """Print the rows, or how they differ from those of another run."""
    if then is None:
        lines = (line for row in run.rows for line in tables.cells(row))
        console.print(tables.for_terminal(tables.COLUMNS, lines, tables.machine(run)))
        return
    caption = f"then: {tables.machine(then)}\nnow: {tables.machine(run)}"
    if then.scale != run.scale:
        caption += f"\nThe sizes differ: {then.scale} then, {run.scale} now."
    console.print(tables.for_terminal(tables.COMPARED, tables.compared(then, run), caption))


def into_page(run: Run, page: Path) -> None:
    """Put tables and picture of a run where a page has places for them."""
    pages.put(page, "machine", tables.machine(run) + "\n")
    pages.put(page, "rows", _rows(run))
    for over in ("events", "shards"):
        pages.put(page, over, tables.markdown(*curves.cells(run, over)))
    draw(run, page.with_suffix(".png"))


def _rows(run: Run) -> str:
    return tables.markdown(
        tables.COLUMNS, (line for row in run.rows if row.point is None for line in tables.cells(row))
    )


if __name__ == "__main__":
    app()
