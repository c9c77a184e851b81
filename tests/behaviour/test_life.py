"""Starting, ending, starting again; the same on every transport."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import eventray
from eventray import App, AppEnded, StoreLocked, StoreMismatch, StoreUnavailable
from tests.bank_app import Account, Balances, make_app
from tests.conftest import Start, wherever_they_live

ROOT = Path(__file__).parent.parent.parent


def test_shutdown_answers_what_was_sent_refuses_what_comes_later_and_the_next_run_has_it(start: Start) -> None:
    runtime = start()
    responses = [
        runtime.get(Account, f"a{n % 5}").deposit.options(command_id=f"tx-{n}").remote(Decimal(1)) for n in range(200)
    ]
    runtime.shutdown().result()
    receipts = [response.result() for response in responses]
    assert sum(receipt.events != () for receipt in receipts) == 200
    with pytest.raises(AppEnded, match="has ended"):
        runtime.get(Account, "a0").deposit.remote(Decimal(1)).result()
    runtime = start()
    assert runtime.state(Account, "a0").result().balance == 40
    again = runtime.get(Account, "a0").deposit.options(command_id="tx-0").remote(Decimal(1)).result()
    assert (again.duplicate, again.version, again.position) == (True, receipts[0].version, receipts[0].position)


def test_shutdown_waits_no_longer_than_drain_s_for_a_command_that_does_not_end(start: Start, tmp_path: Path) -> None:
    runtime = start(drain_s=0.5)
    response = runtime.get(Account, "alice").wait_for_file.remote(str(tmp_path / "ended"))
    runtime.shutdown().result(timeout=9.0)
    with pytest.raises(AppEnded):
        response.result()
    (tmp_path / "ended").touch()


def test_calls_made_before_it_serves_wait_for_it(tmp_path: Path) -> None:  # on Ray: test_overload
    runtime = eventray.run(make_app("test", "packed"), data=tmp_path, local=True)
    response = runtime.get(Account, "alice").deposit.remote(Decimal(1))
    assert response.result().version == 1
    runtime.shutdown().result()


def test_calls_to_an_app_that_cannot_start_fail_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_text("not a directory")
    runtime = eventray.run(make_app("test", "packed"), data=path, local=True)
    with pytest.raises(StoreUnavailable, match="a file"):
        runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()


@wherever_they_live
def test_another_number_of_shards_is_refused_naming_both(
    start: Start, app: App, tmp_path: Path, placement: str
) -> None:
    start(local=True, shards=2).shutdown().result()
    with (
        pytest.raises(StoreMismatch, match="shards") as mismatch,
        eventray.run(app, data=tmp_path / "data", shards=3, local=placement == "local"),
    ):
        pass
    assert (mismatch.value.expected, mismatch.value.found) == (3, 2)


@wherever_they_live
def test_another_app_on_the_store_is_refused(start: Start, app: App, tmp_path: Path, placement: str) -> None:
    start(local=True).shutdown().result()
    other = App("other", aggregates=[Account], projections=[Balances])
    with (
        pytest.raises(StoreMismatch, match="other"),
        eventray.run(other, data=tmp_path / "data", local=placement == "local"),
    ):
        pass


@wherever_they_live
def test_a_directory_in_use_is_refused_naming_the_holder(start: Start, app: App, tmp_path: Path) -> None:
    start().get(Account, "alice").deposit.remote(Decimal(1)).result()
    with pytest.raises(StoreLocked), eventray.run(app, data=tmp_path / "data", local=True):
        pass


def test_settings_that_cannot_be_are_refused_at_once(tmp_path: Path) -> None:
    app = make_app("test", "packed")
    with pytest.raises(ValueError, match="shards"):
        eventray.run(app, data=tmp_path, shards=0, local=True)
    with pytest.raises(ValueError, match="unknown setting 'colour'"):
        eventray.run(app, data=tmp_path, local=True, colour="red")
    with pytest.raises(ValueError, match="durability"):
        eventray.run(app, data=tmp_path, local=True, durability="hope")
    with pytest.raises(ValueError, match="query_timeout_s"):
        eventray.run(app, data=tmp_path, local=True, query_timeout_s=0)


FORGETFUL = """
import sys
from decimal import Decimal
import eventray
from tests.bank_app import Account, make_app
runtime = eventray.run(make_app("forgetful", "packed"), data=sys.argv[1], local=True)
runtime.get(Account, "alice").deposit.remote(Decimal(5)).result()
runtime.get(Account, "alice").deposit.remote(Decimal(5))
"""


def test_a_program_that_forgets_to_shut_down_ends_and_loses_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORGETFUL, str(tmp_path)], check=True, timeout=120, cwd=ROOT)
    with eventray.run(make_app("forgetful", "packed"), data=tmp_path, local=True) as runtime:
        assert runtime.state(Account, "alice").result().balance == 10
