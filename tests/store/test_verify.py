"""Every way in which a store can be other than it was written, and that `verify` names it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from eventray.domain.errors import StoreMismatch, StoreUnavailable
from eventray.store import EventStore, Problem, ShardReport, VerifyReport, backup, restore, verify
from eventray.store.verify_shard import verify_shard
from tests.store import sample
from tests.store.conftest import deposits
from tests.store.sample import copy_of, forge, opened

Damage = Callable[[sqlite3.Connection], None]


@pytest.fixture
def damaged(sound_store: Path, tmp_path: Path) -> Path:
    """A copy of a sound store, for this test to damage."""
    return copy_of(sound_store, tmp_path / "damaged")


def verified(directory: Path, shard: int = 0, anchor: tuple[int, str] | None = None) -> ShardReport:
    """What `verify` says of one shard, without a process of its own."""
    job = {"directory": str(directory), "shard": shard, "anchor": anchor}
    return ShardReport.parsed(verify_shard(job, lambda _: None))


def sql(statement: str) -> Damage:
    def damage(connection: sqlite3.Connection) -> None:
        connection.execute(statement)

    return damage


def forged(position: int, **changes: object) -> Damage:
    return lambda connection: forge(connection, position, **changes)


def removed(connection: sqlite3.Connection) -> None:
    """The last event of shard 0 and of its commit, gone without a trace in tables or indexes."""
    last = connection.execute("SELECT max(position) FROM events").fetchone()[0]
    connection.execute("DELETE FROM events WHERE position = ?", (last,))


def inserted(connection: sqlite3.Connection) -> None:
    """One more event at the end of its stream and of the log."""
    connection.execute(
        "INSERT INTO events SELECT (SELECT max(position) FROM events) + 1, stream, version + 1, type, recorded_at + 1,"
        " NULL, 0, 0, data, NULL, 0 FROM events ORDER BY position DESC LIMIT 1"
    )
    forge(connection, connection.execute("SELECT max(position) FROM events").fetchone()[0])


def swapped(connection: sqlite3.Connection) -> None:
    """Two whole commands of one event each, of two streams, in each other's place."""
    found = connection.execute(
        "SELECT a.position FROM events a JOIN events b ON b.position = a.position + 1 "
        "WHERE a.command_index = 0 AND b.command_index = 0 AND a.stream != b.stream LIMIT 1"
    ).fetchone()[0]
    for before, after in ((found, -1), (found + 1, found), (-1, found + 1)):
        connection.execute("UPDATE events SET position = ? WHERE position = ?", (after, before))
    forge(connection, found)
    forge(connection, found + 1)


