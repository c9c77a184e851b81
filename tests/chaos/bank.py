"""The bank whose processes are killed: accounts in their shard's process, and vaults with one of their own."""

from __future__ import annotations

from collections.abc import Mapping

from eventray import Aggregate, App, Dedicated, Event, Meta, Packed, Projection, Rejected, command, query

FIRST_BALANCE = 100
ACCOUNTS = 1_000
VAULTS = 12  # of these accounts; more than may be active: they come and go all the time
VAULTS_ACTIVE_MAX = 4
BURST = 3  # parts of a transfer, sent without waiting for each other


class Deposited(Event):
    amount: int


class Withdrawn(Event):
    amount: int


class Held(Aggregate):
    """What both kinds of account do."""

    balance: int = 0

    @command
    def deposit(self, amount: int) -> Deposited:
        return Deposited(amount)

    @command
    def withdraw(self, amount: int) -> Withdrawn:
        if amount > self.balance:
            raise Rejected(f"{self.balance} is less than {amount}")
        return Withdrawn(amount)

    def apply(self, event: Deposited | Withdrawn) -> None:
        self.balance += change(event)


class Account(Held, snapshot_every=50):
    """Packed."""


class Vault(Held):
    """Dedicated."""


class Balances(Projection):
    """What each account has."""

    of: dict[str, int] = {}

    def apply(self, event: Deposited | Withdrawn, meta: Meta) -> None:
        self.of[meta.stream] = self.of.get(meta.stream, 0) + change(event)

    @query
    def all(self) -> dict[str, int]:
        return self.of


class Events(Projection):
    """How many events each account has."""

    of: dict[str, int] = {}

    def apply(self, event: Deposited | Withdrawn, meta: Meta) -> None:
        self.of[meta.stream] = self.of.get(meta.stream, 0) + 1

    @query
    def all(self) -> dict[str, int]:
        return self.of


AGGREGATES: Mapping[str, type[Account] | type[Vault]] = {"Account": Account, "Vault": Vault}
IDS = [("Vault" if n < VAULTS else "Account", f"{n:04d}") for n in range(ACCOUNTS)]


def change(event: Deposited | Withdrawn) -> int:
    return event.amount if isinstance(event, Deposited) else -event.amount


def make_app(name: str) -> App:
    where: dict[type[Aggregate], Dedicated | Packed] = {
        Account: Packed(),
        Vault: Dedicated(max_active=VAULTS_ACTIVE_MAX),
    }
    return App(name, aggregates=[Account, Vault], projections=[Balances, Events], placement=where)
