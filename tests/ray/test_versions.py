"""Versions of a view on Ray: other clients, lost processes, and the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import Receipt, Runtime
from tests.bank_app import Account
from tests.terminal import Terminal
from tests.units_app import Doubled, Totals, make_app
from tests.waiting import wait_until

APP = "versions"


@pytest.fixture
def runtime(ray_cluster: Any, tmp_path: Path) -> Iterator[Runtime]:
    with eventray.run(make_app(APP), data=tmp_path / "data", shards=2) as running:
        yield running


def deposit(runtime: Runtime, count: int) -> list[Receipt]:
    """Deposit 1 into as many accounts; version 2 counts a3 and a5 twice."""
    done = [*runtime.send_all(Account.deposit.to(f"a{n}", Decimal(1)) for n in range(count))]
    receipts = [one for one in done if isinstance(one, Receipt)]
    assert len(receipts) == count
    return receipts


def sum_after(runtime: Runtime, receipts: list[Receipt]) -> Decimal:
    return runtime.view(Totals).sum.options(after=receipts).remote().result()


def pid_of_directory() -> int:
    from ray.util.state import list_actors

    [actor] = list_actors(filters=[("name", "=", "directory"), ("ray_namespace", "=", APP), ("state", "=", "ALIVE")])
    assert actor.pid is not None
    return actor.pid


def test_other_clients_are_led_to_the_version_that_serves(runtime: Runtime, terminal: Terminal) -> None:
    with eventray.connect(APP) as other:
        done = deposit(runtime, 10)
        assert sum_after(other, done) == 10
        compared = terminal.json("compare", "Totals", "--old", "1", "--new", "2", "--app", APP, expect=1)
        assert {one["where"] for one in compared["differences"]} >= {"total['a3']", "total['a5']", "sum()"}
        assert "0 differences" in terminal.run("compare", "Totals", "--new", "3", "--app", APP)
        assert "version 2 serves" in terminal.run("switch", "Totals", "2", "--app", APP)
        assert sum_after(other, done) == sum_after(runtime, done) == 12
        assert "shadow" in terminal.run("status", APP)
        terminal.run("switch", "Totals", "1", "--app", APP)
        assert sum_after(other, done) == 10
        terminal.run("switch", "Totals", "9", "--app", APP, expect=2)
        assert terminal.json("rebuild", "Totals", "--version", "2", "--app", APP)["events"] == 2 * len(done)


def test_a_partition_that_is_killed_is_back_exact(runtime: Runtime) -> None:
    runtime.switch(Totals, 2).result()
    done = deposit(runtime, 10)
    assert sum_after(runtime, done) == 12
    for unit in [unit for unit in runtime.status().result().views if unit.version == 2]:
        os.kill(unit.pid, signal.SIGKILL)
    done = deposit(runtime, 10)
    assert sum_after(runtime, done) == 24


def test_a_change_goes_on_after_the_directory_was_killed_in_it(runtime: Runtime) -> None:
    done = deposit(runtime, 10)
    sum_after(runtime, done)
    frozen = next(unit for unit in runtime.status().result().views if unit.version == 2)
    os.kill(frozen.pid, signal.SIGSTOP)  # so the change does not come to its end
    change = runtime.switch(Totals, 2)
    try:
        os.kill(pid_of_directory(), signal.SIGKILL)
        assert sum_after(runtime, done) == 10
        assert not change.done()
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    change.result()
    assert sum_after(runtime, done) == 12
    assert runtime.view(Doubled, version=1).sum.remote().result() == 10
    wait_until(lambda: {unit.version for unit in runtime.status().result().views if unit.serves} == {2})
