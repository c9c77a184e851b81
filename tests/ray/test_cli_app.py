"""`eventray serve` and `eventray status` on Ray."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import EventRayError, Receipt
from eventray.runtime import ray_setup
from examples.bank import Account, bank
from tests import bank_app
from tests.terminal import Terminal
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
EVENTRAY = Path(sys.executable).parent / "eventray"
BANK = "examples.bank:bank"
SIGNAL_AFTER, ACCOUNTS = 500, 4


def start_serving(data: Path) -> subprocess.Popen[str]:
    command: list[str | Path] = [EVENTRAY, "serve", BANK, "--data", data, "--shards", "2", "--insecure"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"app 'bank' serves: 2 shards in {data}\n"
    return process


@pytest.fixture
def serving(ray_cluster: Any, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_serving(tmp_path / "data")
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def deposit(n: int) -> eventray.Command:
    return Account.deposit.options(command_id=f"tx-{n}").to(f"a{n % ACCOUNTS}", Decimal(1))


def test_serve_drains_at_sigterm_and_keeps_every_receipt(serving: subprocess.Popen[str], tmp_path: Path) -> None:
    receipts: list[Receipt] = []
    failures: list[EventRayError] = []
    with eventray.connect("bank") as runtime:
        for n in range(ACCOUNTS):
            runtime.get(Account, f"a{n}").open.remote().result()
        until_it_ends = itertools.takewhile(lambda _: not failures and serving.poll() is None, itertools.count())
        for outcome in runtime.send_all(deposit(n) for n in until_it_ends):
            if isinstance(outcome, Receipt):
                receipts.append(outcome)
            else:
                failures.append(outcome)
            if len(receipts) == SIGNAL_AFTER and not failures:
                os.kill(serving.pid, signal.SIGTERM)
    assert serving.wait() == 0
    assert len(receipts) >= SIGNAL_AFTER
    with eventray.run(bank, data=tmp_path / "data", local=True) as again:  # its files are free
        stored = [entry.meta for n in range(ACCOUNTS) for entry in again.history(Account, f"a{n}")]
        kept = {(meta.command_id, meta.stream, meta.version, meta.position) for meta in stored}
        assert {(r.command_id, r.stream, r.version, r.position) for r in receipts} <= kept
        sent = len(receipts) + len(failures)  # what had no receipt: sent again, it takes effect once
        settled = list(again.send_all(deposit(n) for n in range(sent)))
        assert [outcome for outcome in settled if not isinstance(outcome, Receipt)] == []
        assert sum(again.state(Account, f"a{n}").result().balance for n in range(ACCOUNTS)) == sent


def test_serve_ends_when_someone_else_shuts_its_app_down(serving: subprocess.Popen[str], tmp_path: Path) -> None:
    elsewhere = subprocess.run(
        [EVENTRAY, "status", "bank"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
    )
    assert "Balances" in elsewhere.stdout  # it needs none of the app's classes
    with eventray.connect("bank") as runtime:
        runtime.shutdown().result()
    assert serving.wait() == 0
    assert serving.stdout is not None
    assert "was ended by someone else" in serving.stdout.read()


def test_serve_comes_back_from_a_detached_app(ray_cluster: Any, tmp_path: Path) -> None:
    command: list[str | Path] = [
        EVENTRAY,
        "serve",
        BANK,
        "--data",
        tmp_path / "data",
        "--shards",
        "1",
        "--detached",
        "--insecure",
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert "app 'bank' serves: 1 shards" in done.stdout
    with eventray.connect(bank) as runtime:
        assert runtime.get(Account, "alice").open.remote().result().version == 1
        runtime.shutdown().result()


def test_serve_refuses_a_ray_that_asks_strangers_for_no_token(
    ray_cluster: Any, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_setup, "_is_loopback", lambda host: False)  # whatever this machine calls itself
    said = terminal.run("serve", BANK, "--data", tmp_path / "data", "--detached", expect=2)
    assert said.startswith(f"RayUnprotected: the Ray at {ray_cluster.get_runtime_context().gcs_address} asks for no")
    assert not (tmp_path / "data").exists()


def test_a_ray_without_tokens_is_protected_where_only_this_machine_reaches_it(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_setup, "_is_loopback", lambda host: True)
    ray_setup.check_protected()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "10.0.0.1", "::", "head.example", "127.example")],
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert ray_setup._is_loopback(host) is loopback


def test_status_shows_shards_activations_and_views(
    ray_cluster: Any, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    app = bank_app.make_app("shown", "dedicated")
    with eventray.run(app, data=tmp_path / "data", shards=1) as runtime:
        alice = runtime.get(bank_app.Account, "alice")
        alice.deposit.remote(Decimal(5)).result()
        alice.poison.remote().result()
        wait_until(lambda: runtime.status().result().views[0].state == "stopped")
        told = runtime.status().result()
        shown = terminal.json("status", "shown")
        assert (shown["app"], shown["data"]) == ("shown", str(tmp_path / "data"))
        [shard], [activation], [view] = shown["shards"], shown["activations"], shown["views"]
        assert (shard["state"], shard["head"], shard["pid"]) == ("serving", 2, told.shards[0].pid)
        assert (activation["stream"], activation["pid"]) == ("Account/alice", told.activations[0].pid)
        [accounts] = shown["aggregates"]
        assert (accounts["name"], accounts["placement"], accounts["active"]) == ("Account", "Dedicated", 1)
        assert (accounts["started"], accounts["passivated"], accounts["restarts"]) == (1, 0, 0)
        assert (view["name"], view["state"], view["lag"]) == ("Balances", "stopped", 1)
        assert view["reason"] == told.views[0].reason
        text = terminal.run("status", "shown")
        for cell in (
            "serving",
            "Account/alice",
            "Dedicated",
            "Balances",
            "stopped: Poison Account/alice@2",
            str(shard["pid"]),
        ):
            assert cell in text


def test_the_status_of_an_app_that_does_not_run_is_exit_code_2(ray_cluster: Any, terminal: Terminal) -> None:
    assert "there is no app 'nowhere'" in terminal.run("status", "nowhere", expect=2)


def test_the_status_of_a_cluster_out_of_reach_is_exit_code_2_and_told_once() -> None:
    command: list[str | Path] = [EVENTRAY, "status", "bank", "--address", "127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("RayUnavailable: ")
    assert "RAY_ADDRESS is '127.0.0.1:9'" in done.stderr
    assert "Traceback" not in done.stderr
