"""Each benchmark once, tiny: that it runs and checks its results. Its figures mean nothing here."""

from __future__ import annotations

import io
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import bare, durability, events, layers, pages, report
from benchmarks.curves import curves
from benchmarks.harness import Bench, Case, Told, run
from benchmarks.result import Figures, Goal, Point, Row, Run, read, save
from benchmarks.suite import SUITE

PERFORMANCE = Path(__file__).parent.parent / "docs" / "performance.md"


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("name", SUITE)
def test_each_benchmark_runs_and_finds_its_results_right(name: str) -> None:
    rows = list(run(name, SUITE[name], "tiny", 1))
    sides = [figures for row in rows for figures in (row.ours, *row.baselines.values()) if figures.rounds]
    assert sides
    assert all(figures.rounds[0] > 0 for figures in sides)
    assert any(row.goals for row in rows) or name in {"sizes", "shards", "limits"}


@pytest.fixture(scope="module")
def ran() -> list[str]:
    """What the sides of `fake` say when they run."""
    return []


@pytest.fixture(scope="module")
def rows(ran: list[str]) -> list[Row]:
    """The rows of a benchmark whose side gives 1, 2, 3, ... and that of its baseline 10 each time; five rounds."""

    def fake(bench: Bench) -> Iterator[Case]:
        def ours() -> float:
            ran.append("ours")
            assert bench.directory().exists()
            return float(ran.count("ours"))

        def other() -> float:
            ran.append("other")
            return 10.0

        goals = (Goal(">=", 0.4), Goal(">=", 5, "figure"), Goal(">=", 0.3, to="other"), Goal(">=", 1, to="absent"))
        runs = Told(ours)
        yield Case("it", "events/s", runs.made(float), {"other": other, "absent": None}, goals)
        yield Case("again", "s", runs.told(lambda figure: figure * 2), point=Point("load", "events", 10))
        yield Case("more", "s", lambda: 7.0, rounds=1, point=Point("load", "events", 100))
        ran.append("cleaned up")

    return list(run("fake", fake, "tiny", 5))


def test_sides_take_turns_and_the_middle_round_counts(rows: list[Row], ran: list[str]) -> None:
    row = rows[0]
    turns = [ran[at : at + 2] for at in range(0, 12, 2)]
    assert all(sorted(turn) == ["other", "ours"] for turn in turns)
    assert turns[0] != turns[1]  # neither is always the first
    assert ran[12:] == ["cleaned up"]
    assert row.ours.rounds == [2, 3, 4, 5, 6]  # the first one warmed up
    assert (row.ours.median, row.baselines["other"].ratio) == (4, 0.4)


def test_each_goal_is_judged_by_itself_and_without_its_baseline_not_at_all(rows: list[Row]) -> None:
    row = rows[0]
    assert [row.met(goal) for goal in row.goals] == [True, False, True, None]
    assert row.reached(Goal(">=", 5, "figure")) == 0.8
    assert row.reached(Goal("<=", 5, "figure")) == 1.25
    assert (row.met(Goal("<=", 0.4)), row.met(Goal("<=", 0.39))) == (True, False)


def test_one_run_gives_several_figures(rows: list[Row]) -> None:
    assert rows[1].ours.rounds == [4, 6, 8, 10, 12]
    assert len(rows[2].ours.rounds) == 1


def test_the_table_tells_every_goal_and_every_baseline(rows: list[Row], tmp_path: Path) -> None:
    shown = _shown(save(rows, "tiny", tmp_path / "bench.json"))
    for part in ("4 (2 to 6)", "other: 10 (10 to 10)", "absent: not installed", "0.40 x", ">= 5 events/s", "load"):
        assert part in shown
    assert [verdict for verdict in ("met", "missed", "not known") if verdict in shown] == ["met", "missed", "not known"]


def test_a_run_is_saved_whole(rows: list[Row], tmp_path: Path) -> None:
    saved = save(rows, "tiny", tmp_path / "bench.json")
    assert read(tmp_path / "bench.json") == saved
    assert saved.rows == rows
    (tmp_path / "bench.json").write_text('{"rows": [{"benchmark": "append"}]}')
    with pytest.raises(ValueError, match=r"bench\.json is not"):
        read(tmp_path / "bench.json")


def test_then_and_now_are_compared_row_by_row() -> None:
    then, now = (
        Run(
            "full",
            [_row("it", 100.0 * speed, ratio=float(speed * speed)), _row(f"only in {speed}", 1.0)],
            f"200{speed}",
        )
        for speed in (2, 3)
    )
    shown = _shown(now, then)
    for part in ("it, events/s", "200", "300", "1.50 x", "4.00 x", "9.00 x", "2.25 x"):
        assert part in shown
    assert "only in" not in shown
    assert "The sizes differ: quick then, full now." in _shown(now, Run("quick", then.rows))


