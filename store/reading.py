"""The connection that reads: pages only, nothing stays open between two calls (an open cursor would pin the WAL).

What a page must hold is known before it is read: versions and positions are contiguous. So one that is missing, in a
damaged table or index, is noticed here and not skipped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from eventray.domain.errors import StoreCorrupted
from eventray.store import rows, schema
from eventray.store.connection import StoreConnection
from eventray.store.limits import StoreLimits
from eventray.store.page import NO_RECORDS, Records
from eventray.store.records import Committed, Loaded, ShardPage, Snapshot
from eventray.store.rows import TypeName
from eventray.store.stored import (
    UNREADABLE,
    EventColumns,
    EventRow,
    Names,
    committed,
    corrupted,
    envelope_of,
    named,
    records_of,
)

_log = logging.getLogger("eventray.store")
_INT_MAX = 2**63 - 1
_FETCH_ROWS_FIRST, _FETCH_ROWS = 4, 32  # so many events may be in memory beyond what a page may have


@dataclass(slots=True, eq=False)
class LoadJob:
    """One waiting load; `outcome` stays None when this hop had no room for it."""

    stream: str
    fingerprint: str | None
    limit: int
    token: int
    future: asyncio.Future[Loaded]
    outcome: Loaded | Exception | None = None


class ReadConnection(StoreConnection):
    """The reader of a shard's file. It remembers types and the names of streams it has met."""

    def start(self, shard: int, limits: StoreLimits) -> None:
        """Say whose file this is and how large a page may be."""
        self._shard = shard
        self._limits = limits
        self._path = str(self.path)
        self._types: dict[int, TypeName] = {}
        self._names: dict[int, tuple[str, int]] = {}

    def load(self, jobs: Sequence[LoadJob]) -> None:
        """Settle as many loads as fit into one page, at least one, from one state of the file."""
        room, room_bytes = self._limits.page_records_max, self._limits.page_bytes_max
        self.execute("BEGIN")
        try:
            for job in jobs:
                try:
                    loaded = job.outcome = self._load(job)
                    room -= len(loaded.records)
                    room_bytes -= Records.of(loaded.records).size_bytes()
                    room_bytes -= len(loaded.snapshot.data) if loaded.snapshot else 0
                except StoreCorrupted as error:  # of this stream: the others go on
                    job.outcome = error
                if room <= 0 or room_bytes <= 0:
                    break
        finally:
            self.undo()

    def _load(self, job: LoadJob) -> Loaded:
        row = self.execute(schema.STREAM_AND_SNAPSHOT, (job.stream,)).fetchone()
        if row is None:
            return Loaded(job.token, 0, 0, None, NO_RECORDS, False)
        key = row[0]
        snapshot = self._fitting(job, row[1:])
        after = snapshot.version if snapshot else 0
        found, more = self._fetch(schema.STREAM_UP, (key, after, _INT_MAX, job.limit + 1), job.limit)
        if found and not more:
            version, position = found[-1][2], found[-1][0]
        else:
            version, position = self._end(job.stream, key)
        if version < after:
            _log.warning(
                "the snapshot of %r is of version %d, its events end at %d: ignored", job.stream, after, version
            )
            job.fingerprint = None
            return self._load(job)
        records = self._records(found, {key: named(job.stream)})
        self._require_versions(job.stream, records, range(after + 1, version + 1), more)
        return Loaded(job.token, version, position, snapshot, records, more)

    def _fitting(self, job: LoadJob, row: Sequence[Any]) -> Snapshot | None:
        if job.fingerprint is None or row[0] is None:
            return None
        snapshot = self._snapshot(job.stream, row)
        if snapshot is not None and snapshot.fingerprint != job.fingerprint:
            _log.warning("the snapshot of %r is of another state version: ignored", job.stream)
            return None
        return snapshot

    def _snapshot(self, stream: str, row: Sequence[Any]) -> Snapshot | None:
        version, position, fingerprint, data, crc = row
        try:
            intact = rows.snapshot_checksum(stream, version, position, fingerprint, data) == crc
        except TypeError:
            intact = False
        if not intact:
            _log.warning("the snapshot of %r does not fit its checksum: ignored", stream)
            return None
        return Snapshot(version, position, fingerprint, data)

    def snapshot(self, stream: str) -> Snapshot | None:
        """Return the stream's snapshot; None when there is none or it is corrupt (a warning says so)."""
        key = self.execute(schema.STREAM_KEY, (stream,)).fetchone()
        row = self.execute(schema.SNAPSHOT, key).fetchone() if key else None
        return self._snapshot(stream, row) if row else None

    def stream(self, stream: str, after: int, until: int | None, reverse: bool, limit: int) -> Records:
        """Return a page of the stream's records with after < version <= until."""
        key = self.execute(schema.STREAM_KEY, (stream,)).fetchone()
        if key is None:
            return NO_RECORDS
        last, _ = self._end(stream, key[0])
        until = last if until is None else min(until, last)
        sql = schema.STREAM_DOWN if reverse else schema.STREAM_UP
        found, more = self._fetch(sql, (key[0], after, until, limit + 1), limit)
        records = self._records(found, {key[0]: named(stream)})
        wanted = range(until, after, -1) if reverse else range(after + 1, until + 1)
        self._require_versions(stream, records, wanted, more)
        return records

    def _end(self, stream: str, key: int) -> tuple[int, int]:
        """The last version and position of a known stream; 0 and 0 for one that has a snapshot only."""
        last: tuple[int, int] | None = self.execute(schema.STREAM_LAST, (key,)).fetchone()
        if last is None and self.execute(schema.SNAPSHOT, (key,)).fetchone() is None:
            # Names are stored in one transaction with what they name.
            raise StoreCorrupted(self._path, "its stream is known, but this event is missing", stream, 1)
        return last or (0, 0)

    def _require_versions(self, stream: str, records: Records, wanted: range, more: bool) -> None:
        missing = _first_missing(records.columns.versions, wanted, more)
        if missing:
            raise StoreCorrupted(self._path, "this event is missing", stream, missing)

    def log(self, after: int, head: int, limit: int, types: frozenset[str] | None) -> ShardPage:
        """Return a page of the log after `after`, up to `head` at most."""
        if types is not None:
            self._learn_types()
            if all(type.name in types for type in self._types.values()):
                types = None  # of the types up to `head` all are wanted: no need to look at each event
        if types is None:
            found, more = self._fetch(schema.LOG, (after, head, limit + 1), limit)
            looked_at = found[-1][0] if found else max(after, head)
        else:
            # A window keeps a rare type from turning one page into a scan of the whole log.
            until = min(head, after + 8 * self._limits.page_records_max)
            keys = json.dumps([key for key, type in self._types.items() if type.name in types])
            found, more = self._fetch(schema.LOG_OF_TYPES, (after, until, keys, limit + 1), limit)
            looked_at = found[-1][0] if more else max(after, until)
        records = self._records(found)
        if types is None:
            missing = _first_missing(records.columns.positions, range(after + 1, head + 1), more)
        else:
            missing = self._missing(after, looked_at)
        if missing:
            raise StoreCorrupted(self._path, f"the event at position {missing} is missing")
        return ShardPage(records, looked_at)

    def _missing(self, after: int, until: int) -> int:
        """The first position that is not there, of those of which a filter has left some out; 0: none is missing."""
        if self.execute(schema.LOG_COUNT, (after, until)).fetchone()[0] == until - after:
            return 0
        there = self.execute(schema.LOG_POSITIONS, (after, until))
        return _first_missing([position for (position,) in there], range(after + 1, until + 1), False)

    def lookup(self, stream: str, command_ids: Sequence[str]) -> dict[str, Committed]:
        """Return what the ids that are committed in the stream did."""
        found = {}
        for id in command_ids:
            row = self.execute(schema.BY_COMMAND, (rows.command_key(stream.encode(), id),)).fetchone()
            if row is not None:
                self._learn_types(row[3])
                found[id] = committed(self._path, self._shard, stream, id, row, self._types)
        return found

    def version_at(self, stream: str, recorded_at: int) -> int:
        """Return the stream's last version that was recorded at or before a time, by bisection."""
        key = self.execute(schema.STREAM_KEY, (stream,)).fetchone()
        low, high = 0, self._end(stream, key[0])[0] if key else 0
        while low < high:
            middle = (low + high + 1) // 2
            row = self.execute(schema.RECORDED_AT, (key[0], middle)).fetchone()
            if row is None:
                raise StoreCorrupted(self._path, "this event is missing", stream, middle)
            low, high = (middle, high) if row[0] <= recorded_at else (low, middle - 1)
        return low

    def position_at(self, head: int, recorded_at: int) -> int:
        """Return the last position up to `head` that was recorded at or before a time: times rise strictly."""
        low, high = 0, head
        while low < high:
            middle = (low + high + 1) // 2
            row = self.execute(schema.POSITION_RECORDED_AT, (middle,)).fetchone()
            if row is None:
                raise StoreCorrupted(self._path, f"the event at position {middle} is missing")
            low, high = (middle, high) if row[0] <= recorded_at else (low, middle - 1)
        return low

    def streams(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return names of streams that begin with `prefix`, in order, after the name `after`."""
        found = self.execute(schema.STREAMS_FROM, (prefix, after, limit)).fetchall()
        # Names with a common prefix are neighbours: the first other one ends the list.
        return [name for (name,) in found if name.startswith(prefix)]

    def _fetch(self, sql: str, parameters: Sequence[object], limit: int) -> tuple[list[EventRow], bool]:
        """Return at most `limit` rows and no more bytes than a page may have; True: there are more."""
        found: list[EventRow] = []
        room, part_rows = self._limits.page_bytes_max, _FETCH_ROWS_FIRST
        cursor = self.cursor()
        try:
            cursor.execute(sql, parameters)
            while len(found) < limit and room > 0:
                part = cursor.fetchmany(min(part_rows, limit - len(found)))
                if not part:
                    return found, False
                sizes = [len(row[8]) + len(row[9] or b"") for row in part]
                total, fit = sum(sizes), len(part)
                if total > room:  # one event always fits
                    fit = max(1 - len(found), sum(upto <= room for upto in accumulate(sizes)))
                found += part[:fit]
                if fit < len(part):
                    return found, True
                room -= total
                part_rows = min(_FETCH_ROWS, room // (total // fit + 1) + 1)  # of large events no more than fit
            return found, cursor.fetchone() is not None
        except TypeError as error:
            raise StoreCorrupted(self._path, "the body or the meta of an event has no bytes") from error
        finally:
            cursor.close()

    def _records(self, found: list[EventRow], names: Names | None = None) -> Records:
        columns = EventColumns.of(found)
        names = self._names_of(columns.streams) if names is None else names
        self._learn_types(*set(columns.types))
        begun_elsewhere = columns.begun_elsewhere()
        earlier = self._ids_at(begun_elsewhere, names) if begun_elsewhere else {}
        records = records_of(columns, names, self._types, earlier, self._path, self._shard)
        if begun_elsewhere.difference(earlier):  # each row is intact: the first event of a command is gone
            raise corrupted(self._path, names[columns.streams[0]][0], columns.versions[0], KeyError("command"))
        return records

    def _ids_at(self, positions: set[int], names: Names) -> dict[int, str | None]:
        """Return the ids of the commands whose first events are at these positions, as far as there are any."""
        known = self.execute(schema.BY_POSITIONS, (json.dumps(list(positions)),)).fetchall()
        self._learn_types(*{row[3] for row in known})
        ids: dict[int, str | None] = {}
        for row in known:
            name, crc = names.get(row[1], ("", 0))
            try:
                ids[row[0]] = envelope_of(row, crc, self._types).command_id
            except UNREADABLE as error:
                raise corrupted(self._path, name, row[2], error) from error
        return ids

    def _learn_types(self, *keys: int) -> None:
        if not keys or not all(key in self._types for key in keys):
            found = self.execute(schema.TYPES).fetchall()
            self._types = {key: rows.type_name(key, name, version) for key, name, version in found}

    def _names_of(self, streams: Sequence[int]) -> Names:
        keys = set(streams)
        unknown = [key for key in keys if key not in self._names]
        if unknown:
            if len(self._names) + len(unknown) > self._limits.cached_streams_max:
                self._names, unknown = {}, list(keys)
            found = self.execute(schema.STREAM_NAMES, (json.dumps(unknown),)).fetchall()
            self._names.update((key, named(name)) for key, name in found)
        return self._names


def _first_missing(found: Sequence[int], wanted: range, more: bool) -> int:
    """The first number of a page that should be there and is not, 0 if none; `more`: the page was cut short."""
    expected = wanted[: len(found)] if more else wanted
    if list(found) == list(expected):
        return 0
    there = set(found)
    return next((number for number in expected if number not in there), found[-1] if found else 0)
