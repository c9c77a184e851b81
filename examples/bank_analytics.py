"""History as data: the monthly turnover of a bank, computed from its log, drawn, and compared with a view's figures.

Imports transactions as `examples.bank` does, reads the log back as a table (`runtime.to_arrow`; on Ray with
`runtime.to_dataset`, whose tasks read the shards in parallel), sums it up by month and draws the months as a PNG.
A projection keeps the same figures event by event: both must be equal to the haler. Needs `eventray[data,plot]`.

    python -m examples.bank_analytics --data turnover-data --png turnover.png
    python -m examples.bank_analytics --data turnover-data --png turnover.png --file transactions.csv --local
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import eventray
from eventray import Aggregate, App, Command, Event, EventRayError, Packed, Projection, Runtime, command, query
from examples.bank import BadLineError, Transaction, own_transactions, read_transactions

if TYPE_CHECKING:
    import pyarrow

MONEY = (18, 2)  # amounts have two decimals; another one is an error, nothing is rounded
CREDIT, DEBIT, INK, QUIET = "#2a78b5", "#e07b39", "#222222", "#8a8a8a"


class Credited(Event):
    """Money came in, on a day of the bank's calendar (when the event was recorded is another matter)."""

    day: date
    amount: Decimal


class Debited(Event):
    """Money went out."""

    day: date
    amount: Decimal


class Account(Aggregate):
    """One account; all that it has to know is in its events."""

    @command
    def book(self, day: date, amount: Decimal, is_credit: bool) -> Credited | Debited:
        """Enter a transaction."""
        return Credited(day, amount) if is_credit else Debited(day, amount)


class Turnover(Projection):
    """What came in and went out, by month ("1993-01")."""

    credits: dict[str, Decimal] = {}
    debits: dict[str, Decimal] = {}

    def apply(self, event: Credited | Debited) -> None:
        sums = self.credits if isinstance(event, Credited) else self.debits
        month = f"{event.day:%Y-%m}"
        sums[month] = sums.get(month, Decimal(0)) + event.amount

    @query
    def monthly(self) -> list[tuple[str, Decimal, Decimal]]:
        """Month, credits and debits, in order."""
        months = sorted(self.credits.keys() | self.debits.keys())
        return [(month, self.credits.get(month, Decimal(0)), self.debits.get(month, Decimal(0))) for month in months]


bank = App("bank-analytics", aggregates=[Account], projections=[Turnover], placement={Account: Packed()})


class Month(NamedTuple):
    """The turnover of a month."""

    month: str
    credits: Decimal
    debits: Decimal


def imported(runtime: Runtime, transactions: Iterator[Transaction]) -> int:
    """Book every transaction once, however often this runs; gives how many there were."""
    outcomes = list(runtime.send_all(map(booking, transactions)))
    for outcome in outcomes:
        if isinstance(outcome, EventRayError):
            raise outcome
    return len(outcomes)


def booking(transaction: Transaction) -> Command:
    """The command that enters a transaction."""
    book = Account.book.options(command_id=transaction.id)
    return book.to(transaction.account, transaction.day, transaction.amount, transaction.is_credit)


def history(runtime: Runtime, local: bool) -> pyarrow.Table:
    """The log as a table: read in this process, or by Ray's tasks."""
    if local:
        return runtime.to_arrow((Credited, Debited), decimals=MONEY)
    import pyarrow
    import ray

    dataset = runtime.to_dataset((Credited, Debited), decimals=MONEY)
    columns = dataset.select_columns(["day", "amount", "meta_type"])
    return pyarrow.concat_tables(ray.get(columns.to_arrow_refs()))


def turnover(events: pyarrow.Table) -> list[Month]:
    """The turnover of every month, from the columns `day`, `amount` and `meta_type`."""
    import pyarrow.compute as pc

    months = pc.strftime(pc.cast(events["day"], "timestamp[s]"), "%Y-%m")
    sums = events.append_column("month", months).group_by(["month", "meta_type"]).aggregate([("amount", "sum")])
    found: dict[str, dict[str, Decimal]] = {}
    for row in sums.to_pylist():
        found.setdefault(row["month"], {})[row["meta_type"]] = row["amount_sum"]
    zero = Decimal(0)
    return [
        Month(month, found[month].get("Credited", zero), found[month].get("Debited", zero)) for month in sorted(found)
    ]


def draw(months: list[Month], path: Path) -> None:
    """Draw the months as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(11, 5.5), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15))
    axes = figure.subplots()
    places = range(len(months))
    for shift, color, name, values in (
        (-0.21, CREDIT, "credits", [month.credits for month in months]),
        (0.21, DEBIT, "debits", [month.debits for month in months]),
    ):
        total = f"{name}, {sum(values) / 1_000_000:.1f} million in all"
        heights = [float(value) / 1_000_000 for value in values]
        axes.bar([place + shift for place in places], heights, width=0.4, color=color, label=total, zorder=2)
    axes.set_title("Monthly turnover of the bank", loc="left", color=INK, fontsize=15, fontweight="bold", pad=14)
    axes.set_ylabel("million CZK", color=INK)
    names = [f"{date.fromisoformat(f'{month.month}-01'):%b}" for month in months]
    years = ["" if i and m.month[:4] == months[i - 1].month[:4] else f"\n{m.month[:4]}" for i, m in enumerate(months)]
    axes.set_xticks(places, [name + year for name, year in zip(names, years, strict=True)])
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="y", color=QUIET, alpha=0.25, zorder=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.margins(x=0.01)
    axes.legend(frameon=False, loc="upper left", labelcolor=INK)
    figure.savefig(path)


def main(
    data: Annotated[Path, typer.Option(help="Directory of the store; made if it is not there.")],
    png: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("turnover.png"),
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Transactions to book.")] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON only.")] = False,
) -> None:
    """Book transactions, compute the monthly turnover from the log, compare and draw it."""
    errors = Console(stderr=True, soft_wrap=True)
    transactions = read_transactions(file) if file else own_transactions()
    try:
        with redirect_stdout(sys.stderr), eventray.run(bank, data=data, local=local) as runtime:
            count = imported(runtime, transactions)
            heads = runtime.heads().result()
            of_log = turnover(history(runtime, local))
            of_view = [Month(*row) for row in runtime.view(Turnover).monthly.options(after=heads).remote().result()]
    except BadLineError as error:
        errors.print(f"bad line: {error}", markup=False)
        raise typer.Exit(2) from None
    except EventRayError as error:
        errors.print(f"{type(error).__name__}: {error}", markup=False)
        raise typer.Exit(1) from None
    if of_log != of_view:
        errors.print("the turnover of the log is not that of the view:", set(of_log) ^ set(of_view), markup=False)
        raise typer.Exit(1)
    draw(of_log, png)
    if as_json:
        print(json.dumps({"transactions": count, "months": [[str(value) for value in month] for month in of_log]}))
    else:
        show(of_log, count, png)


def show(months: list[Month], transactions: int, png: Path) -> None:
    """Print the figures as a table."""
    table = Table("month", title=f"turnover of {transactions:,} transactions")
    table.add_column("credits", justify="right")
    table.add_column("debits", justify="right")
    for month in months:
        table.add_row(month.month, f"{month.credits:,}", f"{month.debits:,}")
    console = Console()
    console.print(table)
    console.print(f"the log and the view agree in all {len(months)} months; drawn as {png}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
