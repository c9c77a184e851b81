"""One new shard of a reshard: the streams of its buckets, out of all old shards, in the order of their times."""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eventray.store import rows, schema
from eventray.store.failures import FILE_ERRORS, translated
from eventray.store.files import sync
from eventray.store.manifest import Manifest
from eventray.store.moving import shard_file
from eventray.store.proof import Name
from eventray.store.rows import TypeName
from eventray.store.stored import EventRow

_BATCH_ROWS = 5_000
# The unary plus keeps the planner on the order of positions.
_MOVED = "SELECT * FROM events WHERE +stream IN moved.streams ORDER BY position"
_POSITION_OF = "SELECT position FROM events WHERE stream = ? AND version = ?"
_SNAPSHOTS = "SELECT stream, version, fingerprint, data FROM snapshots WHERE stream IN moved.streams"
_DEAD_LETTERS = """SELECT d.consumer, d.parked_at, d.reason, e.stream, e.version
    FROM dead_letters d JOIN events e ON e.position = d.position WHERE e.stream IN moved.streams"""
_PARK = "INSERT INTO dead_letters(consumer, position, parked_at, reason) VALUES(?,?,?,?)"

_Command = tuple[int, int, list[EventRow]]  # the time of its last event, its source, and its events


def build_shard(job: Mapping[str, Any], say: Callable[[int], None]) -> tuple[int, str]:
    """Make the shard `job["shard"]` of the store in `job["target"]` out of that in `job["source"]`, which is sound.

    Returns the last position and the digest (hex). The order of commands is that of their last events' times, so each
    stream keeps its order, and a command its events in a row.
    """
    old, new = Manifest.load(job["source"]), Manifest.load(job["target"])
    path = new.directory / shard_file(job["shard"], "db")
    path.touch(mode=0o600)
    try:
        with contextlib.ExitStack() as opened:
            target = opened.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
            build = _Build(target, new, job["shard"])
            for index in range(old.shards):
                uri = f"{(old.directory / shard_file(index, 'db')).absolute().as_uri()}?mode=ro&immutable=1"
                build.add_source(
                    opened.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)))
                )
            build.run(say)
    except FILE_ERRORS as error:
        raise translated(error, path) from error
    sync(path)
    return build.position, build.digest.hex()


class _Source:
    """An old shard, as far as its streams go into the new one: their keys, names and types there."""

    def __init__(self, connection: sqlite3.Connection, index: int) -> None:
        self.sql = connection
        self.index = index
        self.streams: dict[int, tuple[int, Name]] = {}
        self.types: dict[int, TypeName] = {}
        connection.execute("ATTACH ':memory:' AS moved")
        connection.execute("CREATE TABLE moved.streams(key INTEGER PRIMARY KEY)")

    def take(self, streams: dict[int, tuple[int, Name]]) -> None:
        """Say which streams go."""
        self.streams = streams
        self.sql.executemany("INSERT INTO moved.streams VALUES(?)", [(key,) for key in streams])

    def commands(self) -> Iterator[_Command]:
        """Yield the commands of those streams in order."""
        found: list[EventRow] = []
        for row in self.sql.execute(_MOVED):
            if not row[6] and found:  # the first event of the next command
                yield found[-1][4], self.index, found
                found = []
            found.append(row)
        if found:
            yield found[-1][4], self.index, found


