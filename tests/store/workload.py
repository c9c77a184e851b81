"""What the tests of crashes let a store do, and how they judge it afterwards.

Command n of a stream is always the same: three events under the id `c<n>`, sent for version 3 n. So whoever judges
needs to know only what the store told: receipts, snapshots and checkpoints that it called saved.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from eventray.domain.errors import StoreUnavailable
from eventray.store import Appended, EventStore, NewCommand, NewRecord, Record, StoreLimits, rows, schema
from tests.store.history import History, Outcome, Write, anomalies

APP = "bank"
SHARDS = 2
STREAMS = tuple(f"Account/{n}" for n in range(2, 8))  # some in each shard
VIEW = "Balances"
EVENTS = 3
SMALL_WAL = StoreLimits(wal_bytes_max=60_000)

T = TypeVar("T")
Tell = Callable[..., None]


def bodies(stream: str, n: int) -> tuple[bytes, ...]:
    """The data of command n of a stream; some fill pages, so that commits differ in size."""
    return tuple(b"%s %d %d " % (stream.encode(), n, part) + b"." * (n * 379 % 1500) for part in range(EVENTS))


def command(stream: str, n: int) -> NewCommand:
    return NewCommand(f"c{n}", [NewRecord("Noted", data) for data in bodies(stream, n)])


def write(stream: str, n: int, outcome: Outcome = "unknown") -> Write:
    """Command n of a stream as a history has it; nobody looked at the clock."""
    return Write(stream, bodies(stream, n), 0, math.inf, outcome, EVENTS * n)


def state(stream: str, version: int) -> bytes:
    return b"%s at %d" % (stream.encode(), version)


@dataclass
class Told:
    """What a store called done."""

    receipts: list[Appended] = field(default_factory=list)
    snapshots: dict[str, int] = field(default_factory=dict)
    checkpoint: dict[int, int] = field(default_factory=dict)

    def tell(self, what: str, *facts: Any) -> None:
        """Take note; the facts may have been through JSON."""
        if what == "receipt":
            self.receipts.append(Appended(*facts))
        elif what == "snapshot":
            self.snapshots[facts[0]] = facts[1]
        else:
            self.checkpoint = {int(shard): position for shard, position in facts[0].items()}

    def followed_by(self, later: Told) -> Told:
        receipts, snapshots = self.receipts + later.receipts, self.snapshots | later.snapshots
        return Told(receipts, snapshots, later.checkpoint or self.checkpoint)


async def opened(directory: Path, **options: Any) -> EventStore:
    return await EventStore.open(directory, **{"app": APP, "shards": SHARDS, "limits": SMALL_WAL, **options})


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """Call, and call again when the outcome is unknown, as a client does."""
    for _ in range(30):
        try:
            return await call()
        except StoreUnavailable:
            continue
    return await call()


async def append(store: EventStore, stream: str, n: int) -> Appended:
    """Send command n of a stream until the store says what became of it."""
    send = partial(store.append_batch, stream, [command(stream, n)], expected_version=EVENTS * n)
    (done,) = await again(send)
    return done


async def work(store: EventStore, tell: Tell, commands: int) -> None:
    """Let one writer for each stream append up to so many commands, with snapshots; a view saves how far the log is."""

    async def fill(stream: str) -> None:
        begun = (await store.shard_of(stream).load(stream)).version // EVENTS
        for n in range(begun, commands):
            done = await append(store, stream, n)
            tell("receipt", *done)
            if n % 4 == 3:
                data = state(stream, done.version)
                await again(partial(store.save_snapshot, stream, version=done.version, data=data))
                tell("snapshot", stream, done.version)

    async def view() -> None:
        while any(not writer.done() for writer in writers):
            heads = await store.heads()
            await again(partial(store.save_checkpoint, VIEW, heads, json.dumps(heads).encode()))
            tell("checkpoint", heads)

    writers = [asyncio.create_task(fill(stream)) for stream in STREAMS]
    await asyncio.gather(*writers, view())


async def whole_log(store: EventStore) -> dict[int, list[Record]]:
    """Every record of every shard, read page by page."""
    log: dict[int, list[Record]] = {}
    for shard in store.shards:
        log[shard] = []
        while page := list(await store.read_shard(shard=shard, after=len(log[shard]), limit=50)):
            log[shard] += page
    return log


async def judge(store: EventStore, told: Told, commands: int) -> dict[str, int]:
    """Fail unless all that was told is there and nothing is half there; returns the number of commands per stream."""
    log = await whole_log(store)
    writes = [write(stream, n) for stream in STREAMS for n in range(commands)]
    writes += [write(receipt.stream, receipt.version // EVENTS - 1, receipt) for receipt in told.receipts]
    found = anomalies(History(writes), log)
    assert not found, found
    assert {shard: len(records) for shard, records in log.items()} == await store.heads()
    by_stream: dict[str, list[Record]] = {stream: [] for stream in STREAMS}
    for record in (record for records in log.values() for record in records):
        by_stream[record.stream].append(record)
    for stream, records in by_stream.items():
        assert [record async for record in store.read(stream)] == records
    for stream, version in told.snapshots.items():
        snapshot = await store.load_snapshot(stream)
        assert snapshot is not None
        assert (snapshot.version >= version, snapshot.data) == (True, state(stream, snapshot.version))
    await _judge_checkpoint(store, told)
    return {stream: len(records) // EVENTS for stream, records in by_stream.items()}


async def _judge_checkpoint(store: EventStore, told: Told) -> None:
    found = await store.load_checkpoint(VIEW)
    if found is None:
        assert not told.checkpoint
        return
    assert json.loads(found.data) == {str(shard): position for shard, position in found.positions.items()}
    for shard, head in (await store.heads()).items():
        assert told.checkpoint.get(shard, 0) <= found.positions[shard] <= head


async def go_on(store: EventStore, told: Told, counts: dict[str, int]) -> None:
    """Send again what was told last, and what comes next: the store must know the one and take the other."""
    last = {receipt.stream: receipt for receipt in told.receipts}
    for receipt in last.values():
        n = receipt.version // EVENTS - 1
        assert await append(store, receipt.stream, n) == receipt._replace(duplicate=True)
    for stream, count in counts.items():
        done = await append(store, stream, count)
        assert (done.version, done.duplicate) == (EVENTS * (count + 1), False)
    await store.save_checkpoint(VIEW, await store.heads(), json.dumps(await store.heads()).encode())


def check_digests(path: Path) -> list[tuple[int, int]]:
    """Fail unless the digests of a closed shard file chain over all its events; returns the commits' positions."""
    connection = sqlite3.connect(path)
    try:
        names = dict(connection.execute("SELECT key, name FROM streams"))
        types = {key: rows.type_name(key, name, version) for key, name, version in connection.execute(schema.TYPES)}
        digest = bytes(schema.DIGEST_BYTES)
        commits = connection.execute("SELECT first, last, digest FROM commits ORDER BY last").fetchall()
        for first, last, expected in commits:
            leaves = []
            found = connection.execute("SELECT * FROM events WHERE position BETWEEN ? AND ?", (first, last)).fetchall()
            for position, stream, version, type_key, at, key, index, flags, data, meta, crc in found:
                type = types[type_key]
                head = rows.HEAD.pack(position, version, at, index, flags, type.version, type.crc)
                id = rows.unpack(meta, key).command_id
                id_part = rows.framed(id.encode()) if id else b""
                stream_part = rows.framed(names[stream].encode())
                leaves.append(rows.leaf(stream_part, type.part, head, id_part, meta, data))
                assert crc == rows.checksum(crc32(names[stream].encode()), head, key, meta, data)
            digest = rows.chain(digest, leaves)
            assert digest == expected
        events = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    finally:
        connection.close()
    assert events == sum(last - first + 1 for first, last, _ in commits)
    return [(first, last) for first, last, _ in commits]


async def judge_directory(directory: Path, told: Told, commands: int, **options: Any) -> dict[str, int]:
    """Open a store after a crash, judge it, let it go on, and open it once more."""
    async with await opened(directory, **options) as store:
        counts = await judge(store, told, commands)
        await go_on(store, told, counts)
    for index in range(SHARDS):
        check_digests(directory / f"shard-{index:04d}.db")
    async with await opened(directory, **options) as store:
        assert await judge(store, told, commands + 1) == {stream: count + 1 for stream, count in counts.items()}
    return counts
