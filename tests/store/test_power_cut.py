"""Power cuts at many instants of a run: see `power` for what a cut may do to a disk."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventray.domain.errors import EventRayError
from eventray.store import schema
from tests.store import vfs
from tests.store.power import Disk, Event, Fate, Recorder
from tests.store.workload import EVENTS, Told, judge_directory, opened, whole_log, work

pytestmark = pytest.mark.skipif(not vfs.AVAILABLE, reason=vfs.WHY_NOT)

COMMANDS = 10
CUTS = 40
FATES: list[Fate] = ["lost", "kept", "in order", "in order", "any", "any"]


async def recorded(root: Path, fault: vfs.Watcher | None = None, **options: object) -> list[Event]:
    """What happens below `root` from making a store to closing it."""
    root.mkdir()
    recorder = Recorder(root, fault)
    with recorder.watching():
        async with await opened(root / "data", **options) as store:
            await work(store, recorder.tell, COMMANDS)
    return recorder.events


def disks(events: list[Event], root: Path, cuts: int = CUTS) -> Iterator[tuple[Disk, Path]]:
    """Cut the power at seeded instants, and build disks: all uncertain lost, all kept, and some at random."""
    chance = random.Random(len(events))
    for cut in sorted(chance.sample(range(1, len(events) + 1), cuts)):
        disk = Disk(events, cut)
        for number, fate in enumerate(FATES):
            image = root / f"{cut}-{number}"
            disk.write_to(image, fate, cut * 1000 + number)
            yield disk, image / "data"
            shutil.rmtree(image)


@pytest.fixture
def next_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventray.store.shardfile.boot_id", lambda: "the boot after")


async def test_a_power_cut_loses_nothing_told_and_leaves_nothing_half(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    events = await recorded(tmp_path / "run")
    request.getfixturevalue("next_boot")
    for disk, data in disks(events, tmp_path / "images"):
        assert data.exists() or not disk.told.receipts, data
        await judge_directory(data, disk.told, COMMANDS)


async def test_without_syncs_the_same_cuts_lose_what_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setitem(schema.SYNCHRONOUS, "power", "PRAGMA synchronous=OFF")
    events = await recorded(tmp_path / "run")
    request.getfixturevalue("next_boot")
    losses = 0
    for disk, data in disks(events, tmp_path / "images", cuts=10):
        try:
            await judge_directory(data, disk.told, COMMANDS)
        except (AssertionError, EventRayError):
            losses += 1
    assert losses >= 10


async def test_relaxed_durability_loses_whole_commits_from_the_end_and_opens(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The log of each shard is a prefix of the log before; snapshots, checkpoints and witness are no obstacle."""
    events = await recorded(tmp_path / "run", durability="os")
    async with await opened(tmp_path / "run" / "data", durability="os") as store:
        whole = await whole_log(store)
    request.getfixturevalue("next_boot")
    lost = 0
    for disk, data in disks(events, tmp_path / "images"):
        nothing = Told()
        async with await opened(data, durability="os") as store:
            log = await whole_log(store)
            for shard, records in log.items():
                assert records == whole[shard][: len(records)]
            lost += sum(map(len, log.values())) < EVENTS * len(disk.told.receipts)
        await judge_directory(data, nothing, COMMANDS, durability="os")
    assert lost > CUTS
