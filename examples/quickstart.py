"""The first screen: an aggregate, a projection, three accounts, and a balance as it was.

Every account is a Ray actor of its own here (`Dedicated`, the default). Prints the three accounts by balance, then
Alice's balance at version 2.

    python -m examples.quickstart
"""

from __future__ import annotations

import sys
import tempfile
from decimal import Decimal

import eventray
from eventray import Aggregate, App, Event, Meta, Projection, Rejected, command, query


class Opened(Event):
    owner: str


class Deposited(Event):
    amount: Decimal


class Account(Aggregate, snapshot_every=500):
    """The annotated attributes with defaults are the state; `id` and `version` come with the base."""

    owner: str | None = None
    balance: Decimal = Decimal(0)

    @command
    def open(self, owner: str) -> Opened | None:
        if self.owner == owner:
            return None  # nothing to do: a receipt without events
        if self.owner is not None:
            raise Rejected(f"{self.id} belongs to {self.owner}")
        return Opened(owner)

    @command
    def deposit(self, amount: Decimal) -> Deposited:  # one event, a list of them, or None
        if amount <= 0:
            raise Rejected("amount must be positive")
        return Deposited(amount)

    def apply(self, event: Opened | Deposited) -> None:
        match event:
            case Opened(owner):
                self.owner = owner
            case Deposited(amount):
                self.balance += amount


class Balances(Projection):
    total: dict[str, Decimal] = {}

    def apply(self, event: Opened | Deposited, meta: Meta) -> None:  # the annotation is the filter
        match event:
            case Opened():
                self.total[meta.id] = Decimal(0)
            case Deposited(amount):
                self.total[meta.id] += amount

    @query
    def top(self, n: int = 10) -> list[tuple[str, Decimal]]:
        return sorted(self.total.items(), key=lambda kv: -kv[1])[:n]


bank = App("bank", aggregates=[Account], projections=[Balances])


def main(data: str) -> None:
    """Run it on a data directory; a second run on the same one goes on where the first has ended."""
    with eventray.run(bank, data=data, shards=4) as runtime:  # starts or joins Ray
        receipts = []
        for name, amount in (("alice", 50), ("bob", 30), ("carol", 70)):
            account = runtime.get(Account, name)
            account.open.remote(name.title())
            receipts.append(account.deposit.remote(Decimal(amount)).result())  # or: await ...
        view = runtime.view(Balances)
        for name, total in view.top.options(after=receipts).remote(5).result():  # reads its own writes
            print(f"{name:6} {total}")
        print("alice at version 2:", runtime.state(Account, "alice", at=2).result().balance)  # time travel


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(scratch)