def test_curves_are_drawn_in_the_order_of_their_places(rows: list[Row]) -> None:
    [curve] = curves(Run("tiny", rows[::-1]))
    assert curve == ("load", "events", "s", [(10, 8.0), (100, 7.0)])


def test_the_page_gets_its_tables_and_its_picture_and_keeps_its_text(rows: list[Row], tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PERFORMANCE.read_text())
    for made in (rows[:1], rows):
        report.into_page(save(made, "tiny", tmp_path / "bench.json"), page)
    filled, written = page.read_text(), PERFORMANCE.read_text()
    assert "| fake | it, events/s | 4 (2 to 6) | other: 10 (10 to 10) | 0.40 x | >= 0.4 x | met |" in filled
    assert filled.count("| fake | it,") == 1
    assert "| load, s | 8 | 7 |" in filled
    assert filled.partition("<!--")[0] == written.partition("<!--")[0]
    assert (tmp_path / "performance.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="0 places for the figures 'unknown'"):
        pages.put(page, "unknown", "")


def test_the_page_has_a_picture_and_says_something_of_every_benchmark() -> None:
    text = PERFORMANCE.read_text()
    assert "](performance.png)" in text
    assert PERFORMANCE.with_suffix(".png").exists()
    assert [name for name in SUITE if f"**{name}" not in text] == []


def _row(what: str, figure: float, ratio: float = 1.0) -> Row:
    return Row("fake", what, "events/s", Figures([figure]), {"other": Figures([1.0], [ratio])}, [], (0.0, 0.0))


def _shown(found: Run, then: Run | None = None) -> str:
    shown = io.StringIO()
    report.show(found, Console(width=250, file=shown), then)
    return shown.getvalue()


def test_a_connection_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    with closing(bare.connect(tmp_path / "bare.db")) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        with pytest.raises(AssertionError, match="another durability"):
            durability.require_full(connection.execute("PRAGMA synchronous").fetchone()[0])


@pytest.mark.parametrize("synced", [True, False])
def test_a_process_that_does_not_sync_is_found_out(tmp_path: Path, synced: bool) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:

        def write() -> None:
            file.write(b"." * 4096)
            if synced:
                os.fsync(file.fileno())

        with nullcontext() if synced else pytest.raises(AssertionError, match="never seen in fsync"):
            durability.require_syncs([os.getpid()], write)


def test_the_stopwatch_counts_what_a_thread_calls_by_layer() -> None:
    def select() -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            for _ in range(100):
                connection.execute("SELECT 1")

    stopwatch = layers.Stopwatch()
    stopwatch.start()
    try:
        thread = threading.Thread(target=select)
        thread.start()
        thread.join()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    spent = stopwatch.spent()
    assert spent["SQLite"][1] >= 100  # a return from each
    assert spent["asyncio and threads"][1] > 0
    assert sum(seconds for layer, (seconds, _) in spent.items() if layer != layers.HOOKED) <= spent[layers.HOOKED][0]


@pytest.mark.parametrize(
    ("file", "layer"),
    [
        ("eventray/runtime/handles.py", "client"),
        ("eventray/runtime/router.py", "Router"),
        ("eventray/runtime/decide.py", "Activation"),
        ("eventray/domain/aggregate.py", "Activation"),
        ("eventray/store/codec.py", "codec"),
        ("eventray/store/writing.py", "store"),
        ("site-packages/aiosqlite/core.py", "SQLite"),
        ("site-packages/ray/actor.py", "Ray"),
        ("lib/asyncio/events.py", "asyncio and threads"),
        ("lib/uuid.py", None),
    ],
)
def test_a_file_has_a_layer_or_that_of_its_caller(file: str, layer: str | None) -> None:
    assert layers.layer_of(f"/somewhere/{file}") == layer


def test_shares_leave_the_stopwatch_out_and_give_ray_what_its_own_threads_did() -> None:
    spent = {"store": (3.0, 100), "SQLite": (1.0, 50), layers.HOOKED: (6.0, 0)}
    assert layers.shares(spent, 0.01, cpu_s=7.5) == {"store": 0.5, "SQLite": 0.125, "Ray": 0.375}


async def test_the_baseline_stores_the_same_rows_as_eventray(tmp_path: Path) -> None:
    streams = events.names(2)
    batches = [(streams[n % 2], events.commands(n * 5, 5, 20, ids=n > 2)) for n in range(6)]
    shard = await events.open_shard(tmp_path)
    for stream, commands in batches:
        await shard.append_batch(stream, commands)
    await shard.close()
    with closing(bare.make(tmp_path / "bare.db", streams)) as connection:
        for rows in bare.rows_of(batches, streams):
            bare.append(connection, rows)
    columns = "position, stream, version, type, command_key, command_index, flags, data, meta"  # all but time and crc
    found = []
    for name in ("shard-0000.db", "bare.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            found.append(connection.execute(f"SELECT {columns} FROM events ORDER BY position").fetchall())
    assert found[0] == found[1]
    assert len(found[0]) == 30
