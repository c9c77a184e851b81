"""The peer: the library eventsourcing on SQLite. Optional: without it (extra `bench`) its column stays empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.bare import require_full

_EVENTS_A_SAVE = 100


@contextmanager
def account(directory: Path, count: int) -> Iterator[Callable[[], float] | None]:
    """Give what loads an account of `count` deposits and returns the seconds it took; None without the library."""
    try:
        domain, application = import_module("eventsourcing.domain"), import_module("eventsourcing.application")
    except ImportError:
        yield None
        return
    bank = application.Application(
        env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(directory / "peer.db")}
    )
    try:
        _require_full(bank)
        id = _filled(bank, domain, count)
        yield lambda: _load(bank, id, count)
    finally:
        bank.close()


def _filled(bank: Any, domain: Any, count: int) -> Any:
    class Account(domain.Aggregate):  # type: ignore[misc]
        def __init__(self) -> None:
            self.balance = 0

        @domain.event("Deposited")  # type: ignore[untyped-decorator]
        def deposit(self, amount: int, note: str) -> None:
            self.balance += amount

    # It finds classes by their module's attributes again.
    Account.__qualname__ = Account.__name__
    globals()["Account"] = Account
    one = Account()
    for number in range(1, count + 1):
        one.deposit(amount=number, note=f"deposit number {number:06d} of the benchmark")
        if number % _EVENTS_A_SAVE == 0:
            bank.save(one)
    bank.save(one)
    return one.id


def _load(bank: Any, id: Any, count: int) -> float:
    begun = time.perf_counter()
    found = bank.repository.get(id)
    seconds = time.perf_counter() - begun
    assert (found.version, found.balance) == (count + 1, count * (count + 1) // 2)  # its first event is the creation
    return seconds


def _require_full(bank: Any) -> None:
    with bank.factory.datastore.transaction(commit=True) as cursor:
        cursor.execute("PRAGMA synchronous")
        require_full(cursor.fetchone()[0])
