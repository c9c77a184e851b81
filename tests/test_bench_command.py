"""`python -m benchmarks`: what `make bench` runs, and its options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks import __main__ as command
from benchmarks.harness import Bench, Case
from benchmarks.result import read
from benchmarks.suite import SUITE

SECONDS = 7.0


def fine(bench: Bench) -> Iterator[Case]:
    yield Case(f"a size of {bench.pick(full=3, quick=2, tiny=1)}", "s", lambda: SECONDS)


def broken(bench: Bench) -> Iterator[Case]:
    yield Case("its first row", "s", lambda: 1.0)
    raise AssertionError("its sums are wrong")


@pytest.fixture(autouse=True)
def suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SUITE", {"broken": broken, "fine": fine, "size": SUITE["size"]})


def bench(out: Path, *options: str) -> Result:
    return CliRunner().invoke(command.app, ["--out", str(out), *options])


def test_a_quick_run_is_shown_saved_and_drawn(tmp_path: Path) -> None:
    ran = bench(tmp_path / "bench.json", "--quick", "--only", "size")
    assert ran.exit_code == 0, ran.output
    found = read(tmp_path / "bench.json")
    assert found.scale == "quick"
    assert {row.benchmark for row in found.rows} == {"size"}
    assert all(row.what.split(",")[0] in " ".join(ran.output.split()) for row in found.rows)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_rounds_are_five_two_when_quick_or_as_many_as_told(tmp_path: Path) -> None:
    for options, what, rounds in (
        ([], "a size of 3", 5),
        (["--quick"], "a size of 2", 2),
        (["--quick", "--rounds", "4"], "a size of 2", 4),
    ):
        assert bench(tmp_path / "bench.json", "--only", "fine", *options).exit_code == 0
        [row] = read(tmp_path / "bench.json").rows
        assert (row.what, row.ours.rounds) == (what, [7.0] * rounds)


def test_one_that_fails_is_named_and_the_others_are_measured_all_the_same(tmp_path: Path) -> None:
    ran = bench(tmp_path / "bench.json", "--only", "broken,fine")
    assert ran.exit_code == 1
    assert "its sums are wrong" in ran.output
    assert "failed: broken" in ran.output
    assert [row.what for row in read(tmp_path / "bench.json").rows] == ["its first row", "a size of 3"]


def test_a_run_may_replace_the_one_that_it_is_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bench.json"
    assert bench(file, "--only", "fine").exit_code == 0
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 14.0)
    ran = bench(file, "--only", "fine", "--compare", str(file))
    assert ran.exit_code == 0, ran.output
    assert "2.00 x" in ran.output
    assert read(file).rows[0].ours.median == 14


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--only", "fine,fnie"], "fnie: there are broken, fine, size"),
        (["--only", "fine", "--compare", "missing.json"], "does not exist"),
        (["--only", "fine", "--compare", "text.json"], "text.json is not a bench.json"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("no JSON")
    ran = bench(Path("bench.json"), *options)
    assert ran.exit_code == 2
    assert reason in " ".join(ran.output.replace("│", " ").split())
    assert not Path("bench.json").exists()
