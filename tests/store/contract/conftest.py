"""The implementations that the contract is held against. What one may lack is a flag of its kind, no skipped test."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import eventray
from eventray import App, Packed
from eventray.store import EventStore, Manifest
from tests.bank_app import Account
from tests.store.conftest import Reopen

RAY_APP = "contract"
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Kind:
    """An implementation: `kept`: what is stored is there when the store is opened again; `owned`: this process has
    the shards: gives them clock and limits, sees their warnings, and ends their work when it closes them; `instant`:
    an append is done before anything else can happen, so none can be cancelled.
    """

    name: str
    shards: int
    kept: bool = True
    owned: bool = True
    instant: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{self.shards}"


KINDS = [
    Kind("ray", 3, owned=False),  # first: its app ends as soon as the others' turn comes
    Kind("file", 1),
    Kind("file", 4),
    Kind("file", 16),
    Kind("memory", 4, kept=False, instant=True),
]


@pytest.fixture(scope="session", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    kind: Kind = request.param
    with ExitStack() as running:
        if kind.name == "ray":  # one app serves all tests
            request.getfixturevalue("ray_cluster")
            app = App(RAY_APP, aggregates=[Account], placement={Account: Packed()})
            data = tmp_path_factory.getbasetemp() / RAY_APP
            shutil.rmtree(data, ignore_errors=True)  # of an earlier turn: other files may have had theirs in between
            running.enter_context(eventray.run(app, data=data, shards=kind.shards))
        yield kind


def store_of_actors(data: Path, shards: int) -> EventStore:
    """The store of the running app, by the names of its actors."""
    from functools import partial

    import ray

    from eventray.runtime.remote import RemoteShard, call
    from eventray.runtime.remote_checkpoints import RemoteCheckpoints

    manifest = Manifest.load_or_create(data, app=RAY_APP, shards=shards)
    directory = ray.get_actor("directory", namespace=RAY_APP)
    remote = {index: RemoteShard(index, partial(call, directory.locate), PATIENCE_S) for index in range(shards)}
    return EventStore(manifest, remote, RemoteCheckpoints(directory))


async def opened(kind: Kind, base: Path, **options: Any) -> EventStore:
    """A store of a kind; options (clock, limits) mean something where it is owned."""
    if kind.name == "memory":
        return EventStore.memory(shards=kind.shards, **options)
    if kind.name == "ray":
        return store_of_actors(base / RAY_APP, kind.shards)
    return await EventStore.open(base / "data", app="bank", shards=kind.shards, **options)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EventStore]:
    """One store of each kind for all tests, each with streams of its own (see `alice`)."""
    base = tmp_path_factory.getbasetemp() if kind.name == "ray" else tmp_path_factory.mktemp("store")
    async with await opened(kind, base) as store:
        yield store


@pytest_asyncio.fixture(loop_scope="session")
async def reopen(kind: Kind, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reopen]:
    """Open a store of the test's own (again), closing the one that was open; closes the last one at the end."""
    stores: list[EventStore] = []
    base = tmp_path_factory.getbasetemp() if kind.name == "ray" else tmp_path

    async def open_again(**options: Any) -> EventStore:
        for store in stores:
            await store.close()
        stores[:] = [await opened(kind, base, **options)]
        return stores[0]

    yield open_again
    for store in stores:
        await store.close()


@pytest.fixture
def alice() -> str:
    """A stream that no other test uses."""
    return f"Account/alice-{uuid.uuid4().hex}"


def together(store: EventStore, stream: str, count: int) -> list[str]:
    """Names of so many streams in the shard of this one, which is new; in their order."""
    shard, names = store.shard_of(stream), (f"{stream}/é{n:03d}" for n in range(1_000))
    return list(islice((name for name in names if store.shard_of(name) is shard), count))
