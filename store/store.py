"""The event store: routes streams to the shards of one directory. Usable alone, without Ray."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from eventray.domain.errors import CommandIdReused, ShardUnavailable
from eventray.store.admission import check_expected, check_ids_differ, check_range
from eventray.store.checkpoints import CheckpointStore
from eventray.store.connection import Durability
from eventray.store.limits import StoreLimits
from eventray.store.manifest import SHARDS_DEFAULT, Manifest
from eventray.store.memory import MemoryCheckpoints, MemoryShard
from eventray.store.migrate import open_manifest
from eventray.store.port import CheckpointPort, ShardPort
from eventray.store.records import (
    Appended,
    BatchResult,
    Checkpoint,
    Committed,
    DuplicateCommands,
    NewCommand,
    NewRecord,
    Record,
    ShardPage,
    Snapshot,
    StoredLetter,
    check_stream,
)
from eventray.store.rows import fingerprint_of
from eventray.store.shard import Shard
from eventray.store.writing import Clock, utc_now_us

_PAGE_RECORDS = 1000
_COMMAND_NAME = "append"  # what the store calls a command that came without a name
_DEFAULT_LIMITS = StoreLimits()


class EventStore:
    """Shards with their checkpoints: those of a directory (`open`), in memory (`memory`), or any other that are ports.

    `async with await EventStore.open(...) as store` closes it; `.manifest`, `.shards` and `.checkpoints` are its parts.
    Besides the errors named at each method all may raise `ShardUnavailable`, `ShardFenced`, `StoreUnavailable`,
    `StoreFull` and `StoreCorrupted`.
    """

    def __init__(self, manifest: Manifest, shards: Mapping[int, ShardPort], checkpoints: CheckpointPort) -> None:
        self.manifest = manifest
        self.shards = shards
        self.checkpoints = checkpoints

    @classmethod
    async def open(
        cls,
        directory: Path | str,
        *,
        app: str,
        shards: int | None = None,
        durability: Durability = "power",
        run: str | None = None,
        limits: StoreLimits = _DEFAULT_LIMITS,
        clock: Clock = utc_now_us,
    ) -> EventStore:
        """Open the store in `directory`, made there if there is none. `shards=None`: what it has, 4 for a new one.

        `durability="os"` leaves syncing to the system: a power cut may then lose the last commits. `run` names who
        opens it: a leftover process of the same run on this host is killed, one of another run means `StoreLocked`.
        Raises `StoreMismatch`, `StoreLocked`, `ShardUnavailable`, `StoreCorrupted`, `StoreUnavailable`, `StoreFull`.
        """
        if durability not in ("power", "os"):
            raise ValueError(f'durability is "power" or "os", not {durability!r}')
        path = Path(directory)
        run = run or uuid.uuid4().hex
        manifest = await asyncio.to_thread(open_manifest, path, app=app, shards=shards, run=run)
        opened: dict[int, Shard] = {}
        checkpoints: CheckpointStore | None = None
        try:
            for index in range(manifest.shards):
                opened[index] = await Shard.open(
                    path,
                    index,
                    store_id=manifest.store_id,
                    generation=manifest.generation,
                    run=run,
                    durability=durability,
                    limits=limits,
                    create=manifest.state_of(index) == "creating",
                    clock=clock,
                )
            created = [index for index in opened if manifest.state_of(index) == "creating"]
            if created:
                await asyncio.to_thread(manifest.mark_all, created, "created")
            checkpoints = await CheckpointStore.open(path, run=run, durability=durability, store_id=manifest.store_id)
            ends = {index: (shard.head, shard.lost_with_power) for index, shard in opened.items()}
            await checkpoints.compare(ends, generation=manifest.generation)
        except BaseException:
            await _close(opened, checkpoints)
            raise
        return cls(manifest, opened, checkpoints)

    @classmethod
    def memory(
        cls,
        *,
        shards: int = SHARDS_DEFAULT,
        app: str = "memory",
        limits: StoreLimits = _DEFAULT_LIMITS,
        clock: Clock = utc_now_us,
    ) -> EventStore:
        """Return a store without files or threads, for tests: the same answers and errors, gone with the object.

        `async with EventStore.memory(shards=2) as store`; ValueError: a shard count outside 1 to 4096.
        """
        manifest = Manifest.fresh(Path(":memory:"), app, shards)
        made = {index: MemoryShard(index, limits, clock) for index in range(manifest.shards)}
        return cls(manifest, made, MemoryCheckpoints())

    def shard_of(self, stream: str) -> ShardPort:
        """Return the shard that the stream lives in."""
        index = self.manifest.shard_of(check_stream(stream))
        return self._shard(index)

    def _shard(self, index: int) -> ShardPort:
        if index not in self.shards:
            raise ShardUnavailable(index, f"this store has the shards 0 to {self.manifest.shards - 1}")
        return self.shards[index]

    async def append(
        self,
        stream: str,
        records: Sequence[NewRecord],
        *,
        expected_version: int | None = None,
        command_id: str | None = None,
    ) -> Appended:
        """Append the events of one command, all or none. No events: nothing is stored, the version stays.

        `expected_version`: None any, 0 a new stream, else the stream's version, or `ConcurrencyConflict`. An id that is
        committed in the stream gives the first outcome with `duplicate=True`, or `CommandIdReused` when its events
        were others. Raises also `EventTooLarge`, `InvalidId`, `Overloaded`, and ValueError for an impossible version.
        """
        return (await self.append_batch(stream, [(command_id, records)], expected_version=expected_version))[0]

    async def append_batch(
        self,
        stream: str,
        commands: Sequence[NewCommand | tuple[str | None, Sequence[NewRecord]]],
        *,
        expected_version: int | None = None,
    ) -> list[Appended]:
        """Append several commands of one stream in one commit, all or none; returns where each one's events are.

        All ids committed before: their first outcomes, with `duplicate=True`. Only some of them: `DuplicateCommands`,
        whose `found` tells which; nothing is stored, send the others again. Otherwise as `append`.
        """
        shard = self.shard_of(stream)
        batch = [_command(command) for command in commands]
        # A command without events leaves no trace to collide with: whether its id is taken has to be asked, and where
        # others of the batch have events, before those are stored.
        ids = [c.command_id for c in batch if c.command_id is not None]
        silent = [c.command_id for c in batch if c.command_id is not None and not c.records]
        found: dict[str, Committed] = {}
        if silent and any(c.records for c in batch):
            check_expected(expected_version)
            check_ids_differ(ids)
            found = await shard.lookup(stream, ids)
        if not found:
            try:
                result = await shard.append_batch(stream, batch, expected_version=expected_version, lookups=silent)
            except DuplicateCommands as duplicate:
                found = duplicate.found
            else:
                return _settled(stream, batch, result) if result.found else result.appended
        firsts = [found.get(command.command_id or "") for command in batch]
        for command, first in zip(batch, firsts, strict=True):
            _require_same(stream, command, first)
        if all(first is not None for first in firsts):
            return [first.appended for first in firsts if first is not None]
        raise DuplicateCommands(found)

    def read(
        self, stream: str, *, after: int = 0, until: int | None = None, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """Iterate over the stream's records with after < version <= until, oldest first (`reverse`: newest first).

        `until=None`: to the end as it is when it is reached; `limit=None`: all of them. `until=0`, `until` not above
        `after` and `limit=0` are ranges without records. Read page by page: memory stays bounded, and no page is
        from the middle of a commit. Raises InvalidId and ValueError (a bound that is no int of at least 0) at once.
        """
        shard = self.shard_of(stream)
        check_range(after, until, limit)
        return _pages(shard, stream, after, until, reverse, limit)

    async def read_shard(
        self, *, shard: int, after: int = 0, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        """Return a page of a shard's log after position `after`; with nothing there, wait up to `wait` seconds."""
        return await self._shard(shard).read(after=after, limit=limit, wait=wait, types=types)

    async def heads(self) -> dict[int, int]:
        """Return the last position of every shard, 0 when it is empty."""
        heads = await asyncio.gather(*(shard.fetch_head() for shard in self.shards.values()))
        return dict(zip(self.shards, heads, strict=True))

    async def park(self, consumer: str, *, shard: int, position: int, reason: str) -> None:
        """Keep an event as a dead letter of a consumer (a view or process that could not apply it)."""
        await self._shard(shard).park(consumer, position, reason)

    async def unpark(self, consumer: str, *, shard: int, positions: Sequence[int]) -> None:
        """Forget dead letters of a consumer; those that are not there do not matter."""
        await self._shard(shard).unpark(consumer, positions)

    async def dead_letters(self, consumer: str) -> list[StoredLetter]:
        """Return the dead letters of a consumer, by shard and position."""
        found: list[StoredLetter] = []
        for shard in self.shards.values():
            while page := await shard.dead_letters(consumer, after=_last_of(found, shard.index)):
                found += page
        return found

    async def save_snapshot(self, stream: str, *, version: int, data: bytes, fingerprint: str = "") -> None:
        """Keep the state of the stream at `version`, in place of its snapshot so far."""
        await self.shard_of(stream).save_snapshot(stream, version=version, data=data, fingerprint=fingerprint)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """Return the stream's snapshot as it was saved; None when there is none or it is corrupt."""
        return await self.shard_of(stream).load_snapshot(stream)

    async def save_checkpoint(
        self, name: str, positions: Mapping[int, int], data: bytes = b"", *, fingerprint: str = ""
    ) -> None:
        """Save how far a view has applied each shard, with its state, in place of its checkpoint so far."""
        heads = await self.heads()
        seen = all(position <= heads.get(shard, 0) for shard, position in positions.items())
        generation = self.manifest.generation
        await self.checkpoints.save(name, positions, data, generation=generation, fingerprint=fingerprint, witness=seen)

    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        """Return the checkpoint; None when there is none, it is corrupt, or its positions are of another generation."""
        checkpoint = await self.checkpoints.load(name)
        return checkpoint if checkpoint and checkpoint.generation == self.manifest.generation else None

    async def close(self) -> None:
        """Finish what waits and close every file; a second call does nothing."""
        await _close(self.shards, self.checkpoints)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _last_of(letters: list[StoredLetter], shard: int) -> int:
    return letters[-1].position if letters and letters[-1].shard == shard else 0


