"""One shard: its file's single owner in this process, with group commit, coalesced loads and paged reads."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eventray.domain.errors import ActivationSuperseded, Overloaded
from eventray.store import dead_letters
from eventray.store.admission import (
    admitted,
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
from eventray.store.batcher import Batcher
from eventray.store.connection import Durability
from eventray.store.limits import StoreLimits
from eventray.store.news import News
from eventray.store.reading import LoadJob, ReadConnection
from eventray.store.records import (
    BatchResult,
    Committed,
    Loaded,
    NewCommand,
    Record,
    ShardPage,
    Snapshot,
    StoredLetter,
    check_stream,
)
from eventray.store.settling import AppendJob, settle_future
from eventray.store.shardfile import ShardFile, ShardPlace
from eventray.store.writing import Clock, WriteConnection, utc_now_us

_RETRY_AFTER_S = 0.05
_LOADS_PER_HOP = 512
_DEFAULT_LIMITS = StoreLimits()


@dataclass(slots=True)
class Written:
    """What a shard has committed since it was opened: groups of appends, the time they took, and what was in them."""

    commits: int = 0
    seconds: float = 0.0
    events: int = 0
    size_bytes: int = 0


class Shard:
    """One file of the store. All methods raise `ShardFenced` once another writer has taken the file over.

    They also raise `StoreUnavailable` (I/O error: outcome unknown), `StoreFull`, `StoreCorrupted` and, after `close`,
    `ShardUnavailable`. `head` is the last committed position, `epoch` rises with each opening.
    """

    def __init__(self, place: ShardPlace) -> None:
        self.index = place.index
        self.epoch = 0
        self.head = 0
        self.written = Written()
        self._limits = place.limits
        self._file = ShardFile(place, self._reopened)
        self._appends: Batcher[AppendJob] = Batcher(
            self._commit, lambda job: job.events + 1, place.limits.commit_events_max
        )
        self._loads: Batcher[LoadJob] = Batcher(self._load_all, lambda _: 1, _LOADS_PER_HOP)
        self._pending_calls = self._pending_bytes = 0
        self._news = News()
        self._tokens: dict[str, int] = {}
        self._tokens_given = 0

    @classmethod
    async def open(
        cls,
        directory: Path,
        index: int,
        *,
        store_id: str,
        generation: int,
        run: str,
        durability: Durability = "power",
        limits: StoreLimits = _DEFAULT_LIMITS,
        create: bool,
        clock: Clock = utc_now_us,
    ) -> Shard:
        """Open shard `index` in `directory`; `create` makes its file if it is not there.

        Raises `StoreLocked` (another run has it), `ShardUnavailable` (the file is gone), `StoreMismatch` (the file of
        another store, shard, generation or format), `StoreCorrupted`, `StoreFull`, `StoreUnavailable`.
        """
        shard = cls(ShardPlace(Path(directory), index, store_id, generation, run, durability, limits, clock))
        await shard._file.open(create=create)
        return shard

    @property
    def lost_with_power(self) -> bool:
        """Whether its last commits may be gone by right: `durability="os"`, and the machine started again since."""
        return self._file.lost_with_power

    def _reopened(self, epoch: int, position: int) -> None:
        self.epoch = epoch
        self._tokens.clear()  # all of them are of an earlier epoch
        self._tokens_given = 0
        self._advance(position)

    def _advance(self, position: int) -> None:
        if position > self.head:
            self.head = position
            self._news.tell()

    def require_unfenced(self) -> None:
        """Raise `ShardFenced` once another writer took over; every other call does then, too."""
        self._file.require_unfenced()

    def _require_service(self) -> None:
        self._file.require_service()

    def submit_batch(self, job: AppendJob) -> None:
        """Put an append on its way; it is settled as soon as it has ended.

        Raises what may be known at once, as `append_batch`; then it is not settled.
        """
        self._require_service()
        check_stream(job.stream)
        check_expected(job.expected_version)
        for id in job.lookups:
            check_command_id(id)
        job.events, job.size_bytes = admitted(job.stream, job.commands, self._limits)
        self._make_room(job.size_bytes)
        self._pending_calls += 1
        self._pending_bytes += job.size_bytes
        self._appends.put(job)

    async def append_batch(
        self,
        stream: str,
        commands: Sequence[NewCommand],
        *,
        expected_version: int | None = None,
        token: int | None = None,
        lookups: Sequence[str] = (),
    ) -> BatchResult:
        """Append the events of some commands to one stream, all or none; calls that wait share a transaction.

        Raises `DuplicateCommands` (an id is committed: judged before the version), `ConcurrencyConflict`,
        `ActivationSuperseded` (`token` is not the stream's current one), `EventTooLarge`, `InvalidId`, `Overloaded`;
        in all these cases nothing of this call is stored. Without commands it still checks epoch, token and version.
        Cancelling the caller does not cancel the append.
        """
        future: asyncio.Future[AppendJob] = asyncio.get_running_loop().create_future()
        settle = partial(settle_future, future)
        self.submit_batch(AppendJob(stream, commands, settle, expected_version, token, lookups))
        return (await future).result(self.index)

    def _make_room(self, size_bytes: int) -> None:
        limits = self._limits
        if self._pending_calls >= limits.pending_calls_max:
            raise self._overloaded(limits.pending_calls_max, "waiting appends")
        # One append always fits, so that the two limits cannot contradict each other.
        if self._pending_bytes and self._pending_bytes + size_bytes > limits.pending_bytes_max:
            raise self._overloaded(limits.pending_bytes_max, "bytes of waiting appends")

    def _overloaded(self, limit: int, unit: str) -> Overloaded:
        return Overloaded(f"shard {self.index}", limit, unit, _RETRY_AFTER_S)

    async def _commit(self, jobs: list[AppendJob]) -> list[AppendJob]:
        for job in jobs:
            if job.token is not None and not self._is_current(job.stream, job.token):
                job.fail(ActivationSuperseded(job.stream, job.token))
        failure: Exception | None = None
        written, started = self.written, time.perf_counter()
        try:
            current = [job for job in jobs if not job.ended]
            if current:
                self._advance(await self._file.write(WriteConnection.append, current))
                written.commits += 1
                written.seconds += time.perf_counter() - started
        except Exception as error:
            failure = error
        self._pending_calls -= len(jobs)
        for job in jobs:
            self._pending_bytes -= job.size_bytes
            if not job.ended:
                assert failure is not None
                job.fail(_own(failure))
            elif job.error is None:
                written.events += job.events
                written.size_bytes += job.size_bytes
                if job.position > self.head:  # it was committed before the group failed
                    self._advance(job.position)
            job.settle(job)
        return []

    def _is_current(self, stream: str, token: int) -> bool:
        return self._tokens.get(stream, 0) == token  # a token of an earlier epoch is in there no more

    def _next_token(self, stream: str) -> int:
        self._tokens_given += 1
        token = (self.epoch << 32) | self._tokens_given
        self._tokens.pop(stream, None)
        self._tokens[stream] = token
        if len(self._tokens) > self._limits.tokens_max:
            del self._tokens[next(iter(self._tokens))]  # that activation counts as superseded: it loads again
        return token

    async def load(
        self, stream: str, *, fingerprint: str | None = None, take_over: bool = False, limit: int = 2000
    ) -> Loaded:
        """Return a stream to activate: its snapshot if it has this `fingerprint` (None: no snapshot), and what follows.

        At most `limit` records (`more` tells). `take_over` gives the stream a new token: appends with an earlier one
        are refused from now on, and none of them is still on its way. Loads that wait share a hop.
        """
        self._require_service()
        check_stream(stream)
        limit = check_page(0, limit, self._limits)
        token = 0
        if take_over:
            token = self._next_token(stream)
            await self._appends.between_batches()
        future: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self._loads.put(LoadJob(stream, fingerprint, limit, token, future))
        return await future

    async def _load_all(self, jobs: list[LoadJob]) -> list[LoadJob]:
        failure: Exception | None = None
        try:
            await self._file.read(ReadConnection.load, [job for job in jobs if not job.future.done()])
        except Exception as error:
            failure = error
        later = []
        for job in jobs:
            outcome = job.outcome or (failure and _own(failure))
            if outcome is not None:
                settle_future(job.future, outcome)
            elif not job.future.done():
                later.append(job)
        return later

    async def read_stream(
        self, stream: str, *, after: int = 0, until: int | None = None, reverse: bool = False, limit: int
    ) -> Sequence[Record]:
        """Return one page of a stream, after < version <= until, newest first with `reverse`; [] ends it.

        A page may be shorter than `limit` when its events are large: read on from the last one.
        """
        self._require_service()
        check_stream(stream)
        check_until(until)
        limit = check_page(after, limit, self._limits)
        return await self._file.read(ReadConnection.stream, stream, after, until, reverse, limit)

    async def read(
        self, *, after: int, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        """Return a page of the log after position `after`; with nothing there, wait up to `wait` seconds for news.

        `types` keeps events of those stored names only; `position` of the page moves on all the same.
        """
        self._require_service()
        limit = check_page(after, limit, self._limits)
        check_wait(wait)
        if self.head <= after and wait > 0:
            await self._news.wait(wait)
            self._require_service()
        if self.head <= after:
            return ShardPage([], after)
        return await self._file.read(ReadConnection.log, after, self.head, limit, types)

    async def version_at(self, stream: str, recorded_at_us: int) -> int:
        """Return the stream's last version that was recorded at or before a time (microseconds UTC); 0: none."""
        self._require_service()
        check_moment(recorded_at_us)
        return await self._file.read(ReadConnection.version_at, check_stream(stream), recorded_at_us)

    async def position_at(self, recorded_at_us: int) -> int:
        """Return the last position that was recorded at or before a time (microseconds UTC); 0: none."""
        self._require_service()
        check_moment(recorded_at_us)
        return await self._file.read(ReadConnection.position_at, self.head, recorded_at_us)

    async def lookup(self, stream: str, command_ids: Sequence[str]) -> dict[str, Committed]:
        """Return what those of the ids did that are committed in the stream."""
        self._require_service()
        for id in command_ids:
            check_command_id(id)
        return await self._file.read(ReadConnection.lookup, check_stream(stream), tuple(command_ids))

    async def save_snapshot(self, stream: str, *, version: int, data: bytes, fingerprint: str = "") -> None:
        """Keep the state of the stream at `version` in place of its snapshot; `EventTooLarge` above the limit."""
        self._require_service()
        check_stream(stream)
        check_version(version)
        check_snapshot(stream, data, fingerprint, self._limits)
        await self._file.write(WriteConnection.save_snapshot, stream, version, fingerprint, data)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """Return the snapshot as it was saved; None when there is none or it is corrupt (a warning says so)."""
        self._require_service()
        return await self._file.read(ReadConnection.snapshot, check_stream(stream))

    async def streams(self, *, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Return a page of the streams whose names begin with `prefix`, in the order of their UTF-8 bytes."""
        self._require_service()
        check_prefix(prefix)
        check_prefix(after)
        limit = check_page(0, limit, self._limits)
        return await self._file.read(ReadConnection.streams, prefix, after, limit)

    async def fetch_head(self) -> int:
        """Return the last committed position, 0 when the shard is empty."""
        self._require_service()
        return self.head

    async def park(self, consumer: str, position: int, reason: str) -> None:
        """Keep the event at `position` as a dead letter of a consumer; ValueError: no such event, a reason too long."""
        self._require_service()
        check_dead_letter(consumer, [position], reason, self.head)
        await self._file.write(dead_letters.park, consumer, position, reason)

    async def unpark(self, consumer: str, positions: Sequence[int]) -> None:
        """Forget dead letters of a consumer; those that are not there do not matter."""
        self._require_service()
        check_dead_letter(consumer, positions)
        await self._file.write(dead_letters.unpark, consumer, tuple(positions))

    async def dead_letters(self, consumer: str, *, after: int = 0, limit: int = 1000) -> list[StoredLetter]:
        """Return a page of a consumer's dead letters in the order of their positions, after a position."""
        self._require_service()
        limit = check_page(after, limit, self._limits)
        return await self._file.read(dead_letters.page, self.index, consumer, after, limit)

    async def close(self) -> None:
        """Finish what waits, close the file and free its lock; a second call does nothing."""
        await self._appends.settled()
        await self._loads.settled()
        await self._file.close()
        self._news.tell()


def _own(failure: Exception) -> Exception:
    # One instance per caller: each raise writes its own traceback into it.
    own = copy.copy(failure)
    own.__cause__ = failure.__cause__
    return own
