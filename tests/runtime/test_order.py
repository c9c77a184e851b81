"""Routers on a network that loses, delays and repeats calls, to a process that dies: order and exactly once hold.

Time is made up: whoever sleeps is woken when nobody has anything else to do. So a seed always gives the same run.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import pytest

from eventray.domain.errors import Overloaded
from eventray.runtime.blame import CRASHES_MAX, LOSSES_TOGETHER_MAX
from eventray.runtime.channel import TargetLost
from eventray.runtime.config import Config
from eventray.runtime.inbox import Inbox
from eventray.runtime.lanes import Lanes
from eventray.runtime.quota import RETRY_AFTER_S
from eventray.runtime.router import Router
from eventray.runtime.wire import Answerer, Batch, BatchRefused, Kind, Reply
from tests.runtime.test_router import FakeItem, FakeJob, send

SEEDS = 150
CLIENTS, LANES, EACH = 3, 4, 25
MAILBOX_MAX = 12
DEATHS_MAX = LOSSES_TOGETHER_MAX + CRASHES_MAX - 1  # with one more, an innocent command could be blamed
CONFIG = Config(batch_commands_max=10, link_batches_max=2, reply_first_s=0.02, reply_grace_s=0.005, poll_s=0.1)


class MadeUpTime(asyncio.SelectorEventLoop):
    """A loop whose clock moves only when nothing is ready, and then at once to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_NoWaiting(self))

    def time(self) -> float:
        return self.now


