"""`eventray history|state|tail`: the events of a running app, from a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import Runtime
from tests.bank_app import Account, make_app
from tests.terminal import Terminal

EVENTRAY = Path(sys.executable).parent / "eventray"


@pytest.fixture(scope="module")
def told(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """An app in which alice has opened an account and paid in 1, 2, 3."""
    with eventray.run(make_app("told", "packed"), data=tmp_path_factory.mktemp("told"), shards=2) as runtime:
        alice = runtime.get(Account, "alice")
        alice.open.options(metadata={"user": "clerk [7]"}).remote("Alice").result()
        for n in (1, 2, 3):
            alice.deposit.options(command_id=f"tx-{n}").remote(Decimal(n)).result()
        yield runtime


def test_history_prints_events_with_who_and_by_what(told: Runtime, terminal: Terminal) -> None:
    said = terminal.run("history", "Account", "alice", "--app", "told")
    for part in ("Opened", "clerk [7]", "tx-3", '{"amount": "3"}'):
        assert part in said
    entries = terminal.json("history", "Account", "alice", "--app", "told")
    assert [entry["event_id"] for entry in entries] == [f"Account/alice@{n}" for n in (1, 2, 3, 4)]
    assert entries[0]["metadata"] == {"user": "clerk [7]"}
    assert entries[3]["fields"] == {"amount": "3"}
    assert "has no events" in terminal.run("history", "Account", "nobody", "--app", "told")
    assert "InvalidId" in terminal.run("history", "Account", "", "--app", "told", expect=2)


def test_state_prints_it_now_at_a_version_and_at_a_moment(told: Runtime, terminal: Terminal) -> None:
    assert "6" in terminal.run("state", "Account", "alice", "--app", "told")
    now = terminal.json("state", "Account", "alice", "--app", "told")
    assert (now["version"], now["state"]["balance"], now["state"]["owner"]) == (4, "6", "Alice")
    assert terminal.json("state", "Account", "alice", "--at", "3", "--app", "told")["state"]["balance"] == "3"
    third = list(told.history(Account, "alice"))[2].meta.recorded_at
    for moment in (third.isoformat(), third.replace(tzinfo=None).isoformat()):
        assert terminal.json("state", "Account", "alice", "--at", moment, "--app", "told")["version"] == 3
    assert terminal.json("state", "Account", "alice", "--at", "2020-01-01", "--app", "told")["version"] == 0
    assert "there are Account" in terminal.run("state", "Konto", "alice", "--app", "told", expect=2)
    assert "ValueError" in terminal.run("state", "Account", "alice", "--at", "soon", "--app", "told", expect=2)


def test_tail_prints_the_last_events_of_a_kind(told: Runtime, terminal: Terminal) -> None:
    said = terminal.run("tail", "--no-follow", "--last", "2", "--type", "Deposited", "--app", "told").splitlines()
    assert [line.split()[2] for line in said] == ["Account/alice@3", "Account/alice@4"]
    lines = terminal.run("tail", "--no-follow", "--json", "--app", "told").splitlines()
    assert [json.loads(line)["version"] for line in lines] == [1, 2, 3, 4]
    assert terminal.run("tail", "--no-follow", "--last", "0", "--app", "told") == ""


def test_tail_goes_on_with_news(told: Runtime) -> None:
    command: list[str | Path] = [EVENTRAY, "tail", "--json", "--last", "1", "--app", "told"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as lines:
        assert json.loads(lines.readline())["stream"] == "Account/alice"
        receipt = told.get(Account, "bob").deposit.remote(Decimal(5)).result()
        assert json.loads(lines.readline())["position"] == receipt.position
        process.send_signal(signal.SIGINT)
        process.wait()


def test_the_only_app_needs_no_name_and_of_several_one_has_to_be_said(
    told: Runtime, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventray.runtime import transport_ray

    monkeypatch.setattr(transport_ray, "running_apps", lambda: ("told",))
    assert terminal.json("history", "Account", "alice")[0]["type"] == "Opened"
    monkeypatch.setattr(transport_ray, "running_apps", lambda: ("told", "untold"))
    assert "say which app: told, untold run" in terminal.run("history", "Account", "alice", expect=2)
    monkeypatch.setattr(transport_ray, "running_apps", lambda: ())
    assert "no app runs" in terminal.run("status", expect=2)
