"""A bank: opens accounts and replays transactions into them, exactly once each, while a view follows.

Shows commands as values (`Account.deposit.to(...)`), `send_all`, command ids that make an import repeatable,
a view read after the last write, and with --chaos that killed processes change nothing.

    python -m examples.bank --data bank-data
    python -m examples.bank --data bank-data --file transactions.csv --chaos
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import eventray
from eventray import Aggregate, App, Command, Event, EventRayError, Meta, Packed, Projection, Receipt, command, query

CREDITS = {"PRIJEM"}
DEBITS = {"VYDAJ", "VYBER"}
COLUMNS = ("trans_id", "account_id", "date", "type", "amount")
OWN_TRANSACTIONS, OWN_ACCOUNTS, OWN_SEED = 20_000, 200, 1993
OWN_FIRST_DAY, OWN_A_DAY = date(1993, 1, 1), 50


class Opened(Event):
    """An account exists."""


class Deposited(Event):
    """Money came in."""

    amount: Decimal


class Withdrawn(Event):
    """Money went out."""

    amount: Decimal


class Account(Aggregate, snapshot_every=500):
    """One account; it may be overdrawn, as the real ones were."""

    is_open: bool = False
    balance: Decimal = Decimal(0)

    @command
    def open(self) -> Opened | None:
        """Open the account; nothing happens if it is open."""
        return None if self.is_open else Opened()

    @command
    def deposit(self, amount: Decimal) -> Deposited:
        """Put money in."""
        self._check(amount)
        return Deposited(amount)

    @command
    def withdraw(self, amount: Decimal) -> Withdrawn:
        """Take money out."""
        self._check(amount)
        return Withdrawn(amount)

    def _check(self, amount: Decimal) -> None:
        if not self.is_open:
            raise eventray.Rejected(f"account {self.id} is not open")
        if amount < 0:
            raise eventray.Rejected(f"{amount} is below zero")

    def apply(self, event: Opened | Deposited | Withdrawn) -> None:
        match event:
            case Opened():
                self.is_open = True
            case Deposited(amount):
                self.balance += amount
            case Withdrawn(amount):
                self.balance -= amount


class Balances(Projection):
    """The balance of every account."""

    balance: dict[str, Decimal] = {}

    def apply(self, event: Opened | Deposited | Withdrawn, meta: Meta) -> None:
        match event:
            case Opened():
                self.balance[meta.id] = Decimal(0)
            case Deposited(amount):
                self.balance[meta.id] += amount
            case Withdrawn(amount):
                self.balance[meta.id] -= amount

    @query
    def top(self, n: int = 5) -> list[tuple[str, Decimal]]:
        """The n highest balances."""
        return sorted(self.balance.items(), key=lambda entry: (-entry[1], entry[0]))[:n]

    @query
    def total(self) -> Decimal:
        """The sum of all balances."""
        return sum(self.balance.values(), Decimal(0))

    @query
    def accounts(self) -> int:
        """How many accounts there are."""
        return len(self.balance)


bank = App("bank", aggregates=[Account], projections=[Balances], placement={Account: Packed()})


@dataclass(frozen=True)
class Transaction:
    """One line of the file."""

    id: str
    account: str
    day: date
    is_credit: bool
    amount: Decimal

    def command(self) -> Command:
        """The command that carries it out once, however often it is sent."""
        kind = Account.deposit if self.is_credit else Account.withdraw
        return kind.options(command_id=self.id).to(self.account, self.amount)


class BadLineError(Exception):
    """A line that is no transaction; the message names file, line and column."""


def read_transactions(path: Path) -> Iterator[Transaction]:
    """The transactions of a `;`-separated file, its columns found by name."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, delimiter=";", strict=True)
        try:
            places = _places(path, next(rows, []))
            for row in rows:
                if row:
                    yield _transaction(path, rows.line_num, row, places)
        except csv.Error as error:
            raise BadLineError(f"{path}, line {rows.line_num}, column 1: {error}") from error
        except UnicodeDecodeError as error:
            raise BadLineError(f"{path}, line {rows.line_num + 1}, column 1: not UTF-8: {error}") from error


