"""Histories of many tasks at once, judged by the rules of an append log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from eventray.store import (
    Appended,
    BatchResult,
    Committed,
    EventStore,
    MemoryCheckpoints,
    MemoryShard,
    NewCommand,
    Record,
    ShardPage,
    StoreLimits,
)
from eventray.store.manifest import Manifest
from eventray.store.writing import utc_now_us
from tests.store.contract.conftest import Kind
from tests.store.history import anomalies
from tests.store.recording import run_at_once

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("seed", range(2))
async def test_a_history_of_many_at_once_keeps_the_rules(store: EventStore, kind: Kind, alice: str, seed: int) -> None:
    streams = [f"{alice}-{n}" for n in range(5)]
    writers, commands = (12, 80) if kind.owned else (8, 25)
    recorder = await run_at_once(store, streams, writers=writers, commands=commands, seed=seed)
    assert anomalies(recorder.history, await recorder.logs()) == []
    outcomes = Counter("stored" if isinstance(w.outcome, Appended) else w.outcome for w in recorder.history.writes)
    assert set(outcomes) == {"stored", "refused"} | (set() if kind.instant else {"unknown"})
    assert any(isinstance(w.outcome, Appended) and w.outcome.duplicate for w in recorder.history.writes)


class ForgetsIds(MemoryShard):
    def _found(self, stream: str, ids: Any) -> dict[str, Committed]:
        return {}


class ReadsLate(MemoryShard):
    async def read_stream(self, stream: str, **bounds: Any) -> list[Record]:
        return (await super().read_stream(stream, **bounds))[:-1]


class PassesEvents(MemoryShard):
    async def read(self, **bounds: Any) -> ShardPage:
        page = await super().read(**bounds)
        return ShardPage([record for record in page.records if record.position % 50], page.position)


class ForgetsVersions(MemoryShard):
    def _append(
        self, stream: str, commands: Sequence[NewCommand], expected_version: int | None, *rest: Any
    ) -> BatchResult:
        return super()._append(stream, commands, None, *rest)


class LosesEvents(MemoryShard):
    def _store(self, stream: str, command: NewCommand) -> Appended:
        if self.head % 20 == 19:
            version, position = self._end(stream)
            return Appended(stream, version + 1, self.index, position + 1, len(command.records))
        return super()._store(stream, command)


class StoresHalf(MemoryShard):
    def _store(self, stream: str, command: NewCommand) -> Appended:
        return super()._store(stream, command._replace(records=command.records[:2]))


@pytest.mark.parametrize(
    ("broken", "kind_of_anomaly"),
    [
        (ForgetsIds, "duplicate"),
        (ReadsLate, "stale"),
        (PassesEvents, "lost"),
        (ForgetsVersions, "reordered"),
        (LosesEvents, "lost"),
        (StoresHalf, "torn"),
    ],
)
async def test_what_a_broken_store_does_is_found(broken: type[MemoryShard], kind_of_anomaly: str) -> None:
    store = EventStore(
        Manifest.fresh(EventStore.memory().manifest.directory, "broken", 1),
        {0: broken(0, StoreLimits(), utc_now_us)},
        MemoryCheckpoints(),
    )
    recorder = await run_at_once(store, ["A/1", "A/2"], writers=4, commands=25, seed=0)
    found = anomalies(recorder.history, await recorder.logs())
    assert kind_of_anomaly in {anomaly.kind for anomaly in found}
