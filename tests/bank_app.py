"""The app that tests of behaviour run: an account with everything that a command can do wrong."""

from __future__ import annotations

import os
import signal
import threading
from decimal import Decimal
from pathlib import Path

from eventray import Aggregate, App, Dedicated, Event, Meta, Packed, Projection, Rejected, command, query


class Opened(Event):
    owner: str


class Deposited(Event):
    amount: Decimal


class Withdrawn(Event):
    amount: Decimal


class Poison(Event):
    """No projection can apply it."""


class InsufficientFunds(Rejected):
    """A refusal with facts of its own and a constructor that cannot be called again by its args."""

    def __init__(self, balance: Decimal, *, wanted: Decimal) -> None:
        super().__init__(f"{balance} is less than {wanted}")
        self.balance = balance
        self.wanted = wanted


class Account(Aggregate, snapshot_every=20):
    owner: str | None = None
    balance: Decimal = Decimal(0)
    notes: list[str] = []

    @command
    def open(self, owner: str) -> Opened | None:
        if self.owner == owner:
            return None
        if self.owner is not None:
            raise Rejected(f"{self.id} belongs to {self.owner}")
        return Opened(owner)

    @command
    def deposit(self, amount: Decimal) -> Deposited:
        if amount <= 0:
            raise Rejected("amount must be positive")
        return Deposited(amount)

    @command
    def withdraw(self, amount: Decimal) -> Withdrawn:
        if amount > self.balance:
            raise InsufficientFunds(self.balance, wanted=amount)
        return Withdrawn(amount)

    @command
    def deposit_twice(self, amount: Decimal) -> list[Deposited]:
        return [Deposited(amount), Deposited(amount)]

    @command
    def break_down(self) -> Deposited:
        raise ZeroDivisionError("a bug of the user's")

    @command
    def leave_the_program(self) -> Deposited:
        raise SystemExit(3)

    @command
    def change_and_raise(self) -> Deposited:
        self.notes.append("never")
        self.balance = Decimal(-1)
        raise KeyError("after a change")

    @command
    def change_state(self) -> Deposited:
        self.balance += 1
        return Deposited(Decimal(1))

    @command
    def wrong_value(self) -> Deposited:
        return Deposited("abc")  # type: ignore[arg-type]

    @command
    def write_large(self, size: int) -> Opened:
        return Opened("x" * size)

    @command
    def poison(self) -> Poison:
        return Poison()

    @command(blocking=True)
    def wait_for_file(self, path: str) -> Deposited:
        """The file `path`.runs grows by a byte each time that it runs."""
        with Path(f"{path}.runs").open("a") as runs:
            runs.write("x")
        waiter = threading.Event()
        while not Path(path).exists():
            waiter.wait(0.01)
        return Deposited(Decimal(1))

    @command(blocking=True)
    def meet(self, folder: str, others: int) -> Deposited:
        """Come to `folder`, and wait until `others` more have."""
        (Path(folder) / self.id).touch()
        waiter = threading.Event()
        while len(list(Path(folder).iterdir())) <= others:
            waiter.wait(0.01)
        return Deposited(Decimal(1))

    @command
    def compute_until(self, path: str, started: str = "") -> Deposited:
        """Compute, without saying that it blocks, until there is a file at `path`; `started` is made first."""
        if started:
            Path(started).touch()
        while not Path(path).exists():
            pass
        return Deposited(Decimal(1))

    @command
    def process_id(self) -> Opened:
        return Opened(str(os.getpid()))

    @command
    def die(self, marker: str, times: int = 1) -> Deposited:
        """Kill the process the first `times` that it runs; the file `marker` grows by a byte each time."""
        path = Path(marker)
        if not path.exists() or path.stat().st_size < times:
            with path.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return Deposited(Decimal(1))

    def apply(self, event: Opened | Deposited | Withdrawn) -> None:
        match event:
            case Opened(owner):
                self.owner = owner
            case Deposited(amount):
                self.balance += amount
            case Withdrawn(amount):
                self.balance -= amount


class Balances(Projection):
    total: dict[str, Decimal] = {}
    last: dict[str, str] = {}

    def apply(self, event: Deposited | Withdrawn | Poison, meta: Meta) -> None:
        sign = -1 if isinstance(event, Withdrawn) else 1
        if isinstance(event, Poison):
            self.total[meta.id] = Decimal(-(10**9))  # a half-applied event must leave nothing behind
            raise ValueError("cannot apply this")
        self.total[meta.id] = self.total.get(meta.id, Decimal(0)) + sign * event.amount
        self.last[meta.id] = str(meta.metadata.get("user", ""))

    @query
    def of(self, id: str) -> Decimal:
        return self.total.get(id, Decimal(0))

    @query
    def sum(self) -> Decimal:
        return sum(self.total.values(), Decimal(0))

    @query
    def last_user(self, id: str) -> str:
        return self.last.get(id, "")

    @query
    def failing(self) -> int:
        raise LookupError("a bug in a query")


def make_app(name: str, placement: str) -> App:
    """The app under a name of its own; `placement` is "dedicated" or anything else for packed."""
    where = Dedicated(max_active=4) if placement == "dedicated" else Packed()
    return App(name, aggregates=[Account], projections=[Balances], placement={Account: where})
