"""The watch over processes, without any: actors whose pulse a test answers or leaves open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import ray
from ray.exceptions import ActorUnavailableError

from eventray.runtime.config import Config
from eventray.runtime.watching import LOOKS_MAX, Watch


class Pulse:
    def __init__(self) -> None:
        self.asked: list[asyncio.Future[int]] = []

    def remote(self) -> asyncio.Future[int]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class Actor:
    def __init__(self) -> None:
        self.pulse = Pulse()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The actors whose process was ended; Ray is told to start them again."""
    found: list[Any] = []

    def end(actor: Any, *, no_restart: bool) -> None:
        assert not no_restart
        found.append(actor)

    monkeypatch.setattr(ray, "kill", end)
    return found


async def turn() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def look(watch: Watch, times: int) -> None:
    for _ in range(times):
        watch.look()
        await turn()


async def test_who_does_not_answer_for_too_many_looks_is_ended_and_no_one_else(ended: list[Any]) -> None:
    frozen, healthy = Actor(), Actor()
    watch = Watch(lambda: {"frozen": frozen, "healthy": healthy}, Config())
    for _ in range(LOOKS_MAX):
        await look(watch, 1)
        healthy.pulse.asked[-1].set_result(1)
        await turn()
    assert ended == []
    await look(watch, 1)
    assert ended == [frozen]


async def test_a_lost_call_is_no_missed_pulse_and_a_late_answer_is_an_answer(ended: list[Any]) -> None:
    actor = Actor()
    watch = Watch(lambda: {"actor": actor}, Config())
    for _ in range(3):
        await look(watch, LOOKS_MAX)
        actor.pulse.asked[-LOOKS_MAX // 2].set_result(1)
        await turn()
    assert ended == []


async def test_an_actor_that_ray_is_starting_again_is_waited_for(ended: list[Any]) -> None:
    starting = Actor()
    watch = Watch(lambda: {"starting": starting}, Config())
    for _ in range(3 * LOOKS_MAX):
        await look(watch, 1)
        starting.pulse.asked[-1].set_exception(ActorUnavailableError("it is restarting", None))
        await turn()
    assert ended == []


async def test_one_that_stays_frozen_is_ended_again(ended: list[Any]) -> None:
    frozen = Actor()
    await look(Watch(lambda: {"frozen": frozen}, Config()), 2 * (1 + LOOKS_MAX))
    assert ended == [frozen, frozen]
