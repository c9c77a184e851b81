"""A disk that is full, fails, or is slow: at appends, snapshots, checkpoints, openings, and emptying the WAL."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import Overloaded, StoreFull, StoreUnavailable
from eventray.store import EventStore, NewCommand, NewRecord, Shard, StoreLimits
from eventray.store.connection import call
from tests.store import vfs
from tests.store.conftest import deposits, one_shard, open_files
from tests.store.power import Recorder
from tests.store.vfs import FULL, IOERR_FSYNC, IOERR_WRITE, Fault, Kind, Op, Watcher, watched
from tests.store.workload import SMALL_WAL, VIEW, Told, append, command, judge_directory, opened

pytestmark = pytest.mark.skipif(not vfs.AVAILABLE, reason=vfs.WHY_NOT)

ALICE = "Account/2"
DB, WAL = "shard-0000.db", "shard-0000.db-wal"
EVER = 10**9
LARGE = [NewCommand("large", [NewRecord("Noted", b"x" * 200_000)])]
SMALL = [NewCommand("small", deposits(1))]


@pytest.mark.parametrize("nth", [1, 2, 3, 8])
async def test_a_full_disk_refuses_an_append_whole_and_works_again_with_room(tmp_path: Path, nth: int) -> None:
    fault = Fault("write", WAL, FULL)
    with watched(fault):
        async with one_shard(tmp_path) as shard:
            await shard.append_batch("A/1", SMALL)
            epoch = shard.epoch
            fault.start(nth=nth, times=EVER)
            calls = [shard.append_batch(stream, LARGE) for stream in ("A/1", "A/2")]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [StoreFull, StoreFull]
            with pytest.raises(StoreFull):
                await shard.save_snapshot("A/1", version=1, data=b"x" * 200_000)
            assert await shard.load_snapshot("A/1") is None
            assert ((await shard.load("A/1")).version, (await shard.load("A/2")).version) == (1, 0)
            fault.stop()
            done = await shard.append_batch("A/1", LARGE)
            assert (done.version, done.appended[0].duplicate, shard.epoch) == (2, False, epoch)


def epoch_of(store: EventStore) -> int:
    shard = store.shards[0]
    assert isinstance(shard, Shard)
    return shard.epoch


@pytest.mark.parametrize("durability", ["power", "os"])
async def test_a_full_disk_refuses_no_append_while_only_emptying_the_wal_fails(tmp_path: Path, durability: str) -> None:
    fault, told = Fault("write", DB, FULL), Told()
    with watched(fault):
        async with await opened(tmp_path, durability=durability) as store:
            epoch = epoch_of(store)
            fault.start(times=EVER)
            for n in range(40):
                told.receipts.append(await append(store, ALICE, n))
            assert fault.hits
            fault.stop()
            told.receipts.append(await append(store, ALICE, 40))
            assert epoch_of(store) == epoch
    await judge_directory(tmp_path, told, 41)


async def test_a_full_disk_keeps_the_checkpoint_that_is_there(tmp_path: Path) -> None:
    fault = Fault("write", "views.db-wal", FULL)
    with watched(fault):
        async with await opened(tmp_path) as store:
            await store.save_checkpoint(VIEW, {0: 0, 1: 0}, b"old")
            fault.start(times=EVER)
            with pytest.raises(StoreFull) as caught:
                await store.save_checkpoint(VIEW, {0: 0, 1: 0}, b"new" * 10_000)
            assert caught.value.path.endswith("views.db")
            assert (await append(store, ALICE, 0)).version == 3
            found = await store.load_checkpoint(VIEW)
            assert found is not None
            assert found.data == b"old"
            fault.stop()
            await store.save_checkpoint(VIEW, {0: 3, 1: 0}, b"new")


@pytest.mark.parametrize(
    ("kind", "result", "error"),
    [("write", FULL, StoreFull), ("write", IOERR_WRITE, StoreUnavailable), ("sync", IOERR_FSYNC, StoreUnavailable)],
)
async def test_a_store_that_a_disk_did_not_let_be_made_is_made_later(
    tmp_path: Path, kind: Kind, result: int, error: type[StoreFull | StoreUnavailable]
) -> None:
    """Each write, and each sync, fails in its turn, until one is reached that is not part of it."""
    paths = []
    for nth in range(1, 200, 3 if kind == "write" else 1):
        data = tmp_path / str(nth)
        fault = Fault(kind, "", result)
        fault.start(nth=nth)
        with watched(fault):
            try:
                store = await opened(data)
            except error as refused:
                paths.append(refused.path)
            else:
                fault.stop()
                await store.close()
        if not fault.hits:
            break
        await judge_directory(data, Told(), 0)
    assert len(paths) >= 5
    assert all(path.startswith(str(tmp_path)) for path in paths)


async def test_no_room_for_a_new_file_is_a_full_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens, paths = os.open, []
    for nth in range(1, 100):
        data, calls = tmp_path / str(nth), iter(range(1, 1000))

        def full(path: Any, *args: Any, calls: Any = calls, data: Path = data, nth: int = nth, **options: Any) -> int:
            if Path(path).is_relative_to(data) and next(calls) == nth:
                raise OSError(errno.ENOSPC, "no space", str(path))
            return opens(path, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", full)
            try:
                await (await opened(data)).close()
            except StoreFull as refused:
                paths.append(refused.path)
            else:
                break
        await judge_directory(data, Told(), 0)
    assert len(paths) >= 10
    assert all(path.startswith(str(tmp_path)) for path in paths)


@pytest.mark.parametrize(
    ("kind", "result", "nth"), [("write", IOERR_WRITE, 1), ("write", IOERR_WRITE, 6), ("sync", IOERR_FSYNC, 1)]
)
async def test_an_io_error_reopens_the_shard_and_the_retry_settles_the_outcome(
    tmp_path: Path, kind: Kind, result: int, nth: int
) -> None:
    fault = Fault(kind, WAL, result)
    with watched(fault):
        async with one_shard(tmp_path) as shard:
            await shard.append_batch("A/1", SMALL)
            taken = await shard.load("A/1", take_over=True)
            epoch = shard.epoch
            fault.start(nth=nth)
            with pytest.raises(StoreUnavailable) as caught:
                await shard.append_batch("A/1", LARGE)
            assert caught.value.path == str(tmp_path / DB)
            assert sorted(await shard.lookup("A/1", ["small", "large"])) == ["small"]
            done = await shard.append_batch("A/1", LARGE)
            assert (done.version, shard.epoch) == (2, epoch + 1)
            assert not shard._is_current("A/1", taken.token)
            assert (await shard.load("A/1")).version == 2
        assert [path for path in open_files() if str(tmp_path) in path] == []  # also before any garbage is collected


async def test_after_a_failed_sync_nothing_of_the_wal_goes_into_the_file_before_it_is_written_anew(
    tmp_path: Path,
) -> None:
    fault = Fault("sync", WAL, IOERR_FSYNC)
    recorder = Recorder(tmp_path, fault)
    with recorder.watching():
        async with await opened(tmp_path / "data", durability="os") as store:
            fault.start()
            for n in range(40):
                await append(store, ALICE, n)
    kinds = [(event.kind, Path(event.name).name, event.offset) for event in recorder.events]
    failed = kinds.index(("failed", WAL, 0))
    into_file = next(n for n in range(failed, len(kinds)) if kinds[n][:2] == ("write", DB))
    assert ("write", WAL, 0) in kinds[failed:into_file]
    assert kinds[into_file - 1][:2] == ("sync", WAL)


class HeldSyncs(Watcher):
    """A disk whose syncs of one file take as long as the test wants."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.released, self.count = threading.Event(), 0
        self.released.set()

    def before(self, op: Op) -> int:
        if op.kind == "sync" and op.path == self._path:
            self.count += 1
            assert self.released.wait(60)
        return vfs.OK


