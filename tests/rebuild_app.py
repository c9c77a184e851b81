"""An app with views that are made anew: from parts, in one pass, and ones that meet what they cannot apply."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path

from eventray import App, Meta, Packed, Projection, query
from tests.bank_app import Account, Deposited, Opened
from tests.parking_app import Strict, Totals


class Summed(Totals, name="Summed"):
    """Made from parts. While there is a file at `<owner>.gate` the opening of an account waits for it to go."""

    def apply(self, event: Opened | Deposited, meta: Meta) -> None:
        if isinstance(event, Opened) and Path(f"{event.owner}.gate").exists():
            Path(f"{event.owner}.reached").touch()
            waiter = threading.Event()
            while Path(f"{event.owner}.gate").exists():
                waiter.wait(0.01)
        super().apply(event, meta)

    def merge(self, other: Summed) -> None:
        self.total |= other.total
        self.owners += other.owners

    @query
    def of(self, id: str) -> Decimal:
        return self.total.get(id, Decimal(0))


class Latest(Projection):
    """The deposits in the order in which they came: made in one pass."""

    amounts: list[Decimal] = []

    def apply(self, event: Deposited) -> None:
        self.amounts.append(event.amount)

    @query
    def all(self) -> list[Decimal]:
        return self.amounts


def make_app(name: str) -> App:
    return App(name, aggregates=[Account], projections=[Summed, Latest, Strict], placement={Account: Packed()})