def _command(given: NewCommand | tuple[str | None, Sequence[NewRecord]]) -> NewCommand:
    command = given if isinstance(given, NewCommand) else NewCommand(given[0], given[1])
    if command.command_id is None or command.fingerprint:
        return command
    fingerprint = fingerprint_of([(r.type, r.type_version, r.data) for r in command.records])
    return NewCommand(command.command_id, command.records, command.name, fingerprint)


def _require_same(stream: str, command: NewCommand, first: Committed | None) -> None:
    if first is not None and (first.name, first.fingerprint) != (command.name, command.fingerprint):
        raise CommandIdReused(
            stream, first.appended.command_id or "", first.name or _COMMAND_NAME, command.name or _COMMAND_NAME
        )


def _settled(stream: str, batch: list[NewCommand], result: BatchResult) -> list[Appended]:
    settled = []
    for command, appended in zip(batch, result.appended, strict=True):
        first = None if command.records else result.found.get(command.command_id or "")
        _require_same(stream, command, first)
        settled.append(first.appended if first else appended)
    return settled


async def _pages(
    shard: ShardPort, stream: str, after: int, until: int | None, reverse: bool, limit: int | None
) -> AsyncIterator[Record]:
    while limit is None or limit > 0:
        size = _PAGE_RECORDS if limit is None else min(limit, _PAGE_RECORDS)
        page = [*await shard.read_stream(stream, after=after, until=until, reverse=reverse, limit=size)]
        if not page:
            return
        if limit is not None:
            limit -= len(page)
        if reverse:
            until = page[-1].version - 1
        else:
            after = page[-1].version
        page.reverse()
        while page:  # handed out one by one, so that this page is gone before the next one comes
            yield page.pop()


async def _close(shards: Mapping[int, ShardPort], checkpoints: CheckpointPort | None) -> None:
    parts: list[ShardPort | CheckpointPort] = [*shards.values(), *([checkpoints] if checkpoints else [])]
    outcomes = await asyncio.gather(*(part.close() for part in parts), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
