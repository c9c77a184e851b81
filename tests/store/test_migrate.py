"""Stores of an older format are migrated, of a newer one refused; with a format 2 that the tests made up."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eventray.domain.errors import ShardUnavailable, StoreLocked, StoreMismatch, StoreUnavailable
from eventray.store import EventStore, Manifest, Shard, backup, formats, reshard, restore, schema, verify
from eventray.store.lock import FileLock
from tests.store import made_up_format
from tests.store.conftest import deposits
from tests.store.make_format_1 import FIXTURE
from tests.store.test_format_1 import as_json, expected
from tests.store.test_manifest import contents

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A store of format 1."""
    return shutil.copytree(FIXTURE, tmp_path / "kept")


@pytest.fixture
def format_2(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_format.install(monkeypatch.setattr)


def formats_of(directory: Path) -> dict[str, int]:
    """What each file says, read beside SQLite's own files and without moving them."""
    found = {"store.json": json.loads((directory / "store.json").read_bytes())["format"]}
    for path in sorted(directory.glob("*.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            [found[path.name]] = connection.execute("SELECT value FROM info WHERE key = 'format'").fetchone()
    return found


def all_of(format: int) -> dict[str, int]:
    return dict.fromkeys(["store.json", "shard-0000.db", "shard-0001.db", "views.db"], format)


def killed_at(place: str, directory: Path) -> None:
    arguments = [sys.executable, "-m", "tests.store.made_up_format", str(directory), place]
    child = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr


def leave_a_wal(database: Path) -> None:
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('UPDATE info SET value = value + 1 "
        'WHERE key = "epoch"\'); c.commit(); os.kill(os.getpid(), 9)'
    )
    subprocess.run([sys.executable, "-c", code, str(database)], check=False)


async def require_all_data(directory: Path) -> None:
    async with await EventStore.open(directory, app="notes") as store:
        pages = [await store.read_shard(shard=shard, limit=10_000) for shard in sorted(store.shards)]
        assert [as_json(record) for page in pages for record in page] == expected()["records"]
        checkpoint = await store.load_checkpoint("Notes")
        assert checkpoint is not None
        assert checkpoint.data == b"the view"


@pytest.mark.usefixtures("format_2")
async def test_a_store_of_an_older_format_is_migrated_with_all_its_data(kept: Path) -> None:
    await require_all_data(kept)
    assert formats_of(kept) == all_of(2)
    assert {Manifest.load(kept).node_of(index) for index in (0, 1)} == {"here"}
    for index, head in expected()["heads"].items():
        with closing(sqlite3.connect(kept / f"shard-{int(index):04d}.db")) as connection:
            assert connection.execute("SELECT value FROM info WHERE key = 'events'").fetchone() == (head,)
    before = contents(kept)
    await require_all_data(kept)  # nothing is left to do
    assert (before["store.json"], formats_of(kept)) == (contents(kept)["store.json"], all_of(2))
    async with await EventStore.open(kept, app="notes") as store:
        assert (await store.append("Note/new", deposits(1))).version == 1


@pytest.mark.parametrize(
    ("place", "migrated"),
    [
        ("begin 0", []),
        ("end 0", []),
        ("begin 1", ["shard-0000.db"]),
        ("end views", ["shard-0000.db", "shard-0001.db"]),
        ("before store.json", ["shard-0000.db", "shard-0001.db", "views.db"]),
    ],
)
async def test_a_migration_that_was_killed_goes_on_at_the_next_opening(
    kept: Path, place: str, migrated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(place, kept)
    assert formats_of(kept) == all_of(1) | dict.fromkeys(migrated, 2)
    if not migrated:
        await require_all_data(kept)  # as a store of format 1, by the version of before
    made_up_format.install(monkeypatch.setattr)
    await require_all_data(kept)
    assert formats_of(kept) == all_of(2)


async def test_tools_name_an_older_format_instead_of_calling_it_damage(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(backup, kept, tmp_path / "backup")
    made_up_format.install(monkeypatch.setattr)
    before = contents(kept)
    new = tmp_path / "new"
    for tool in (lambda: verify(kept), lambda: reshard(kept, shards=3), lambda: restore(tmp_path / "backup", new)):
        with pytest.raises(StoreMismatch) as caught:
            await asyncio.to_thread(tool)
        assert (caught.value.what, caught.value.expected, caught.value.found) == ("format", 2, 1)
    assert (contents(kept), new.exists()) == (before, False)
    await require_all_data(kept)
    assert (await asyncio.to_thread(verify, kept)).ok


@pytest.mark.usefixtures("format_2")
@pytest.mark.parametrize("lock", ["views.lock", "shard-0000.lock", "shard-0001.lock"])
async def test_a_store_that_another_run_has_open_is_not_migrated(kept: Path, lock: str) -> None:
    before = contents(kept)
    held = FileLock.acquire(kept / lock, "another run")
    with pytest.raises(StoreLocked):
        await require_all_data(kept)
    assert contents(kept) == before
    held.release()
    await require_all_data(kept)
    assert formats_of(kept) == all_of(2)


@pytest.mark.usefixtures("format_2")
async def test_a_store_is_migrated_whole_or_not_at_all(kept: Path) -> None:
    (kept / "shard-0001.db").rename(kept / "away")
    before = contents(kept)
    with pytest.raises(ShardUnavailable):
        await require_all_data(kept)
    assert contents(kept) == before


async def test_a_step_that_fails_leaves_its_file_as_it_was(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: str) -> None:
        if place == "end 1":
            raise sqlite3.OperationalError("disk I/O error")

    made_up_format.install(monkeypatch.setattr, fail)
    with pytest.raises(StoreUnavailable) as caught:
        await require_all_data(kept)
    assert caught.value.path == str(kept / "shard-0001.db")
    assert formats_of(kept) == all_of(1) | {"shard-0000.db": 2}


@pytest.mark.parametrize("file", ["store.json", "shard-0001.db", "views.db"])
async def test_a_newer_format_is_refused_naming_both_and_touching_nothing(kept: Path, file: str) -> None:
    if file == "store.json":
        raw = json.loads((kept / file).read_bytes())
        (kept / file).write_text(json.dumps(raw | {"format": 3}))
    else:
        with closing(sqlite3.connect(kept / file)) as connection:
            connection.execute("UPDATE info SET value = 3 WHERE key = 'format'")
            connection.commit()
    before = contents(kept)[file]
    with pytest.raises(StoreMismatch) as caught:
        await require_all_data(kept)
    facts = caught.value
    assert (facts.path, facts.what, facts.expected, facts.found) == (str(kept / file), "format", 1, 3)
    assert contents(kept)[file] == before


async def test_the_wal_of_a_shard_of_a_newer_format_stays_where_it_is(kept: Path) -> None:
    killed_at("end views", kept)  # shard 0 is of format 2 now
    leave_a_wal(kept / "shard-0000.db")
    before = {name: raw for name, raw in contents(kept).items() if not name.endswith("-shm")}
    assert len(before["shard-0000.db-wal"]) > 0
    raw = json.loads(before["store.json"])
    with pytest.raises(StoreMismatch) as caught:
        await Shard.open(kept, 0, store_id=raw["store_id"], generation=raw["generation"], run="r", create=False)
    assert (caught.value.expected, caught.value.found) == (1, 2)
    assert {name: raw for name, raw in contents(kept).items() if not name.endswith("-shm")} == before


def test_every_format_before_this_one_has_a_step() -> None:
    assert list(formats.STEPS) == list(range(1, schema.FORMAT))
