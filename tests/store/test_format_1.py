"""The store of format 1 that is kept in the repository, opened by this version: always on a copy."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import CommandIdReused
from eventray.store import EventStore, Record, verify
from tests.store import reader
from tests.store.make_format_1 import EVERYTHING, FIXTURE, UUID4, UUID7, Everything, command
from tests.store.values import same

STREAM = "Note/alice"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "kept")


def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())
    return found


def as_json(record: Record) -> list[Any]:
    return list(record._replace(data=record.data.hex(), meta=record.meta.hex()))  # type: ignore[arg-type]


async def test_every_event_of_it_is_read_as_it_was_written(kept: Path) -> None:
    async with await EventStore.open(kept, app="notes") as store:
        heads = await store.heads()
        pages = [await store.read_shard(shard=shard, limit=10_000) for shard in sorted(store.shards)]
        assert {str(shard): head for shard, head in heads.items()} == expected()["heads"]
        assert [as_json(record) for page in pages for record in page] == expected()["records"]
        [body] = [record.data for page in pages for record in page if record.type == "Everything"]
    assert same(EVERYTHING.decode(body), Everything())
    assert EVERYTHING.decode(EVERYTHING.encode(Everything())) == EVERYTHING.decode(body)


async def test_its_snapshots_checkpoints_and_command_ids_still_count(kept: Path) -> None:
    async with await EventStore.open(kept, app="notes", shards=2) as store:
        snapshot = await store.load_snapshot(STREAM)
        checkpoint = await store.load_checkpoint("Notes")
        assert snapshot is not None
        assert checkpoint is not None
        assert (snapshot.version, snapshot.data, snapshot.fingerprint) == (12, b"the state", "shape")
        assert (checkpoint.positions, checkpoint.data) == (await store.heads(), b"the view")
        for id in ("tx-17", UUID7, UUID4):
            [again] = await store.append_batch(STREAM, [command(id, b"other")])
            assert (again.duplicate, again.events) == (True, 3)
        with pytest.raises(CommandIdReused):
            await store.append_batch(STREAM, [command(UUID7, b"other")._replace(name="delete")])


async def test_it_is_appended_to_and_its_chain_goes_on(kept: Path) -> None:
    async with await EventStore.open(kept, app="notes") as store:
        for stream in {record[0] for record in expected()["records"]}:
            before = [record async for record in store.read(stream)]
            [done] = await store.append_batch(stream, [command("new", b"8", b"9")], expected_version=len(before))
            assert done.version == len(before) + 2
        heads = await store.heads()
    found = [list(reader.read_shard(kept, shard)) for shard in sorted(heads)]  # checks the whole chain
    assert (await asyncio.to_thread(verify, kept)).ok
    assert [len(records) for records in found] == list(heads.values())
    assert sum(heads.values()) == len(expected()["records"]) + 10


def test_it_is_small_and_all_in_its_database_files() -> None:
    files = {path.name: path.stat().st_size for path in FIXTURE.iterdir()}
    databases = {"shard-0000.db", "shard-0001.db", "views.db"}
    assert set(files) == {"store.json", "expected.json", "shard-0000.head", "shard-0001.head", *databases}
    assert sum(files.values()) < 200_000
