"""Drivers: a second one joins, a killed one takes its app down, a detached app stays; names as Ray lists them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ray.util.state import list_actors

import eventray
from eventray import StoreLocked, UnknownName
from tests.bank_app import Account, Balances, make_app
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent

DRIVER = """
import sys
from decimal import Decimal
import eventray
from tests.bank_app import Account, make_app
with eventray.run(make_app("tests", "packed"), data=sys.argv[1], shards=2, detached={detached}) as runtime:
    runtime.get(Account, "alice").deposit.remote(Decimal(5)).result()
    print("serving", flush=True)
    if not {detached}:
        sys.stdin.read()
"""


def living(app: str = "tests") -> dict[str, str]:
    """Names and classes of an app's actors that are alive."""
    actors = list_actors(filters=[("ray_namespace", "=", app), ("state", "!=", "DEAD")], limit=1_000)
    return {str(actor.name): actor.class_name for actor in actors}


def start_driver(data: Path, *, detached: bool) -> subprocess.Popen[str]:
    code = DRIVER.format(detached=detached)
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(data)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.strip() == "serving":
            return driver
    raise AssertionError("the driver did not serve")


def end(driver: subprocess.Popen[str]) -> None:
    driver.kill()
    driver.communicate()


@pytest.fixture
def driver(ray_cluster: Any, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_driver(tmp_path / "data", detached=False)
    yield process
    end(process)
    wait_until(lambda: living() == {})


def test_actors_are_named_as_the_domain_is_and_none_is_left(ray_cluster: Any, tmp_path: Path) -> None:
    with eventray.run(make_app("tests", "dedicated"), data=tmp_path / "data", shards=1) as runtime:
        runtime.get(Account, "alice").deposit.remote(Decimal(5)).result()
        assert living() == {
            "directory": "Directory",
            "shard-0000": "Shard",
            "view/Balances": "Balances",
            "Account/alice": "Account",
        }
    wait_until(lambda: living() == {})


def test_a_second_driver_reads_and_writes(driver: subprocess.Popen[str]) -> None:
    with eventray.connect("tests") as runtime:
        receipt = runtime.get(Account, "alice").deposit.remote(Decimal(2)).result()
        assert receipt.version == 2
        assert runtime.view(Balances).of.options(after=receipt).remote("alice").result() == 7
    assert "shard-0000" in living()  # leaving ends nothing


def test_an_app_ends_when_its_driver_is_killed(driver: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    wait_until(lambda: living() == {})
    again = start_driver(tmp_path / "data", detached=False)  # its files are free
    end(again)


def test_an_app_that_runs_is_not_started_twice(driver: subprocess.Popen[str], tmp_path: Path) -> None:
    with (
        pytest.raises(StoreLocked, match=r"eventray\.connect\('tests'\)"),
        eventray.run(make_app("tests", "packed"), data=tmp_path / "data"),
    ):
        pass


def test_a_detached_app_outlives_its_driver(ray_cluster: Any, tmp_path: Path) -> None:
    driver = start_driver(tmp_path / "data", detached=True)
    driver.communicate()
    with eventray.connect("tests") as runtime:
        assert runtime.state(Account, "alice").result().balance == 5
        runtime.shutdown().result()
    wait_until(lambda: living() == {})


def test_connecting_to_an_app_that_does_not_run_names_it(ray_cluster: Any) -> None:
    with pytest.raises(UnknownName, match="nowhere"), eventray.connect("nowhere"):
        pass
