"""Locks between real processes: one holds, another wants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eventray.domain.errors import StoreLocked
from eventray.store import EventStore, Shard
from eventray.store.lock import FileLock, _kill, started_at, this_process
from tests.store.conftest import deposits

_HOLDER = """
import asyncio, sys
from eventray.store import EventStore, NewRecord

async def main():
    async with await EventStore.open(sys.argv[1], app="bank", shards=1, run=sys.argv[2]) as store:
        done = await store.append("Account/alice", [NewRecord("Opened", b"")])
        print("holding", done.version, flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


class Child:
    def __init__(self, data: Path, run: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(data), run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("holding")

    def was_left_alone(self) -> bool:
        """End the child as it wants to end; one that was killed does not get there."""
        self.process.communicate()
        return self.process.returncode == 0

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path / "data", "run-1")
    yield child
    child.stop()


async def test_another_run_is_refused_and_told_who_holds_the_store(holder: Child, tmp_path: Path) -> None:
    with pytest.raises(StoreLocked) as caught:
        await (await EventStore.open(tmp_path / "data", app="bank", run="run-2")).close()
    assert "run-1" in caught.value.holder
    assert str(holder.process.pid) in caught.value.holder
    assert holder.was_left_alone()


async def test_the_store_is_free_at_once_after_kill_9(holder: Child, tmp_path: Path) -> None:
    holder.stop()
    async with await EventStore.open(tmp_path / "data", app="bank", run="run-2") as store:
        assert (await store.append("Account/alice", deposits(1))).version == 2


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
async def test_a_leftover_of_the_same_run_is_killed(holder: Child, tmp_path: Path, frozen: bool) -> None:
    if frozen:
        holder.process.send_signal(signal.SIGSTOP)
    async with await EventStore.open(tmp_path / "data", app="bank", run="run-1") as store:
        assert holder.process.wait(timeout=10) == -signal.SIGKILL
        assert (await store.append("Account/alice", deposits(1))).version == 2
        [shard, *_] = store.shards.values()
        assert isinstance(shard, Shard)
        assert shard.epoch == 2


async def test_the_same_process_is_never_killed_but_refused(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="bank", run="run-1") as store:
        with pytest.raises(StoreLocked):
            await (await EventStore.open(tmp_path, app="bank", run="run-1")).close()
        await store.append("Account/alice", deposits(1))


def test_a_process_with_the_pid_of_a_former_holder_is_left_alone(tmp_path: Path, holder: Child) -> None:
    # The name in the lock file is a dead process's whose pid an innocent one has now, and somebody has the lock.
    path = tmp_path / "lock"
    held = FileLock.acquire(path, "run-1")
    try:
        named = json.loads(path.read_text()) | {"pid": holder.process.pid, "started": "1"}
        path.write_text(json.dumps(named))
        with pytest.raises(StoreLocked):
            FileLock.acquire(path, "run-1", timeout_s=0.05)
        assert holder.was_left_alone()
    finally:
        held.release()


def test_a_pid_that_was_given_to_another_process_is_not_killed(holder: Child) -> None:
    _kill(replace(this_process("run-1"), pid=holder.process.pid, started="1"))
    assert holder.was_left_alone()


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot": "earlier"}, {"run": "run-2"}])
def test_a_holder_of_another_run_host_or_boot_is_not_killed(
    tmp_path: Path, holder: Child, change: dict[str, str]
) -> None:
    path = tmp_path / "lock"
    held = FileLock.acquire(path, "run-1")
    try:
        pid = holder.process.pid
        named = json.loads(path.read_text()) | {"pid": pid, "started": started_at(pid)} | change
        path.write_text(json.dumps(named))
        with pytest.raises(StoreLocked):
            FileLock.acquire(path, "run-1", timeout_s=0.05)
        assert holder.was_left_alone()
    finally:
        held.release()


def test_a_released_lock_is_free_and_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for run in ("one", "two"):
        lock = FileLock.acquire(path, run)
        assert json.loads(path.read_text())["run"] == run
        lock.release()
        lock.release()
        assert path.exists()


def test_a_lock_says_which_process_has_it(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock", "r")
    named = json.loads((tmp_path / "lock").read_text())
    lock.release()
    assert (named["run"], named["pid"], named["started"]) == ("r", os.getpid(), started_at(os.getpid()))
    assert named["boot"]
