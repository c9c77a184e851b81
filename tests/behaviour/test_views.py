"""What a caller sees of views; the same on every transport."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventray import CommandFailed, EncodingError, ProjectionStopped, Runtime, StaleView, StoreCorrupted, StoreMismatch
from eventray.store import reshard
from tests.bank_app import Account, Balances
from tests.conftest import Start, in_this_process, wherever_they_live


@wherever_they_live
def test_a_query_after_a_receipt_sees_it(runtime: Runtime, name: str) -> None:
    view = runtime.view(Balances)
    for n in range(1, 20):
        receipt = runtime.get(Account, name).deposit.remote(Decimal(1)).result()
        assert view.of.options(after=receipt).remote(name).result() == n


@wherever_they_live
def test_a_query_after_several_receipts_or_heads_sees_all(runtime: Runtime, name: str) -> None:
    view = runtime.view(Balances)
    for deposits in (1, 2):
        receipts = [runtime.get(Account, f"{name}-{n}").deposit.remote(Decimal(n)).result() for n in range(1, 21)]
        assert {receipt.shard for receipt in receipts} == {0, 1}
        of = view.of.options(after=receipts if deposits == 1 else runtime.heads().result())
        assert [of.remote(f"{name}-{n}").result() for n in range(1, 21)] == [deposits * n for n in range(1, 21)]


@wherever_they_live
def test_a_view_that_cannot_catch_up_in_time_is_stale(runtime: Runtime, name: str) -> None:
    receipt = runtime.get(Account, name).deposit.remote(Decimal(1)).result()
    beyond = {receipt.shard: receipt.position + 5}
    view = runtime.view(Balances)
    assert view.of.options(after=receipt).remote(name).result() == 1
    with pytest.raises(StaleView) as stale:
        view.of.options(after=beyond, timeout=0.05).remote(name).result()
    assert stale.value.behind == {receipt.shard: 5}
    assert view.of.options(after=beyond, timeout=0.05, stale="serve").remote(name).result() == 1


@in_this_process
def test_a_view_that_was_never_saved_counts_as_behind(own_runtime: Runtime) -> None:
    runtime = own_runtime
    receipt = runtime.get(Account, "alice").open.remote("Alice").result()  # the view does not want it
    assert runtime.view(Balances).sum.options(after=receipt).remote().result() == 0
    status = runtime.status().result()
    assert [(view.name, status.lag(view)) for view in status.views] == [("Balances", 0)]
    beyond = {receipt.shard: receipt.position + 1}
    with pytest.raises(StaleView):
        runtime.view(Balances).sum.options(after=beyond, timeout=0.05).remote().result()


@wherever_they_live
def test_queries_that_wait_for_events_hold_up_no_other(start: Start) -> None:
    runtime = start(reply_first_s=3600, reply_grace_s=3600)
    receipt = runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()
    view = runtime.view(Balances)
    beyond = {receipt.shard: receipt.position + 1}
    waiting = [view.sum.options(after=beyond).remote() for _ in range(5)]
    assert [view.sum.options(after=receipt).remote().result(timeout=60) for _ in range(5)] == [1] * 5
    assert not any(answer.done() for answer in waiting)
    runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()
    assert [answer.result(timeout=60) for answer in waiting] == [2] * 5


@wherever_they_live
def test_an_error_in_a_query_reaches_the_caller(runtime: Runtime, name: str) -> None:
    with pytest.raises(CommandFailed, match="a bug in a query"):
        runtime.view(Balances).failing.remote().result()


@in_this_process
def test_arguments_of_a_query_are_checked(runtime: Runtime, name: str) -> None:
    view: Any = runtime.view(Balances)
    with pytest.raises(EncodingError, match=r"Balances\.of"):
        view.of.remote(5)


@in_this_process
def test_an_event_that_cannot_be_applied_stops_the_view_on_its_last_good_state(own_runtime: Runtime) -> None:
    runtime = own_runtime
    alice, view = runtime.get(Account, "alice"), runtime.view(Balances)
    good = alice.deposit.remote(Decimal(7)).result()
    bad = alice.poison.remote().result()
    with pytest.raises(ProjectionStopped, match="cannot apply this"):
        view.of.options(after=bad).remote("alice").result()
    assert view.of.options(after=good).remote("alice").result() == 7
    [status] = runtime.status().result().views
    assert status.state == "stopped"
    assert "Poison Account/alice@2" in status.reason
    assert alice.deposit.remote(Decimal(1)).result().version == 3  # the write side goes on


@wherever_they_live
def test_a_view_goes_on_from_its_save(start: Start) -> None:
    first = start(local=True, shards=2)
    for n in range(10):
        first.get(Account, f"a{n}").deposit.remote(Decimal(1)).result()
    heads = first.heads().result()
    assert first.view(Balances).sum.options(after=heads).remote().result() == 10
    first.shutdown().result()
    second = start(shards=2)
    assert second.view(Balances).sum.options(after=heads).remote().result() == 10
    [status] = second.status().result().views
    assert status.applied == 0  # all of it came from the save
    receipt = second.get(Account, "a0").deposit.remote(Decimal(1)).result()
    assert second.view(Balances).sum.options(after=receipt).remote().result() == 11


@wherever_they_live
def test_positions_of_a_generation_that_is_no_more_are_refused(start: Start, tmp_path: Path) -> None:
    with start(local=True) as runtime:
        receipt = runtime.get(Account, "alice").deposit.remote(Decimal(5)).result()
        heads = runtime.heads().result()
        assert runtime.view(Balances).sum.options(after=receipt).remote().result() == 5
    reshard(tmp_path / "data", shards=2)
    with start(shards=2) as runtime:
        view, now = runtime.view(Balances), runtime.heads().result()
        for after in (receipt, [receipt], heads):
            with pytest.raises(StoreMismatch, match="resharded") as caught:
                view.sum.options(after=after).remote().result()
            assert (caught.value.expected, caught.value.found) == (1, now.generation)
        assert view.sum.options(after=now).remote().result() == 5
        again = runtime.get(Account, "alice").deposit.remote(Decimal(6)).result()
        assert again.version == 2
        assert view.sum.options(after=again).remote().result() == 11


@wherever_they_live
def test_an_older_shard_than_a_view_has_seen_is_not_served(start: Start, tmp_path: Path) -> None:
    data, kept = tmp_path / "data", tmp_path / "kept"
    with start(local=True) as runtime:
        runtime.get(Account, "alice").deposit.remote(Decimal(5)).result()
    kept.mkdir()
    for path in data.glob("shard-*.db"):
        shutil.copy(path, kept)
    with start(local=True) as runtime:
        receipt = runtime.get(Account, "alice").deposit.remote(Decimal(6)).result()
        assert runtime.view(Balances).sum.options(after=receipt).remote().result() == 11
    for path in kept.iterdir():
        shutil.copy(path, data)
    for path in data.glob("*.head"):  # the witness of the shard is gone, too: the view is the last one left
        path.unlink()
    with pytest.raises(StoreCorrupted, match="'Balances' has seen position 2"):
        start()
    (data / "views.db").unlink()
    with start(local=True) as runtime:
        assert runtime.state(Account, "alice").result().balance == 5
