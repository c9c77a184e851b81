"""Commands and queries: called on an instance, made values on the class, refused where nothing can be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from eventray import Command, CommandOptions, Meta, Receipt, Rejected
from tests.domain.bank import Account, Balances, Deposited, Opened, travelled


def test_a_command_is_a_function_from_state_to_events() -> None:
    assert Account(balance=Decimal(9)).deposit(Decimal(1)) == [Deposited(Decimal(1))]
    assert Account().open("Alice") == Opened("Alice")
    assert Account(owner="Alice").open("Alice") is None
    with pytest.raises(Rejected, match="positive"):
        Account().deposit(Decimal(-1))


def test_a_command_of_a_class_becomes_a_value() -> None:
    sent = Account.deposit.to("alice", Decimal(5), times=2)
    assert sent == Command(Account, "alice", "deposit", (Decimal(5),), {"times": 2})
    assert travelled(sent) == sent


def test_options_add_up_and_leave_the_original_alone() -> None:
    sent = Account.deposit.options(command_id="tx-17").options(timeout=2.5).to("alice", Decimal(5))
    assert sent.options == CommandOptions(command_id="tx-17", timeout=2.5)
    assert Account.deposit.to("alice", Decimal(5)).options == CommandOptions()


@pytest.mark.parametrize(
    "bad",
    [
        {"expected_version": -1},
        {"expected_version": True},
        {"expected_version": 1.0},
        {"expected_version": 2**63},
        {"command_id": ""},
        {"command_id": 5},
        {"timeout": 0},
        {"timeout": "1"},
        {"timeout": float("nan")},
        {"metadata": [1]},
    ],
)
def test_an_option_that_cannot_be_is_a_value_error_naming_it(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Account.deposit.options(**bad)


def test_a_command_knows_its_name_owner_and_kind() -> None:
    assert (Account.deposit.name, Account.deposit.owner, Account.deposit.blocking) == ("deposit", Account, False)
    assert Account.audit.blocking is True
    assert Account.__dict__["deposit"].__doc__ == "Add money."


def test_an_inherited_command_belongs_to_the_class_it_is_taken_from() -> None:
    class Savings(Account):
        rate: Decimal = Decimal(0)

    assert Savings.deposit.to("a", Decimal(1)).aggregate is Savings
    assert Savings().deposit(Decimal(1)) == [Deposited(Decimal(1))]


def test_sending_from_a_plain_instance_is_refused_at_once() -> None:
    with pytest.raises(RuntimeError, match=r"Account\.deposit\.remote\(\) on a plain instance"):
        Account().deposit.remote(Decimal(1))
    with pytest.raises(RuntimeError, match="plain instance"):
        Account().deposit.options(command_id="x")
    with pytest.raises(RuntimeError, match=r"Balances\.top\.remote\(\) on a plain instance"):
        Balances().top.remote(3)
    with pytest.raises(RuntimeError, match="plain instance"):
        Balances().top.options(timeout=1)


def test_a_query_is_a_function_of_the_view() -> None:
    view = Balances(total={"a": Decimal(1), "b": Decimal(2)})
    assert view.top(1) == [("b", Decimal(2))]
    assert (Balances.top.name, Balances.top.owner) == ("top", Balances)


def test_a_receipt_is_a_value() -> None:
    receipt = Receipt("Account/a", 3, 0, 12, (Opened("a"),), "tx")
    assert receipt == travelled(receipt)
    assert (receipt.events, receipt.duplicate) == ((Opened("a"),), False)


def test_meta_of_a_record_equals_meta_by_keywords() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    micros = 1_767_323_045_000_006
    stored = Meta.of("Account/a/b", 7, 2, 40, micros, "tx", {"user": "u"})
    assert stored.recorded_at == when
    assert stored == Meta(
        "Account/a/b", version=7, shard=2, position=40, recorded_at=when, command_id="tx", metadata={"user": "u"}
    )
    assert (stored.aggregate, stored.id, stored.event_id) == ("Account", "a/b", "Account/a/b@7")
    assert travelled(stored) == stored
    assert "Account/a/b" in repr(stored)


def test_meta_refuses_a_naive_time() -> None:
    with pytest.raises(ValueError, match="naive"):
        Meta(recorded_at=datetime(2026, 1, 1))
