"""The command line: what it prints, as text and as JSON, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eventray import App
from eventray.runtime import cli_app
from tests.store import sample
from tests.store.sample import copy_of, opened
from tests.terminal import Terminal


@pytest.fixture
def data(sound_store: Path, tmp_path: Path) -> Path:
    return copy_of(sound_store, tmp_path / "data")


def test_a_store_goes_away_and_comes_back(terminal: Terminal, data: Path, tmp_path: Path) -> None:
    before = terminal.json("info", data)
    assert (before["app"], before["events"], len(before["shards"])) == (sample.APP, 120, 2)
    kept = terminal.json("backup", data, tmp_path / "kept")
    assert sum(kept["positions"].values()) == 120
    assert terminal.json("info", tmp_path / "kept")["backup_taken_at"]
    assert terminal.json("verify", data, "--against", tmp_path / "kept")["ok"]
    back = terminal.json("restore", tmp_path / "kept", tmp_path / "back")
    spread = terminal.json("reshard", tmp_path / "back", "--shards", 3)
    assert (spread["events"], len(spread["shards"])) == (120, 3)
    assert spread["generation"] > back["generation"] > kept["generation"]
    report = terminal.json("verify", tmp_path / "back")
    assert (report["ok"], report["events"], report["problems"]) == (True, 120, [])


def test_the_same_is_told_to_a_person(terminal: Terminal, data: Path, tmp_path: Path) -> None:
    assert "120 events" in terminal.run("info", data)
    assert "120 events in" in terminal.run("verify", data)
    assert "MiB of generation 1" in terminal.run("backup", data, tmp_path / "kept")
    assert "a backup of 20" in terminal.run("info", tmp_path / "kept")
    assert "generation" in terminal.run("restore", tmp_path / "kept", tmp_path / "back", "--no-check")
    assert "remove that folder" in terminal.run("reshard", data, "--shards", 3)
    assert "resharded from generation 1" in terminal.run("info", data)


def test_a_damaged_store_is_exit_code_1_and_names_the_first_bad_record(terminal: Terminal, data: Path) -> None:
    with opened(data) as connection:
        connection.execute("UPDATE events SET data = x'39' WHERE position = 5")
    out = terminal.run("verify", data, expect=1)
    assert "NOT SOUND, 1 problems, the first: shard-0000.db at position 5 Account/" in out
    [problem] = terminal.json("verify", data, expect=1)["problems"]
    assert (problem["where"], problem["position"]) == ("shard-0000.db", 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["info", "nowhere"], "StoreUnavailable"),
        (["verify", "nowhere"], "StoreUnavailable"),
        (["backup", "nowhere", "kept"], "StoreUnavailable"),
        (["restore", "nowhere", "back"], "StoreUnavailable"),
        (["reshard", "nowhere", "--shards", "3"], "StoreUnavailable"),
        (["reshard", "nowhere"], "--shards"),
        (["reshard", "nowhere", "--shards", "0"], "--shards"),
        (["unheard"], "unheard"),
        (["serve", "nowhere:app", "--data", "data"], "module 'nowhere' cannot be imported from"),
        (["serve", "json", "--data", "data"], "give a module and the App in it"),
        (["serve", "json:bank", "--data", "data"], "there is no app 'json:bank'"),
        (["serve", "json:dumps", "--data", "data"], "is a function, not an eventray.App"),
        (["serve", "json:dumps"], "--data"),
    ],
)
def test_what_cannot_be_done_is_exit_code_2_and_says_why(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in terminal.run(*words, expect=2)
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_shards_that_it_has_is_exit_code_2(terminal: Terminal, data: Path) -> None:
    assert "has 2 shards already" in terminal.run("reshard", data, "--shards", 2, expect=2)


def test_an_app_is_found_in_a_module_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_a_test.py").write_text("import eventray\nshop = eventray.App('shop')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = cli_app.find_app("shop_of_a_test:shop")
    assert (type(found), found.name) == (App, "shop")
    monkeypatch.delitem(sys.modules, "shop_of_a_test")


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).parent / "eventray"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for name in ("serve", "status", "info", "verify", "backup", "restore", "reshard"):
        assert name in done.stdout
