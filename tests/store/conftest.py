"""The store under test: every test that takes `store` or `reopen` runs with 1 and with 4 shards."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from eventray.store import EventStore, NewRecord, Shard

Reopen = Callable[..., Awaitable[EventStore]]


class Clock:
    """A clock that stands still until it is set; microseconds."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def deposits(*amounts: int) -> list[NewRecord]:
    return [NewRecord("Deposited", b"%d" % amount) for amount in amounts]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[1, 4], ids=["1-shard", "4-shards"])
def shard_count(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
async def reopen(tmp_path: Path, shard_count: int) -> AsyncIterator[Reopen]:
    """Open the store (again), closing the one that was open; closes the last one at the end."""
    opened: list[EventStore] = []

    async def open_again(**options: Any) -> EventStore:
        for store in opened:
            await store.close()
        opened.clear()
        options = {"app": "bank", "shards": shard_count, **options}
        store = await EventStore.open(tmp_path / "data", **options)
        opened.append(store)
        return store

    yield open_again
    for store in opened:
        await store.close()


@pytest.fixture
async def store(reopen: Reopen) -> EventStore:
    return await reopen()


@contextlib.asynccontextmanager
async def one_shard(directory: Path, *, create: bool = True, **options: Any) -> AsyncIterator[Shard]:
    """A shard alone, as an actor has it."""
    given = {"store_id": "s", "generation": 1, "run": "r", **options}
    shard = await Shard.open(directory, 0, create=create, **given)
    try:
        yield shard
    finally:
        await shard.close()


def open_files() -> list[str]:
    """The paths of all that this process has open."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(fd.readlink()))
        except OSError:
            continue
    return found
