"""`load`: an aggregate of many events activated: its first command, from the store to the receipt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import eventray
from benchmarks import bare, events, peer
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal
from eventray import Aggregate, App, Event, Packed, command
from eventray.runtime.model import AggregateModel
from eventray.store import EventStore, NewCommand, NewRecord, Shard, schema

ID, STREAM = "alice", "Account/alice"
PAGE = 2_000
AFTER_THE_SNAPSHOT = 10


class Deposited(Event):
    """Money came in."""

    amount: int
    note: str


class Account(Aggregate):
    """A balance."""

    balance: int = 0

    @command
    def deposit(self, amount: int) -> Deposited:
        """Take money."""
        return Deposited(amount, "one more")

    def apply(self, event: Deposited) -> None:
        """Add it."""
        self.balance += event.amount


BANK = App("bench-load", aggregates=[Account], placement={Account: Packed()})
MODEL = AggregateModel(Account, [Deposited])


def load(bench: Bench) -> Iterator[Case]:
    """A stream of 10,000 events: its records alone, its first command, and that with a snapshot; in one process."""
    count = bench.pick(full=10_000, quick=10_000, tiny=500)
    plain, snapshot, rows = bench.directory(), bench.directory(), bench.directory()
    asyncio.run(fill(plain, count))
    asyncio.run(fill(snapshot, count, snapshot_at=count - AFTER_THE_SNAPSHOT))
    _fill_bare(rows / "bare.db", count)
    yield Case(
        f"records of a stream of {count:,}",
        "events/s",
        lambda: count / asyncio.run(_records(plain, count)),
        {"sqlite3, the rows as they are": lambda: count / _bare_rows(rows / "bare.db", count)},
    )
    with peer.account(bench.directory(), count) as peer_first_command:
        yield Case(
            f"first command to an aggregate of {count:,} events",
            "events/s",
            lambda: count / first_command(plain),
            {"eventsourcing": (lambda: count / peer_first_command()) if peer_first_command else None},
            (Goal(">=", 10), Goal(">=", 400_000, "figure")),
            note="read, checked, decoded, applied; the command and its commit are in it",
        )
    yield Case(
        f"first command to one of {count:,} events, all but {AFTER_THE_SNAPSHOT} in a snapshot",
        "ms",
        lambda: 1000 * first_command(snapshot),
        goals=(Goal("<=", 5, "figure"),),
    )


async def fill(directory: Path, count: int, *, snapshot_at: int = 0) -> None:
    """Store deposits of 1, 2, 3, ... in one stream, and a snapshot of one of its versions."""
    async with await EventStore.open(directory, app=BANK.name, shards=1) as store:
        for first in range(1, count + 1, PAGE):
            await store.shard_of(STREAM).append_batch(STREAM, _commands(first, min(PAGE, count + 1 - first)))
        if snapshot_at:
            data = MODEL.encode_state(Account(balance=snapshot_at * (snapshot_at + 1) // 2))
            shard = store.shard_of(STREAM)
            await shard.save_snapshot(STREAM, version=snapshot_at, data=data, fingerprint=MODEL.fingerprint)


def first_command(directory: Path) -> float:
    """Start the app, and return the seconds of the first command to the aggregate."""
    with eventray.run(BANK, data=directory, local=True) as runtime:
        [before] = runtime.heads().result().values()
        begun = time.perf_counter()
        receipt = runtime.get(Account, ID).deposit.remote(before + 1).result()
        seconds = time.perf_counter() - begun
        assert receipt.version == before + 1
        assert runtime.state(Account, ID).result().balance == receipt.version * (receipt.version + 1) // 2
    return seconds


def _commands(first: int, count: int) -> list[NewCommand]:
    made = (
        Deposited(number, f"deposit number {number:06d} of the benchmark") for number in range(first, first + count)
    )
    encoded = [MODEL.events.encode(event) for event in made]
    return [
        NewCommand(events.uuid7(), [NewRecord(name, data, b"", version)], "deposit") for name, version, data in encoded
    ]


async def _records(directory: Path, count: int) -> float:
    """Return the seconds of reading the stream in the pages in which an activation reads it."""
    async with await EventStore.open(directory, app=BANK.name) as store:
        shard = store.shard_of(STREAM)
        assert isinstance(shard, Shard)
        begun = time.perf_counter()
        found = [*await shard.read_stream(STREAM, after=0, limit=PAGE)]
        while len(found) < count:
            found += await shard.read_stream(STREAM, after=found[-1].version, limit=PAGE)
        seconds = time.perf_counter() - begun
    assert (found[0].version, found[-1].version) == (1, len(found))
    return seconds


def _fill_bare(path: Path, count: int) -> None:
    with closing(bare.make(path, [STREAM])) as connection:
        for rows in bare.rows_of([(STREAM, _commands(1, count))], [STREAM]):
            bare.append(connection, rows)


def _bare_rows(path: Path, count: int) -> float:
    with closing(bare.connect(path)) as connection:
        begun = time.perf_counter()
        found = connection.execute(schema.STREAM_UP, (1, 0, 2**63 - 1, count)).fetchall()
        seconds = time.perf_counter() - begun
    assert len(found) == count
    return seconds
