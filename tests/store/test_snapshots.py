from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from eventray.domain.errors import ActivationSuperseded
from eventray.store import NewCommand, StoreLimits
from tests.store.conftest import deposits, one_shard

ALICE = "Account/alice"


@pytest.mark.parametrize("change", ["data = x'00'", "version = 2", "crc = crc + 1", "fingerprint = 'g'"])
async def test_a_corrupt_snapshot_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1, 2, 3))])
        await shard.save_snapshot(ALICE, version=3, data=b"state", fingerprint="f")
    connection = sqlite3.connect(tmp_path / "shard-0000.db")
    connection.execute(f"UPDATE snapshots SET {change}")
    connection.commit()
    connection.close()
    async with one_shard(tmp_path, create=False) as shard:
        with caplog.at_level(logging.WARNING):
            assert await shard.load_snapshot(ALICE) is None
            loaded = await shard.load(ALICE, fingerprint="f")
        assert (loaded.snapshot, len(loaded.records)) == (None, 3)
        assert "checksum" in caplog.text


async def test_a_forgotten_token_counts_as_superseded(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(tokens_max=1)) as shard:
        first = await shard.load(ALICE, take_over=True)
        await shard.load("Account/bob", take_over=True)
        with pytest.raises(ActivationSuperseded):
            await shard.append_batch(ALICE, [], token=first.token)