async def test_slow_syncs_make_appends_wait_in_a_bounded_queue_and_share_the_next_commit(tmp_path: Path) -> None:
    disk = HeldSyncs(tmp_path / WAL)
    with watched(disk):
        async with one_shard(tmp_path, limits=StoreLimits(pending_calls_max=50)) as shard:
            await shard.append_batch("A/0", SMALL)
            before = disk.count
            disk.released.clear()
            waiting = [asyncio.ensure_future(shard.append_batch(f"A/{n}", LARGE)) for n in range(1, 51)]
            try:
                await asyncio.sleep(0)
                with pytest.raises(Overloaded):
                    await shard.append_batch("A/51", LARGE)
                assert (await shard.load("A/0")).version == 1  # readers do not wait for the disk
                assert not any(call.done() for call in waiting)
            finally:
                disk.released.set()
            assert [done.version for done in await asyncio.gather(*waiting)] == [1] * 50
            assert disk.count - before <= 2


class Writers(Watcher):
    """Takes note which threads change the shard's files; each connection has a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self._paths = str(directory / DB), str(directory / WAL)
        self.threads: set[int] = set()

    def after(self, op: Op) -> None:
        if op.kind != "open" and op.path in self._paths:
            self.threads.add(op.thread)


async def test_the_writer_alone_ever_changes_the_file_or_its_wal(tmp_path: Path) -> None:
    async with one_shard(tmp_path):
        pass
    seen = Writers(tmp_path)
    with watched(seen):
        async with one_shard(tmp_path, create=False, limits=SMALL_WAL) as shard:
            for n in range(30):
                await shard.append_batch(ALICE, [command(ALICE, n)])
                assert len(await shard.read(after=0)) == (await shard.load(ALICE)).version
            await shard.save_snapshot(ALICE, version=90, data=b"state")
            assert await shard.load_snapshot(ALICE) is not None
            writer = shard._file._writer
            assert writer is not None
            thread = await call(writer, lambda _: threading.get_ident())
            await shard.append_batch(ALICE, [command(ALICE, 30)])
    assert seen.threads == {thread}
