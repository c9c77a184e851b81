from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from eventray.domain.errors import ShardUnavailable, StoreCorrupted, StoreMismatch, StoreUnavailable
from eventray.store import EventStore, Manifest, NewRecord, backup, info, restore, verify
from tests.store import sample
from tests.store.conftest import deposits
from tests.store.sample import copy_of, opened


async def read_all(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    async with await EventStore.open(directory, app=sample.APP) as store:
        return await sample.contents(store)


async def test_what_was_carried_away_comes_back_as_a_new_generation(sound_store: Path, tmp_path: Path) -> None:
    original = copy_of(sound_store, tmp_path / "store")
    told: list[tuple[str, int, int]] = []
    report = backup(original, tmp_path / "kept", progress=lambda *news: told.append(news))
    assert told[-1] == ("copy", report.bytes, report.bytes)
    assert report.positions == {index: shard.position for index, shard in enumerate(info(original).shards)}
    restored = restore(tmp_path / "kept", tmp_path / "restored")
    assert restored.shards == report.shards
    assert restored.generation > Manifest.load(original).generation
    assert await read_all(tmp_path / "restored") == await read_all(original)
    assert verify(tmp_path / "restored").ok
    async with await EventStore.open(tmp_path / "restored", app=sample.APP) as store:
        assert await store.load_checkpoint("Balances") is None
        snapshot = await store.load_snapshot(sample.STREAMS[0])
        assert snapshot is not None
        assert snapshot.data == b"state of Account/0"
        again = await store.append(sample.STREAMS[1], [NewRecord("Opened", b"body of 1", b"meta")], command_id="tx-1-0")
        assert (again.duplicate, again.version) == (True, 1)


async def test_a_backup_of_a_store_in_use_is_of_one_moment_a_shard(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path / "data", app=sample.APP, shards=2) as store:
        done = asyncio.Event()
        acknowledged: dict[int, int] = {0: 0, 1: 0}

        async def write(stream: str) -> None:
            count = 0
            while not done.is_set():
                appended = await store.append(stream, deposits(1, 2, 3), command_id=f"c{count}")
                acknowledged[appended.shard] = max(acknowledged[appended.shard], appended.position)
                count += 1

        writing = asyncio.gather(*map(write, sample.STREAMS))
        while not all(acknowledged.values()):
            await store.read_shard(shard=0, after=acknowledged[0], wait=10.0)
        before = dict(acknowledged)
        report = await asyncio.to_thread(backup, tmp_path / "data", tmp_path / "kept")
        after = dict(acknowledged)
        done.set()
        await writing
        heads = await store.heads()
    assert verify(tmp_path / "kept").ok
    for shard, position in report.positions.items():
        assert before[shard] <= position <= heads[shard]
        assert position <= after[shard] + 3 * len(sample.STREAMS)
    restore(tmp_path / "kept", tmp_path / "restored")
    async with await EventStore.open(tmp_path / "restored", app=sample.APP) as restored:
        assert await restored.heads() == report.positions
        for stream in sample.STREAMS:
            assert len([record async for record in restored.read(stream)]) % 3 == 0  # commands are whole


def test_a_backup_is_private_and_no_store(sound_store: Path, tmp_path: Path) -> None:
    backup(sound_store, tmp_path / "kept")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept").iterdir()}
    assert modes == dict.fromkeys(("backup.json", "shard-0000.db", "shard-0001.db"), 0o600)
    with pytest.raises(StoreUnavailable):
        Manifest.load(tmp_path / "kept")
    described = info(tmp_path / "kept")
    assert (described.app, described.events, described.backup_taken_at is not None) == (sample.APP, 120, True)


def test_copies_go_to_disk_while_they_are_made(
    sound_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: set[str] = set()

    def advise(fd: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, 4)  # all of the file; POSIX_FADV_DONTNEED of Linux
        advised.add(Path(f"/proc/self/fd/{fd}").readlink().name)

    monkeypatch.setattr("os.posix_fadvise", advise, raising=False)
    monkeypatch.setattr("os.POSIX_FADV_DONTNEED", 4, raising=False)
    report = backup(sound_store, tmp_path / "kept")
    assert advised == {f"shard-{index:04d}.db" for index in report.positions}


@pytest.mark.parametrize("there", ["file", "shard-0000.db", "store.json"])
def test_a_folder_that_holds_anything_is_left_as_it_is(sound_store: Path, tmp_path: Path, there: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / there).write_text("mine")
    backup(sound_store, tmp_path / "kept")
    for call in (lambda: backup(sound_store, target), lambda: restore(tmp_path / "kept", target)):
        with pytest.raises(StoreUnavailable, match="not empty"):
            call()
    assert [(path.name, path.read_text()) for path in target.iterdir()] == [(there, "mine")]


def test_a_store_with_a_shard_missing_is_not_backed_up_in_part(sound_store: Path, tmp_path: Path) -> None:
    store = copy_of(sound_store, tmp_path / "store")
    (store / "shard-0001.db").unlink()
    with pytest.raises(ShardUnavailable, match="shard 1"):
        backup(store, tmp_path / "kept")
    with pytest.raises(StoreUnavailable, match="no complete backup"):
        restore(tmp_path / "kept", tmp_path / "restored")


def test_a_damaged_backup_is_not_restored(sound_store: Path, tmp_path: Path) -> None:
    backup(sound_store, tmp_path / "kept")
    with opened(tmp_path / "kept") as connection:
        connection.execute("UPDATE events SET data = x'39' WHERE position = 5")
    with pytest.raises(StoreCorrupted, match="position 5"):
        restore(tmp_path / "kept", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    restore(tmp_path / "kept", tmp_path / "restored", check=False)  # somebody wants what there is
    assert not verify(tmp_path / "restored").ok


def test_a_backup_of_another_moment_than_it_says_is_not_restored(sound_store: Path, tmp_path: Path) -> None:
    backup(sound_store, tmp_path / "kept")
    with opened(tmp_path / "kept") as connection:
        connection.execute("DELETE FROM commits WHERE last = (SELECT max(last) FROM commits)")
        connection.execute("DELETE FROM events WHERE position > (SELECT max(last) FROM commits)")
    for check in (True, False):
        with pytest.raises(StoreCorrupted):
            restore(tmp_path / "kept", tmp_path / "restored", check=check)
    with pytest.raises(StoreUnavailable):  # what is left of it does not open
        Manifest.load(tmp_path / "restored")


@pytest.mark.parametrize(("content", "error"), [(b"{", StoreCorrupted), (b'{"format": 2}', StoreMismatch)])
def test_an_unreadable_or_newer_backup_is_refused(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    (tmp_path / "backup.json").write_bytes(content)
    with pytest.raises(error):
        restore(tmp_path, tmp_path / "restored")


def test_two_restores_of_one_backup_are_two_generations(sound_store: Path, tmp_path: Path) -> None:
    backup(sound_store, tmp_path / "kept")
    one, two = (restore(tmp_path / "kept", tmp_path / name, check=False) for name in ("one", "two"))
    assert one.generation != two.generation
