"""Instances of many megabytes of events: whoever goes over them does so page by page, and to the end."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

import eventray
from eventray import App, Packed, Runtime
from eventray.store import EventStore, NewRecord
from tests.bank_app import Account, Opened

APP = App("large", aggregates=[Account], placement={Account: Packed()})
STREAM = "Account/alice"
EVENTS, OWNER_CHARS = 600, 100_000
PEAK_BYTES = 35_000_000  # of 60,000,000, each of which is there once as bytes and once as text


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    data = tmp_path_factory.mktemp("large")

    async def fill() -> None:
        async with await EventStore.open(data, app=APP.name, shards=1, durability="os") as store:
            for n in range(0, EVENTS, 50):
                name, version, body = APP.events.encode(Opened(f"{n:04d}" * (OWNER_CHARS // 4)))
                await store.append(STREAM, [NewRecord(name, body, b"", version)] * 50)

    asyncio.run(fill())
    with eventray.run(APP, data=data, shards=1, local=True) as runtime:
        yield runtime


def history(runtime: Runtime) -> int:
    return sum(1 for _ in runtime.history(Account, "alice"))


def state(runtime: Runtime) -> int:
    return runtime.state(Account, "alice", at=EVENTS - 1).result().version + 1


def activation(runtime: Runtime) -> int:
    return runtime.get(Account, "alice").open.remote("0550" * (OWNER_CHARS // 4)).result().version


@pytest.mark.parametrize("way", [history, state, activation], ids=lambda way: way.__name__)
def test_a_large_instance_is_gone_through_to_its_end_in_bounded_memory(
    runtime: Runtime, way: Callable[[Runtime], int]
) -> None:
    tracemalloc.start()
    try:
        assert way(runtime) == EVENTS
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PEAK_BYTES
