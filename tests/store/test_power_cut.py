"""Power cuts at many instants of a run: see `power` for what a cut may do to a disk."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventray.domain.errors import EventRayError
from eventray.store import Record, schema
from tests.store import vfs
from tests.store.power import Disk, Event, Fate, Recorder
from tests.store.workload import EVENTS, Told, judge_directory, opened, whole_log, work

pytestmark = pytest.mark.skipif(not vfs.AVAILABLE, reason=vfs.WHY_NOT)

COMMANDS = 10
DB, WAL = "shard-0000.db", "shard-0000.db-wal"
CUTS = 26
FATES: list[Fate] = ["lost", "kept", "in order", "in order", "any", "any"]


async def recorded(
    root: Path, fault: vfs.Fault | None = None, one_in: int = 0, commands: int = COMMANDS, **options: object
) -> list[Event]:
    """What happens below `root` from opening a store, made if there is none, to closing it."""
    root.mkdir(exist_ok=True)
    recorder = Recorder(root, fault)
    with recorder.watching():
        async with await opened(root / "data", **options) as store:
            if fault is not None:
                fault.start(nth=one_in)
            await work(store, recorder.tell, commands)
    return recorder.events


def disks(events: list[Event], root: Path, cuts: int = CUTS) -> Iterator[tuple[Disk, Path]]:
    """Cut the power at seeded instants, and build disks: all uncertain lost, all kept, and some at random."""
    begun = next(number for number, event in enumerate(events, 1) if event.kind == "begun")
    for cut in sorted(random.Random(len(events)).sample(range(begun, len(events) + 1), cuts)):
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
    events = await recorded(tmp_path / "run", durability="os")
    whole = await log_of(tmp_path / "run" / "data")
    request.getfixturevalue("next_boot")
    for _, data in disks(events, tmp_path / "images", cuts=15):
        require_beginning(await log_of(data), whole)
        await judge_directory(data, Told(), COMMANDS, durability="os")


async def test_relaxed_durability_loses_what_was_told(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    events = await recorded(tmp_path / "run", durability="os")
    request.getfixturevalue("next_boot")
    receipts = [n for n, event in enumerate(events, 1) if event.kind == "told" and event.facts[0] == "receipt"]
    for cut in receipts:  # right after it was told: lost, unless its commit filled the WAL and so was synced
        disk, image = Disk(events, cut), tmp_path / f"image-{cut}"
        disk.write_to(image, "lost", 0)
        if sum(map(len, (await log_of(image / "data")).values())) < EVENTS * len(disk.told.receipts):
            return
    pytest.fail("nothing that was told was ever lost")


async def log_of(data: Path) -> dict[int, list[Record]]:
    async with await opened(data, durability="os") as store:
        return await whole_log(store)


def require_beginning(log: dict[int, list[Record]], whole: dict[int, list[Record]]) -> None:
    for shard, records in log.items():
        assert records == whole[shard][: len(records)]


@pytest.mark.parametrize("durability", ["power", "os"])
async def test_a_second_power_cut_is_survived_like_the_first(
    tmp_path: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await recorded(tmp_path / "run", durability=durability)
    for boot, (first, data) in enumerate(disks(events, tmp_path / "first", cuts=1)):
        monkeypatch.setattr("eventray.store.shardfile.boot_id", lambda boot=boot: f"second {boot}")
        again = await recorded(data.parent, commands=COMMANDS + 5, durability=durability)
        whole = await log_of(data)
        monkeypatch.setattr("eventray.store.shardfile.boot_id", lambda boot=boot: f"third {boot}")
        for second, after in disks(again, tmp_path / "second", cuts=1):
            if durability == "os":
                require_beginning(await log_of(after), whole)
            told = first.told.followed_by(second.told) if durability == "power" else Told()
            await judge_directory(after, told, COMMANDS + 5, durability=durability)


@pytest.mark.parametrize("durability", ["power", "os"])
@pytest.mark.parametrize(
    ("kind", "name", "one_in"),
    [("write", DB, 10), ("sync", DB, 2), ("sync", WAL, 5), ("write", WAL, 20)],
)
async def test_after_failed_writes_and_syncs_a_power_cut_does_no_more_harm_than_ever(
    tmp_path: Path, kind: vfs.Kind, name: str, one_in: int, durability: str, request: pytest.FixtureRequest
) -> None:
    """What a failed sync should have written is lost for good, whatever the next sync of that file says."""
    result = vfs.IOERR_WRITE if kind == "write" else vfs.IOERR_FSYNC
    fault = vfs.Flaky(kind, name, result)
    events = await recorded(tmp_path / "run", fault, one_in, durability=durability)
    assert fault.hits
    request.getfixturevalue("next_boot")
    for disk, data in disks(events, tmp_path / "images", cuts=3):
        told = disk.told if durability == "power" else Told()
        await judge_directory(data, told, COMMANDS, durability=durability)
