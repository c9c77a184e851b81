"""`load`: an aggregate of many events, from the store to its state. The engine around it is not in these figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import bare, events, peer
from benchmarks.harness import Bench, Case, Goal, benchmark
from eventray import Aggregate, Event
from eventray.runtime.model import AggregateModel
from eventray.store import NewCommand, NewRecord, Record, Shard, schema

STREAM = "Account/alice"
PAGE = 2000
AFTER_THE_SNAPSHOT = 10


class Deposited(Event):
    """Money came in."""

    amount: int
    note: str


class Account(Aggregate):
    """A balance."""

    balance: int = 0

    def apply(self, event: Deposited) -> None:
        """Add it."""
        self.balance += event.amount


MODEL = AggregateModel(Account, [Deposited])


@benchmark("load")
def load(bench: Bench) -> Iterator[Case]:
    """A stream of 10,000 events: its records, its state, and its state with a snapshot."""
    count = bench.pick(full=10_000, quick=10_000, tiny=500)
    directory, plain = bench.directory(), bench.directory()
    asyncio.run(_fill(directory, count, snapshot_at=count - AFTER_THE_SNAPSHOT))
    _fill_bare(plain / "bare.db", count)
    yield Case(
        f"records of a stream of {count:,}",
        "events/s",
        lambda: count / asyncio.run(_in_shard(directory, _records, count)),
        {"sqlite3, the rows as they are": lambda: count / _bare_rows(plain / "bare.db", count)},
    )
    with peer.account(bench.directory(), count) as load_peer:
        yield Case(
            f"state from {count:,} events: read, decoded, applied",
            "events/s",
            lambda: count / asyncio.run(_in_shard(directory, _state, count)),
            {"eventsourcing": lambda: count / load_peer()} if load_peer else {},
            (Goal(">=", 10), Goal(">=", 400_000, "figure")),
            note="" if load_peer else "eventsourcing is not installed",
        )
    yield Case(
        f"state of version {count:,} from a snapshot and {AFTER_THE_SNAPSHOT} events",
        "ms",
        lambda: 1000 * asyncio.run(_in_shard(directory, _snapshot, count)),
        goals=(Goal("<=", 5, "figure"),),
    )


def _event(number: int) -> Deposited:
    return Deposited(amount=number, note=f"deposit number {number:06d} of the benchmark")


def _commands(count: int) -> list[NewCommand]:
    numbered = range(1, count + 1)
    encoded = [MODEL.events.encode(_event(number)) for number in numbered]
    return [
        NewCommand(events.uuid7(), [NewRecord(name, data, b"", version)], "deposit") for name, version, data in encoded
    ]


async def _fill(directory: Path, count: int, *, snapshot_at: int) -> None:
    shard = await events.open_shard(directory)
    commands = _commands(count)
    for at in range(0, count, 100):
        await shard.append_batch(STREAM, commands[at : at + 100])
    state = Account(balance=snapshot_at * (snapshot_at + 1) // 2)
    data = MODEL.encode_state(state)
    await shard.save_snapshot(STREAM, version=snapshot_at, data=data, fingerprint=MODEL.fingerprint)
    await shard.close()


def _fill_bare(path: Path, count: int) -> None:
    with closing(bare.make(path, [STREAM])) as connection:
        for rows in bare.rows_of([(STREAM, _commands(count))], [STREAM]):
            bare.append(connection, rows)


async def _in_shard(directory: Path, work: Callable[[Shard, int], Awaitable[None]], count: int) -> float:
    shard = await events.open_shard(directory, create=False)
    begun = time.perf_counter()
    await work(shard, count)
    seconds = time.perf_counter() - begun
    await shard.close()
    return seconds


async def _pages(shard: Shard) -> AsyncIterator[list[Record]]:
    """The pages in which an activation reads its stream."""
    loaded = await shard.load(STREAM, limit=PAGE)
    records = loaded.records
    yield records
    while records[-1].version < loaded.version:
        records = await shard.read_stream(STREAM, after=records[-1].version, limit=PAGE)
        yield records


async def _records(shard: Shard, count: int) -> None:
    found = [record async for page in _pages(shard) for record in page]
    assert [found[0].version, found[-1].version, len(found)] == [1, count, count]


async def _state(shard: Shard, count: int) -> None:
    account = MODEL.new("alice")
    async for page in _pages(shard):
        _apply(account, page)
    _require(account, count)


async def _snapshot(shard: Shard, count: int) -> None:
    loaded = await shard.load(STREAM, fingerprint=MODEL.fingerprint)
    assert loaded.snapshot is not None
    account = MODEL.decode_state(loaded.snapshot.data, "alice", loaded.snapshot.version)
    _apply(account, loaded.records)
    assert len(loaded.records) == AFTER_THE_SNAPSHOT
    _require(account, count)


def _apply(account: Aggregate, records: list[Record]) -> None:
    for record in records:
        MODEL.apply(account, MODEL.events.decode(record.type, record.type_version, record.data))


def _require(account: Aggregate, count: int) -> None:
    assert isinstance(account, Account)
    assert (account.version, account.balance) == (count, count * (count + 1) // 2)


def _bare_rows(path: Path, count: int) -> float:
    with closing(bare.connect(path)) as connection:
        begun = time.perf_counter()
        found = connection.execute(schema.STREAM_UP, (1, 0, 2**63 - 1, count)).fetchall()
        seconds = time.perf_counter() - begun
    assert len(found) == count
    return seconds
