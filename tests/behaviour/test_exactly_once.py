"""A command takes effect once, whoever sends it how often; the same on every transport and placement."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from eventray import CommandTimeout, ConcurrencyConflict, Receipt, Response, Runtime
from eventray.store import NewCommand, NewRecord
from tests.bank_app import Account, Deposited, InsufficientFunds, make_app
from tests.conftest import Start
from tests.waiting import wait_until

EVENTS = make_app("events", "packed").events


def append_behind_its_back(runtime: Runtime, id: str, amount: int) -> None:
    """What a writer outside the engine does: an append that no activation knows of."""
    name, version, data = EVENTS.encode(Deposited(Decimal(amount)))
    records = [NewRecord(name, data, b"", version)]
    shard = runtime._shard(f"Account/{id}")
    runtime._engine.spawn(shard.append_batch(f"Account/{id}", [NewCommand(None, records)])).result()


def test_an_id_sent_20_times_at_once_runs_once_also_after_a_restart(start: Start) -> None:
    def send_20(runtime: Runtime) -> list[Receipt]:
        deposit = runtime.get(Account, "alice").deposit.options(command_id="tx-17")
        return [response.result() for response in [deposit.remote(Decimal(5)) for _ in range(20)]]

    with start(local=True) as runtime:
        first = send_20(runtime)
    with start() as runtime:
        runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()
        again = send_20(runtime)
        assert runtime.state(Account, "alice").result().balance == 6
    assert [receipt.duplicate for receipt in first].count(False) == 1
    assert [receipt.duplicate for receipt in again] == [True] * 20
    assert {(receipt.version, receipt.position, receipt.events) for receipt in [*first, *again]} == {
        (1, first[0].position, (Deposited(Decimal(5)),))
    }


def test_a_command_meets_what_another_writer_appended_before_it(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    alice.deposit.remote(Decimal(5)).result()
    append_behind_its_back(runtime, name, 10)
    assert alice.withdraw.remote(Decimal(12)).result().version == 3  # refused on what its activation knew
    append_behind_its_back(runtime, name, 1)
    receipts = [response.result() for response in [alice.deposit.remote(Decimal(1)) for _ in range(10)]]
    assert [receipt.version for receipt in receipts] == list(range(5, 15))


def test_a_refusal_that_was_lost_on_the_way_is_decided_again(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    alice.deposit.remote(Decimal(5)).result()

    def send() -> list[Response[Receipt]]:
        """As a client does that has heard nothing of the first time."""
        return [alice.withdraw.options(command_id=f"{name}-{amount}").remote(Decimal(amount)) for amount in (20, 3)]

    refused, accepted = send()
    assert isinstance(refused.exception(), InsufficientFunds)
    assert accepted.result().version == 2
    alice.deposit.remote(Decimal(100)).result()
    again = [response.result() for response in send()]
    assert [(receipt.version, receipt.duplicate) for receipt in again] == [(4, False), (2, True)]


def test_a_version_seen_before_another_writer_appended_is_a_conflict(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    seen = alice.deposit.remote(Decimal(5)).result().version
    append_behind_its_back(runtime, name, 10)
    with pytest.raises(ConcurrencyConflict) as conflict:
        alice.deposit.options(expected_version=seen).remote(Decimal(1)).result()
    assert (conflict.value.stream, conflict.value.expected, conflict.value.actual) == (f"Account/{name}", 1, 2)
    assert alice.deposit.options(expected_version=conflict.value.actual).remote(Decimal(1)).result().version == 3


def test_of_two_that_decide_by_one_version_one_wins(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    both = [alice.deposit.options(expected_version=0).remote(Decimal(n)) for n in (1, 2)]
    assert both[0].result().version == 1
    error = both[1].exception()
    assert isinstance(error, ConcurrencyConflict)
    assert error.actual == 1


def test_a_repeat_is_a_duplicate_though_its_version_is_no_more(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    deposit = alice.deposit.options(command_id="tx", expected_version=0)
    first = deposit.remote(Decimal(5)).result()
    alice.deposit.remote(Decimal(1)).result()
    again = deposit.remote(Decimal(5)).result()
    assert (again.duplicate, again.version, again.position) == (True, first.version, first.position)


def test_a_command_sent_again_while_it_runs_is_not_run_again(runtime: Runtime, name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = runtime.get(Account, name).wait_for_file.options(command_id="once")
    first = slow.remote(str(gate))
    runs = Path(f"{gate}.runs")
    wait_until(runs.exists)
    with pytest.raises(CommandTimeout):
        runtime.get(Account, name).wait_for_file.options(command_id="once", timeout=0.05).remote(str(gate)).result()
    again = [slow.remote(str(gate)) for _ in range(3)]
    later = runtime.get(Account, name).deposit.remote(Decimal(1))
    assert not any(response.done() for response in (first, *again, later))
    gate.touch()
    assert not first.result().duplicate
    assert [(response.result().duplicate, response.result().version) for response in again] == [(True, 1)] * 3
    assert later.result().version == 2
    assert runs.read_text() == "x"