def other_type(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE events SET type = 3 - type WHERE position = 5")
    forge(connection, 5)


def other_command_key(connection: sqlite3.Connection) -> None:
    """A command that could be stored a second time, because the index does not find its id."""
    found = connection.execute("SELECT min(position) FROM events WHERE typeof(command_key) = 'blob'").fetchone()[0]
    forge(connection, found, command_key=b"0" * 16)


def index_entry_lost(connection: sqlite3.Connection) -> None:
    """An index that does not know one of the events: reading its stream would not find it."""
    connection.execute("PRAGMA writable_schema=ON")
    sql = "CREATE UNIQUE INDEX events_by_stream ON events(stream, version)"
    connection.execute(
        "UPDATE sqlite_schema SET sql = ? WHERE name = 'events_by_stream'", (f"{sql} WHERE version < 3",)
    )
    connection.execute("PRAGMA writable_schema=RESET")
    connection.execute("REINDEX events_by_stream")
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'events_by_stream'", (sql,))


DAMAGES = {
    "a changed body": (sql("UPDATE events SET data = x'39' WHERE position = 5"), "checksum", 5),
    "a changed body with its checksum made anew": (forged(5, data=b"9"), "digest of this commit", 5),
    "changed metadata": (sql("UPDATE events SET meta = x'91c0' WHERE position = 5"), "checksum", 5),
    "a changed time": (forged(5, recorded_at=1), "does not fit the events", 5),
    "a changed type": (other_type, "digest of this commit", 5),
    "an event without its type": (sql("DELETE FROM types WHERE key = 1"), "unknown type", 1),
    "a body that is no bytes": (sql("UPDATE events SET data = 5 WHERE position = 5"), "", 5),
    "an event removed at the end": (removed, "missing", 0),
    "an event removed in the middle": (sql("DELETE FROM events WHERE position = 5"), "missing", 6),
    "an event inserted at the end": (inserted, "in no commit", 0),
    "two events in each other's place": (swapped, "does not fit", 0),
    "a commit removed": (sql("DELETE FROM commits WHERE first = 4"), "does not fit the events", 0),
    "a commit's digest changed": (sql("UPDATE commits SET digest = zeroblob(32) WHERE first = 4"), "digest", 4),
    "all commits removed": (sql("DELETE FROM commits"), "in no commit", 1),
    "a stream renamed": (sql("UPDATE streams SET name = 'Account/eve' WHERE key = 2"), "checksum", 0),
    "a stream of another shard": (sql("UPDATE streams SET name = name || '-' WHERE key = 2"), "", 0),
    "a command key changed": (other_command_key, "command key", 0),
    "a snapshot changed": (sql("UPDATE snapshots SET data = x'00'"), "snapshot", 0),
    "a snapshot from the future": (sql("UPDATE snapshots SET version = 99"), "newer than", 0),
    "a table altered": (sql("ALTER TABLE events ADD COLUMN more"), "tables", 0),
    "an index that lost an entry": (index_entry_lost, "SQLite's own check", 0),
    "the file of another generation": (sql("UPDATE info SET value = 7 WHERE key = 'generation'"), "generation", 0),
    "the file of another store": (sql("UPDATE info SET value = 'x' WHERE key = 'store_id'"), "store_id", 0),
    "a chain that begins elsewhere": (sql("INSERT INTO info VALUES('chain_start', zeroblob(31))"), "begin", 0),
}


def test_a_sound_store_is_sound_and_stays_as_it_is(sound_store: Path) -> None:
    before = {path.name: path.read_bytes() for path in sound_store.iterdir()}
    told: list[tuple[str, int, int]] = []
    report = verify(sound_store, progress=lambda *news: told.append(news))
    assert (report.ok, report.problems) == (True, ())
    assert report.events == sum(shard.position for shard in report.shards) == 12 * (1 + 2 + 3 + 4)
    assert sum(shard.streams for shard in report.shards) == 12
    assert told[-1] == ("verify", report.events, report.events)
    assert {path.name: path.read_bytes() for path in sound_store.iterdir()} == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_named(damaged: Path, name: str) -> None:
    damage, said, position = DAMAGES[name]
    with opened(damaged) as connection:
        damage(connection)
    report = verified(damaged)
    assert report.problems, name
    fitting = [problem for problem in report.problems if said in problem.what]
    assert fitting, report.problems
    if position:
        assert fitting[0].position == position
    assert report.problems[0].where == "shard-0000.db"
    assert verified(damaged, 1).problems == []


def test_the_first_bad_record_is_named_with_its_stream_and_version(damaged: Path) -> None:
    with opened(damaged) as connection:
        connection.execute("UPDATE events SET data = x'39' WHERE position >= 5")
        name, version = connection.execute(
            "SELECT s.name, e.version FROM events e JOIN streams s ON s.key = e.stream WHERE position = 5"
        ).fetchone()
    report = verified(damaged)
    first = report.problems[0]
    assert (first.position, first.stream, first.version) == (5, name, version)
    assert str(first).startswith(f"shard-0000.db at position 5 {name}@{version}: ")


def test_the_first_event_on_a_bad_page_is_named(damaged: Path) -> None:
    with opened(damaged) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()[0]
    path = damaged / "shard-0000.db"
    raw = bytearray(path.read_bytes())
    raw[(page - 1) * 4096 : (page - 1) * 4096 + 12] = b"\xa5" * 12
    path.write_bytes(raw)
    first = verified(damaged).problems[0]
    assert first.position == 1
    assert "from here on cannot be read" in first.what


def test_problems_are_counted_beyond_what_is_listed(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventray.store.verify_shard.PROBLEMS_MAX", 10)
    with opened(damaged) as connection:
        last = connection.execute("SELECT max(position) FROM events").fetchone()[0]
        connection.execute("UPDATE events SET data = x'39'")
    report = verified(damaged)
    assert (len(report.problems), report.more_problems) == (10, last - 10)


def test_one_changed_event_is_told_once_and_not_everywhere_after_it(damaged: Path) -> None:
    for damage in (DAMAGES["a changed body"][0], DAMAGES["a commit's digest changed"][0]):
        copy = copy_of(damaged, damaged.with_name("once"))
        with opened(copy) as connection:
            damage(connection)
        assert len(verified(copy).problems) == 1
        shutil.rmtree(copy)


def whole(directory: Path) -> VerifyReport:
    return verify(directory, processes=2)


def test_a_file_that_is_gone_empty_swapped_or_garbage_is_named(damaged: Path) -> None:
    first, second = damaged / "shard-0000.db", damaged / "shard-0001.db"
    kept = first.read_bytes(), second.read_bytes()
    cases = {
        "gone": (None, kept[1]),
        "": (b"", kept[1]),
        "not a database": (b"x" * len(kept[0]), kept[1]),
        "another shard": (kept[1], kept[0]),
        "read": (kept[0][: len(kept[0]) // 2], kept[1]),
    }
    for said, contents in cases.items():
        for path, content in zip((first, second), contents, strict=True):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        report = whole(damaged)
        assert not report.ok
        assert report.problems[0].where == "shard-0000.db"
        assert any(said in problem.what for problem in report.problems), (said, report.problems)


def test_a_shard_that_went_back_in_time_is_found_by_its_witness(damaged: Path, sound_store: Path) -> None:
    with opened(damaged) as connection:
        last = connection.execute("SELECT last, first FROM commits ORDER BY last DESC LIMIT 1").fetchone()
        connection.execute("DELETE FROM commits WHERE last = ?", last[:1])
        connection.execute("DELETE FROM events WHERE position >= ?", last[1:])
    report = verified(damaged)
    assert any("shard-0000.head saw position" in problem.what for problem in report.problems)


async def test_a_history_that_was_made_anew_is_found_against_a_backup(sound_store: Path, tmp_path: Path) -> None:
    """Whoever can write the files can write another history with digests that fit: only a copy elsewhere shows it."""
    store, kept = copy_of(sound_store, tmp_path / "store"), tmp_path / "kept"
    backup(store, kept)
    with opened(store) as connection:
        end = connection.execute("SELECT max(position) FROM events").fetchone()[0]
        connection.execute("DELETE FROM commits WHERE last >= ?", (end - 3,))
        first = connection.execute("SELECT coalesce(max(last), 0) FROM commits").fetchone()[0]
        connection.execute("DELETE FROM events WHERE position > ?", (first,))
    (store / "shard-0000.head").unlink()
    (store / "views.db").unlink()
    async with await EventStore.open(store, app=sample.APP) as opened_again:
        written = 0
        for stream in sample.STREAMS:
            if opened_again.manifest.shard_of(stream) == 0:
                written += (await opened_again.append(stream, deposits(1, 2, 3))).events
    assert first + written >= end
    assert whole(store).ok
    report = verify(store, against=kept)
    assert any("history" in problem.what for problem in report.problems)


def test_against_a_backup_of_another_generation_is_refused(sound_store: Path, tmp_path: Path) -> None:
    backup(sound_store, tmp_path / "kept")
    restore(tmp_path / "kept", tmp_path / "restored", check=False)
    with pytest.raises(StoreMismatch) as caught:
        verify(tmp_path / "restored", against=tmp_path / "kept")
    assert caught.value.what == "generation"


def test_a_changed_checkpoint_is_found(damaged: Path) -> None:
    with sqlite3.connect(damaged / "views.db") as connection:
        connection.execute("UPDATE checkpoints SET data = x'00'")
    connection.close()
    assert [problem.where for problem in whole(damaged).problems] == ["views.db"]


def test_a_changed_manifest_is_found(damaged: Path) -> None:
    path = damaged / "store.json"
    path.write_bytes(path.read_bytes().replace(b'"bank"', b'"bonk"'))
    assert [problem.where for problem in whole(damaged).problems] == ["store.json"]


def test_a_folder_without_a_store_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"store\.json"):
        verify(tmp_path)


async def test_a_store_is_verified_while_it_is_written_to(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path / "data", app=sample.APP, shards=2) as store:
        done = asyncio.Event()

        async def write() -> int:
            count = 0
            while not done.is_set():
                await asyncio.gather(*(store.append(stream, deposits(count)) for stream in sample.STREAMS))
                count += 1
            return count

        writing = asyncio.create_task(write())
        reports = [await asyncio.to_thread(whole, tmp_path / "data") for _ in range(3)]
        done.set()
        rounds = await writing
    assert [report.problems for report in reports] == [(), (), ()]
    assert reports[0].events < reports[2].events <= rounds * len(sample.STREAMS)


async def test_a_store_that_crashed_is_verified_with_its_wal_and_left_as_it_is(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path / "data", app=sample.APP, shards=1) as store:
        await store.append("Account/1", deposits(1, 2))
        copy_of(tmp_path / "data", tmp_path / "crashed")  # as kill -9 leaves it: its events are in the WAL
    wal = tmp_path / "crashed" / "shard-0000.db-wal"
    before = wal.read_bytes(), (tmp_path / "crashed" / "shard-0000.db").read_bytes()
    report = whole(tmp_path / "crashed")
    assert (report.ok, report.events) == (True, 2)
    assert (wal.read_bytes(), (tmp_path / "crashed" / "shard-0000.db").read_bytes()) == before
    wal.write_bytes(before[0][: len(before[0]) // 2])
    assert not whole(tmp_path / "crashed").ok


def test_a_problem_says_where_it_is() -> None:
    assert str(Problem("store.json", "it is gone")) == "store.json: it is gone"
    assert str(Problem("f", "w", 3, "A/1", 2)) == "f at position 3 A/1@2: w"
