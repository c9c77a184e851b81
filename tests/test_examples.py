"""Each example runs and prints what its docstring says."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from examples import agents

ROOT = Path(__file__).parent.parent
REAL_FILE = ROOT.parent / "shared" / "data" / "berka_transactions.csv"
HEADER = '"trans_id";"account_id";"date";"type";"operation";"amount"'
FIGURES = {
    "accounts": 1229,
    "transactions": 49102,
    "duplicates": 0,
    "total": "39246142.80",
    "top": [
        ["18", "109277.00"],
        ["66", "107117.70"],
        ["2859", "103091.30"],
        ["699", "100421.20"],
        ["1247", "93945.20"],
    ],
}
real_transactions = pytest.mark.skipif(not REAL_FILE.exists(), reason="the real transactions are not at hand")


def run(*command: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
    return done


def bank(data: Path, *options: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    return run("-m", "examples.bank", "--data", str(data), *options, expect=expect)


def figures(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


@real_transactions
def test_the_bank_imports_the_real_transactions_once(tmp_path: Path) -> None:
    options = ("--local", "--json", "--file", str(REAL_FILE))
    assert figures(bank(tmp_path, *options)) == FIGURES
    assert figures(bank(tmp_path, *options)) == FIGURES | {"duplicates": 49102}


@real_transactions
def test_the_bank_survives_killed_processes(ray_cluster: Any, tmp_path: Path) -> None:
    got = figures(bank(tmp_path, "--chaos", "--json", "--file", str(REAL_FILE)))
    assert got | {"duplicates": 0} == FIGURES  # a retry of a committed command counts as a duplicate


def test_the_bank_makes_its_own_transactions(tmp_path: Path) -> None:
    got = figures(bank(tmp_path, "--local", "--json"))
    assert (got["accounts"], got["transactions"], got["duplicates"]) == (200, 20_000, 0)
    table = bank(tmp_path, "--local").stdout
    assert "transactions/s" in table
    assert "20000" in table


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('3;7;930101;"PRIJEM";"";many', "line 4, column 6 (amount)"),
        ('3;7;930101;"GIFT";"";5.00', "line 4, column 4 (type)"),
        ('3;7;930101;"PRIJEM"', "line 4, column 6 (amount)"),
        (';7;930101;"PRIJEM";"";5.00', "line 4, column 1 (trans_id)"),
        ('3;7;930230;"PRIJEM";"";5.00', "line 4, column 3 (date)"),
        ('3;7;930101;"PRIJEM";"";-5.00', "line 4, column 6 (amount)"),
    ],
)
def test_a_bad_line_is_named_and_a_repaired_file_can_be_imported(tmp_path: Path, line: str, place: str) -> None:
    good = [HEADER, '1;7;930101;"PRIJEM";"";5.00', '2;7;930101;"VYDAJ";"";1.50']
    path = tmp_path / "lines.csv"
    path.write_text("\n".join([*good, line, ""]))
    done = bank(tmp_path / "data", "--local", "--json", "--file", str(path), expect=2)
    assert str(path) in done.stderr
    assert place in done.stderr
    path.write_text("\n".join([*good, '3;7;930101;"PRIJEM";"";2.00', ""]))
    got = figures(bank(tmp_path / "data", "--local", "--json", "--file", str(path)))
    assert (got["transactions"], got["duplicates"], got["total"]) == (3, 2, "5.50")


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    path.write_text("a;b\n1;2\n")
    assert "line 1" in bank(tmp_path / "data", "--local", "--file", str(path), expect=2).stderr


def test_chaos_needs_other_processes(tmp_path: Path) -> None:
    assert "--chaos" in bank(tmp_path, "--local", "--chaos", expect=2).stderr


@real_transactions
def test_the_turnover_of_the_log_is_that_of_the_file_and_of_the_view(tmp_path: Path) -> None:
    png = tmp_path / "turnover.png"
    options = ("--data", str(tmp_path / "data"), "--png", str(png), "--file", str(REAL_FILE))
    got = figures(run("-m", "examples.bank_analytics", *options, "--local", "--json"))
    sums: dict[str, list[Decimal]] = {}
    with REAL_FILE.open(newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            month = sums.setdefault(f"19{row['date'][:2]}-{row['date'][2:4]}", [Decimal(0), Decimal(0)])
            month[row["type"] != "PRIJEM"] += Decimal(row["amount"])
    assert got["transactions"] == 49102
    assert [(month, Decimal(credits), Decimal(debits)) for month, credits, debits in got["months"]] == [
        (month, *sums[month]) for month in sorted(sums)
    ]
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_turnover_is_computed_by_ray_tasks_too(ray_cluster: Any, tmp_path: Path) -> None:
    options = ("--data", str(tmp_path / "data"), "--png", str(tmp_path / "turnover.png"))
    table = run("-m", "examples.bank_analytics", *options).stdout
    assert "turnover of 20,000 transactions" in table
    assert "the log and the view agree in all 14 months" in table


@pytest.mark.parametrize("how", [["examples/quickstart.py"], ["-c", "IMPORTED"]])  # as a module: the tour
def test_the_quickstart_runs_as_a_script_and_imported(ray_cluster: Any, tmp_path: Path, how: list[str]) -> None:
    imported = f"from examples.quickstart import main; main({str(tmp_path)!r})"
    command = [imported if word == "IMPORTED" else word for word in how]
    lines = run(*command, *([] if "-c" in how else [str(tmp_path)])).stdout.splitlines()
    assert [line.split() for line in lines[-4:]] == [
        ["carol", "70"],
        ["alice", "50"],
        ["bob", "30"],
        ["alice", "at", "version", "2:", "50"],
    ]


def test_the_tour_shows_history_an_earlier_balance_and_the_actors(ray_cluster: Any) -> None:
    out = run("-m", "examples.tour").stdout
    assert "balance at version 2: 50, now at version 4: 85" in out
    assert "teller-7" in out
    for name in ("directory", "shard-0000", "view/Balances", "Account/alice"):
        assert name in out


def test_the_care_for_a_store_finds_ten_damages_and_brings_everything_back(tmp_path: Path) -> None:
    out = run("-m", "examples.store_care", "--events", "4000", "--folder", str(tmp_path)).stdout
    assert "10 of 10 damages found; every stream says what was written" in out
    assert list(tmp_path.iterdir()) == []


def test_a_view_is_right_after_all_that_its_keeper_does_to_it_while_events_arrive(
    ray_cluster: Any, tmp_path: Path
) -> None:
    sizes = ("--events", "2000", "--keys", "200", "--shards", "2", "--rate", "500", "--kills", "2")
    out = run("-m", "examples.view_care", *sizes, "--folder", str(tmp_path)).stdout
    assert "100 accounts differ" in out
    assert "12 of 12 answers equal the log" in out
    assert list(tmp_path.iterdir()) == []


def test_a_killed_agent_session_goes_on_where_it_was_and_its_past_is_forked(ray_cluster: Any) -> None:
    out = run("-m", "examples.agents").stdout
    for id in ("ann", "bob", "eve"):
        assert re.search(rf"Session/{id} +│ +\d+ +│ 1 agent ", out)  # what Ray says that its actor holds
    assert "SIGKILL" in out
    killed = re.search(r"ann was killed in process (\d+) and went on in process (\d+)", out)
    assert killed is not None
    assert killed[1] != killed[2]
    assert "as in an undisturbed run, event by event: ann, bob, eve (3 of 3)" in out
    assert re.search(r"!= +│ tool: 0.9 +│ tool: 0.1 ", out)
    assert re.search(r"!= +│ model: It comes to 3.75 kg. +│ model: It comes to 3.35 kg. ", out)
    assert re.search(r"active: [a-z, ]*ann~what-if[a-z, ]*; of 3 slots, ann~what-if took an idle one", out)
    assert re.search(r"ann~what-if +│ 2 +│ 3 ", out)


def test_agents_without_their_resource_say_how_to_start_ray(ray_cluster: Any) -> None:
    error = run("-m", "examples.agents", "--resource", "gadget", expect=2).stderr
    assert "this Ray has 0 of the resource 'gadget', the sessions need 3" in error
    assert """--resources='{"gadget": 3}'""" in error


async def test_two_drivers_of_the_same_agent_sessions_repeat_nothing(tmp_path: Path) -> None:
    app = agents.make_app("agent")
    async with eventray.run(app, data=tmp_path, local=True) as runtime:
        await asyncio.gather(agents.carry_on(runtime, agents.TASKS), agents.carry_on(runtime, agents.TASKS))
        got = {id: await agents.transcript(runtime, id) for id in agents.TASKS}
    assert got == await agents.undisturbed(app)
