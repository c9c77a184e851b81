"""An app with a view of several versions, and one of several partitions and replicas."""

from __future__ import annotations

import heapq
import itertools
from decimal import Decimal
from pathlib import Path

from eventray import App, Meta, Packed, Projection, query
from tests.bank_app import Account, Deposited, Opened

identity = id


def largest(parts: list[list[tuple[Decimal, str]]], n: int) -> list[tuple[Decimal, str]]:
    return heapq.nlargest(n, itertools.chain.from_iterable(parts))


class Totals(Projection):
    """The first version: what was deposited."""

    total: dict[str, Decimal] = {}

    def apply(self, event: Deposited, meta: Meta) -> None:
        self.total[meta.id] = self.total.get(meta.id, Decimal(0)) + event.amount

    @staticmethod
    def key(event: Deposited, meta: Meta) -> str:
        return meta.id

    def merge(self, other: Totals) -> None:
        self.total |= other.total

    @query(key="id")
    def of(self, id: str) -> Decimal:
        return self.total.get(id, Decimal(0))

    @query(merge=sum)
    def sum(self) -> Decimal:
        return sum(self.total.values(), Decimal(0))

    @query(merge=largest)
    def top(self, n: int = 3) -> list[tuple[Decimal, str]]:
        return heapq.nlargest(n, ((amount, id) for id, amount in self.total.items()))

    @query(merge=lambda parts: list(itertools.chain(*parts)))
    def held(self) -> list[list[str]]:
        """The keys that one actor has."""
        return [sorted(self.total)]

    @query(key="id")
    def beside(self, id: str) -> list[str]:
        """The keys of the actor that is asked for one of them."""
        return sorted(self.total)

    @query(key="id")
    def actor(self, id: str) -> int:
        """Which object has answered."""
        return identity(self)


class Doubled(Totals, name="Totals", version=2, partitions=2, replicas=2):
    """The second version, with a bug: it counts twice what goes to some accounts."""

    def apply(self, event: Deposited, meta: Meta) -> None:
        super().apply(event, meta)
        if meta.id in ("a3", "a5"):
            super().apply(event, meta)


class Picky(Totals, name="Totals", version=3):
    """The third version: it stops at the opening of an account while the file that its owner names is there."""

    def apply(self, event: Opened | Deposited, meta: Meta) -> None:
        if isinstance(event, Deposited):
            super().apply(event, meta)
        elif Path(event.owner).exists():
            raise ValueError(f"{event.owner} is there")


def make_app(name: str) -> App:
    views = [Totals, Doubled, Picky]
    return App(name, aggregates=[Account], projections=views, placement={Account: Packed()})