class _Build:
    def __init__(self, target: sqlite3.Connection, manifest: Manifest, shard: int) -> None:
        self._sql = target
        self._manifest = manifest
        self._shard = shard
        self._sources: list[_Source] = []
        self._types: dict[tuple[str, int], TypeName] = {}
        self._stream_key = 0
        self.position = 0
        self.digest = manifest.lineage[-1].digest
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            target.execute(f"PRAGMA {pragma}")
        target.execute("BEGIN")
        for table in schema.TABLES:
            if table not in schema.INDEXES:  # those are made at the end, by sorting
                target.execute(table)
        info = schema.shard_info(manifest.store_id, shard, manifest.generation)
        info |= {"epoch": 0, "chain_start": self.digest}
        target.executemany("INSERT INTO info VALUES(?,?)", info.items())

    def add_source(self, connection: sqlite3.Connection) -> None:
        """Take the types of an old shard, and those of its streams that belong here."""
        source = _Source(connection, len(self._sources))
        self._sources.append(source)
        for key, name, version in connection.execute(schema.TYPES):
            if (name, version) not in self._types:
                kind = self._types[name, version] = rows.type_name(len(self._types) + 1, name, version)
                self._sql.execute(schema.INSERT_TYPES, (kind.key, name, version))
            source.types[key] = self._types[name, version]
        streams = {}
        for key, name in connection.execute("SELECT key, name FROM streams ORDER BY key"):
            if self._manifest.shard_of(name) == self._shard:
                self._stream_key += 1
                streams[key] = self._stream_key, Name.of(name)
        source.take(streams)
        self._sql.executemany(schema.INSERT_STREAMS, [(key, name.text) for key, name in streams.values()])

    def run(self, say: Callable[[int], None]) -> None:
        """Copy the events, then what refers to them."""
        batch: list[_Command] = []
        count = 0
        for command in heapq.merge(*(source.commands() for source in self._sources)):
            batch.append(command)
            count += len(command[2])
            if count >= _BATCH_ROWS:
                self._add(batch)
                say(count)
                batch, count = [], 0
        if batch:
            self._add(batch)
            say(count)
        for index in schema.INDEXES:
            self._sql.execute(index)
        for source in self._sources:
            self._add_snapshots(source)
            self._add_dead_letters(source)
        self._sql.execute("COMMIT")
        self._sql.execute("PRAGMA journal_mode=WAL").fetchall()

    def _add(self, commands: list[_Command]) -> None:
        found = [row for _, _, part in commands for row in part]
        sources = [self._sources[index] for _, index, part in commands for _ in part]
        named = [source.streams[row[1]] for source, row in zip(sources, found, strict=True)]
        kinds = [source.types[row[3]] for source, row in zip(sources, found, strict=True)]
        _, _, versions, _, times, keys, indexes, flags, data, metas, _ = zip(*found, strict=True)
        positions = range(self.position + 1, self.position + len(found) + 1)
        type_versions, type_crcs = [kind.version for kind in kinds], [kind.crc for kind in kinds]
        heads = list(map(rows.HEAD.pack, positions, versions, times, indexes, flags, type_versions, type_crcs))
        names = [name for _, name in named]
        crcs = rows.checksums(heads, [name.crc for name in names], keys, metas, data)
        columns = [key for key, _ in named], versions, [kind.key for kind in kinds], times, keys, indexes, flags
        self._sql.executemany(schema.INSERT_EVENTS, zip(positions, *columns, data, metas, crcs, strict=True))
        ids = [b"" if key is None else _id_part(meta, key) for meta, key in zip(metas, keys, strict=True)]
        leaves = rows.leaves([name.part for name in names], [kind.part for kind in kinds], heads, ids, metas, data)
        self.digest = rows.chain(self.digest, leaves)
        self._sql.execute(schema.INSERT_COMMIT, (positions[-1], positions[0], times[-1], self.digest))
        self.position = positions[-1]

    def _add_snapshots(self, source: _Source) -> None:
        for stream, version, fingerprint, data in source.sql.execute(_SNAPSHOTS):
            key, name = source.streams[stream]
            position = self._position(key, version)
            crc = rows.snapshot_checksum(name.text, version, position, fingerprint, data)
            self._sql.execute(schema.SAVE_SNAPSHOT, (key, version, position, fingerprint, data, crc))

    def _add_dead_letters(self, source: _Source) -> None:
        for consumer, parked_at, reason, stream, version in source.sql.execute(_DEAD_LETTERS):
            position = self._position(source.streams[stream][0], version)
            self._sql.execute(_PARK, (consumer, position, parked_at, reason))

    def _position(self, stream: int, version: int) -> int:
        row = self._sql.execute(_POSITION_OF, (stream, version)).fetchone()
        return row[0] if row else 0


def _id_part(meta: bytes | None, key: bytes) -> bytes:
    id = rows.unpack(meta, key).command_id
    return rows.framed(id.encode()) if id else b""
