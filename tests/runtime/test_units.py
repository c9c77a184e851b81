"""What a projection may say of versions, partitions and replicas, and where its keys go."""

from __future__ import annotations

from typing import Any

import pytest

from eventray import App, Event, Meta, Projection, query
from eventray.runtime.comparing import Difference, differences
from eventray.runtime.model import ProjectionModel
from eventray.runtime.partitions import partition_of
from eventray.runtime.units import Unit, units_of
from tests.units_app import Doubled, Totals, make_app


class Paid(Event):
    amount: int


class Spread(Projection, partitions=2):
    """Has a key, as a method without self."""

    total: int = 0

    def apply(self, event: Paid) -> None:
        self.total += event.amount

    def key(event: Paid, meta: Meta) -> str:  # type: ignore[misc]  # noqa: N805  (as in the design)
        return meta.id

    @query(merge=max)
    def most(self) -> int:
        return self.total


def test_units_have_a_name_each() -> None:
    assert [str(unit) for unit in make_app("units").units] == [
        "Totals",
        *(f"Totals@2#{part}{copy}" for part in (1, 2) for copy in ("", "~2")),
        "Totals@3",
    ]
    assert [*units_of(ProjectionModel(Spread, [Paid]))] == [Unit("Spread", 1, 1), Unit("Spread", 1, 2)]


def test_a_key_has_one_partition_for_ever() -> None:
    found = [partition_of(key, 4) for key in ("alice", "bob", 7, b"x", "7")]
    assert found == [2, 2, 2, 1, 4]
    assert {partition_of(f"a{n}", 4) for n in range(100)} == {1, 2, 3, 4}
    assert partition_of("alice", 1) == 1
    for key in (None, 1.5, ("a",), True):
        with pytest.raises(TypeError, match="a str, an int or bytes"):
            partition_of(key, 4)


def test_versions_of_one_name_stand_side_by_side() -> None:
    app = make_app("units")
    assert (app.versions_of("Totals"), app.projections["Totals"].cls) == ((1, 2, 3), Totals)
    assert app.projection("Totals", 2).cls is Doubled
    with pytest.raises(TypeError, match=r"with version 1.*another version="):
        App("bank", projections=[Totals, type("Other", (Totals,), {"__module__": __name__}, name="Totals")])


@pytest.mark.parametrize("mark", "/@#~")
def test_a_name_cannot_hold_what_separates_its_parts(mark: str) -> None:
    odd = type("Odd", (Spread,), {"__module__": __name__}, name=f"a{mark}b")
    with pytest.raises(ValueError, match=f"a{mark}b"):
        App("bank", projections=[odd])


@pytest.mark.parametrize("keywords", [{"partitions": 0}, {"replicas": True}, {"partitions": "2"}, {"replicas": 257}])
def test_counts_of_actors_are_checked(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(keywords))}=.* must be 1 to 256"):
        type("Wrong", (Spread,), {"__module__": __name__}, **keywords)


def wrong(**members: Any) -> type[Any]:
    return type("Wrong", (Spread,), {"__module__": __name__, **members})


def asked(self: Any, id: str = "") -> int:
    return 0


def merged_by(parts: list[int], n: int) -> int:
    return n


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"key": None}, "partitions=2 needs one"),
        ({"key": lambda self, meta: "x"}, "@staticmethod"),
        ({"key": lambda event: "x"}, "@staticmethod"),
        ({"asked": query(asked)}, "which of the 2 partitions"),
        ({"asked": query(key="name")(asked)}, "key='name' is none of its parameters: id"),
        ({"asked": query(merge=merged_by)(asked)}, "parameter 'n', which the query has not"),
    ],
)
def test_what_partitions_need_is_checked_when_the_app_is_built(members: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        App("bank", projections=[wrong(**members)])


def test_a_save_of_other_partitions_is_of_no_use() -> None:
    two, three = (ProjectionModel(type("P", (Spread,), {}, partitions=n), [Paid]) for n in (2, 3))
    assert two.fingerprint != three.fingerprint


def test_differences_are_named_down_to_the_key() -> None:
    old = {"a": [1, 2], "b": {1, 2}, "c": 1, "same": Unit("x")}
    new = {"a": [1, 3, 4], "b": {2, 3}, "d": 1, "same": Unit("x")}
    assert [*differences("x", old, new)] == [
        Difference("x['a'][1]", "2", "3"),
        Difference("x['a'][2]", "-", "4"),
        Difference("x['b']", "1", "-"),
        Difference("x['b']", "-", "3"),
        Difference("x['c']", "1", "-"),
        Difference("x['d']", "-", "1"),
    ]
    assert [*differences("x", Paid(1), Paid(2))] == [Difference("x.amount", "1", "2")]
