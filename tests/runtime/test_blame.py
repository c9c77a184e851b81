"""A command that ends its process again and again is found among many, refused, and nobody else is blamed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import pytest

from eventray.domain.errors import CommandPoisoned
from eventray.runtime.blame import CRASHES_MAX, LOSSES_TOGETHER_MAX
from eventray.runtime.channel import TargetLost
from eventray.runtime.config import Config
from eventray.runtime.inbox import Inbox
from eventray.runtime.router import Router
from eventray.runtime.wire import Answerer, Batch, Kind, Reply
from tests.runtime.test_router import FakeJob, send

DEATHS_MAX = LOSSES_TOGETHER_MAX + CRASHES_MAX  # of one poisoned command
CONFIG = Config(reply_first_s=0.01, reply_grace_s=0.01)


class Process:
    """Dies when it runs what `deadly` says; the next to connect finds it restarted."""

    def __init__(self, deadly: Callable[[str], bool]) -> None:
        self.deadly = deadly
        self.deaths = 0
        self.answered: dict[Hashable, list[str]] = defaultdict(list)
        self.batches: list[Batch] = []
        self.life = Life(self, 1)

    async def connect(self, target: Hashable) -> Life:
        if self.life.died.done():
            self.life = Life(self, self.life.epoch + 1)
        self.life.inbox.hello("client")
        return self.life


class Life:
    """One incarnation: a real inbox, whose calls are lost at its death."""

    def __init__(self, process: Process, epoch: int) -> None:
        self.process = process
        self.epoch = epoch
        self.inbox = Inbox(epoch, self.handle, CONFIG)
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def handle(self, item: Any, answer: Answerer) -> None:
        if self.died.done():
            return
        lane, name, *_ = item
        if self.process.deadly(name):
            self.process.deaths += 1
            self.died.set_result(None)
            return
        if name not in self.process.answered[lane]:  # a command that was run before is known by its id
            self.process.answered[lane].append(name)
        answer(Kind.VALUE, name)

    async def submit(self, batch: Batch) -> Reply:
        self.process.batches.append(batch)
        return await self._alive(self.inbox.submit(batch))

    async def collect(self, client: str, number: int) -> Reply:
        return await self._alive(self.inbox.collect(client, number))

    async def _alive(self, call: Awaitable[Reply]) -> Reply:
        task = asyncio.ensure_future(call)
        ends: list[asyncio.Future[Any]] = [task, self.died]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self.died.done():
            task.cancel()
            raise TargetLost("it died")
        return task.result()


def named(instances: int, each: int) -> list[FakeJob]:
    """Commands 0, 1, 2 ... of instance i are named "i.0", "i.1", "i.2" ..."""
    return [FakeJob(f"i{i}", f"{i}.{n}") for n in range(each) for i in range(instances)]


async def outcomes_of(*routed: tuple[Router, FakeJob]) -> dict[str, Any]:
    for router, job in routed:
        send(router, job)
    outcomes = await asyncio.gather(*(job.done for _, job in routed), return_exceptions=True)
    return {job.name: outcome for (_, job), outcome in zip(routed, outcomes, strict=True)}


@pytest.mark.parametrize("poisoned", [{"3.1"}, {"3.1", "7.0"}, {"3.0", "3.2"}])
async def test_a_command_that_always_kills_is_refused_and_all_others_are_answered_in_order(poisoned: set[str]) -> None:
    process = Process(poisoned.__contains__)
    router = Router("client", process.connect, CONFIG)
    outcomes = await outcomes_of(*((router, job) for job in named(10, 3)))
    refused = {name: error for name, error in outcomes.items() if isinstance(error, CommandPoisoned)}
    assert {name: error.crashes for name, error in refused.items()} == dict.fromkeys(poisoned, CRASHES_MAX)
    assert {name for name, outcome in outcomes.items() if outcome == name} == outcomes.keys() - poisoned
    assert process.deaths <= DEATHS_MAX * len(poisoned)
    for i in range(10):
        assert process.answered[f"i{i}"] == [name for n in range(3) if (name := f"{i}.{n}") not in poisoned]
    assert router.quota.items == 0


async def test_after_a_refusal_commands_go_together_again() -> None:
    process = Process({"0.0"}.__contains__)
    router = Router("client", process.connect, CONFIG)
    await outcomes_of(*((router, job) for job in named(2, 2)))
    sent = len(process.batches)
    await asyncio.gather(*send(router, *(FakeJob(f"i{n}", f"later {n}") for n in range(5))))
    assert [(len(batch.items), batch.alone) for batch in process.batches[sent:]] == [(5, False)]
    assert process.deaths == DEATHS_MAX


@pytest.mark.parametrize("kills", [1, 3, 6])
async def test_kills_that_no_command_causes_refuse_nobody(kills: int) -> None:
    left = kills

    def killed(name: str) -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    process = Process(killed)
    router = Router("client", process.connect, CONFIG)
    outcomes = await outcomes_of(*((router, job) for job in named(10, 3)))
    assert {name: outcome for name, outcome in outcomes.items() if outcome != name} == {}
    assert process.deaths == kills
    for i in range(10):
        assert process.answered[f"i{i}"] == [f"{i}.{n}" for n in range(3)]


async def test_what_is_lost_once_goes_again_together() -> None:
    process = Process(lambda name: process.deaths == 0)
    router = Router("client", process.connect, CONFIG)
    await outcomes_of(*((router, job) for job in named(10, 3)))
    assert [(len(batch.items), batch.alone) for batch in process.batches] == [(30, False), (30, False)]


async def test_a_command_beside_the_poisoned_one_of_another_client_is_not_blamed() -> None:
    process = Process({"poison"}.__contains__)
    mine, other = Router("mine", process.connect, CONFIG), Router("other", process.connect, CONFIG)
    outcomes = await outcomes_of((other, FakeJob("p", "poison")), (mine, FakeJob("a", "innocent")))
    assert isinstance(outcomes["poison"], CommandPoisoned)
    assert outcomes["innocent"] == "innocent"
    assert process.deaths == DEATHS_MAX


async def test_a_command_that_had_not_started_when_its_target_died_is_not_blamed() -> None:
    process = Process(lambda name: process.deaths < LOSSES_TOGETHER_MAX)
    submit = Life.submit

    async def die_first(life: Life, batch: Batch) -> Reply:
        if batch.alone and process.deaths < 2 * DEATHS_MAX:
            process.deaths += 1
            life.died.set_result(None)  # someone else's command did it
        return await submit(life, batch)

    router = Router("client", process.connect, CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Life, "submit", die_first)
        [outcome] = send(router, FakeJob("a", "1"))
        assert await outcome == "1"
    assert process.deaths == 2 * DEATHS_MAX


async def test_a_target_that_was_out_of_reach_and_lives_accuses_nobody() -> None:
    process = Process(lambda name: False)
    router = Router("client", process.connect, CONFIG)
    submit, losses = process.life.submit, 2 * DEATHS_MAX

    async def unreachable(batch: Batch) -> Reply:
        nonlocal losses
        losses -= 1
        if losses >= 0:
            process.batches.append(batch)
            raise TargetLost("no way there")
        return await submit(batch)

    process.life.submit = unreachable  # type: ignore[method-assign]
    [outcome] = send(router, FakeJob("a", "1"))
    assert await outcome == "1"
    assert losses == -1
    assert not any(batch.alone for batch in process.batches)


async def test_a_suspect_whose_time_is_over_holds_up_nobody() -> None:
    process = Process(lambda name: name == "slow poison" and process.deaths < LOSSES_TOGETHER_MAX)
    router = Router("client", process.connect, CONFIG)
    handle = Life.handle
    waiting = asyncio.Event()

    def keep(life: Life, item: Any, answer: Answerer) -> None:
        if item[1] == "slow poison" and process.deaths == LOSSES_TOGETHER_MAX:
            waiting.set()
            life.process.answered["kept"] = [answer]  # type: ignore[list-item]
        else:
            handle(life, item, answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Life, "handle", keep)
        [poison] = send(router, job := FakeJob("p", "slow poison"))
        await waiting.wait()
        job.deadline = 0.0
        router._expire()
        with pytest.raises(Exception, match="no answer"):
            await poison
        [later] = send(router, FakeJob("b", "later"))
        process.answered["kept"][0](Kind.VALUE, "late")  # type: ignore[operator]
        assert await later == "later"
    assert router.quota.items == 0