def _places(path: Path, header: list[str]) -> dict[str, int]:
    for name in COLUMNS:
        if name not in header:
            raise BadLineError(f"{path}, line 1, column 1: no column {name!r} among {header}")
    return {name: header.index(name) for name in COLUMNS}


def _transaction(path: Path, line: int, row: list[str], places: dict[str, int]) -> Transaction:
    def bad(column: str, problem: str) -> BadLineError:
        return BadLineError(f"{path}, line {line}, column {places[column] + 1} ({column}): {problem}")

    def cell(column: str) -> str:
        if places[column] >= len(row) or not row[places[column]].strip():
            raise bad(column, "missing")
        return row[places[column]].strip()

    kind = cell("type")
    if kind not in CREDITS | DEBITS:
        raise bad("type", f"{kind!r} is none of {', '.join(sorted(CREDITS | DEBITS))}")
    try:
        day = datetime.strptime(cell("date"), "%y%m%d").date()
    except ValueError:
        raise bad("date", f"{cell('date')!r} is no date like 930131") from None
    try:
        amount = Decimal(cell("amount"))
    except InvalidOperation:
        raise bad("amount", f"{cell('amount')!r} is no number") from None
    if not amount.is_finite() or amount < 0:
        raise bad("amount", f"{amount} is no amount of money")
    return Transaction(cell("trans_id"), cell("account_id"), day, kind in CREDITS, amount)


