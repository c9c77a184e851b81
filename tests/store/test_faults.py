"""Files that are taken over, or gone, or still open."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from eventray.domain.errors import ShardFenced, ShardUnavailable
from eventray.store import NewCommand
from tests.store.conftest import deposits, one_shard, open_files

FILE = "shard-0000.db"
SMALL = [NewCommand("small", deposits(1))]


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


async def test_no_file_of_the_store_stays_open_after_closing(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", SMALL)
        assert any(str(tmp_path) in target for target in open_files())
    assert [target for target in open_files() if str(tmp_path) in target] == []
    assert not (tmp_path / f"{FILE}-wal").exists()
