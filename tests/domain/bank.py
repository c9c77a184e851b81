"""A small domain that the tests of the class model share."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import TypeVar

from eventray import Aggregate, Event, Meta, Projection, Rejected, command, query

T = TypeVar("T")


def travelled(value: T) -> T:
    """The value as it arrives in another process."""
    arrived: T = pickle.loads(pickle.dumps(value))
    return arrived


class Opened(Event):
    owner: str


class Deposited(Event):
    amount: Decimal


class Account(Aggregate, snapshot_every=500):
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
    def deposit(self, amount: Decimal, *, times: int = 1) -> list[Deposited]:
        """Add money."""
        if amount <= 0:
            raise Rejected("amount must be positive")
        return [Deposited(amount)] * times

    @command(blocking=True)
    def audit(self) -> None:
        return None

    @command
    def cheat(self) -> Deposited:
        self.balance += 1
        self.notes.append("cheated")
        return Deposited(Decimal(1))

    def apply(self, event: Opened | Deposited) -> None:
        match event:
            case Opened(owner):
                self.owner = owner
            case Deposited(amount):
                self.balance += amount


class Balances(Projection):
    total: dict[str, Decimal] = {}

    def apply(self, event: Opened | Deposited, meta: Meta) -> None:
        match event:
            case Opened():
                self.total[meta.id] = Decimal(0)
            case Deposited(amount):
                self.total[meta.id] = self.total.get(meta.id, Decimal(0)) + amount

    @query
    def top(self, n: int = 10) -> list[tuple[str, Decimal]]:
        return sorted(self.total.items(), key=lambda kv: -kv[1])[:n]
