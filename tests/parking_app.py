"""An app with views that meet events which they cannot apply, for as long as a file is there."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from eventray import App, Meta, Packed, Projection, query
from tests.bank_app import Account, Deposited, Opened


class Totals(Projection, on_error="park", retries=2):
    """Leaves an account's opening behind while the file that its owner names is there."""

    total: dict[str, Decimal] = {}
    owners: list[str] = []

    def apply(self, event: Opened | Deposited, meta: Meta) -> None:
        if isinstance(event, Deposited):
            self.total[meta.id] = self.total.get(meta.id, Decimal(0)) + event.amount
            return
        self.owners.append(event.owner)  # what is half done must not stay
        if Path(event.owner).exists():
            with Path(f"{event.owner}.attempts").open("a") as attempts:
                attempts.write("x")
            raise ValueError(f"{event.owner} is there")

    @query
    def seen(self) -> tuple[list[str], Decimal]:
        return self.owners, sum(self.total.values(), Decimal(0))


class Strict(Totals, name="Strict", on_error="stop", retries=0):
    """The same, but it stops."""


def make_app(name: str) -> App:
    return App(name, aggregates=[Account], projections=[Totals, Strict], placement={Account: Packed()})