class _NoWaiting(selectors.SelectSelector):
    def __init__(self, loop: MadeUpTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.now += max(0.0, timeout or 0.0)
        return super().select(0)


class World:
    """What outlives a process: the log of every instance. And chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.logs: dict[Hashable, list[str]] = defaultdict(list)
        self.happened: dict[str, int] = defaultdict(int)
        self.life = Life(self, 1)

    def happens(self, what: str, probability: float) -> bool:
        if self.chance.random() >= probability:
            return False
        self.happened[what] += 1
        return True

    async def pause(self) -> None:
        await asyncio.sleep(self.chance.choice((0, 0, 0.001, 0.01, 0.1)))

    def connect_as(self, client: str) -> Callable[[Hashable], Awaitable[Way]]:
        async def connect(target: Hashable) -> Way:
            await self.pause()
            if self.happens("no way there", 0.1):
                raise TargetLost("no way there")
            if self.life.died.done():
                self.life = Life(self, self.life.epoch + 1)
            self.life.inbox.hello(client)
            return Way(self, self.life)

        return connect


class Life:
    """One incarnation of the process: a real inbox; per instance a mailbox whose commands run one by one."""

    def __init__(self, world: World, epoch: int) -> None:
        self.world = world
        self.epoch = epoch
        self.inbox = Inbox(epoch, self.handle, CONFIG)
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.mailboxes: dict[Hashable, deque[tuple[str, Answerer]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def handle(self, item: FakeItem, answer: Answerer) -> None:
        mailbox = self.mailboxes.get(item.lane)
        if mailbox is not None and len(mailbox) >= MAILBOX_MAX:
            self.world.happened["full"] += 1
            answer(Kind.FULL, ("mailbox", MAILBOX_MAX, "waiting commands", RETRY_AFTER_S))
            return
        if mailbox is None:
            mailbox = self.mailboxes[item.lane] = deque()
            task = asyncio.get_running_loop().create_task(self.run(item.lane, mailbox))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        mailbox.append((item.name, answer))

    async def run(self, lane: Hashable, mailbox: deque[tuple[str, Answerer]]) -> None:
        world = self.world
        while mailbox:
            await world.pause()
            if self.died.done():
                return
            if world.happens("superseded", 0.01):
                while mailbox:
                    mailbox.popleft()[1](Kind.AGAIN, "superseded")
                break
            commit = [mailbox.popleft() for _ in range(world.chance.randint(1, len(mailbox)))]
            for name, _ in commit:
                if name in world.logs[lane]:
                    world.happened["duplicate"] += 1
                else:
                    world.logs[lane].append(name)
            if world.happened["death"] < DEATHS_MAX and world.happens("death", 0.02):
                self.died.set_result(None)  # after the commit, before anybody knows
                return
            for name, answer in commit:
                answer(Kind.VALUE, name)
        del self.mailboxes[lane]


class Way:
    """A channel to one incarnation, on which calls come to harm."""

    def __init__(self, world: World, life: Life) -> None:
        self.world = world
        self.life = life
        self.epoch = life.epoch

    async def submit(self, batch: Batch) -> Reply:
        world = self.world
        await world.pause()
        if world.happens("call lost", 0.05):
            raise TargetLost("the call was lost")
        if world.happens("call late", 0.05):
            self._later(batch)
            raise TargetLost("the call was given up, and arrives all the same")
        if world.happens("call twice", 0.05):
            self._later(batch)
        return await self._answer(self.life.inbox.submit(batch))

    async def collect(self, client: str, number: int) -> Reply:
        await self.world.pause()
        return await self._answer(self.life.inbox.collect(client, number))

    def _later(self, batch: Batch) -> None:
        async def arrive() -> None:
            await self.world.pause()
            await asyncio.sleep(self.world.chance.random())
            try:
                await self.world.life.inbox.submit(batch)
            except BatchRefused:
                self.world.happened["refused"] += 1

        task = asyncio.get_running_loop().create_task(arrive())
        self.life.tasks.add(task)
        task.add_done_callback(self.life.tasks.discard)

    async def _answer(self, call: Awaitable[Reply]) -> Reply:
        task = asyncio.ensure_future(call)
        ends: list[asyncio.Future[Any]] = [task, self.life.died]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self.life.died.done():
            task.cancel()
            raise TargetLost("it died")
        reply = task.result()
        await self.world.pause()
        if self.world.happens("answer lost", 0.05):
            raise TargetLost("the answer was lost")
        return reply


async def run(seed: int) -> World:
    """Clients send numbered commands; afterwards every log must hold what was accepted, in order, each once."""
    world = World(seed)
    sent: list[tuple[FakeJob, asyncio.Future[Any]]] = []

    async def client(number: int) -> None:
        router = Router(f"client-{number}", world.connect_as(f"client-{number}"), CONFIG)
        chance = random.Random(f"{seed} {number}")
        for n in range(EACH):
            for lane in chance.sample(range(LANES), LANES):
                job = FakeJob(f"i{lane}", f"{number}.{n:03}", patient=number == 0)
                sent.extend(zip([job], send(router, job), strict=True))
            if chance.random() < 0.3:
                await world.pause()
        await asyncio.wait([outcome for _, outcome in sent])
        assert router.quota.items == 0

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    check(world, sent)
    return world


def check(world: World, sent: list[tuple[FakeJob, asyncio.Future[Any]]]) -> None:
    accepted: dict[Hashable, list[str]] = defaultdict(list)
    for job, outcome in sent:
        error = outcome.exception()
        if error is None:
            accepted[job.lane].append(job.name)
        else:
            assert isinstance(error, Overloaded), error
            assert not job.patient
            assert job.name not in world.logs[job.lane], f"{job.name} was stored, and its sender told that it was not"
    for lane, names in accepted.items():
        for number in range(CLIENTS):
            mine = [name for name in world.logs[lane] if name.startswith(f"{number}.")]
            assert mine == [name for name in names if name.startswith(f"{number}.")], f"client {number} to {lane}"


def run_all(seeds: int) -> dict[str, int]:
    happened: dict[str, int] = defaultdict(int)
    for seed in range(seeds):
        with asyncio.Runner(loop_factory=MadeUpTime) as runner:
            try:
                world = runner.run(run(seed))
            except AssertionError as error:
                error.add_note(f"seed {seed}")
                raise
        for what, times in world.happened.items():
            happened[what] += times
    return happened


def test_each_command_takes_effect_once_and_in_the_order_sent_whatever_happens_on_the_way() -> None:
    happened = run_all(SEEDS)
    assert {"call lost", "call late", "call twice", "answer lost", "superseded", "death"} <= happened.keys()
    assert {"duplicate", "refused", "full"} <= happened.keys()


def test_a_run_of_one_seed_is_always_the_same() -> None:
    def once() -> tuple[dict[str, int], dict[Hashable, list[str]]]:
        with asyncio.Runner(loop_factory=MadeUpTime) as runner:
            world = runner.run(run(7))
            return world.happened, world.logs

    assert once() == once()


def test_the_check_finds_a_retry_that_goes_behind_later_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lanes, "put_back", staticmethod(lambda queue, jobs: queue.extend(jobs)))
    with pytest.raises(AssertionError, match="client"):
        run_all(SEEDS)
