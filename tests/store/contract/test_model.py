"""Any sequence of calls against a model of a few lists: the file store and the one in memory must agree with it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eventray.domain.errors import ActivationSuperseded, CommandIdReused, ConcurrencyConflict
from eventray.store import DuplicateCommands, EventStore, NewCommand, NewRecord, Record, StoreLimits

T = TypeVar("T")

STREAMS = ["Account/a", "Account/b", "Card/a", "Card/é"]
SHARDS = 2
LIMITS = StoreLimits(page_records_max=3, cached_streams_max=2)

streams = st.sampled_from(STREAMS)
ids = st.sampled_from(["x", "y", "z", "0190f3c0-1234-7abc-8def-0123456789ab"]) | st.none()
events = st.builds(
    NewRecord, st.sampled_from(["Opened", "Closed"]), st.binary(max_size=2), st.binary(max_size=1), st.integers(1, 2)
)
batches = st.lists(st.tuples(ids, st.lists(events, max_size=3)), max_size=3)
offsets = st.sampled_from([None, None, 0, 0, -1, 1])  # from the version that is right
bounds = st.integers(0, 9)
Batch = list[tuple[str | None, list[NewRecord]]]


class Stored(NamedTuple):
    """What the model knows of an event."""

    new: NewRecord
    id: str | None
    shard: int
    position: int


@dataclass
class Model:
    """What the store should hold."""

    events: dict[str, list[Stored]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})
    logs: dict[int, list[tuple[str, int]]] = field(default_factory=lambda: {shard: [] for shard in range(SHARDS)})
    commands: dict[tuple[str, str], tuple[list[NewRecord], int]] = field(default_factory=dict)  # events, last version
    snapshots: dict[str, tuple[int, bytes, str]] = field(default_factory=dict)
    checkpoints: dict[str, tuple[dict[int, int], bytes]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def verdict(self, stream: str, batch: Batch, expected: int | None) -> type[Exception] | None:
        """How `append_batch` ends; None: it returns."""
        named = [id for id, _ in batch if id is not None]
        if len(set(named)) < len(named) or (expected is not None and expected < 0):
            return ValueError
        known = [(id, new) for id, new in batch if id is not None and (stream, id) in self.commands]
        # The same command may come with other metadata: with another correlation, from another host.
        if any(_arguments(self.commands[stream, id][0]) != _arguments(new) for id, new in known):
            return CommandIdReused
        if known:
            return None if len(known) == len(batch) else DuplicateCommands
        return ConcurrencyConflict if expected not in (None, len(self.events[stream])) else None

    def append(self, stream: str, batch: Batch, shard: int) -> list[tuple[int, bool]]:
        """Store what is new; the last version and whether it was there, of each command."""
        outcomes = []
        for id, new in batch:
            if id is not None and (stream, id) in self.commands:
                outcomes.append((self.commands[stream, id][1], True))
                continue
            for record in new:
                log = self.logs[shard]
                log.append((stream, len(self.events[stream])))
                self.events[stream].append(Stored(record, id, shard, len(log)))
            if id is not None and new:
                self.commands[stream, id] = (new, len(self.events[stream]))
            outcomes.append((len(self.events[stream]), False))
        return outcomes


def _arguments(events: list[NewRecord]) -> list[tuple[str, bytes, int]]:
    return [(new.type, new.data, new.type_version) for new in events]


def as_stored(record: Record) -> Stored:
    new = NewRecord(record.type, record.data, record.meta, record.type_version)
    return Stored(new, record.command_id, record.shard, record.position)


class StoreMachine(RuleBasedStateMachine):
    """Drives a store and the model; `kept`: the store can be opened again."""

    kept = True

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.model = Model()

    async def open(self) -> EventStore:
        raise NotImplementedError

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @initialize()
    def start(self) -> None:
        self.store = self.run(self.open())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    @rule(stream=streams, batch=batches, offset=offsets)
    def append(self, stream: str, batch: Batch, offset: int | None) -> None:
        expected = None if offset is None else len(self.model.events[stream]) + offset
        error = self.model.verdict(stream, batch, expected)
        call = self.store.append_batch(stream, batch, expected_version=expected)
        if error is not None:
            with pytest.raises(error):
                self.run(call)
            return
        done = self.run(call)
        wanted = self.model.append(stream, batch, self.store.manifest.shard_of(stream))
        assert [(one.version, one.duplicate) for one in done] == wanted
        for one in done:
            position = self.model.events[stream][one.version - 1].position if one.version else 0
            assert (one.stream, one.position) == (stream, position)

    @rule(stream=streams, after=bounds, until=bounds | st.none(), reverse=st.booleans(), limit=bounds | st.none())
    def read(self, stream: str, after: int, until: int | None, reverse: bool, limit: int | None) -> None:
        async def collected() -> list[Record]:
            return [r async for r in self.store.read(stream, after=after, until=until, reverse=reverse, limit=limit)]

        wanted = self.model.events[stream][after:until]
        wanted = (wanted[::-1] if reverse else wanted)[:limit]
        assert [as_stored(record) for record in self.run(collected())] == wanted

    @rule(
        shard=st.integers(0, SHARDS - 1),
        after=bounds,
        limit=st.integers(1, 9),
        types=st.sets(st.sampled_from(["Opened", "Closed", "Unheard"])) | st.none(),
    )
    def read_log(self, shard: int, after: int, limit: int, types: set[str] | None) -> None:
        kinds = None if types is None else frozenset(types)
        page = self.run(self.store.read_shard(shard=shard, after=after, limit=limit, types=kinds))
        log = self.model.logs[shard]
        wanted = [self.model.events[stream][index] for stream, index in log[after : max(after, page.position)]]
        wanted = [stored for stored in wanted if types is None or stored.new.type in types]
        assert [as_stored(record) for record in page] == wanted
        assert page.position > after or after >= len(log)  # it gets on
        assert page.position <= max(after, len(log))
        assert len(page) <= min(limit, LIMITS.page_records_max)

    @rule(stream=streams, asked=st.sets(ids.filter(bool)))
    def look_up(self, stream: str, asked: set[str]) -> None:
        found = self.run(self.store.shard_of(stream).lookup(stream, sorted(asked)))
        known = {id: self.model.commands[stream, id] for id in asked if (stream, id) in self.model.commands}
        told = {id: (one.appended.events, one.appended.version) for id, one in found.items()}
        assert told == {id: (len(new), version) for id, (new, version) in known.items()}

    @rule(stream=streams, index=bounds)
    def find_a_time(self, stream: str, index: int) -> None:
        async def times() -> list[int]:
            return [record.recorded_at async for record in self.store.read(stream)]

        known = self.run(times())
        if known:
            version = index % len(known) + 1
            assert self.run(self.store.shard_of(stream).version_at(stream, known[version - 1])) == version

    @rule(stream=streams, version=bounds, data=st.binary(max_size=2), fingerprint=st.sampled_from(["f", "g"]))
    def save_snapshot(self, stream: str, version: int, data: bytes, fingerprint: str) -> None:
        self.run(self.store.save_snapshot(stream, version=version, data=data, fingerprint=fingerprint))
        self.model.snapshots[stream] = (version, data, fingerprint)

    @rule(stream=streams, fingerprint=st.sampled_from(["f", "g"]) | st.none(), take_over=st.booleans())
    def load(self, stream: str, fingerprint: str | None, take_over: bool) -> None:
        loaded = self.run(self.store.shard_of(stream).load(stream, fingerprint=fingerprint, take_over=take_over))
        events = self.model.events[stream]
        version, data, saved = self.model.snapshots.get(stream, (0, b"", None))
        fits = saved is not None and saved == fingerprint and version <= len(events)
        assert (loaded.snapshot is not None) == fits
        if loaded.snapshot is not None:
            assert (loaded.snapshot.version, loaded.snapshot.data) == (version, data)
        rest = events[version if fits else 0 :]
        assert [as_stored(record) for record in loaded.records] == rest[: LIMITS.page_records_max]
        assert loaded.more == (len(rest) > LIMITS.page_records_max)
        assert (loaded.version, loaded.position) == (len(events), events[-1].position if events else 0)
        if take_over:
            assert loaded.token != self.model.tokens.get(stream, 0)
            self.model.tokens[stream] = loaded.token

    @rule(stream=streams, other=streams, new=st.lists(events, max_size=2))
    def append_with_a_token(self, stream: str, other: str, new: list[NewRecord]) -> None:
        token = self.model.tokens.get(other, 0)
        call = self.store.shard_of(stream).append_batch(stream, [NewCommand(None, new)], token=token)
        if token != self.model.tokens.get(stream, 0):
            with pytest.raises(ActivationSuperseded):
                self.run(call)
            return
        self.run(call)
        self.model.append(stream, [(None, new)], self.store.manifest.shard_of(stream))

    @rule(
        name=st.sampled_from(["V", "W"]),
        positions=st.dictionaries(st.integers(0, SHARDS - 1), st.just(0)),
        data=st.binary(max_size=2),
    )
    def save_checkpoint(self, name: str, positions: dict[int, int], data: bytes) -> None:
        reached = {shard: len(self.model.logs[shard]) for shard in positions}
        self.run(self.store.save_checkpoint(name, reached, data))
        self.model.checkpoints[name] = (reached, data)

    @precondition(lambda self: self.kept)
    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.run(self.open())
        self.model.tokens.clear()

    @invariant()
    def heads_and_names_are_right(self) -> None:
        if not hasattr(self, "store"):
            return

        async def seen() -> tuple[dict[int, int], list[str], dict[str, tuple[dict[int, int], bytes]]]:
            names = [name for shard in self.store.shards.values() for name in await shard.streams(prefix="")]
            saved = {name: await self.store.load_checkpoint(name) for name in await self.store.checkpoints.names()}
            return await self.store.heads(), names, {n: (c.positions, c.data) for n, c in saved.items() if c}

        heads, names, checkpoints = self.run(seen())
        assert heads == {shard: len(log) for shard, log in self.model.logs.items()}
        assert sorted(names) == sorted(stream for stream, stored in self.model.events.items() if stored)
        assert checkpoints == self.model.checkpoints


class MemoryMachine(StoreMachine):
    kept = False

    async def open(self) -> EventStore:
        return EventStore.memory(shards=SHARDS, limits=LIMITS)


class FileMachine(StoreMachine):
    async def open(self) -> EventStore:
        return await EventStore.open(self.directory, app="model", shards=SHARDS, durability="os", limits=LIMITS)


BOUNDED = settings(max_examples=40, stateful_step_count=30, deadline=None)

TestMemory = MemoryMachine.TestCase
TestMemory.settings = BOUNDED
TestFile = FileMachine.TestCase
TestFile.settings = BOUNDED
