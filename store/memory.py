"""A store in memory: the definition, in code, of what a shard does, and a fast stand-in for files in tests.

Every method that changes or reads something does so in one go, with no await in between, so that one call follows the
other as in a transaction. Nothing is cached, nothing is coalesced and nothing is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from eventray.domain.errors import ActivationSuperseded, ConcurrencyConflict, ShardUnavailable, StoreUnavailable
from eventray.store.admission import (
    admitted,
    check_checkpoint,
    check_command_id,
    check_dead_letter,
    check_expected,
    check_moment,
    check_page,
    check_prefix,
    check_snapshot,
    check_until,
    check_version,
    check_wait,
)
from eventray.store.limits import StoreLimits
from eventray.store.records import (
    Appended,
    BatchResult,
    Checkpoint,
    Committed,
    DuplicateCommands,
    Loaded,
    NewCommand,
    Record,
    ShardPage,
    Snapshot,
    StoredLetter,
    check_stream,
)
from eventray.store.settling import AppendJob
from eventray.store.spool import Spool, whole
from eventray.store.writing import Clock

_log = logging.getLogger("eventray.store")


class MemoryShard:
    """A shard's log as a list. It raises what a shard of files raises, but `Overloaded` and the failures of a disk."""

    def __init__(self, index: int, limits: StoreLimits, clock: Clock) -> None:
        self.index = index
        self.epoch = 1
        self._limits = limits
        self._clock = clock
        self._log: list[Record] = []  # the record at position p is at p - 1
        self._streams: dict[str, list[Record]] = {}  # that of version v is at v - 1
        self._committed: dict[tuple[str, str], Committed] = {}  # by stream and command id
        self._snapshots: dict[str, Snapshot] = {}
        self._dead_letters: dict[tuple[str, int], StoredLetter] = {}
        self._tokens: dict[str, int] = {}
        self._news = asyncio.Event()  # a new one after each append
        self._closed = False

    @property
    def head(self) -> int:
        """The last position."""
        return len(self._log)

    def _require_service(self) -> None:
        if self._closed:
            raise ShardUnavailable(self.index, "it is closed")

    # appending

    def submit_batch(self, job: AppendJob) -> None:
        """`append_batch`, settled in the loop's next turn."""
        try:
            result = self._append(job.stream, job.commands, job.expected_version, job.token, job.lookups)
            job.found, job.version, job.position, job.ended = result.found, result.version, result.position, True
        except (ActivationSuperseded, ConcurrencyConflict, DuplicateCommands) as refusal:
            job.fail(refusal)
        asyncio.get_running_loop().call_soon(job.settle, job)

    async def append_batch(
        self,
        stream: str,
        commands: Sequence[NewCommand],
        *,
        expected_version: int | None = None,
        token: int | None = None,
        lookups: Sequence[str] = (),
    ) -> BatchResult:
        """Append the events of some commands to one stream, all or none."""
        return self._append(stream, commands, expected_version, token, lookups)

    def _append(
        self,
        stream: str,
        commands: Sequence[NewCommand],
        expected_version: int | None,
        token: int | None,
        lookups: Sequence[str],
    ) -> BatchResult:
        self._require_service()
        check_stream(stream)
        check_expected(expected_version)
        for id in lookups:
            check_command_id(id)
        admitted(stream, commands, self._limits)
        if token is not None and token != self._tokens.get(stream, 0):
            raise ActivationSuperseded(stream, token)
        version, _ = self._end(stream)
        wrong = expected_version not in (None, version)
        taken = self._found(stream, [c.command_id for c in commands if c.command_id is not None])
        # Ids come before versions: a command that is committed already must not be told of a conflict.
        if taken and (wrong or any(c.records and c.command_id in taken for c in commands)):
            raise DuplicateCommands(taken)
        if wrong:
            raise ConcurrencyConflict(stream, expected_version, version)
        found = self._found(stream, lookups)
        appended = [self._store(stream, command) for command in commands]
        if any(one.events for one in appended):
            self._wake()
        return BatchResult(appended, found, *self._end(stream))

    def _store(self, stream: str, command: NewCommand) -> Appended:
        for new in command.records:
            last_at = self._log[-1].recorded_at if self._log else 0
            record = Record(
                stream,
                self._end(stream)[0] + 1,
                new.type,
                new.data,
                new.meta,
                self.index,
                self.head + 1,
                max(self._clock(), last_at + 1),  # it rises strictly, whatever the clock does
                command.command_id,
                new.type_version,
            )
            self._log.append(record)
            self._streams.setdefault(stream, []).append(record)
        version, position = self._end(stream)
        appended = Appended(stream, version, self.index, position, len(command.records), command.command_id)
        if command.command_id is not None and command.records:  # without events there is nothing that keeps the id
            again = appended._replace(duplicate=True)
            self._committed[stream, command.command_id] = Committed(again, command.name, command.fingerprint)
        return appended

    def _end(self, stream: str) -> tuple[int, int]:
        records = self._streams.get(stream)
        return (records[-1].version, records[-1].position) if records else (0, 0)

    def _found(self, stream: str, ids: Iterable[str]) -> dict[str, Committed]:
        return {id: self._committed[stream, id] for id in ids if (stream, id) in self._committed}

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # reading

    async def load(
        self, stream: str, *, fingerprint: str | None = None, take_over: bool = False, limit: int = 2000
    ) -> Loaded:
        """Return a stream to activate; `take_over`: appends with an earlier token are refused from now on."""
        self._require_service()
        check_stream(stream)
        limit = check_page(0, limit, self._limits)
        token = 0
        if take_over:
            token = self._tokens[stream] = max(self._tokens.values(), default=0) + 1
        snapshot = self._fitting(stream, fingerprint)
        version, position = self._end(stream)
        after = snapshot.version if snapshot else 0
        records = self._page(self._streams.get(stream, [])[after:], limit)
        return Loaded(token, version, position, snapshot, records, after + len(records) < version)

    def _fitting(self, stream: str, fingerprint: str | None) -> Snapshot | None:
        snapshot = self._snapshots.get(stream)
        if fingerprint is None or snapshot is None:
            return None
        if snapshot.fingerprint != fingerprint:
            _log.warning("the snapshot of %r is of another state version: ignored", stream)
            return None
        version, _ = self._end(stream)
        if snapshot.version > version:
            _log.warning(
                "the snapshot of %r is of version %d, its events end at %d: ignored", stream, snapshot.version, version
            )
            return None
        return snapshot

    def _page(self, records: Iterable[Record], limit: int) -> list[Record]:
        """As many records as a page may have; one always fits."""
        page: list[Record] = []
        room = self._limits.page_bytes_max
        for record in islice(records, limit):
            room -= len(record.data) + len(record.meta)
            if page and room < 0:
                break
            page.append(record)
        return page

    async def read_stream(
        self, stream: str, *, after: int = 0, until: int | None = None, reverse: bool = False, limit: int
    ) -> list[Record]:
        """Return one page of a stream, after < version <= until, newest first with `reverse`."""
        self._require_service()
        check_stream(stream)
        check_until(until)
        limit = check_page(after, limit, self._limits)
        found = self._streams.get(stream, [])[after:until]
        return self._page(reversed(found) if reverse else found, limit)

    async def read(
        self, *, after: int, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        """Return a page of the log after position `after`; with nothing there, wait up to `wait` seconds for news."""
        self._require_service()
        limit = check_page(after, limit, self._limits)
        check_wait(wait)
        if self.head <= after and wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()
            self._require_service()
        wanted = [record for record in self._log[after:] if types is None or record.type in types]
        page = self._page(wanted, limit)
        return ShardPage(page, page[-1].position if len(page) < len(wanted) else max(after, self.head))

    async def version_at(self, stream: str, recorded_at_us: int) -> int:
        """Return the stream's last version that was recorded at or before a time (microseconds UTC); 0: none."""
        self._require_service()
        check_moment(recorded_at_us)
        records = self._streams.get(check_stream(stream), [])
        return bisect_right(records, recorded_at_us, key=lambda record: record.recorded_at)

    async def position_at(self, recorded_at_us: int) -> int:
        """Return the last position that was recorded at or before a time (microseconds UTC); 0: none."""
        self._require_service()
        check_moment(recorded_at_us)
        return bisect_right(self._log, recorded_at_us, key=lambda record: record.recorded_at)

    async def lookup(self, stream: str, command_ids: Sequence[str]) -> dict[str, Committed]:
        """Return what those of the ids did that are committed in the stream."""
        self._require_service()
        for id in command_ids:
            check_command_id(id)
        return self._found(check_stream(stream), command_ids)

    async def streams(self, *, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Return a page of the streams whose names begin with `prefix`, in the order of their UTF-8 bytes."""
        self._require_service()
        check_prefix(prefix)
        check_prefix(after)
        limit = check_page(0, limit, self._limits)
        names = [name for name in self._streams if name.startswith(prefix) and name.encode() > after.encode()]
        return sorted(names, key=str.encode)[:limit]

    async def fetch_head(self) -> int:
        """Return the last position, 0 when the shard is empty."""
        self._require_service()
        return self.head

    # dead letters

    async def park(self, consumer: str, position: int, reason: str) -> None:
        """Keep the event at `position` as a dead letter of a consumer; one that is there stays as it is."""
        self._require_service()
        check_dead_letter(consumer, [position], reason, self.head)
        letter = StoredLetter(consumer, self.index, position, self._clock(), reason)
        self._dead_letters.setdefault((consumer, position), letter)

    async def unpark(self, consumer: str, positions: Sequence[int]) -> None:
        """Forget dead letters of a consumer."""
        self._require_service()
        check_dead_letter(consumer, positions)
        for position in positions:
            self._dead_letters.pop((consumer, position), None)

    async def dead_letters(self, consumer: str, *, after: int = 0, limit: int = 1000) -> list[StoredLetter]:
        """Return a page of a consumer's dead letters in the order of their positions, after a position."""
        self._require_service()
        limit = check_page(after, limit, self._limits)
        letters = sorted(self._dead_letters.values(), key=lambda letter: letter.position)
        return [one for one in letters if one.consumer == consumer and one.position > after][:limit]

    # snapshots and life

    async def save_snapshot(self, stream: str, *, version: int, data: bytes, fingerprint: str = "") -> None:
        """Keep the state of the stream at `version` in place of its snapshot so far."""
        self._require_service()
        check_stream(stream)
        check_version(version)
        check_snapshot(stream, data, fingerprint, self._limits)
        records = self._streams.get(stream, [])
        position = records[version - 1].position if 1 <= version <= len(records) else 0
        self._snapshots[stream] = Snapshot(version, position, fingerprint, data)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """Return the snapshot as it was saved; None when there is none."""
        self._require_service()
        return self._snapshots.get(check_stream(stream))

    async def close(self) -> None:
        """End the waiting of readers; what was stored is gone with this object."""
        self._closed = True
        self._wake()


class MemoryCheckpoints:
    """Checkpoints as a dict."""

    def __init__(self) -> None:
        self._saved: dict[str, Checkpoint] = {}
        self._closed = False

    def _require_service(self) -> None:
        if self._closed:
            raise StoreUnavailable("memory", "it is closed")

    async def save(
        self,
        name: str,
        positions: Mapping[int, int],
        data: bytes | Spool,
        *,
        generation: int,
        fingerprint: str = "",
        witness: bool = True,
    ) -> None:
        """Save positions (per shard) and state together; a `witness` has nothing to bear out here."""
        self._require_service()
        check_checkpoint(name, positions, data)
        self._saved[name] = Checkpoint(dict(positions), whole(data), generation, fingerprint)

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint; None when there is none."""
        self._require_service()
        return self._saved.get(name)

    async def names(self) -> list[str]:
        """Return the names that have a checkpoint, in order."""
        self._require_service()
        return sorted(self._saved, key=str.encode)

    async def close(self) -> None:
        """Serve no more."""
        self._closed = True
