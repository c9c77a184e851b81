"""Kill -9 at each step of a commit, a snapshot, a checkpoint, of emptying the WAL, and of making a store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store import vfs
from tests.store.killed import COMMANDS
from tests.store.workload import Told, judge_directory

ROOT = Path(__file__).parents[2]
NEEDS_VFS = ("write", "sync", "truncate", "delete", "open")

COMMIT = [
    ("before sql BEGIN IMMEDIATE", 25),
    ("after sql INSERT INTO streams", 2),
    ("after sql INSERT INTO events", 20),
    ("before sql INSERT INTO commits", 21),
    ("after sql INSERT INTO commits", 22),
    ("before sql COMMIT", 23),
    ("after sql COMMIT", 24),
    ("before head", 10),
    ("after head", 11),
    ("before write shard-0000.db-wal", 90),
    ("after write shard-0001.db-wal", 91),
    ("before sync shard-0000.db-wal", 12),
    ("after sync shard-0001.db-wal", 13),
]
SAVES = [
    ("after sql INSERT OR REPLACE INTO snapshots", 3),
    ("before write views.db-wal", 30),
    ("before sync views.db-wal", 7),
    ("after sync views.db-wal", 8),
]
WAL = [
    ("before write shard-0000.db", 9),
    ("after write shard-0001.db", 4),
    ("before sync shard-0000.db", 4),
    ("after sync shard-0000.db", 4),
    ("before truncate shard-0001.db-wal", 2),
    ("after truncate shard-0001.db-wal", 2),
    ("before write views.db", 6),
]
MAKING = [
    ("before replace store.json", 1),
    ("after replace store.json", 1),
    ("before open shard-0000.db-journal", 1),
    ("before write shard-0000.db", 1),
    ("before delete shard-0000.db-journal", 1),
    ("after sql CREATE TABLE", 3),
    ("before sync shard-0001.db-wal", 1),
    ("before replace store.json", 2),
    ("after replace store.json", 2),
    ("after write views.db-wal", 2),
]


def told_before(directory: Path, point: str, nth: int) -> Told:
    """What a child told before it killed itself at that point."""
    child = [sys.executable, "-m", "tests.store.killed", str(directory), point, str(nth)]
    done = subprocess.run(child, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL, f"the child never came to {point!r} number {nth}"
    told = Told()
    for line in done.stdout.splitlines():
        told.tell(*json.loads(line))
    return told


@pytest.mark.parametrize(("point", "nth"), [*COMMIT, *SAVES, *WAL, *MAKING])
async def test_a_process_killed_at_any_step_loses_nothing_it_told_and_leaves_nothing_half(
    tmp_path: Path, point: str, nth: int
) -> None:
    if point.split()[1] in NEEDS_VFS and not vfs.AVAILABLE:
        pytest.skip(vfs.WHY_NOT)
    told = told_before(tmp_path / "data", point, nth)
    await judge_directory(tmp_path / "data", told, COMMANDS)
