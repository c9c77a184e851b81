"""The connection that appends: one transaction for all the appends that wait."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from eventray.domain.errors import ConcurrencyConflict, ShardFenced, StoreCorrupted
from eventray.store import rows, schema
from eventray.store.columns import Columns
from eventray.store.connection import StoreConnection
from eventray.store.head import HeadFile
from eventray.store.limits import MIB
from eventray.store.records import Committed, DuplicateCommands, NewRecord
from eventray.store.rows import TypeName
from eventray.store.settling import NOTHING_FOUND, AppendJob
from eventray.store.stored import committed

Clock = Callable[[], int]


def utc_now_us() -> int:
    """Return the time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


StreamHead = tuple[int, int, int]  # a stream's key in the file, its last version and position; 0: nothing yet


@dataclass(frozen=True, slots=True)
class Opening:
    """What a writer must know when it starts; `epoch` is the one it raised before, 0 when it opens the file anew."""

    shard: int
    head_file: HeadFile
    clock: Clock
    cached_streams_max: int
    epoch: int = 0
    repair: bool = False


@dataclass(slots=True)
class Draft:
    """What a transaction is about to change; adopted after its commit, forgotten with its rollback."""

    columns: Columns
    stream_key: int
    heads: dict[str, StreamHead] = field(default_factory=dict)
    streams: list[tuple[int, str]] = field(default_factory=list)
    types: dict[tuple[str, int], TypeName] = field(default_factory=dict)
    jobs: list[AppendJob] = field(default_factory=list)


