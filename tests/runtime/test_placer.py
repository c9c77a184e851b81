"""The Placer over several nodes: where dedicated activations go, and again when one is gone. Its actors are made up."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from eventray import Aggregate, App, Dedicated
from eventray.runtime import placing
from eventray.runtime.nodes import Node
from eventray.runtime.placing import Placer
from eventray.runtime.status import ActivationStatus


class Robot(Aggregate):
    pass


class Sensor(Aggregate):
    pass


class Actor:
    """An activation on a node; `busy` while it has work."""

    def __init__(self, stream: str, node: str, busy: bool) -> None:
        self.stream, self.node, self.busy, self.alive = stream, node, busy, True
        self.idle_s = 1.0
        self.leave = self._leave

    async def _leave(self, idle_s: float) -> bool:
        return not self.busy


class World:
    """A cluster that is made up: its nodes, and every actor that was ever made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: str, **placements: Dedicated) -> None:
        self.nodes = {id: Node(id, id, 2.0, 2.0**34, {}, {"CPU": 2.0}) for id in nodes}
        self.made: list[Actor] = []
        self.made_busy = False
        classes: list[type[Aggregate]] = [Robot, Sensor]
        app = App("tests", aggregates=classes, placement={cls: placements[cls.__name__] for cls in classes})
        plan: Any = SimpleNamespace(app_name="tests")
        self.placer = Placer(plan, app, None, None, {}, lambda name, namespace: {})  # type: ignore[arg-type]

        async def actor(placer: Placer, cls: Any, one: Any) -> Actor:
            self.made.append(Actor(one.stream, one.node, self.made_busy))
            return self.made[-1]

        async def ask(actor: Actor) -> ActivationStatus:
            return ActivationStatus(actor.stream, idle_s=0.0 if actor.busy else actor.idle_s, node=actor.node)

        async def call(method: Any, *args: Any) -> Any:
            return await method(*args)

        monkeypatch.setattr(Placer, "_actor", actor)
        monkeypatch.setattr(placing, "alive_nodes", lambda: dict(self.nodes))
        monkeypatch.setattr(placing, "find_actor", self.find)
        monkeypatch.setattr(placing, "is_gone", lambda name, namespace: self.find(name, namespace) is None)
        monkeypatch.setattr(placing, "ask_status", ask)
        monkeypatch.setattr(placing, "call_patiently", call)
        monkeypatch.setattr(placing, "kill", lambda actor: setattr(actor, "alive", False))
        monkeypatch.setattr(placing, "WAIT_S", 60.0)

    def find(self, name: str, namespace: str) -> Actor | None:
        found = [one for one in self.made if one.stream == name and one.alive]
        return found[-1] if found else None

    def lose(self, node: str) -> None:
        del self.nodes[node]
        for one in self.made:
            one.alive &= one.node != node

    def on_each(self, aggregate: str = "Robot") -> dict[str, int]:
        return dict(Counter(a.node for a in self.placer.actors.values() if a.stream.startswith(aggregate)))


async def test_they_spread_over_the_nodes_by_their_class_and_then_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "a", "b", "c", Robot=Dedicated(max_active=3), Sensor=Dedicated())
    await world.placer.activate("Sensor", "s")
    await asyncio.gather(*(world.placer.activate("Robot", f"r{n}") for n in range(2)))
    assert world.on_each() == {"b": 1, "c": 1}
    await asyncio.gather(*(world.placer.activate("Robot", f"r{n}") for n in range(9)))
    assert world.on_each() == {"a": 3, "b": 3, "c": 3}
    assert len(world.made) == 10


async def test_the_next_one_goes_where_the_least_recently_used_was(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "a", "b", Robot=Dedicated(max_active=2), Sensor=Dedicated())
    actors = [await world.placer.activate("Robot", f"r{n}") for n in range(4)]
    actors[0].busy, actors[0].idle_s, actors[2].idle_s = True, 99.0, 9.0
    new = await world.placer.activate("Robot", "new")
    assert [one.stream for one in actors if not one.alive] == ["Robot/r2"]
    assert new.node == actors[2].node
    assert world.placer.counts()[0].passivated == 1


async def test_who_waits_gets_the_first_that_ends_its_work_each_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "a", Robot=Dedicated(max_active=2), Sensor=Dedicated(max_active=1))
    world.made_busy = True
    actors = [await world.placer.activate("Robot", f"r{n}") for n in range(2)]
    waiting = [asyncio.ensure_future(world.placer.activate("Robot", f"w{n}")) for n in range(3)]
    sensor = await world.placer.activate("Sensor", "s")  # another class has room
    assert [task.done() for task in waiting] == [False] * 3
    actors[1].busy = False
    first = await waiting[0]
    assert sensor.alive
    actors[0].busy = False
    await waiting[1]
    assert not waiting[2].done()
    first.busy = False
    await waiting[2]
    assert sorted(world.placer.actors) == ["Robot/w1", "Robot/w2", "Sensor/s"]


async def test_what_was_on_a_lost_node_is_made_anew_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "a", "b", Robot=Dedicated(max_active=2), Sensor=Dedicated())
    before = [await world.placer.activate("Robot", f"r{n}") for n in range(2)]
    world.lose("a")
    after = [await world.placer.activate("Robot", f"r{n}") for n in range(2)]
    assert [one.node for one in before] == ["a", "b"]
    assert [one.node for one in after] == ["b", "b"]
    assert after[1] is before[1]


async def test_a_start_that_fails_leaves_its_place_to_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "a", Robot=Dedicated(max_active=1), Sensor=Dedicated())
    good = Placer._actor

    async def broken(placer: Placer, cls: Any, one: Any) -> Any:
        monkeypatch.setattr(Placer, "_actor", good)
        raise RuntimeError("Ray says no")

    monkeypatch.setattr(Placer, "_actor", broken)
    with pytest.raises(placing.NoRoom, match="Ray says no"):
        await world.placer.activate("Robot", "r")
    assert (await world.placer.activate("Robot", "r")).alive


async def test_resources_that_no_node_offers_are_said_until_a_node_with_them_joins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(monkeypatch, "a", Robot=Dedicated(resources={"arm": 1}), Sensor=Dedicated())
    for _ in range(3):
        with pytest.raises(placing.NoRoom, match=r"what each Robot asks for \(arm: 1\)"):
            await world.placer.activate("Robot", "r")
    assert len(world.made) == 1  # so that Ray, and its autoscaler, know of it
    [warning] = [message for message in caplog.messages if "arm: 1" in message]
    assert world.placer.counts()[0].warning in warning
    world.nodes["b"] = Node("b", "b", 2.0, 2.0**34, {}, {"CPU": 2.0, "arm": 1.0})
    assert await world.placer.activate("Robot", "r") is world.made[0]
    assert world.placer.counts()[0].warning == ""
