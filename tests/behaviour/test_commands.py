"""What a caller sees of commands; the same on every transport and placement."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from eventray import (
    CommandFailed,
    CommandIdReused,
    ConcurrencyConflict,
    EncodingError,
    EventTooLarge,
    ImpureCommand,
    InvalidId,
    Receipt,
    Rejected,
    Runtime,
    UnknownName,
)
from tests.bank_app import Account, Balances, Deposited, InsufficientFunds, Opened
from tests.conftest import wherever_they_live


def test_a_receipt_says_what_was_stored_and_where(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    opened = alice.open.remote("Alice").result()
    deposited = alice.deposit.remote(Decimal("1.10")).result()
    assert (opened.stream, opened.version, opened.events, opened.duplicate) == (
        f"Account/{name}",
        1,
        (Opened("Alice"),),
        False,
    )
    assert (deposited.version, deposited.events) == (2, (Deposited(Decimal("1.10")),))
    assert deposited.position > opened.position
    assert deposited.shard == opened.shard


def test_a_command_without_events_gives_the_place_of_the_last_event(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    first = alice.open.remote("Alice").result()
    again = alice.open.remote("Alice").result()
    assert again.events == ()
    assert (again.version, again.position, again.duplicate) == (first.version, first.position, False)


@wherever_they_live
def test_several_events_of_one_command_are_one_receipt(runtime: Runtime, name: str) -> None:
    receipt = runtime.get(Account, name).deposit_twice.remote(Decimal(2)).result()
    assert receipt.version == 2
    assert receipt.events == (Deposited(Decimal(2)), Deposited(Decimal(2)))


def test_a_refusal_reaches_the_caller_as_it_was_raised(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    with pytest.raises(InsufficientFunds, match="0 is less than 5") as refused:
        alice.withdraw.remote(Decimal(5)).result()
    assert (refused.value.balance, refused.value.wanted) == (Decimal(0), Decimal(5))
    assert runtime.state(Account, name).result().version == 0


@wherever_they_live
def test_another_exception_is_a_failure_and_stores_nothing(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    with pytest.raises(CommandFailed, match="a bug of the user's") as failed:
        alice.break_down.remote().result()
    assert failed.value.cause_type == "ZeroDivisionError"
    assert alice.deposit.remote(Decimal(1)).result().version == 1


def test_a_command_that_calls_exit_ends_nothing_but_itself(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    with pytest.raises(CommandFailed) as failed:
        alice.leave_the_program.remote().result()
    assert failed.value.cause_type == "SystemExit"
    assert alice.deposit.remote(Decimal(1)).result().version == 1


@wherever_they_live
def test_a_command_that_changes_state_and_raises_leaves_no_trace(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    alice.deposit.remote(Decimal(10)).result()
    with pytest.raises(CommandFailed):
        alice.change_and_raise.remote().result()
    alice.withdraw.remote(Decimal(10)).result()
    assert runtime.state(Account, name).result() == Account(balance=Decimal(0))


@wherever_they_live
def test_a_command_that_changes_state_is_refused_by_name(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    with pytest.raises(ImpureCommand) as impure:
        alice.change_state.remote().result()
    assert impure.value.changed == ("balance",)
    assert alice.deposit.remote(Decimal(1)).result().version == 1


@wherever_they_live
def test_a_value_that_does_not_fit_its_event_stores_nothing(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    with pytest.raises(EncodingError, match=r"Deposited\.amount"):
        alice.wrong_value.remote().result()
    assert alice.deposit.remote(Decimal(1)).result().version == 1


@wherever_they_live
def test_arguments_that_do_not_fit_are_refused_before_they_leave(runtime: Runtime, name: str) -> None:
    alice: Any = runtime.get(Account, name)
    with pytest.raises(EncodingError, match=r"Account\.deposit"):
        alice.deposit.remote("abc")
    with pytest.raises(TypeError, match="missing"):
        alice.deposit.remote()


def test_an_event_above_the_limit_is_refused_whole(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    with pytest.raises(EventTooLarge):
        alice.write_large.remote(2 << 20).result()
    assert alice.write_large.remote(100_000).result().version == 1


@wherever_they_live
@pytest.mark.parametrize("id", ["", "x" * 1_000_000, "\ud800", 5])
def test_an_id_that_cannot_be_is_refused_at_once(runtime: Runtime, name: str, id: Any) -> None:
    with pytest.raises(InvalidId):
        runtime.get(Account, id)
    with pytest.raises(InvalidId):
        runtime.send(Account.deposit.to(id, Decimal(1)))


@pytest.mark.parametrize("id", ["../../etc", "a/b", "nul\0", "quo'te\"", "line\nbreak", "日本 🏦", "x" * 1024, " "])
def test_every_other_id_is_stored_as_it_is(runtime: Runtime, name: str, id: str) -> None:
    receipt = runtime.get(Account, id).deposit.options(command_id="once").remote(Decimal(1)).result()
    assert receipt.stream == f"Account/{id}"
    assert [meta.id for _, meta in runtime.history(Account, id)] == [id]


@wherever_they_live
def test_an_unknown_class_is_refused_at_once(runtime: Runtime, name: str) -> None:
    from eventray import Aggregate, Projection

    class Stranger(Aggregate):
        pass

    class StrangeView(Projection):
        pass

    with pytest.raises(UnknownName, match="Stranger"):
        runtime.get(Stranger, "a")
    with pytest.raises(UnknownName, match="StrangeView"):
        runtime.view(StrangeView)


def test_the_same_id_twice_gives_the_first_receipt(runtime: Runtime, name: str) -> None:
    deposit = runtime.get(Account, name).deposit.options(command_id="tx-17")
    first = deposit.remote(Decimal(5)).result()
    runtime.get(Account, name).deposit.remote(Decimal(1)).result()
    second = deposit.remote(Decimal(5)).result()
    assert not first.duplicate
    assert second == Receipt(
        first.stream, first.version, first.shard, first.position, first.events, first.command_id, True
    )
    assert runtime.state(Account, name).result().balance == 6


def test_the_same_id_sent_20_times_at_once_runs_once(runtime: Runtime, name: str) -> None:
    deposit = runtime.get(Account, name).deposit.options(command_id="tx-17")
    receipts = [response.result() for response in [deposit.remote(Decimal(5)) for _ in range(20)]]
    assert [receipt.duplicate for receipt in receipts].count(False) == 1
    assert {(receipt.version, receipt.events) for receipt in receipts} == {(1, (Deposited(Decimal(5)),))}


@wherever_they_live
def test_duplicates_among_others_in_one_burst(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    for number in range(10):
        alice.deposit.options(command_id=f"tx-{number}").remote(Decimal(1)).result()
    burst = [alice.deposit.options(command_id=f"tx-{number}").remote(Decimal(1)) for number in range(5, 25)]
    assert [response.result().duplicate for response in burst] == [True] * 5 + [False] * 15
    assert runtime.state(Account, name).result().balance == 25


@wherever_they_live
def test_one_id_may_be_used_on_two_instances(runtime: Runtime, name: str) -> None:
    for id in (f"{name}-a", f"{name}-b"):
        receipt = runtime.get(Account, id).deposit.options(command_id="transfer-1").remote(Decimal(1)).result()
        assert not receipt.duplicate


def test_the_same_id_for_something_else_is_refused(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    alice.deposit.options(command_id="tx").remote(Decimal(5)).result()
    with pytest.raises(CommandIdReused):
        alice.deposit.options(command_id="tx").remote(Decimal(6)).result()
    with pytest.raises(CommandIdReused):
        alice.deposit_twice.options(command_id="tx").remote(Decimal(5)).result()


def test_a_repeat_that_would_be_refused_now_gets_its_first_receipt(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    alice.deposit.remote(Decimal(5)).result()
    withdraw = alice.withdraw.options(command_id="all")
    first = withdraw.remote(Decimal(5)).result()
    again = withdraw.remote(Decimal(5)).result()
    assert again.duplicate
    assert (again.version, again.events) == (first.version, first.events)


def test_an_expected_version_that_is_not_the_version_is_a_conflict(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    alice.deposit.options(expected_version=0).remote(Decimal(5)).result()
    with pytest.raises(ConcurrencyConflict) as conflict:
        alice.deposit.options(expected_version=0).remote(Decimal(5)).result()
    assert (conflict.value.expected, conflict.value.actual) == (0, 1)


def test_commands_of_one_instance_run_in_the_order_sent(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    responses = [alice.deposit.remote(Decimal(n)) for n in range(1, 201)]
    assert [response.result().version for response in responses] == list(range(1, 201))
    amounts = [event.amount for event, _ in runtime.history(Account, name) if isinstance(event, Deposited)]
    assert amounts == list(range(1, 201))


def test_send_all_gives_receipts_and_errors_in_order(runtime: Runtime, name: str) -> None:
    commands = [Account.deposit.to(f"{name}-{n % 7}", Decimal(n % 5)) for n in range(100)]
    outcomes = list(runtime.send_all(commands))
    assert [isinstance(outcome, Rejected) for outcome in outcomes] == [n % 5 == 0 for n in range(100)]
    assert all(isinstance(outcome, Receipt) for n, outcome in enumerate(outcomes) if n % 5)


def test_metadata_travels_to_history_and_view(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    by = {"user": "ann", "correlation_id": "c-1", "n": 3}
    receipt = alice.deposit.options(metadata=by).remote(Decimal(1)).result()
    [(event, meta)] = list(runtime.history(Account, name))
    assert (event, dict(meta.metadata), meta.command_id) == (Deposited(Decimal(1)), by, receipt.command_id)
    assert runtime.view(Balances).last_user.options(after=receipt).remote(name).result() == "ann"


async def test_everything_can_be_awaited(runtime: Runtime, name: str) -> None:
    receipt = await runtime.get(Account, name).deposit.remote(Decimal(5))
    assert await runtime.view(Balances).of.options(after=receipt).remote(name) == 5
    assert (await runtime.state(Account, name)).balance == 5
    assert [event async for event, _ in runtime.history(Account, name)] == [Deposited(Decimal(5))]
    outcomes = [outcome async for outcome in runtime.send_all([Account.deposit.to(f"{name}-b", Decimal(1))])]
    assert isinstance(outcomes[0], Receipt)
    assert (await runtime.heads())[receipt.shard] >= receipt.position
