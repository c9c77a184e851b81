"""Events, aggregates and projections are plain dataclasses underneath."""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections import deque
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from eventray import Aggregate, App, Event, Projection
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
        Account("Alice")  # type: ignore[call-arg]
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
    assert [field.name for field in dataclasses.fields(Limited)] == ["count"]


def test_fields_are_inherited_and_may_change_their_type_without_changing_the_base() -> None:
    class Base(Event):
        amount: Decimal
        note: str = ""

    class Extended(Base):
        note: int = 0  # type: ignore[assignment]
        more: int = 1

    assert Extended(Decimal(1)) == Extended(Decimal(1), 0, 1)
    types = {field.name: field.type for field in dataclasses.fields(Base)}
    assert types == {"amount": Decimal, "note": str}


def test_local_names_in_string_annotations_are_resolved_when_the_class_is_made() -> None:
    @dataclasses.dataclass(frozen=True)
    class Money:
        amount: Decimal

    class Paid(Event):
        money: Money

    assert Paid.__annotations__ == {"money": Money}
    assert dataclasses.fields(Paid)[0].type is Money


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


class Shadowed(Event):
    """Of the module; a function below has its own."""

    of_the_module: int = 0


def test_a_local_class_means_the_local_one_of_two_with_one_name() -> None:
    class Shadowed(Event):
        local: int = 0

    class User(Aggregate):
        last: Shadowed | None = None

        def apply(self, event: Shadowed) -> None: ...

    assert User.__annotations__["last"] == Shadowed | None
    assert User.apply.__annotations__["event"] is Shadowed


def test_a_local_class_that_comes_later_is_not_mistaken_for_a_global_one() -> None:
    class User(Aggregate):
        def apply(self, event: Shadowed) -> None: ...

    class Shadowed(Event):
        local: int = 0

    assert App("later", aggregates=[User]).events.classes == (Shadowed,)


def test_a_class_inside_the_class_and_a_field_named_like_its_type_are_resolved() -> None:
    class Order(Aggregate):
        class Status(enum.Enum):
            OPEN = "open"

        status: Status = Status.OPEN
        date: date | None = None

    assert Order.__annotations__ == {"status": Order.Status, "date": date | None}


def test_a_snapshot_interval_is_inherited() -> None:
    class Savings(Account):
        pass

    class Other(Account, snapshot_every=7):
        pass

    assert (Savings.__snapshot_every__, Other.__snapshot_every__) == (500, 7)
