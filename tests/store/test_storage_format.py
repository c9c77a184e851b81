"""The files against docs/storage-format.md: read by a reader without eventray, their bytes by a test vector."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import uuid
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack
import pytest

from eventray.store import EventStore, NewCommand, NewRecord, backup, reshard
from tests.store import reader
from tests.store.conftest import Clock, Reopen, deposits

ROOT = Path(__file__).parents[2]
UUID7 = "0193624f-9c00-7abc-8def-0123456789ab"
IDS = [
    *(None, "tx-17", "", UUID7, UUID7.upper(), UUID7.replace("-", ""), str(uuid.UUID(int=4)), "\N{FOX FACE}\0\n/" * 50),
    *(
        str(uuid.uuid4()),
        f"{{{UUID7}}}",
        UUID7[:14] + "8" + UUID7[15:],
        " " * 36,
        "00000000-0000-7000-0000-000000000000",
    ),
]
STREAMS = ["Account/alice", "Account/a/b", "Account/\0", "Account/\N{FOX FACE}", f"Note/{'x' * 1024}", "Note/bob"]


async def fill(store: EventStore) -> None:
    """Every kind of id, metadata, several types and versions, commands of several events, several in one commit."""
    for stream in STREAMS:
        for n, id in enumerate(IDS):
            records = [
                NewRecord("Opened", b"", b"\x81\xa1a\x01" if part % 2 else b"", part + 1) for part in range(n % 4)
            ]
            await store.append(stream, records or deposits(n), command_id=id or None)
        commands = [(f"batch-{n}", [*deposits(*range(n + 1)), NewRecord("Noted", b"x" * 300, b"m")]) for n in range(3)]
        await store.append_batch(stream, commands)
        await store.save_snapshot(stream, version=3, data=b"state", fingerprint="f")
    await store.save_snapshot("Note/without-events", version=0, data=b"")


async def test_a_reader_without_eventray_reads_every_event_as_eventray_does(reopen: Reopen, tmp_path: Path) -> None:
    store = await reopen()
    await fill(store)
    manifest = reader.manifest_of(tmp_path / "data")
    for shard, head in (await store.heads()).items():
        expected = await store.read_shard(shard=shard, limit=10_000)
        found = list(reader.read_shard(tmp_path / "data", shard))  # beside the writer, through the WAL
        assert found == list(expected)
        assert len(found) == head
    for stream in STREAMS:
        index = reader.shard_of(manifest, stream)
        own = [record for record in reader.read_shard(tmp_path / "data", index) if record[0] == stream]
        assert own == [record async for record in store.read(stream)]
        assert {record[8] for record in own} >= {id or None for id in IDS}


async def test_it_reads_a_resharded_store_and_a_backup_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with await EventStore.open(data, app="bank", shards=2) as store:
        await fill(store)
        before = sorted(record[:5] + record[7:] for shard in (0, 1) for record in reader.read_shard(data, shard))
    await asyncio.to_thread(reshard, data, shards=3)
    manifest = reader.manifest_of(data)
    after = sorted(record[:5] + record[7:] for shard in range(3) for record in reader.read_shard(data, shard))
    assert after == before  # all but shard and position
    with closing(sqlite3.connect(data / "shard-0000.db")) as connection:
        [start] = connection.execute("SELECT value FROM info WHERE key = 'chain_start'").fetchone()
    parent = manifest["lineage"][-1]
    text = json.dumps([parent["generation"], parent["ends"]], separators=(",", ":"))
    assert start == blake2b(text.encode(), digest_size=32).digest()
    await asyncio.to_thread(backup, data, tmp_path / "backup")
    told = json.loads((tmp_path / "backup" / "backup.json").read_text())
    (tmp_path / "backup" / "store.json").write_text(json.dumps(told["store"]))
    for shard, end in enumerate(told["shards"]):
        assert [record[6] for record in reader.read_shard(tmp_path / "backup", shard)][-1:] == [end["position"]]


async def test_the_reader_finds_what_was_changed(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="bank", shards=1) as store:
        await fill(store)
    changes = [
        "UPDATE events SET data = x'39' WHERE position = 9",
        "UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 9",
        "UPDATE commits SET digest = zeroblob(32) WHERE last = 9",
        "DELETE FROM events WHERE position = (SELECT max(position) FROM events)",
        "DELETE FROM commits WHERE last = (SELECT max(last) FROM commits)",
        f"INSERT INTO info VALUES('chain_start', x'{'01' * 32}')",
    ]
    for change in changes:
        shutil.copytree(tmp_path, copy := tmp_path.with_name("copy"))
        connection = sqlite3.connect(copy / "shard-0000.db")
        assert connection.execute(change).rowcount == 1
        connection.commit()
        connection.close()
        with pytest.raises(AssertionError):
            list(reader.read_shard(copy, 0))
        shutil.rmtree(copy)
    assert len(list(reader.read_shard(tmp_path, 0))) > 100


def vector() -> dict[str, Any]:
    page = (ROOT / "docs" / "storage-format.md").read_text()
    given: dict[str, Any] = json.loads(page.partition("## Test vector")[2].partition("```json")[2].partition("```")[0])
    return given


def test_the_vector_of_the_page_follows_from_its_rules() -> None:
    v = vector()
    meta, data, key = (bytes.fromhex(v[name]) for name in ("meta", "data", "command_key"))
    numbers = (v[name] for name in ("position", "version", "recorded_at", "command_index", "flags", "type_version"))
    head = reader.HEAD.pack(*numbers, crc32(v["type"].encode()))
    leaf = reader.leaf(v["stream"], v["type"], v["type_version"], head, v["command_id"], meta, data)
    assert head.hex() == v["head"]
    assert reader.command_key(v["stream"], v["command_id"]) == key
    assert msgpack.unpackb(meta) == [
        *(bytes.fromhex(v["metadata"]), uuid.UUID(v["command_id"]).bytes[-10:]),
        *(v["command_name"], v["command_events"], bytes.fromhex(v["command_fingerprint"])),
    ]
    assert reader.checksum(v["stream"], head, key, meta, data) == v["crc"]
    assert leaf.hex() == v["leaf"]
    assert blake2b(bytes(32) + leaf, digest_size=32).hexdigest() == v["digest"]
    assert reader.shard_of({"buckets": [[0, v["bucket"]], [1, 1], [2, 4095 - v["bucket"]]]}, v["stream"]) == 1


async def test_eventray_writes_the_vector_of_the_page(tmp_path: Path, clock: Clock) -> None:
    v = vector()
    clock.now = v["recorded_at"]
    record = NewRecord(v["type"], bytes.fromhex(v["data"]), bytes.fromhex(v["metadata"]), v["type_version"])
    fingerprint = bytes.fromhex(v["command_fingerprint"])
    command = NewCommand(v["command_id"], [record], v["command_name"], fingerprint)
    async with await EventStore.open(tmp_path, app="bank", shards=1, clock=clock) as store:
        await store.append_batch(v["stream"], [command])
    connection = sqlite3.connect(tmp_path / "shard-0000.db")
    meta, key, crc, time = connection.execute("SELECT meta, command_key, crc, recorded_at FROM events").fetchone()
    assert (meta.hex(), key.hex(), crc, time) == (v["meta"], v["command_key"], v["crc"], v["recorded_at"])
    assert connection.execute("SELECT digest FROM commits").fetchone()[0].hex() == v["digest"]
    connection.close()
