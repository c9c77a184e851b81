from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eventray.domain.errors import StoreCorrupted, StoreFull, StoreLocked, StoreUnavailable
from eventray.store import EventStore, Manifest, NewRecord, info, reshard, resharding, verify
from eventray.store.moving import STAGING
from eventray.store.verify_shard import verify_shard
from tests.store import sample
from tests.store.sample import copy_of, opened


@pytest.fixture
def store(sound_store: Path, tmp_path: Path) -> Path:
    return copy_of(sound_store, tmp_path / "store")


async def read_all(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    async with await EventStore.open(directory, app=sample.APP) as opened_store:
        return await sample.contents(opened_store)


@pytest.mark.parametrize("shards", [1, 5])
async def test_streams_keep_all_that_they_say_in_another_number_of_shards(
    store: Path, sound_store: Path, shards: int
) -> None:
    before = await read_all(sound_store)
    told: list[tuple[str, int, int]] = []
    report = reshard(store, shards=shards, progress=lambda *news: told.append(news))
    assert [news for news in told if news[1] == news[2]] == [
        (phase, report.events, report.events) for phase in ("verify", "reshard", "verify again")
    ]
    assert (report.events, len(report.shards), info(store).resharded_from) == (120, shards, (1,))
    assert await read_all(store) == before
    assert verify(store).ok
    async with await EventStore.open(store, app=sample.APP) as opened_store:
        assert await opened_store.load_checkpoint("Balances") is None
        for stream in sample.STREAMS[:4]:
            snapshot = await opened_store.load_snapshot(stream)
            assert snapshot is not None
            [record] = [r async for r in opened_store.read(stream, after=2, until=3)]
            assert (snapshot.version, snapshot.position) == (3, record.position)
            assert snapshot.data == b"state of " + stream.encode()
        first = await opened_store.append(
            "Account/1", [NewRecord("Opened", b"body of 1", b"meta")], command_id="tx-1-0"
        )
        assert (first.duplicate, first.version) == (True, 1)
        appended = await opened_store.append("Account/1", [NewRecord("Opened", b"")], command_id="new")
        assert appended.position == (await opened_store.heads())[appended.shard]
        times = [r.recorded_at async for r in opened_store.read("Account/1")]
        assert times == sorted(set(times))
    assert verify(store).ok


async def test_a_reshard_of_a_reshard_keeps_it_all_too(store: Path, sound_store: Path) -> None:
    before = await read_all(sound_store)
    reshard(store, shards=5)
    reshard(store, shards=2)
    assert await read_all(store) == before
    assert verify(store).ok
    assert len(Manifest.load(store).lineage) == 2
    assert not (store / "shard-0002.db").exists()


async def test_the_shards_of_before_are_kept_as_a_store(store: Path, sound_store: Path) -> None:
    kept = Path(reshard(store, shards=3).kept)
    assert verify(kept).ok
    assert await read_all(kept) == await read_all(sound_store)
    assert Manifest.load(kept).generation == Manifest.load(sound_store).generation


def test_the_new_digests_begin_with_the_old_ones(store: Path) -> None:
    reshard(store, shards=3)
    path = store / "store.json"
    old_end = Manifest.load(store).lineage[0].ends[0][1]
    text = "\n".join(line for line in path.read_text().splitlines() if '"checksum"' not in line)
    path.write_text(text.replace(old_end, "0" * 64).replace("],\n}", "]\n}").replace("},\n}", "}\n}"))
    problems = verify(store).problems
    assert problems
    assert all("begin" in problem.what for problem in problems)


async def test_dead_letters_go_with_their_events(store: Path) -> None:
    with opened(store) as connection:
        connection.execute("INSERT INTO dead_letters VALUES('Balances', 7, 1, 'poison')")
        stream, version = connection.execute(
            "SELECT s.name, e.version FROM events e JOIN streams s ON s.key = e.stream WHERE position = 7"
        ).fetchone()
    reshard(store, shards=3)
    async with await EventStore.open(store, app=sample.APP) as opened_store:
        [record] = [r async for r in opened_store.read(stream, after=version - 1, until=version)]
    with opened(store, record.shard) as connection:
        assert connection.execute("SELECT * FROM dead_letters").fetchall() == [
            ("Balances", record.position, 1, "poison")
        ]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


@pytest.mark.parametrize("shards", [0, 2, 4097, True, "3"])
def test_an_impossible_number_of_shards_is_a_value_error(store: Path, shards: int) -> None:
    with pytest.raises(ValueError):
        reshard(store, shards=shards)


async def test_a_store_in_use_is_refused(store: Path) -> None:
    async with await EventStore.open(store, app=sample.APP):
        with pytest.raises(StoreLocked):
            reshard(store, shards=3)


def test_a_damaged_store_is_refused_and_stays_as_it_is(store: Path) -> None:
    with opened(store) as connection:
        connection.execute("UPDATE events SET data = x'39' WHERE position = 5")
    before = contents(store)
    with pytest.raises(StoreCorrupted, match="position 5"):
        reshard(store, shards=3)
    assert contents(store) == before


def test_a_failure_while_the_new_shards_are_made_changes_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(store)
    monkeypatch.setattr(resharding, "side_by_side", raising(StoreFull(str(store))))
    with pytest.raises(StoreFull):
        reshard(store, shards=3)
    assert contents(store) == before


class Killed(BaseException):
    """What stands for a kill: nothing on the way handles it."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the next call that changes a folder for the `step`th time, before that change."""
    left = step

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*args, **kwargs)

        return call

    for name in ("rename", "replace", "rmdir", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_reshard_killed_at_any_step_of_its_move_leaves_the_old_store_or_the_new_one(
    sound_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    expected = await read_all(sound_store)
    ready = copy_of(sound_store, tmp_path / "ready")
    with monkeypatch.context() as patch:
        patch.setattr(resharding, "_switch", raising(Killed()))
        with pytest.raises(Killed):
            reshard(ready, shards=shards)
    counts = []
    for step in range(100):
        store = copy_of(ready, tmp_path / f"store-{step}")
        old, new = Manifest.load(store), Manifest.load(store / STAGING)
        try:
            with monkeypatch.context() as patch:
                kill_at(step, patch)
                resharding._switch(old, new)
            killed = False
        except Killed:
            killed = True
        counts.append(Manifest.load(store).shards)
        assert await read_all(store) == expected, step
        for index in range(counts[-1]):
            assert verify_shard({"directory": store, "shard": index}, lambda _: None)["problems"] == [], step
        if not killed:
            break
    assert counts[0] == 2
    assert counts[-1] == shards
    assert counts == [2] * counts.count(2) + [shards] * counts.count(shards)
    assert counts.count(shards) > 4  # there are steps after the point of no return, and each was tried


def raising(error: BaseException) -> Callable[..., object]:
    def call(*_: object, **__: object) -> object:
        raise error

    return call


def test_a_staging_folder_left_by_a_kill_is_cleared_away(store: Path) -> None:
    (store / STAGING).mkdir()
    (store / STAGING / "shard-0000.db").write_bytes(b"half")
    reshard(store, shards=3)
    assert not (store / STAGING).exists()
    assert verify(store).ok


def test_no_store_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        reshard(tmp_path, shards=3)
    assert list(tmp_path.iterdir()) == []