def own_transactions() -> Iterator[Transaction]:
    """The same made-up transactions every time."""
    dice = random.Random(OWN_SEED)
    for number in range(1, OWN_TRANSACTIONS + 1):
        account = str(dice.randint(1, OWN_ACCOUNTS))
        day = OWN_FIRST_DAY + timedelta(number // OWN_A_DAY)
        is_credit, amount = dice.random() < 0.6, Decimal(dice.randint(100, 500_000)) / 100
        yield Transaction(f"own-{number}", account, day, is_credit, amount)


@dataclass
class Outcome:
    """What an import came to."""

    transactions: int = 0
    duplicates: int = 0
    positions: dict[int, int] = field(default_factory=dict)  # the last one written to, per shard
    failed: list[EventRayError] = field(default_factory=list)

    def add(self, outcome: Receipt | EventRayError, *, counts: bool) -> None:
        """Count one command; those that open accounts do not count."""
        if isinstance(outcome, EventRayError):
            self.failed.append(outcome)
            return
        self.positions[outcome.shard] = max(self.positions.get(outcome.shard, 0), outcome.position)
        self.transactions += counts
        self.duplicates += counts and outcome.duplicate


class Replay:
    """Sends every transaction, opening its account before the first one.

    Args:
        at_halfway: called before transaction number `halfway` is sent.
        step: called for every transaction that is done.
    """

    def __init__(self, halfway: int, at_halfway: Callable[[], None], step: Callable[[], None]) -> None:
        self.outcome = Outcome()
        self._halfway = halfway
        self._at_halfway = at_halfway
        self._step = step
        self._counts: list[bool] = []  # in the order of the commands: is it a transaction?
        self._bad: BadLineError | None = None

    def run(self, runtime: eventray.Runtime, transactions: Iterator[Transaction]) -> Outcome:
        """Do it. A BadLineError of `transactions` is raised after what came before it is done."""
        for place, result in enumerate(runtime.send_all(self._commands(transactions))):
            self.outcome.add(result, counts=self._counts[place])
            if self._counts[place]:
                self._step()
        if self._bad is not None:
            raise self._bad
        return self.outcome

    def _commands(self, transactions: Iterator[Transaction]) -> Iterator[Command]:
        seen: set[str] = set()
        try:
            for number, transaction in enumerate(transactions):
                if number == self._halfway:
                    self._at_halfway()
                if transaction.account not in seen:
                    seen.add(transaction.account)
                    self._counts.append(False)
                    yield Account.open.to(transaction.account)
                self._counts.append(True)
                yield transaction.command()
        except BadLineError as error:
            self._bad = error


def kill_a_shard_and_a_view(runtime: eventray.Runtime) -> None:
    """SIGKILL the process of the first shard and that of the first view, as an accident would."""
    status = runtime.status().result()
    for part in (status.shards[0], status.views[0]):
        if part.pid > 0:  # 0: it does not answer, and would name our own group of processes
            os.kill(part.pid, signal.SIGKILL)


def count_lines(path: Path) -> int:
    """Lines of a file: how long the progress bar is."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def figures(runtime: eventray.Runtime, outcome: Outcome) -> dict[str, object]:
    """What the import came to; the view is read after the last receipt."""
    view = runtime.view(Balances)
    accounts = view.accounts.options(after=outcome.positions).remote()
    total = view.total.options(after=outcome.positions).remote()
    top = view.top.options(after=outcome.positions).remote(5)
    return {
        "accounts": accounts.result(),
        "transactions": outcome.transactions,
        "duplicates": outcome.duplicates,
        "total": str(total.result()),
        "top": [[id, str(amount)] for id, amount in top.result()],
    }


def main(
    data: Annotated[Path, typer.Option(help="Directory of the store; made if it is not there.")],
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Transactions to replay.")] = None,
    shards: Annotated[int | None, typer.Option(min=1, max=4096, help="Files of a new store (default 4).")] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    chaos: Annotated[bool, typer.Option("--chaos", help="Kill a shard and a view halfway.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON only.")] = False,
) -> None:
    """Open accounts and replay transactions; importing them again changes nothing."""
    errors = Console(stderr=True, soft_wrap=True)
    if local and chaos:
        errors.print("--chaos kills processes of the app: with --local there is only this one. Leave one of them out.")
        raise typer.Exit(2)
    total = count_lines(file) - 1 if file else OWN_TRANSACTIONS
    transactions = read_transactions(file) if file else own_transactions()
    try:
        with (
            redirect_stdout(sys.stderr),  # Ray tells of killed workers on stdout
            eventray.run(bank, data=data, shards=shards, local=local) as runtime,
            Progress(console=Console(stderr=True), disable=as_json) as progress,
        ):
            task = progress.add_task("transactions", total=total)
            work = Replay(
                total // 2 if chaos else -1,
                lambda: kill_a_shard_and_a_view(runtime),
                lambda: progress.advance(task),
            )
            begun = time.perf_counter()
            outcome = work.run(runtime, transactions)
            took_s = time.perf_counter() - begun
            result = figures(runtime, outcome)
    except BadLineError as error:
        done = work.outcome.transactions
        errors.print(f"bad line: {error}\n{done} transactions before it were imported.", markup=False)
        raise typer.Exit(2) from None
    except EventRayError as error:
        errors.print(f"{type(error).__name__}: {error}", markup=False)
        raise typer.Exit(1) from None
    if outcome.failed:
        errors.print(f"{len(outcome.failed)} commands failed, the first: {outcome.failed[0]}", markup=False)
        raise typer.Exit(1)
    if as_json:
        print(json.dumps(result))
    else:
        show(result, took_s)


def show(result: dict[str, object], took_s: float) -> None:
    """Print the figures as a table."""
    table = Table("", "", title="bank", show_header=False)
    for name in ("accounts", "transactions", "duplicates", "total"):
        table.add_row(name, str(result[name]))
    top = result["top"]
    assert isinstance(top, list)
    for id, amount in top:
        table.add_row(f"account {id}", amount)
    transactions = result["transactions"]
    assert isinstance(transactions, int)
    table.add_row("rate", f"{transactions / took_s:,.0f} transactions/s")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
