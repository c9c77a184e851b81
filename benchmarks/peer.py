"""The peer: the library eventsourcing on SQLite. Optional: without it (extra `bench`) its column stays empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.durability import require_full

_EVENTS_A_SAVE = 100
_EVENTS_A_PAGE = 1_000


@contextmanager
def account(directory: Path, count: int) -> Iterator[Callable[[], float] | None]:
    """Give what makes the first deposit to an account of `count` of them, not in its cache, and returns the seconds.

    None without the library.
    """
    with _application(directory) as bank:
        if bank is None:
            yield None
            return
        one = _account_class()()
        for number in range(1, count + 1):
            one.deposit(amount=number, note=f"deposit number {number:06d} of the benchmark")
            if number % _EVENTS_A_SAVE == 0:
                bank.save(one)
        bank.save(one)
        yield lambda: _first_deposit(bank, one.id)


@contextmanager
def bank(directory: Path, accounts: int) -> Iterator[Callable[[int], float] | None]:
    """Give what makes so many deposits to `accounts` accounts in turn and returns the seconds; None without it.

    Each deposit is a command of its own, as its users write it: get the account (from its cache), change it, save it.
    """
    # Nobody else writes: without fast-forward its cache asks the database nothing.
    cached = {"AGGREGATE_CACHE_MAXSIZE": str(accounts), "AGGREGATE_CACHE_FASTFORWARD": "n"}
    with _application(directory, **cached) as bank:
        if bank is None:
            yield None
            return
        new = _account_class()
        ids = []
        for _ in range(accounts):
            one = new()
            bank.save(one)
            ids.append(one.id)
        yield lambda deposits: _deposit(bank, ids, deposits)


@contextmanager
def log(directory: Path, events: int, accounts: int) -> Iterator[Callable[[], float] | None]:
    """Give what folds a log of `events` deposits to `accounts` accounts and returns the seconds; None without it.

    As its projections do: all notifications in pages, each mapped to its event, the sum of each account in a dict.
    """
    with _application(directory) as bank:
        if bank is None:
            yield None
            return
        bank.notification_log.section_size = _EVENTS_A_PAGE
        new = _account_class()
        each = events // accounts
        for _ in range(accounts):
            one = new()
            for number in range(each):
                one.deposit(amount=number, note="")
            bank.save(one)
        yield lambda: _replay(bank, accounts, each)


@contextmanager
def _application(directory: Path, **settings: str) -> Iterator[Any]:
    try:
        application = import_module("eventsourcing.application")
    except ImportError:
        yield None
        return
    stored = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(directory / "peer.db")}
    bank = application.Application(env=stored | settings)
    try:
        _require_full(bank)
        yield bank
    finally:
        bank.close()


@cache
def _account_class() -> Any:
    """Its class, once: it refuses a second one of the same name."""
    domain = import_module("eventsourcing.domain")

    class Account(domain.Aggregate):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.balance = 0

        @domain.event("Deposited")  # type: ignore[untyped-decorator]
        def deposit(self, amount: int, note: str) -> None:
            self.balance += amount

    # It finds classes by their module's attributes again.
    Account.__qualname__ = Account.__name__
    globals()["Account"] = Account
    return Account


def _first_deposit(bank: Any, id: Any) -> float:
    before = bank.recorder.max_notification_id() - 1  # its first event is the creation
    begun = time.perf_counter()
    found = bank.repository.get(id)
    found.deposit(amount=before + 1, note="one more")
    bank.save(found)
    seconds = time.perf_counter() - begun
    assert (found.version, found.balance) == (before + 2, (before + 1) * (before + 2) // 2)
    return seconds


def _deposit(bank: Any, ids: list[Any], deposits: int) -> float:
    before = sum(bank.repository.get(id).balance for id in ids)
    begun = time.perf_counter()
    for number in range(deposits):
        one = bank.repository.get(ids[number % len(ids)])
        one.deposit(amount=1, note="")
        bank.save(one)
    seconds = time.perf_counter() - begun
    assert sum(bank.repository.get(id).balance for id in ids) == before + deposits
    return seconds


def _replay(bank: Any, accounts: int, each: int) -> float:
    notifications, to_event = bank.notification_log, bank.mapper.to_domain_event
    deposited = _account_class().Deposited
    total: dict[Any, int] = {}
    begun, start = time.perf_counter(), 1
    while page := notifications.select(start, _EVENTS_A_PAGE):
        for notification in page:
            event = to_event(notification)
            if type(event) is deposited:
                total[event.originator_id] = total.get(event.originator_id, 0) + event.amount
        start = page[-1].id + 1
    seconds = time.perf_counter() - begun
    assert list(total.values()) == [each * (each - 1) // 2] * accounts
    return seconds


def _require_full(bank: Any) -> None:
    with bank.factory.datastore.transaction(commit=True) as cursor:
        cursor.execute("PRAGMA synchronous")
        require_full(cursor.fetchone()[0])
