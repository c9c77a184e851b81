"""The app that the engine's benchmarks run: accounts that take deposits, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import eventray
from benchmarks.durability import require_syncs
from benchmarks.harness import Bench
from benchmarks.own_ray import own_ray
from eventray import Aggregate, App, Command, Dedicated, Event, Packed, Receipt, command

if TYPE_CHECKING:
    from eventray import Runtime  # the actors import this module for its classes: they need no client

Where = Literal["packed", "dedicated", "local"]
SHARDS = 4


class Deposited(Event):
    """Money came in."""

    amount: int


class Account(Aggregate):
    """A balance."""

    balance: int = 0

    @command
    def deposit(self, amount: int) -> Deposited:
        """Take money."""
        return Deposited(amount)

    def apply(self, event: Deposited) -> None:
        """Add it."""
        self.balance += event.amount


class Balance:
    """What some accounts hold together: it must grow by what a benchmark has paid in, and no more."""

    def __init__(self, runtime: Runtime, names: Sequence[str]) -> None:
        self.runtime = runtime
        self.names = names
        self._paid_in = 0

    def __enter__(self) -> Balance:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Fold the accounts from their logs, once, at the end."""
        if kind is None:
            states = [self.runtime.state(Account, name) for name in self.names]
            assert sum(state.result().balance for state in states) == self._paid_in

    @contextmanager
    def grows_by(self, deposits: int) -> Iterator[None]:
        """Check that the block stores as many events."""
        before = self._heads()
        yield
        self._paid_in += deposits
        assert self._heads() - before == deposits

    def timed(self, deposits: int, pay_in: Callable[[], None]) -> float:
        """Pay in; deposits a second."""
        with self.grows_by(deposits):
            begun = time.perf_counter()
            pay_in()
            return deposits / (time.perf_counter() - begun)

    def _heads(self) -> int:
        return sum(self.runtime.heads().result().values())


def app(where: Where) -> App:
    """Return the app with its accounts in one place or the other (`local`: in this process)."""
    placement = Dedicated(max_active=64) if where == "dedicated" else Packed()
    return App(f"bench-{where}", aggregates=[Account], placement={Account: placement})


@contextmanager
def running(bench: Bench, where: Where, shards: int = SHARDS, **settings: Any) -> Iterator[Runtime]:
    """Run the app on a new store, on a Ray of its own unless it is local, and see that its shards sync."""
    if where != "local":
        own_ray()
    accounts = 1 if where == "dedicated" else 4 * shards  # each is a process there
    with run(bench.directory(), where, shards, **settings) as runtime:
        require_syncing(runtime, [Account.deposit.to(f"sync-{number}", 1) for number in range(accounts)])
        yield runtime


def require_syncing(runtime: Runtime, commands: Sequence[Command]) -> None:
    """Fail unless every shard that commits these commands is seen to sync, sent as often as it takes."""
    shards = {outcome.shard for outcome in runtime.send_all(commands) if isinstance(outcome, Receipt)}
    assert shards
    pids = {shard.pid for shard in runtime.status().result().shards if shard.index in shards}
    require_syncs(pids, lambda: [*runtime.send_all(commands)])


def run(directory: Path, where: Where, shards: int = SHARDS, **settings: Any) -> Runtime:
    """Start it on a directory, on the Ray of this process."""
    return eventray.run(app(where), data=directory, shards=shards, local=where == "local", **settings)
