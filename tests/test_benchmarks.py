"""Each benchmark once, tiny: that it runs and checks its results. Its figures mean nothing here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import __main__ as _registers  # noqa: F401
from benchmarks import bare, events, harness, report
from benchmarks.harness import BENCHMARKS, Bench, Case, Goal, run


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_runs_and_finds_its_results_right(name: str) -> None:
    outcomes = list(run(name, "tiny", 1))
    assert outcomes
    assert all(figures.rounds[0] > 0 for outcome in outcomes for figures in (outcome.ours, *outcome.baselines))


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A benchmark "fake" whose sides say when they run; ours gives 1, 2, 3, ..., the other 10 each time."""
    ran: list[str] = []

    def fake(bench: Bench) -> Iterator[Case]:
        def ours() -> float:
            ran.append("ours")
            assert bench.directory().exists()
            return float(ran.count("ours"))

        def other() -> float:
            ran.append("other")
            return 10.0

        goals = (Goal(">=", 0.4), Goal(">=", 5, "figure"), Goal(">=", 0.3, to="other"))
        yield Case("it", "events/s", ours, {"other": other}, goals)
        ran.append("cleaned up")

    monkeypatch.setitem(harness.BENCHMARKS, "fake", fake)
    return ran


def test_sides_take_turns_and_the_middle_round_counts(sides: list[str]) -> None:
    [outcome] = run("fake", "tiny", 5)
    turns = [sides[at : at + 2] for at in range(0, 12, 2)]
    assert all(sorted(turn) == ["other", "ours"] for turn in turns)
    assert turns[0] != turns[1]  # neither is always the first
    assert sides[12:] == ["cleaned up"]
    assert outcome.ours.rounds == [2, 3, 4, 5, 6]  # the first one warmed up
    assert (outcome.ours.median, outcome.baselines[0].ratio) == (4, 0.4)
    assert outcome.met is False  # one of three goals


def test_a_goal_against_a_baseline_that_is_not_there_is_neither_met_nor_missed() -> None:
    goal = Goal(">=", 2, to="absent")
    assert goal.met(100.0, {"other": 3.0}) is None
    assert goal.met(100.0, {"other": 3.0, "absent": 1.0}) is False


def test_the_table_and_the_json_tell_every_round(sides: list[str], tmp_path: Path) -> None:
    outcomes = list(run("fake", "tiny", 5))
    with (tmp_path / "table").open("w") as file:
        Console(file=file, width=200).print(report.table(outcomes))
    shown = (tmp_path / "table").read_text()
    for part in (
        "4 (2 to 6)",
        "other: 10 (10 to 10)",
        "0.40 x",
        ">= 0.4 x and >= 5 events/s and >= 0.3 x other",
        "missed",
        "load",
    ):
        assert part in shown
    report.write(outcomes, "tiny", tmp_path / "bench.json")
    [row] = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert (row["ours"]["rounds"], row["met"]) == ([2, 3, 4, 5, 6], False)


def test_a_baseline_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    with closing(bare.connect(tmp_path / "bare.db")) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        with pytest.raises(AssertionError, match="another durability"):
            bare.require_full(connection.execute("PRAGMA synchronous").fetchone()[0])


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
