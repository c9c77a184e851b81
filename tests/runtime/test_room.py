"""How many dedicated activations a node takes, where the next one goes, and when thrashing is said."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from eventray import Dedicated
from eventray.runtime.nodes import Node
from eventray.runtime.room import best_node, chosen_by_ray, lacking, rooms
from eventray.runtime.thrash import RETURNS_PER_MINUTE, WINDOW_S, Thrash


def node(id: str, cpus: float = 2, memory_gib: float = 8, **resources: float) -> Node:
    labels = {"zone": id}
    return Node(id, f"address of {id}", cpus, memory_gib * 2**30, labels, {"CPU": cpus, **resources})


def nodes(*some: Node) -> dict[str, Node]:
    return {one.id: one for one in some}


def test_the_default_comes_from_the_cores_and_the_memory_of_each_node() -> None:
    cluster = nodes(node("few cores", 2, 64), node("little memory", 64, 2), node("tiny", 0.1, 0.1))
    assert rooms(Dedicated(), cluster) == {"few cores": 32, "little memory": 16, "tiny": 4}
    assert rooms(Dedicated(max_active=3), cluster) == {"few cores": 3, "little memory": 3, "tiny": 3}


def test_a_node_without_cpus_is_used_where_there_is_no_other() -> None:
    head, worker = node("head", cpus=0), node("worker")
    assert list(rooms(Dedicated(), nodes(head, worker))) == ["worker"]
    assert list(rooms(Dedicated(), nodes(head))) == ["head"]


def test_the_next_goes_to_the_node_with_the_fewest_of_its_class_then_of_all() -> None:
    room = {"a": 2, "b": 2, "c": 2}
    assert best_node(room, Counter(a=1, b=0, c=0), Counter(a=1, b=9, c=3)) == "c"
    assert best_node(room, Counter(a=2, b=1, c=2), Counter(a=2, b=50, c=2)) == "b"
    assert best_node(room, Counter(a=2, b=2, c=2), Counter()) is None


def test_resources_asked_for_are_room_too_and_leave_the_choice_to_ray() -> None:
    cluster = nodes(node("a", GPU=1), node("b", GPU=2), node("c"))
    assert rooms(Dedicated(num_gpus=0.1, max_active=15), cluster) == {"a": 10, "b": 15, "c": 0}
    assert rooms(Dedicated(resources={"slot": 0.1}), nodes(node("a", slot=0.7))) == {"a": 7}
    assert chosen_by_ray(Dedicated(num_gpus=0.1))
    assert chosen_by_ray(Dedicated(label_selector={"zone": "a"}))
    assert not chosen_by_ray(Dedicated(resources={"tape": 0}))


@pytest.mark.parametrize(
    ("selector", "fitting"),
    [("a", ["a"]), ("!a", ["b", "c"]), ("in(a, c)", ["a", "c"]), ("!in(a,c)", ["b"])],
)
def test_labels_are_compared_as_ray_does(selector: str, fitting: list[str]) -> None:
    cluster = nodes(node("a"), node("b"), node("c"))
    placement = Dedicated(label_selector={"zone": selector}, max_active=1)
    assert [id for id, most in rooms(placement, cluster).items() if most] == fitting


def test_what_no_node_offers_is_told_with_what_there_is() -> None:
    cluster = nodes(node("a", tape=1), node("b"))
    assert lacking("Robot", Dedicated(resources={"tape": 1}), cluster) == ""
    assert lacking("Robot", Dedicated(resources={"tape": 2}), cluster) == (
        "no node of the cluster offers what each Robot asks for (tape: 2). "
        "There is: address of a with CPU: 2, tape: 1; address of b with CPU: 2"
    )
    assert "(labels zone: x)" in lacking("Robot", Dedicated(label_selector={"zone": "x"}), cluster)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def come_and_go(thrash: Thrash, clock: Clock, times: int, every_s: float) -> None:
    for n in range(times):
        thrash.evicted(f"Robot/{n % 3}")
        clock.now += every_s
        thrash.started(f"Robot/{n % 3}", 2)


def test_thrashing_is_said_once_with_its_rate_and_a_way_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    thrash = Thrash("Robot", clock)
    with caplog.at_level(logging.WARNING, logger="eventray.runtime"):
        come_and_go(thrash, clock, RETURNS_PER_MINUTE - 1, 1.0)
        assert (caplog.messages, thrash.warning) == ([], "")
        come_and_go(thrash, clock, 3 * RETURNS_PER_MINUTE, 1.0)
    assert caplog.messages == [thrash.warning]
    assert thrash.warning.startswith(f"{RETURNS_PER_MINUTE} instances of Robot a minute had to leave memory")
    assert "Packed()" in thrash.warning


def test_few_returns_and_first_starts_are_no_thrashing() -> None:
    clock = Clock()
    thrash = Thrash("Robot", clock)
    come_and_go(thrash, clock, 500, 2 * WINDOW_S / RETURNS_PER_MINUTE)  # half as many a minute
    come_and_go(thrash, clock, 500, WINDOW_S + 1)  # it was away for long
    for n in range(1_000):
        thrash.started(f"Robot/new-{n}", 2)
    assert thrash.warning == ""
