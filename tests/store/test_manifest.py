from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import ShardUnavailable, StoreCorrupted, StoreMismatch, StoreUnavailable
from eventray.store import EventStore, Manifest
from eventray.store.manifest import read_sealed, write_sealed


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


async def test_opening_creates_the_store_and_opening_again_finds_it(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    async with await EventStore.open(data, app="bank") as store:
        assert sorted(store.shards) == [0, 1, 2, 3]
        id = store.manifest.store_id
    async with await EventStore.open(data, app="bank") as store:
        assert (store.manifest.store_id, store.manifest.shards) == (id, 4)
        assert {store.manifest.state_of(index) for index in range(4)} == {"created"}


async def test_everything_created_is_private(tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = os.umask(0)
    try:
        async with await EventStore.open(data, app="bank", shards=1) as store:
            await store.save_checkpoint("Balances", {0: 0})
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {"store.json", "shard-0000.db", "shard-0000.db-wal", "shard-0000.head", "views.db"} <= set(modes)
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("options", "what", "expected", "found"),
    [
        ({"app": "bank", "shards": 3}, "number of shards", 3, 2),
        ({"app": "shop", "shards": 2}, "app", "shop", "bank"),
    ],
)
async def test_another_store_than_asked_for_is_refused_untouched(
    tmp_path: Path, options: dict[str, Any], what: str, expected: object, found: object
) -> None:
    await (await EventStore.open(tmp_path, app="bank", shards=2)).close()
    before = contents(tmp_path)
    with pytest.raises(StoreMismatch) as caught:
        await (await EventStore.open(tmp_path, **options)).close()
    assert (caught.value.what, caught.value.expected, caught.value.found) == (what, expected, found)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("key", "value"), [("format", 2), ("hash", "md5")])
def test_a_newer_format_or_another_hash_is_refused(tmp_path: Path, key: str, value: object) -> None:
    Manifest.load_or_create(tmp_path, app="bank", shards=2)
    write_sealed(tmp_path / "store.json", read_sealed(tmp_path / "store.json") | {key: value})
    with pytest.raises(StoreMismatch) as caught:
        Manifest.load_or_create(tmp_path, app="bank", shards=None)
    assert (caught.value.what, caught.value.found) == (key, value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_an_unreadable_manifest_is_corrupted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreCorrupted):
        Manifest.load_or_create(tmp_path, app="bank", shards=2)
    assert (tmp_path / "store.json").read_bytes() == content


@pytest.mark.parametrize(
    "change", [{"buckets": [[0, 4095]]}, {"buckets": [[9, 4096]]}, {"shards": [{"state": "lost", "node": ""}] * 2}]
)
def test_an_impossible_manifest_is_corrupted(tmp_path: Path, change: dict[str, object]) -> None:
    Manifest.load_or_create(tmp_path, app="bank", shards=2)
    write_sealed(tmp_path / "store.json", read_sealed(tmp_path / "store.json") | change)
    with pytest.raises(StoreCorrupted):
        Manifest.load_or_create(tmp_path, app="bank", shards=None)


def test_a_changed_manifest_is_corrupted_though_it_can_be_read(tmp_path: Path) -> None:
    Manifest.load_or_create(tmp_path, app="bank", shards=2)
    path = tmp_path / "store.json"
    path.write_bytes(path.read_bytes().replace(b"2048", b"2047", 1).replace(b"2048", b"2049", 1))
    with pytest.raises(StoreCorrupted, match="checksum"):
        Manifest.load_or_create(tmp_path, app="bank")


def test_a_manifest_from_before_it_had_a_checksum_is_read(tmp_path: Path) -> None:
    Manifest.load_or_create(tmp_path, app="bank", shards=2)
    path = tmp_path / "store.json"
    path.write_text(json.dumps(read_sealed(path)))
    assert Manifest.load_or_create(tmp_path, app="bank").shards == 2


async def test_a_manifest_that_is_gone_is_not_made_again_over_shards(tmp_path: Path) -> None:
    await (await EventStore.open(tmp_path, app="bank", shards=1)).close()
    (tmp_path / "store.json").unlink()
    with pytest.raises(StoreCorrupted):
        await (await EventStore.open(tmp_path, app="bank", shards=1)).close()
    assert not (tmp_path / "store.json").exists()


@pytest.mark.parametrize("shards", [0, -1, 4097, True, 2.0])
def test_an_impossible_number_of_shards_is_a_value_error(tmp_path: Path, shards: Any) -> None:
    with pytest.raises(ValueError):
        Manifest.load_or_create(tmp_path, app="bank", shards=shards)


def test_streams_spread_evenly_and_stay_where_they_are(tmp_path: Path) -> None:
    manifest = Manifest.load_or_create(tmp_path, app="bank", shards=4)
    spread = Counter(manifest.shard_of(f"Account/{n}") for n in range(4000))
    assert sorted(spread) == [0, 1, 2, 3]
    assert max(spread.values()) < 1200
    # The hash is a format: these must never change.
    assert [manifest.shard_of(s) for s in ("Account/alice", "Account/bob", "Account/🦊")] == PINNED
    again = Manifest.load_or_create(tmp_path, app="bank", shards=None)
    assert again.buckets == manifest.buckets


def test_a_mark_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    manifest = Manifest.load_or_create(tmp_path, app="bank", shards=2)
    manifest.mark(1, "created", "node-7")
    again = Manifest.load_or_create(tmp_path, app="bank", shards=None)
    assert [(again.state_of(n), again.node_of(n)) for n in range(2)] == [("creating", ""), ("created", "node-7")]


async def test_a_shard_whose_creation_was_cut_off_is_made(tmp_path: Path) -> None:
    Manifest.load_or_create(tmp_path, app="bank", shards=2)
    (tmp_path / "shard-0001.db").touch()
    async with await EventStore.open(tmp_path, app="bank") as store:
        assert await store.heads() == {0: 0, 1: 0}


async def test_a_path_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable) as caught:
        await (await EventStore.open(tmp_path / "file" / "data", app="bank")).close()
    assert caught.value.path.startswith(str(tmp_path))


_AS_NOBODY = """
import asyncio, concurrent.futures.thread, os, sys
from eventray.store import EventStore
from eventray.domain.errors import StoreUnavailable

async def main():
    await (await EventStore.open(sys.argv[2], app="bank", shards=1)).close()

if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
assert os.listdir(sys.argv[1]) == []
try:
    asyncio.run(main())
except StoreUnavailable as error:
    assert sys.argv[1] in error.path, error
    print("refused")
"""


@pytest.mark.parametrize("inside", ["", "new"])
def test_a_directory_without_permission_is_refused_and_stays_as_it_is(inside: str) -> None:
    with tempfile.TemporaryDirectory() as parent:  # pytest's own are closed to other users
        Path(parent).chmod(0o755)
        closed = Path(parent) / "closed"
        closed.mkdir()
        closed.chmod(0o555)
        arguments = [sys.executable, "-c", _AS_NOBODY, str(closed), str(closed / inside)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.stdout == "refused\n", done.stderr
        closed.chmod(0o700)
        assert list(closed.iterdir()) == []


async def test_a_shard_that_the_store_does_not_have_is_unavailable(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="bank", shards=1) as store:
        with pytest.raises(ShardUnavailable):
            await store.read_shard(shard=1)


PINNED = [1, 0, 1]
