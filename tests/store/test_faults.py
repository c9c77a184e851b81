"""Failing disks, taken-over files and killed writers."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventray.domain.errors import ShardFenced, ShardUnavailable, StoreFull, StoreUnavailable
from eventray.store import NewCommand, NewRecord, Shard
from eventray.store.connection import call
from eventray.store.writing import WriteConnection
from tests.store.conftest import deposits, one_shard

FILE = "shard-0000.db"
LARGE = [NewCommand("large", [NewRecord("Noted", b"x" * 200_000)])]
SMALL = [NewCommand("small", deposits(1))]


async def pragma(shard: Shard, statement: str) -> None:
    writer = shard._file._writer
    assert writer is not None
    await call(writer, WriteConnection.execute, statement)


async def test_a_full_disk_stores_nothing_and_works_again_with_room(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", SMALL)
        epoch = shard.epoch
        await pragma(shard, "PRAGMA max_page_count = 20")
        outcomes = await asyncio.gather(
            shard.append_batch("A/1", LARGE), shard.append_batch("A/2", LARGE), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [StoreFull, StoreFull]
        with pytest.raises(StoreFull):
            await shard.save_snapshot("A/1", version=1, data=b"x" * 200_000)
        assert (await shard.load("A/1")).version == 1
        await pragma(shard, "PRAGMA max_page_count = 1000000")
        done = await shard.append_batch("A/1", LARGE)
        assert (done.version, done.appended[0].duplicate, shard.epoch) == (2, False, epoch)


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """What SQLite meets when a disk fails: its writes beyond 64 KiB of a file return an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_io_error_reopens_the_shard_and_the_retry_settles_the_outcome(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", SMALL)
        taken = await shard.load("A/1", take_over=True)
        epoch = shard.epoch
        request.getfixturevalue("file_size_limit")
        with pytest.raises(StoreUnavailable):
            await shard.append_batch("A/1", LARGE)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        done = await shard.append_batch("A/1", LARGE)
        assert (done.version, shard.epoch) == (2, epoch + 1)
        assert not shard._is_current("A/1", taken.token)
        assert (await shard.load("A/1")).version == 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_file_that_disappears_while_it_is_closed_for_reopening_is_unavailable(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", SMALL)
        writer = shard._file._writer
        assert writer is not None
        await shard._file._drop(writer)
        (tmp_path / FILE).rename(tmp_path / "away")
        for call_again in (shard.append_batch("A/1", []), shard.load("A/1"), shard.read(after=0)):
            with pytest.raises(ShardUnavailable):
                await call_again
        assert not (tmp_path / FILE).exists()
        (tmp_path / "away").rename(tmp_path / FILE)
        assert (await shard.load("A/1")).version == 1


async def test_a_fenced_writer_stops_for_good(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", SMALL)
        other = sqlite3.connect(tmp_path / FILE)
        other.execute("UPDATE info SET value = value + 1 WHERE key = 'epoch'")
        other.commit()
        with pytest.raises(ShardFenced) as caught:
            await shard.append_batch("A/1", [NewCommand(None, deposits(2))])
        assert (caught.value.epoch, caught.value.current) == (1, 2)
        other.execute("UPDATE info SET value = 1 WHERE key = 'epoch'")
        other.commit()
        calls = [shard.append_batch("A/1", []), shard.load("A/1"), shard.read(after=0), shard.lookup("A/1", ["small"])]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ShardFenced)
        assert other.execute("SELECT count(*) FROM events").fetchone() == (1,)
        other.close()


async def test_a_fenced_writer_is_refused_also_where_it_would_write_nothing(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        other = sqlite3.connect(tmp_path / FILE)
        other.execute("UPDATE info SET value = value + 1 WHERE key = 'epoch'")
        other.commit()
        other.close()
        with pytest.raises(ShardFenced):
            await shard.append_batch("A/1", [])


async def test_a_writer_that_was_fenced_does_not_take_the_epoch_back_by_reopening(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        writer = shard._file._writer
        assert writer is not None
        await shard._file._drop(writer)
        other = sqlite3.connect(tmp_path / FILE)
        other.execute("UPDATE info SET value = 7 WHERE key = 'epoch'")
        other.commit()
        with pytest.raises(ShardFenced):
            await shard.append_batch("A/1", SMALL)
        assert other.execute("SELECT value FROM info WHERE key = 'epoch'").fetchone() == (7,)
        other.close()


async def test_each_opening_raises_the_epoch(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        async with one_shard(tmp_path, create=epoch == 1) as shard:
            assert shard.epoch == epoch


_WRITER = """
import asyncio, sys
from pathlib import Path
from eventray.store import NewCommand, NewRecord, Shard

async def main():
    shard = await Shard.open(Path(sys.argv[1]), 0, store_id="s", generation=1, run="r", create=True)
    async def write(stream):
        for n in range(10**6):
            records = [NewRecord("Noted", b"%d" % part, b"") for part in range(3)]
            done = await shard.append_batch(stream, [NewCommand(f"c{n}", records)], expected_version=3 * n)
            print(stream, done.version, done.position, flush=True)
    await asyncio.gather(*(write(f"A/{k}") for k in range(8)))

asyncio.run(main())
"""


def versions_told_before_a_kill(directory: Path, receipts: int) -> dict[str, int]:
    child = subprocess.Popen([sys.executable, "-c", _WRITER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(receipts)]
    child.kill()
    lines += child.communicate()[0].splitlines(keepends=True)
    told: dict[str, int] = {}
    for line in lines:
        if line.endswith("\n"):
            stream, version, _ = line.split()
            told[stream] = max(told.get(stream, 0), int(version))
    return told


@pytest.mark.parametrize("receipts", [1, 40, 150])
async def test_a_writer_killed_at_any_instant_loses_no_receipt_and_leaves_no_half_command(
    tmp_path: Path, receipts: int
) -> None:
    told = versions_told_before_a_kill(tmp_path, receipts)
    async with one_shard(tmp_path, create=False) as shard:
        page = await shard.read(after=0, limit=10_000)
        assert [r.position for r in page] == list(range(1, shard.head + 1))
        for stream, version in told.items():
            records = await shard.read_stream(stream, limit=10_000)
            assert len(records) >= version
            assert len(records) % 3 == 0
            assert [r.version for r in records] == list(range(1, len(records) + 1))
        assert sum(told.values()) > 0
        done = await shard.append_batch("A/0", [NewCommand("after", deposits(1))])
        assert done.position == shard.head


async def test_no_file_of_the_store_stays_open_after_closing(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", SMALL)
        assert any(str(tmp_path) in target for target in open_files())
    assert [target for target in open_files() if str(tmp_path) in target] == []
    assert not (tmp_path / f"{FILE}-wal").exists()


def open_files() -> list[str]:
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(fd.readlink()))
        except OSError:
            continue
    return found
