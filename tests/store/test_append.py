from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from eventray.domain.errors import Overloaded
from eventray.store import NewCommand, NewRecord, StoreLimits
from tests.store.conftest import Reopen, deposits, one_shard


async def test_concurrent_appends_share_transactions(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await asyncio.gather(*(shard.append_batch(f"A/{n}", [NewCommand(None, deposits(n))]) for n in range(100)))
        assert shard.head == 100
    connection = sqlite3.connect(tmp_path / "shard-0000.db")
    assert connection.execute("SELECT count(*) FROM commits").fetchone()[0] <= 2
    connection.close()


async def test_a_full_queue_says_overloaded_and_works_again(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(pending_calls_max=5)) as shard:
        calls = [shard.append_batch("A/1", [NewCommand(None, deposits(n))]) for n in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False] * 5 + [True] * 3
        await shard.append_batch("A/1", [NewCommand(None, deposits(9))])
        assert shard.head == 6


async def test_waiting_bytes_are_bounded(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(pending_bytes_max=10)) as shard:
        large = [NewCommand(None, [NewRecord("Noted", b"x" * 8)])]
        outcomes = await asyncio.gather(*(shard.append_batch("A/1", large) for _ in range(2)), return_exceptions=True)
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, True]


async def test_streams_that_fell_out_of_the_cache_continue(reopen: Reopen) -> None:
    store = await reopen(limits=StoreLimits(cached_streams_max=2))
    for turn in range(3):
        for n in range(6):
            assert (await store.append(f"Account/{n}", deposits(n))).version == turn + 1
