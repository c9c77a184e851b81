"""Every error carries its facts, pickles with them, and advises."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest

from eventray.domain import errors
from eventray.domain.errors import ConcurrencyConflict, EventRayError, InvalidId, Rejected, StaleView
from tests.domain.bank import travelled

FACTS: dict[str, Any] = {
    "app": "bank",
    "call": "to_arrow()",
    "package": "pyarrow",
    "extra": "data",
    "stream": "Account/alice",
    "command": "deposit",
    "cause": "boom",
    "changed": ("balance",),
    "command_id": "tx-17",
    "timeout_s": 1.5,
    "first_command": "open",
    "crashes": 3,
    "expected": 3,
    "actual": 4,
    "where": "Deposited.amount",
    "reason": "some reason",
    "size_bytes": 20,
    "limit_bytes": 10,
    "id": "../x",
    "limit": 7,
    "unit": "commands",
    "retry_after_s": 0.25,
    "type": "Deposited",
    "version": 2,
    "at_version": 9,
    "kind": "aggregate",
    "name": "Akkount",
    "known": ("Account",),
    "view": "Balances",
    "behind": {0: 3},
    "shard": 2,
    "lost": True,
    "position": 12,
    "epoch": 1,
    "current": 2,
    "token": 5,
    "address": "10.0.0.1:6379",
    "path": "data/shard-0000.db",
    "holder": "pid 7",
    "what": "app name",
    "found": "shop",
    "hint": "Give another path",
    "cause_type": "ZeroDivisionError",
    "traceback": "Traceback ...",
}

ERRORS = [
    cls
    for cls in vars(errors).values()
    if inspect.isclass(cls) and issubclass(cls, EventRayError) and cls not in (EventRayError, Rejected)
]


def facts_of(cls: type[EventRayError]) -> dict[str, Any]:
    return {name: FACTS[name] for name in list(inspect.signature(cls.__init__).parameters)[1:]}


@pytest.mark.parametrize("cls", ERRORS)
def test_an_error_takes_its_facts_by_keyword_or_in_order_and_keeps_them(cls: type[Any]) -> None:
    facts = facts_of(cls)
    for error in (cls(**facts), cls(*facts.values())):
        assert {name: getattr(error, name) for name in facts} == facts
        assert error.advice in ("give up", "send again", "repair")
        assert len(str(error)) > 10


@pytest.mark.parametrize("cls", ERRORS)
def test_an_error_survives_pickle_and_deepcopy(cls: type[Any]) -> None:
    error = cls(**facts_of(cls))
    for twin in (travelled(error), copy.deepcopy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


class Insufficient(Rejected):
    def __init__(self, *, missing: int) -> None:
        super().__init__(f"{missing} missing")
        self.missing = missing


def test_a_refusal_with_its_own_constructor_is_rebuilt_without_calling_it() -> None:
    twin = travelled(Insufficient(missing=3))
    assert type(twin) is Insufficient
    assert (twin.missing, twin.args) == (3, ("3 missing",))


def test_a_note_on_an_error_travels_with_it() -> None:
    error = Rejected("no")
    error.add_note("seen on a Sunday")
    assert travelled(error).__notes__ == ["seen on a Sunday"]


def test_a_conflict_names_both_versions() -> None:
    assert "version 4" in str(ConcurrencyConflict("Account/a", 3, 4))
    assert "not at 3" in str(ConcurrencyConflict("Account/a", 3, 4))


def test_a_long_or_strange_id_is_shortened_in_the_message_and_whole_in_the_attribute() -> None:
    error = InvalidId("x\n" * 5000, "too long")
    assert len(str(error)) < 200
    assert "\n" not in str(error)
    assert error.id == "x\n" * 5000


def test_a_stale_view_says_which_shards_are_behind() -> None:
    assert "shard 1 by 4" in str(StaleView("Balances", {1: 4}, 0.5))
