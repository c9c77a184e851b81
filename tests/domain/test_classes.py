"""Events, aggregates and projections are plain dataclasses underneath."""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from eventray import Aggregate, Event, Projection
from tests.domain.bank import Account, Balances, Deposited, Opened, travelled


def test_an_event_is_frozen_positional_and_compared_by_value() -> None:
    event = Deposited(Decimal(5))
    assert event == Deposited(amount=Decimal(5))
    assert event != Deposited(Decimal(6))
    assert hash(event) == hash(Deposited(Decimal(5)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.amount = Decimal(1)  # type: ignore[misc]


def test_the_stored_name_is_the_class_name_or_as_given() -> None:
    class Paid(Event, name="paid", version=2):
        pass

    assert (Deposited.__event_name__, Deposited.__event_version__) == ("Deposited", 1)
    assert (Paid.__event_name__, Paid.__event_version__) == ("paid", 2)


@pytest.mark.parametrize("keywords", [{"name": ""}, {"name": "a\nb"}, {"version": 0}, {"version": True}, {"name": 3}])
def test_a_stored_name_or_version_that_cannot_be_is_refused_with_the_class(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Bad"):
        type("Bad", (Event,), {}, **keywords)


def test_an_aggregate_takes_its_state_by_keyword_and_is_compared_by_it() -> None:
    account = Account(balance=Decimal(9))
    account.id, account.version = "alice", 7
    assert account == Account(balance=Decimal(9))
    assert (Account().id, Account().version) == ("", 0)
    with pytest.raises(TypeError):
        Account(Decimal(9))  # type: ignore[call-arg,misc]
    with pytest.raises(TypeError):
        Account(balanc=Decimal(9))  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        hash(account)


def test_an_empty_dict_list_or_set_as_default_is_fresh_for_each_instance() -> None:
    class Bag(Aggregate):
        names: list[str] = []
        seen: set[str] = set()
        count: dict[str, int] = {}

    one, other = Bag(), Bag()
    one.names.append("a")
    one.seen.add("a")
    one.count["a"] = 1
    assert (other.names, other.seen, other.count) == ([], set(), {})


def test_any_other_mutable_default_is_refused_with_class_and_field() -> None:
    with pytest.raises(TypeError, match=r"Full\.names"):

        class Full(Aggregate):
            names: list[str] = ["a"]

    with pytest.raises(TypeError, match=r"Queue\.waiting"):

        class Queue(Projection):
            waiting: deque[str] = deque()

    with pytest.raises(TypeError, match=r"Listed\.items"):

        class Listed(Event):
            items: list[int] = [1]


def test_a_mutable_class_attribute_without_annotation_is_refused_because_all_would_share_it() -> None:
    with pytest.raises(TypeError, match=r"Shared\.names.*annotate"):

        class Shared(Aggregate):
            names = []  # type: ignore[var-annotated]


def test_a_class_variable_stays_one() -> None:
    class Limited(Aggregate):
        limits: ClassVar[dict[str, int]] = {"a": 1}
        count: int = 0

    assert Limited.limits == {"a": 1}
    assert [field.name for field in dataclasses.fields(Limited)] == ["count"]  # type: ignore[arg-type]


def test_fields_are_inherited_and_may_change_their_type_without_changing_the_base() -> None:
    class Base(Event):
        amount: Decimal
        note: str = ""

    class Extended(Base):
        note: int = 0  # type: ignore[assignment]
        more: int = 1

    assert Extended(Decimal(1)) == Extended(Decimal(1), 0, 1)
    types = {field.name: field.type for field in dataclasses.fields(Base)}  # type: ignore[arg-type]
    assert types == {"amount": Decimal, "note": str}


def test_local_names_in_string_annotations_are_resolved_when_the_class_is_made() -> None:
    @dataclasses.dataclass(frozen=True)
    class Money:
        amount: Decimal

    class Paid(Event):
        money: Money

    assert Paid.__annotations__ == {"money": Money}
    assert dataclasses.fields(Paid)[0].type is Money  # type: ignore[arg-type]


def test_instances_survive_pickle_and_deepcopy() -> None:
    account = Account(balance=Decimal(3), notes=["a"])
    account.id, account.version = "alice", 2
    for twin in (travelled(account), copy.deepcopy(account)):
        assert (twin, twin.id, twin.version) == (account, "alice", 2)
        assert twin.notes is not account.notes
    for value in (Opened("a"), Balances(total={"a": Decimal(1)})):
        assert travelled(value) == value
        assert copy.deepcopy(value) == value


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_a_snapshot_interval_that_is_no_number_of_events_is_refused(every: Any) -> None:
    with pytest.raises(ValueError, match="snapshot_every"):
        type("Bad", (Aggregate,), {}, snapshot_every=every)
