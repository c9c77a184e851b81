"""A shard's log read beside its owner: up to what that has told, checked, and never written."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import ShardUnavailable, StoreCorrupted
from eventray.store import EventStore, NewRecord, StoreLimits
from eventray.store.logfile import LogFile
from eventray.store.quiet import wal_bytes
from tests.store.conftest import deposits

TYPES = frozenset({"Deposited"})


def opened(store: EventStore, directory: Path, head: int, **facts: Any) -> LogFile:
    manifest = store.manifest
    known = {"store_id": manifest.store_id, "generation": manifest.generation, "limits": StoreLimits()}
    return LogFile(directory, 0, head=head, **{**known, **facts})


async def test_a_log_is_read_beside_its_owner_up_to_the_position_that_was_told(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="bank", shards=1) as store:
        await store.append("Account/alice", [*deposits(*range(10)), NewRecord("Noted", b"")], command_id="x")
        with opened(store, tmp_path, 11) as log:
            await store.append("Account/alice", deposits(*range(500)))
            page = log.page(0, 6, TYPES)
            assert page.records == (await store.read_shard(shard=0, after=0, limit=6)).records
            assert page.position == 6
            rest = log.page(6, 100, TYPES)
            assert ([record.position for record in rest], rest.position) == ([7, 8, 9, 10], 11)
            assert log.page(11, 100, TYPES).records == []
        before = wal_bytes(tmp_path / "shard-0000.db")
        assert before > 0
        with opened(store, tmp_path, 511) as log:
            assert len(log.page(0, 10_000, frozenset({"Deposited", "Noted"}))) == 511
        assert wal_bytes(tmp_path / "shard-0000.db") == before  # it has moved nothing into the file


async def test_a_file_that_is_not_the_shards_is_not_read(tmp_path: Path) -> None:
    older, data = tmp_path / "older", tmp_path / "data"
    async with await EventStore.open(data, app="bank", shards=1) as store:
        await store.append("Account/alice", deposits(1, 2))
    shutil.copytree(data, older)
    async with await EventStore.open(data, app="bank", shards=1) as store:
        await store.append("Account/alice", deposits(3))
        for directory, facts, reason in (
            (tmp_path / "elsewhere", {}, "cannot be read here"),
            (data, {"store_id": "another"}, "cannot be read here"),
            (data, {"generation": 7}, "cannot be read here"),
            (older, {}, "older copy"),
        ):
            with pytest.raises(ShardUnavailable, match=reason):
                opened(store, directory, 3, **facts)
    assert not (tmp_path / "elsewhere").exists()


async def test_an_event_that_was_changed_is_noticed(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="bank", shards=1) as store:
        await store.append("Account/alice", deposits(1, 2, 3))
        with closing(sqlite3.connect(tmp_path / "shard-0000.db")) as connection:
            connection.execute("UPDATE events SET data = x'00' WHERE position = 2")
            connection.commit()
        with opened(store, tmp_path, 3) as log, pytest.raises(StoreCorrupted):
            log.page(0, 10, TYPES)