class WriteConnection(StoreConnection):
    """The single writer of a shard's file. It remembers the log's end, the types and the streams in use."""

    position: int
    epoch: int

    def start(self, opening: Opening) -> tuple[int, int, bool]:
        """Check the file against its witness, raise the epoch; return that and the log's last position.

        True as the third: the last commits may be gone by right, after a power cut with relaxed durability.

        Raises `StoreCorrupted` when the file went back in time, `ShardFenced` when another writer has taken it over.
        """
        self._opening = opening
        self._path = str(self.path)
        if opening.repair:
            self._rewrite_wal()
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._recall()
        lost_with_power = self._check_witness()
        return self._raise_epoch(), self.position, lost_with_power

    def _rewrite_wal(self) -> None:
        # After a failed sync the system may call pages clean that never reached the disk, and the next sync succeeds
        # without them. What is in the WAL has to be on the disk before any of it goes into the file.
        fd = os.open(self._wal, os.O_RDWR | os.O_CLOEXEC)
        try:
            at = 0
            while part := os.pread(fd, MIB, at):
                at += os.pwrite(fd, part, at)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _recall(self) -> None:
        self._sql = self.cursor()
        one = self._sql.execute
        last = one(schema.LAST_EVENT).fetchone() or (0, 0)
        commit = one(schema.LAST_COMMIT).fetchone() or (0, 0, schema.chain_start(self))
        if commit[0] != last[0]:
            raise StoreCorrupted(self._path, f"its last event is {last[0]}, its last commit ends at {commit[0]}")
        self.position = last[0]
        self._recorded_at: int = last[1]
        self._digest: bytes = commit[2]
        self._stream_key: int = one("SELECT coalesce(max(key), 0) FROM streams").fetchone()[0]
        self._type_of = {k: rows.type_name(k, n, v) for k, n, v in one(schema.TYPES).fetchall()}
        self._types = {(t.name, t.version): t for t in self._type_of.values()}
        self._heads: dict[str, StreamHead] = {}

    def _check_witness(self) -> bool:
        head_file = self._opening.head_file
        seen = head_file.read()
        lost_with_power = head_file.lost_with_power(seen)
        if seen is None or not seen.position:
            return lost_with_power
        if seen.position > self.position:
            if lost_with_power:
                head_file.accept(self.position, self._digest)
                return True
            raise StoreCorrupted(
                self._path,
                f"it ends at position {self.position}, but {head_file.path.name} saw position {seen.position}: "
                "an older copy, or a lost WAL. Put the newer file back, or accept the loss by removing "
                f"{head_file.path.name}",
            )
        row = self._sql.execute(schema.COMMIT_AT, (seen.position,)).fetchone()
        if row is None or row[0] != seen.digest:
            raise StoreCorrupted(
                self._path, f"its history up to position {seen.position} is not the one that {head_file.path.name} saw"
            )
        return lost_with_power

    def _raise_epoch(self) -> int:
        one = self._sql.execute
        one("BEGIN IMMEDIATE")
        try:
            current = one(schema.EPOCH).fetchone()[0]
            if self._opening.epoch and self._opening.epoch != current:
                raise ShardFenced(self._opening.shard, self._opening.epoch, current)
            self.epoch = current + 1
            one("UPDATE info SET value = ? WHERE key = 'epoch'", (self.epoch,))
            one("COMMIT")
        finally:
            self.undo()
        return self.epoch

    def close(self) -> None:
        """Close the file now: with a statement left in the cursor SQLite would do it when that is collected."""
        if hasattr(self, "_sql"):
            self._sql.close()
        super().close()

    def append(self, jobs: list[AppendJob]) -> int:
        """Append all that can be, settle the outcome of every job, return the log's last position.

        A job that names a command id which an earlier one of the group names too runs in the next transaction, and so
        do later jobs of its stream. Any exception: jobs without outcome are not known to be stored.
        """
        while jobs:
            jobs = self._transaction(jobs)
        self.bound_wal()
        return self.position

    def _transaction(self, jobs: list[AppendJob]) -> list[AppendJob]:
        recorded_at = max(self._opening.clock() - 1, self._recorded_at)
        draft = Draft(Columns(self.position, recorded_at), self._stream_key)
        draft.jobs, later = _without_repeats(jobs)
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            self._check_epoch()
            for job in draft.jobs:
                self._draw_up(job, draft)
            try:
                digest = self._insert(draft)
            except sqlite3.IntegrityError as error:
                self.undo()
                return self._without_duplicates(jobs, error)
            self._sql.execute("COMMIT")
        finally:
            self.undo()
        self._adopt(draft, digest)
        return later

    def _check_epoch(self) -> None:
        current = self._sql.execute(schema.EPOCH).fetchone()[0]
        if current != self.epoch:
            raise ShardFenced(self._opening.shard, self.epoch, current)

    def _draw_up(self, job: AppendJob, draft: Draft) -> None:
        """Put a job's events into the draft, and into the job what is so once that is committed."""
        try:
            head = draft.heads.get(job.stream) or self._heads.get(job.stream) or self._head(job.stream, draft)
            key, version, position = head
            if job.expected_version is not None and job.expected_version != version:
                job.error = self._refusal(job, version)
                return
            job.error = None
            job.found = self.lookup(job.stream, job.lookups) if job.lookups else NOTHING_FOUND
        except StoreCorrupted as error:  # of this stream, and nothing of it is drawn up: the others go on
            job.error = error
            return
        job.before = position
        if job.events:
            key = key or self._new_stream(job.stream, draft)
            position = draft.columns.add(key, job.stream, version, job.commands, job.events)
            version += job.events
        draft.heads[job.stream] = key, version, position
        job.version, job.position = version, position

    def _refusal(self, job: AppendJob, version: int) -> Exception:
        # Ids are judged before versions: a command that is committed already must not be told of a conflict.
        found = self.lookup(job.stream, [c.command_id for c in job.commands if c.command_id is not None])
        if found:
            return DuplicateCommands(found)
        return ConcurrencyConflict(job.stream, job.expected_version, version)

    def _head(self, stream: str, draft: Draft) -> StreamHead:
        row = self._sql.execute(schema.STREAM_KEY, (stream,)).fetchone()
        last = self._sql.execute(schema.STREAM_LAST, row).fetchone() if row else None
        if row and last is None and self._sql.execute(schema.SNAPSHOT, row).fetchone() is None:
            # Names are stored in one transaction with what they name: it must not begin anew at version 1.
            raise StoreCorrupted(self._path, "its stream is known, but this event is missing", stream, 1)
        version, position = last or (0, 0)
        head = draft.heads[stream] = (row[0] if row else 0, version, position)
        return head

    def _new_stream(self, stream: str, draft: Draft) -> int:
        draft.stream_key += 1
        draft.streams.append((draft.stream_key, stream))
        return draft.stream_key

    def _types_of(self, records: list[NewRecord], draft: Draft) -> list[TypeName]:
        types = self._types
        try:
            return [types[record.type, record.type_version] for record in records]
        except KeyError:  # one is new
            pairs = [(record.type, record.type_version) for record in records]
        known = {pair: self._type(pair, draft) for pair in dict.fromkeys(pairs)}  # in the order of the events
        return [known[pair] for pair in pairs]

    def _type(self, pair: tuple[str, int], draft: Draft) -> TypeName:
        known = self._types.get(pair)
        if known is None:
            key = max(self._type_of, default=0) + len(draft.types) + 1
            known = draft.types[pair] = rows.type_name(key, *pair)
        return known

    def _insert(self, draft: Draft) -> bytes:
        if draft.streams:
            self._sql.executemany(schema.INSERT_STREAMS, draft.streams)
        columns = draft.columns
        if not columns.events:
            return self._digest
        records = columns.records()
        types = self._types_of(records, draft)
        if draft.types:
            self._sql.executemany(schema.INSERT_TYPES, [(t.key, t.name, t.version) for t in draft.types.values()])
        first = columns.position + 1
        parameters, values, leaves = columns.finished(records, types)
        self._insert_events(parameters, values)
        digest = rows.chain(self._digest, leaves)
        self._sql.execute(schema.INSERT_COMMIT, (columns.position, first, columns.recorded_at, digest))
        return digest

    def _insert_events(self, parameters: list[object], values: str) -> None:
        width, begin = values.count("?"), 0
        for rows_at_once in schema.BLOCKS_ROWS:
            size = width * rows_at_once
            end = begin + (len(parameters) - begin) // size * size
            if begin < end:
                parts = [parameters[at : at + size] for at in range(begin, end, size)]
                self._sql.executemany(schema.insert_events(values, rows_at_once), parts)
                begin = end

    def _adopt(self, draft: Draft, digest: bytes) -> None:
        columns = draft.columns
        if columns.events:
            self.position, self._recorded_at, self._digest = columns.position, columns.recorded_at, digest
            self._opening.head_file.write(self.position, digest)
        self._stream_key = draft.stream_key
        self._types.update(draft.types)
        self._type_of.update((t.key, t) for t in draft.types.values())
        heads = self._heads
        for stream in draft.heads:
            heads.pop(stream, None)
        heads.update(draft.heads)  # the youngest goes to the end, the oldest are forgotten from the front
        for _ in range(len(heads) - self._opening.cached_streams_max):
            del heads[next(iter(heads))]
        for job in draft.jobs:
            job.ended = True

    def _without_duplicates(self, jobs: list[AppendJob], error: sqlite3.IntegrityError) -> list[AppendJob]:
        rest = []
        for job in jobs:
            try:
                found = self.lookup(job.stream, [c.command_id for c in job.commands if c.command_id is not None])
            except StoreCorrupted as error_of_its_own:
                job.fail(error_of_its_own)
                continue
            if found:
                job.fail(DuplicateCommands(found))
            else:
                rest.append(job)
        if len(rest) == len(jobs):
            raise StoreCorrupted(self._path, f"a new event collides with a stored one ({error})")
        return rest

    def lookup(self, stream: str, command_ids: Sequence[str]) -> dict[str, Committed]:
        """Return what the ids that are committed in the stream did."""
        found = {}
        for id in command_ids:
            row = self._sql.execute(schema.BY_COMMAND, (rows.command_key(stream.encode(), id),)).fetchone()
            if row is not None:
                found[id] = committed(self._path, self._opening.shard, stream, id, row, self._type_of)
        return found

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """A transaction that no fenced writer can commit."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            self._check_epoch()
            yield self._sql
            self._sql.execute("COMMIT")
        finally:
            self.undo()
        self.bound_wal()

    def now(self) -> int:
        """Return the time by the shard's clock, in microseconds UTC."""
        return self._opening.clock()

    def save_snapshot(self, stream: str, version: int, fingerprint: str, data: bytes) -> None:
        """Keep `data` as the one snapshot of the stream."""
        draft = Draft(Columns(self.position, self._recorded_at), self._stream_key)
        with self.transaction() as sql:
            key, last, last_position = self._heads.get(stream) or self._head(stream, draft)
            key = key or self._new_stream(stream, draft)
            self._insert(draft)
            at = "SELECT position FROM events WHERE stream = ? AND version = ?"
            position = (sql.execute(at, (key, version)).fetchone() or (0,))[0]
            crc = rows.snapshot_checksum(stream, version, position, fingerprint, data)
            sql.execute(schema.SAVE_SNAPSHOT, (key, version, position, fingerprint, data, crc))
        draft.heads[stream] = key, last, last_position
        self._adopt(draft, self._digest)


def _without_repeats(jobs: list[AppendJob]) -> tuple[list[AppendJob], list[AppendJob]]:
    """Return the jobs of one transaction, and those that have to wait for the next one.

    That is one that names a command id which an earlier one names too, and then all later ones of its stream.
    """
    if len({job.stream for job in jobs}) == len(jobs):
        return jobs, []
    named: set[tuple[str, str | None]] = set()
    waiting: set[str] = set()
    now, later = [], []
    for job in jobs:
        stream = job.stream
        ids = [(stream, c.command_id) for c in job.commands if c.command_id is not None]
        if stream in waiting or not named.isdisjoint([*ids, *((stream, id) for id in job.lookups)]):
            waiting.add(stream)
            later.append(job)
        else:
            named.update(ids)
            now.append(job)
    return now, later
