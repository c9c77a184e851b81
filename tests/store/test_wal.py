"""The WAL under constant load: bounded whatever readers do, and small again when they let go."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventray.store import NewCommand, NewRecord, StoreLimits
from tests.store.conftest import one_shard

FILE = "shard-0000.db"
WAL_BYTES_MAX = 200_000
COMMAND_BYTES = 10_000
COMMAND = NewCommand(None, [NewRecord("Noted", b"x" * (COMMAND_BYTES // 10))] * 10)


@pytest.fixture(params=["power", "os"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"durability": request.param, "limits": StoreLimits(wal_bytes_max=WAL_BYTES_MAX)}


def reader_of(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@contextmanager
def relay_of_readers(path: Path) -> Iterator[None]:
    """Two readers, of which one always begins before the other ends: the WAL is never without."""

    def run() -> None:
        with closing(reader_of(path)) as old, closing(reader_of(path)) as new:
            begin(old)
            while not ended.is_set():
                begin(new)
                old.execute("ROLLBACK")
                old, new = new, old
                begun.set()

    begun, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        ended.set()
        thread.join()


def begin(reader: sqlite3.Connection) -> None:
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM streams").fetchone()


async def test_the_wal_is_bounded_though_there_is_always_a_reader_on_it(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    sizes = []
    async with one_shard(tmp_path, **options) as shard:
        await shard.append_batch("A/1", [COMMAND])
        with relay_of_readers(tmp_path / FILE):
            for _ in range(40 * WAL_BYTES_MAX // COMMAND_BYTES):
                await shard.append_batch("A/1", [COMMAND])
                sizes.append((tmp_path / f"{FILE}-wal").stat().st_size)
    assert max(sizes) < 10 * WAL_BYTES_MAX


async def test_the_wal_is_small_again_when_a_slow_reader_lets_go_of_it(tmp_path: Path, options: dict[str, Any]) -> None:
    wal = tmp_path / f"{FILE}-wal"
    async with one_shard(tmp_path, **options) as shard:
        await shard.append_batch("A/1", [COMMAND])
        with closing(reader_of(tmp_path / FILE)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM events").fetchone() == (10,)
            while wal.stat().st_size < 5 * WAL_BYTES_MAX:
                await shard.append_batch("A/1", [COMMAND])
            assert reader.execute("SELECT count(*) FROM events").fetchone() == (10,)
        sizes = []
        for _ in range(3 * WAL_BYTES_MAX // COMMAND_BYTES):
            await shard.append_batch("A/1", [COMMAND])
            sizes.append(wal.stat().st_size)
        assert min(sizes) <= WAL_BYTES_MAX
        assert max(sizes[sizes.index(min(sizes)) :]) < 2 * WAL_BYTES_MAX
        assert len(await shard.read(after=0, limit=10_000)) == min(shard.head, 10_000)
