"""One shard's file proven from its first byte to its last: SQLite's own check, every event, and the digest chain.

Nothing is repaired and nothing is written. Where a commit's digest does not fit, the chain is taken up again from the
stored one, so that a damage is told where it is and not everywhere after it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from eventray.domain.errors import shortened
from eventray.store import rows, schema
from eventray.store.backups import described
from eventray.store.failures import FILE_ERRORS
from eventray.store.head import read_head
from eventray.store.lock import boot_id
from eventray.store.manifest import Manifest
from eventray.store.moving import shard_file
from eventray.store.proof import Name, Proof
from eventray.store.quiet import read_quietly
from eventray.store.rows import TypeName
from eventray.store.stored import EventRow

PROBLEMS_MAX = 100  # of a shard: enough to see what kind of damage it is
_BATCH_ROWS = 5_000
_NAMES_MAX = 100_000
_SQLITE_MESSAGES_MAX = 10
_COMMITS = "SELECT last, first, recorded_at, digest FROM commits WHERE last > ? AND last <= ? ORDER BY last LIMIT ?"
_BY_STREAM = """SELECT stream, version, position FROM events INDEXED BY events_by_stream
    WHERE (stream, version) > (?, ?) ORDER BY stream, version LIMIT ?"""
_SNAPSHOTS = "SELECT stream, version, position, fingerprint, data, crc FROM snapshots ORDER BY stream"


class _Commit(NamedTuple):
    last: int
    first: int
    recorded_at: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written. `position` 0 and `stream` "": it is not about one event."""

    where: str
    what: str
    position: int = 0
    stream: str = ""
    version: int = 0

    def __str__(self) -> str:
        event = f" {shortened(self.stream)}@{self.version}" if self.stream else ""
        position = f" at position {self.position}" if self.position else ""
        return f"{self.where}{position}{event}: {self.what}"


@dataclass(slots=True)
class ShardReport:
    """What one shard holds: `events`, the `position` and `digest` (hex) it ends with, and what is wrong with it."""

    shard: int
    events: int = 0
    streams: int = 0
    position: int = 0
    digest: str = ""
    problems: list[Problem] = field(default_factory=list)
    more_problems: int = 0

    @classmethod
    def parsed(cls, raw: dict[str, Any]) -> ShardReport:
        """Return the report that another process made."""
        return cls(**raw | {"problems": [Problem(**problem) for problem in raw["problems"]]})


def verify_shard(job: Mapping[str, Any], say: Callable[[int], None]) -> dict[str, Any]:
    """Verify the shard `job["shard"]` of the store in `job["directory"]`; `say(n)` hears of events as they are read.

    `job["anchor"]`, [position, digest] or None, is where the chain must pass through.
    """
    manifest = described(job["directory"])
    index: int = job["shard"]
    path = manifest.directory / shard_file(index, "db")
    said = 0

    def verify(connection: sqlite3.Connection) -> ShardReport:
        # A file that a writer opens meanwhile is read once more: what was said of it then is not said again.
        seen = 0

        def count(events: int) -> None:
            nonlocal said, seen
            seen += events
            if seen > said:
                say(seen - said)
                said = seen

        return _Verifier(connection, manifest, index, job.get("anchor"), count).verify()

    try:
        report = read_quietly(path, verify)
    except FileNotFoundError:
        report = ShardReport(index, problems=[Problem(path.name, "the file is gone")])
    except FILE_ERRORS as error:
        report = ShardReport(index, problems=[Problem(path.name, f"it cannot be read ({error})")])
    return asdict(report)


class _Verifier:
    def __init__(
        self,
        connection: sqlite3.Connection,
        manifest: Manifest,
        index: int,
        anchor: tuple[int, str] | None,
        say: Callable[[int], None],
    ) -> None:
        self._sql = connection
        self._manifest = manifest
        self._anchor = anchor
        self._say = say
        self._report = ShardReport(index)
        # Before the log: a witness of a live file runs ahead of what is read of that.
        self._head = read_head(manifest.directory / shard_file(index, "head"))
        self._file = shard_file(index, "db")
        self._types: dict[int, TypeName] = {}
        self._names: dict[int, Name] = {}

    def verify(self) -> ShardReport:
        steps = (self._identity, self._streams, self._log, self._versions, self._snapshots, self._witnesses)
        # SQLite's own check comes last: what it says of a bad page does not name the events that were on it.
        for step in (*(steps if self._has_tables() else ()), self._sqlite):
            try:
                step()
            except FILE_ERRORS as error:
                self._tell(f"it cannot be read ({error})")
        return self._report

    def _tell(self, what: str, position: int = 0, stream: str = "", version: int = 0, *, where: str = "") -> None:
        if len(self._report.problems) < PROBLEMS_MAX:
            self._report.problems.append(Problem(where or self._file, what, position, stream, version))
        else:
            self._report.more_problems += 1

    def _sqlite(self) -> None:
        for (message,) in self._sql.execute(f"PRAGMA integrity_check({_SQLITE_MESSAGES_MAX})").fetchall():
            if message != "ok":
                self._tell(f"SQLite's own check: {message}")

    def _has_tables(self) -> bool:
        try:
            found = schema.has_its_tables(self._sql)
        except FILE_ERRORS as error:
            self._tell(f"it cannot be read ({error})")
            return False
        if not found:
            self._tell("its tables are not those of a shard")
        return found

    def _identity(self) -> None:
        manifest = self._manifest
        expected = schema.shard_info(manifest.store_id, self._report.shard, manifest.generation)
        found = dict(self._sql.execute("SELECT key, value FROM info").fetchall())
        for key, value in expected.items():
            if found.get(key) != value:
                self._tell(f"it has another {key}: expected {value!r}, found {found.get(key)!r}")
        ancestor = manifest.lineage[-1].digest if manifest.lineage else bytes(schema.DIGEST_BYTES)
        if schema.chain_start(self._sql) != ancestor:
            self._tell("its digests do not begin where those of the store that it was resharded from end")

    def _streams(self) -> None:
        for key, name in self._sql.execute("SELECT key, name FROM streams ORDER BY key"):
            try:
                shard = self._manifest.shard_of(name)
            except (AttributeError, UnicodeError):
                self._tell(f"the name of stream {key} cannot be read")
                continue
            self._report.streams += 1
            if shard != self._report.shard:
                self._tell(f"the stream belongs into shard {shard}", stream=name)
        found = self._sql.execute(schema.TYPES).fetchall()
        self._types = {key: rows.type_name(key, name, version) for key, name, version in found}

    # the log, in order of positions

    def _log(self) -> None:
        report, proof = self._report, Proof(self._types, self._names_of, self._tell)
        digest = schema.chain_start(self._sql)
        taken_up = digest  # after a commit that does not fit: the digest that is stored of it, beside the one it had
        until = (self._sql.execute(schema.LAST_COMMIT).fetchone() or (0,))[0]
        commits = self._commits(until)
        commit, first = next(commits, None), 1
        leaves: list[bytes] = []
        while batch := self._batch(until):
            self._check_order(batch)
            for row, leaf in zip(batch, proof.leaves(batch), strict=True):
                leaves.append(leaf)
                report.position = row[0]
                while commit is not None and commit.last <= report.position:
                    digests = {rows.chain(digest, leaves), rows.chain(taken_up, leaves)}
                    self._check_commit(commit, first, digests, row, proof.bad_position)
                    digest, taken_up = commit.digest, rows.chain(digest, leaves)
                    commit, first, leaves = next(commits, None), report.position + 1, []
            report.events += len(batch)
            self._say(len(batch))
        if commit is not None:
            self._tell(f"the events up to position {until} are missing", report.position + 1)
        beyond = self._sql.execute("SELECT position FROM events WHERE position > ? LIMIT 1", (until,)).fetchone()
        if beyond is not None and until == (self._sql.execute(schema.LAST_COMMIT).fetchone() or (0,))[0]:
            self._tell("this event is in no commit", beyond[0])
        report.digest = digest.hex()

    def _batch(self, until: int) -> list[EventRow]:
        """The next events; as few as one, so that the first which lies on a bad page can be named."""
        after, rows_ = self._report.position, _BATCH_ROWS
        while True:
            try:
                return self._sql.execute(schema.LOG, (after, until, rows_)).fetchall()
            except FILE_ERRORS as error:
                if rows_ == 1:
                    self._tell(f"the events from here on cannot be read ({error})", after + 1)
                    return []
                rows_ //= 2

    def _commits(self, until: int) -> Iterator[_Commit]:
        # In pages: an open cursor would see an older state of a live file than the next page of events.
        after = 0
        while page := self._sql.execute(_COMMITS, (after, until, _BATCH_ROWS)).fetchall():
            yield from map(_Commit._make, page)
            after = page[-1][0]

    def _check_order(self, batch: list[EventRow]) -> None:
        first, last, expected = batch[0][0], batch[-1][0], self._report.position + 1
        if first == expected and last - first + 1 == len(batch):
            return
        for row in batch:
            if row[0] != expected:
                self._tell(f"the events before it, from position {expected} on, are missing", row[0])
            expected = row[0] + 1

    def _check_commit(self, commit: _Commit, first: int, digests: set[bytes], row: EventRow, bad_position: int) -> None:
        last = row[0]
        if (commit.first, commit.last, commit.recorded_at) != (first, last, row[4]):
            extent = f"the commit from position {commit.first} to {commit.last}"
            self._tell(f"{extent} does not fit the events from {first} to {last}", last)
        elif commit.digest not in digests and bad_position < first:
            what = "the digest of this commit does not fit: an event of it, or the order, is not what was written"
            if first == last:
                self._tell(what, last, self._name(row[1]), row[2])
            else:
                self._tell(f"{what} (positions {first} to {last})", first)

    def _names_of(self, keys: set[int]) -> dict[int, Name]:
        unknown = [key for key in keys if key not in self._names]
        if unknown:
            if len(self._names) + len(unknown) > _NAMES_MAX:
                self._names, unknown = {}, list(keys)
            found = self._sql.execute(schema.STREAM_NAMES, (json.dumps(unknown),)).fetchall()
            self._names.update((key, Name.of(name)) for key, name in found)
        return self._names

    # what the log implies

    def _versions(self) -> None:
        """Walk the index of streams: versions count from 1 without gaps, and rise with the positions."""
        stream = version = position = 0
        while page := self._sql.execute(_BY_STREAM, (stream, version, _BATCH_ROWS)).fetchall():
            for row in page:
                if row[0] != stream:
                    stream, version, position = row[0], 0, 0
                if row[1] != version + 1:
                    self._tell(f"version {version + 1} of this stream is missing", row[2], self._name(stream), row[1])
                elif row[2] <= position:
                    self._tell("it stands before an earlier version of its stream", row[2], self._name(stream), row[1])
                version, position = row[1], row[2]

    def _name(self, key: int) -> str:
        named = self._names_of({key}).get(key)
        return named.text if named else f"stream {key}, which has no name"

    def _snapshots(self) -> None:
        for key, version, position, fingerprint, data, crc in self._sql.execute(_SNAPSHOTS):
            name = self._name(key)
            try:
                intact = rows.snapshot_checksum(name, version, position, fingerprint, data) == crc
            except TypeError:
                intact = False
            if not intact:
                self._tell("the snapshot does not fit its checksum", position, name, version)
            last = (self._sql.execute(schema.STREAM_LAST, (key,)).fetchone() or (0,))[0]
            if version > last:
                self._tell(f"the snapshot is newer than the stream's last event, {last}", position, name, version)

    def _witnesses(self) -> None:
        head, name = self._head, shard_file(self._report.shard, "head")
        if head is not None and not (head.position > self._report.position and head.lost_with_power(boot_id())):
            self._passed_through(head.position, head.digest, name)
        if self._anchor is not None:
            self._passed_through(self._anchor[0], bytes.fromhex(self._anchor[1]), "a backup")

    def _passed_through(self, position: int, digest: bytes, witness: str) -> None:
        """Tell unless the log, at a position that somebody saw, had the digest that was seen."""
        if position > self._report.position:
            self._tell(f"it ends at position {self._report.position}, but {witness} saw position {position}")
        elif position:
            row = self._sql.execute(schema.COMMIT_AT, (position,)).fetchone()
            if row is None or row[0] != digest:
                self._tell(f"its history up to here is not the one that {witness} saw", position)
