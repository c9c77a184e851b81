"""Router: batches what waits, keeps the order of an instance, sends again what was lost."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Hashable
from typing import Any, NamedTuple

import pytest

from eventray.domain.errors import CommandPoisoned, CommandTimeout, Overloaded, ShardUnavailable
from eventray.runtime.channel import TargetLost
from eventray.runtime.config import Config
from eventray.runtime.link import LARGE
from eventray.runtime.router import Router
from eventray.runtime.wire import Answer, Batch, Kind, Reply


class FakeItem(NamedTuple):
    """What travels of a FakeJob."""

    lane: Hashable
    name: str
    time: str
    size: int


class FakeJob:
    """A command called `name` for an instance."""

    def __init__(
        self, instance: str, name: str, timeout_s: float = 60.0, *, size: int = 10, patient: bool = False
    ) -> None:
        self.lane: Hashable = instance
        self.name = name
        self.deadline = time.monotonic() + timeout_s
        self.sent = 0
        self.size = size
        self.patient = patient
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def item(self) -> Any:
        return FakeItem(self.lane, self.name, "again" if self.sent else "first", self.size)

    def complete(self, kind: Kind, payload: Any) -> None:
        if kind is Kind.ERROR:
            self.done.set_exception(payload)
        else:
            self.done.set_result(payload)

    def expire(self, reason: str) -> None:
        self.fail(CommandTimeout("A/1", self.name, "", 0.0) if self.sent else ShardUnavailable(-1, reason))

    def fail(self, error: BaseException) -> None:
        self.done.set_exception(error)

    def poison(self, crashes: int) -> BaseException:
        return CommandPoisoned(str(self.lane), self.name, crashes)


class Target:
    """Records batches; answers each when `release` is set, or loses the first calls."""

    epoch = 1

    def __init__(self, lose: int = 0) -> None:
        self.batches: list[Batch] = []
        self.lose = lose
        self.release = asyncio.Event()
        self.release.set()
        self.arrived = asyncio.Event()
        self.second = asyncio.Event()
        self.again: set[str] = set()
        self.full: set[str] = set()
        self.connected = 0

    async def connect(self, target: Hashable) -> Target:
        self.connected += 1
        return self

    async def submit(self, batch: Batch) -> Reply:
        self.batches.append(batch)
        self.arrived.set()
        if len(self.batches) == 2:
            self.second.set()
        await self.release.wait()
        if self.lose:
            self.lose -= 1
            raise TargetLost("it died")
        answers = []
        for index, item in enumerate(batch.items):
            name = str(item[1])
            if name in self.full:
                answers.append(Answer(index, Kind.FULL, ("here", 3, "commands", 0.05)))
            else:
                answers.append(Answer(index, Kind.AGAIN if name in self.again else Kind.VALUE, name))
        self.again.clear()
        self.full.clear()
        return Reply(answers, False)

    async def collect(self, client: str, number: int) -> Reply:
        raise AssertionError("nothing is pending")

    def sent(self) -> list[list[str]]:
        return [[str(item[1]) for item in batch.items] for batch in self.batches]


def send(router: Router, *jobs: FakeJob) -> list[asyncio.Future[Any]]:
    for job in jobs:
        if router.admit(job):
            router.send("target", job)
    return [job.done for job in jobs]


async def test_what_waits_while_a_call_is_on_its_way_leaves_as_one_batch() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=1))
    target.release.clear()
    first = send(router, FakeJob("a", "1"))
    await target.arrived.wait()
    rest = send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(2, 6)))
    target.release.set()
    await asyncio.gather(*first, *rest)
    assert target.sent() == [["1"], ["2", "3", "4", "5"]]


async def test_few_that_come_while_many_wait_for_their_first_reply_go_with_the_next_ones() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=2))
    target.release.clear()
    many = send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(10)))
    await target.arrived.wait()
    few = send(router, FakeJob("j0", "few"))
    await asyncio.sleep(0)  # the turn in which it would leave
    assert len(target.batches) == 1
    enough = send(router, *(FakeJob(f"k{n}", f"k{n}") for n in range(4)))
    await target.second.wait()
    assert target.sent()[1] == ["few", "k0", "k1", "k2", "k3"]
    target.release.set()
    await asyncio.gather(*many, *few, *enough)


async def test_many_leave_in_two_calls_so_that_client_and_target_work_at_once() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=2))
    target.release.clear()
    many = send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(4 * LARGE)))
    await target.second.wait()
    assert [len(batch) for batch in target.sent()] == [2 * LARGE, 2 * LARGE]
    target.release.set()
    await asyncio.gather(*many)


@pytest.mark.parametrize(("instances", "calls_max"), [(LARGE, 2), (4 * LARGE, 1)])
async def test_few_and_those_who_may_have_one_call_only_leave_in_one(instances: int, calls_max: int) -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=calls_max))
    await asyncio.gather(*send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(instances))))
    assert [len(batch) for batch in target.sent()] == [instances]


async def test_a_second_call_waits_while_other_targets_have_not_replied_and_a_first_one_never_does() -> None:
    targets = {"a": Target(), "b": Target()}

    async def connect(name: Hashable) -> Target:
        return await targets[str(name)].connect(name)

    router = Router("client", connect, Config(link_batches_max=2))
    jobs = [FakeJob(f"i{n}", f"{n}") for n in range(3)]
    for target in targets.values():
        target.release.clear()
    for name, job in zip("aba", jobs, strict=True):
        assert router.admit(job)
        router.send(name, job)
        router.flush()
        if job is not jobs[2]:
            await targets[name].arrived.wait()
    assert [target.sent() for target in targets.values()] == [[["0"]], [["1"]]]
    targets["b"].release.set()
    await jobs[1].done
    assert targets["a"].sent() == [["0"]]
    more = FakeJob("i4", "4")
    assert router.admit(more)
    router.send("a", more)  # there is room again: it leaves with what has waited
    await targets["a"].second.wait()
    assert targets["a"].sent() == [["0"], ["2", "4"]]
    targets["a"].release.set()
    await asyncio.gather(*(job.done for job in (*jobs, more)))


async def test_a_query_does_not_wait_for_the_first_reply_to_many_others() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=2))
    target.release.clear()
    queries = [FakeJob("", f"{n}") for n in range(11)]
    for query in queries:
        query.lane = None
    many = send(router, *queries[:10])
    await target.arrived.wait()
    one = send(router, queries[10])
    await target.second.wait()
    target.release.set()
    await asyncio.gather(*many, *one)


async def test_few_that_wait_for_the_reply_of_many_leave_when_it_is_there() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=2))
    target.release.clear()
    many = send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(10)))
    await target.arrived.wait()
    few = send(router, FakeJob("j0", "few"))
    target.release.set()
    await asyncio.gather(*many, *few)
    assert [len(batch) for batch in target.sent()] == [10, 1]


async def test_what_waits_goes_with_the_next_commands_of_those_who_were_answered() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=2))
    target.release.clear()
    again: list[asyncio.Future[Any]] = []

    def come_back(_: asyncio.Future[Any]) -> None:
        again.extend(send(router, FakeJob(f"i{len(again)}", "again")))

    for done in send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(10))):
        done.add_done_callback(come_back)
    await target.arrived.wait()
    few = send(router, FakeJob("j0", "few"))
    target.release.set()
    await asyncio.gather(*few)
    await asyncio.gather(*again)
    assert [len(batch) for batch in target.sent()] == [10, 11]


async def test_commands_of_one_instance_are_in_one_batch_at_a_time() -> None:
    target = Target()
    router = Router("client", target.connect, Config(link_batches_max=2))
    target.release.clear()
    first = send(router, FakeJob("a", "1"))
    await target.arrived.wait()
    second = send(router, FakeJob("a", "2"), FakeJob("b", "3"))
    await target.second.wait()
    assert target.sent() == [["1"], ["3"]]
    target.release.set()
    await asyncio.gather(*first, *second)
    assert target.sent() == [["1"], ["3"], ["2"]]


async def test_a_lost_call_is_sent_again_first_and_in_order_under_a_new_number() -> None:
    target = Target(lose=1)
    router = Router("client", target.connect, Config(link_batches_max=1))
    target.release.clear()
    jobs = [FakeJob("a", f"{n}") for n in range(3)]
    outcomes = send(router, *jobs)
    await target.arrived.wait()
    outcomes += send(router, FakeJob("a", "3"))
    target.release.set()
    await asyncio.gather(*outcomes)
    assert target.sent() == [["0", "1", "2"], ["0", "1", "2", "3"]]
    lost, again = target.batches
    assert again.number > lost.number
    assert lost.number in again.voids or lost.number < again.floor
    assert [item[2] for item in again.items] == ["again", "again", "again", "first"]
    assert target.connected == 2


async def test_an_item_that_was_not_decided_is_sent_again_before_later_ones() -> None:
    target = Target()
    target.again = {"1", "2"}
    router = Router("client", target.connect, Config(link_batches_max=1))
    target.release.clear()
    outcomes = send(router, FakeJob("a", "1"), FakeJob("a", "2"))
    await target.arrived.wait()
    outcomes += send(router, FakeJob("a", "3"))
    target.release.set()
    await asyncio.gather(*outcomes)
    assert target.sent() == [["1", "2"], ["1", "2", "3"]]


async def test_too_much_for_one_instance_is_refused_at_once() -> None:
    target = Target()
    router = Router("client", target.connect, Config(aggregate_commands_max=3))
    target.release.clear()
    outcomes = send(router, *(FakeJob("a", f"{n}") for n in range(5)))
    for refused in outcomes[3:]:
        with pytest.raises(Overloaded):
            await refused
    others = send(router, FakeJob("b", "other"))
    target.release.set()
    assert len(await asyncio.gather(*outcomes[:3], *others)) == 4
    assert router.quota.items == 0


async def test_too_much_of_one_client_is_refused_at_once() -> None:
    target = Target()
    router = Router("client", target.connect, Config(client_commands_max=2))
    outcomes = send(router, *(FakeJob(f"i{n}", f"{n}") for n in range(3)))
    with pytest.raises(Overloaded):
        await outcomes[2]
    await asyncio.gather(*outcomes[:2])


async def test_whoever_has_its_answer_finds_room_for_the_next() -> None:
    target = Target()
    router = Router("client", target.connect, Config(client_commands_max=2))
    room: list[bool] = []

    class Caller(FakeJob):
        def complete(self, kind: Kind, payload: Any) -> None:
            super().complete(kind, payload)
            room.append(router.admit(FakeJob("next", self.name)))

    await asyncio.gather(*send(router, Caller("a", "1"), Caller("b", "2")))
    assert room == [True, True]


async def test_the_bytes_of_one_client_are_bounded_and_one_large_command_always_fits() -> None:
    target = Target()
    router = Router("client", target.connect, Config(client_bytes_max=100))
    target.release.clear()
    large, refused = send(router, FakeJob("a", "1", size=1_000), FakeJob("b", "2", size=1))
    with pytest.raises(Overloaded, match="100 bytes") as overloaded:
        await refused
    assert pickle.loads(pickle.dumps(overloaded.value)).retry_after_s == overloaded.value.retry_after_s > 0
    target.release.set()
    await large
    assert await asyncio.gather(*send(router, FakeJob("b", "3", size=99), FakeJob("b", "4", size=99))) == ["3", "4"]


async def test_a_full_target_refuses_what_is_new_and_gets_what_was_sent_before_again() -> None:
    target = Target(lose=1)
    router = Router("client", target.connect, Config(link_batches_max=1))
    target.release.clear()
    before = send(router, FakeJob("a", "1"), FakeJob("a", "2"))  # lost: an earlier run may have stored them
    await target.arrived.wait()
    new = send(router, FakeJob("a", "3"), FakeJob("b", "4"))
    patient = send(router, FakeJob("a", "5", patient=True))
    target.full = {"2", "3", "5"}
    target.release.set()
    assert await asyncio.gather(*before, new[1], *patient) == ["1", "2", "4", "5"]
    with pytest.raises(Overloaded, match="here already holds its limit of 3 commands"):
        await new[0]
    assert target.sent() == [["1", "2"], ["4", "1", "2", "3", "5"], ["2", "5"]]
    assert target.connected == 2  # a full target is not a lost one
    assert router.quota.items == 0


async def test_what_waits_for_room_is_ended_with_its_router() -> None:
    target = Target()
    router = Router("client", target.connect, Config())
    target.full = {"1"}
    [waiting] = send(router, FakeJob("a", "1", patient=True))
    await target.arrived.wait()
    for _ in range(5):  # its answer is taken: it waits to go again
        await asyncio.sleep(0)
    router.close(ShardUnavailable(-1, "the app is ending"))
    with pytest.raises(ShardUnavailable):
        await waiting


async def test_a_patient_command_is_not_refused_by_the_limit_of_its_instance() -> None:
    target = Target()
    router = Router("client", target.connect, Config(aggregate_commands_max=2))
    outcomes = send(router, *(FakeJob("a", f"{n}", patient=True) for n in range(5)))
    assert len(await asyncio.gather(*outcomes)) == 5


async def test_a_command_that_left_and_got_no_answer_times_out() -> None:
    target = Target()
    router = Router("client", target.connect, Config())
    target.release.clear()
    [outcome] = send(router, FakeJob("a", "1", timeout_s=0.01))
    with pytest.raises(CommandTimeout):
        await outcome
    [later] = send(router, FakeJob("a", "2"))
    target.release.set()
    assert await later == "2"
    assert router.quota.items == 0


async def test_a_command_whose_target_was_never_reached_says_so() -> None:
    async def unreachable(target: Hashable) -> Target:
        raise TargetLost("no such node")

    router = Router("client", unreachable, Config())
    [outcome] = send(router, FakeJob("a", "1", timeout_s=0.05))
    with pytest.raises(ShardUnavailable, match="no such node"):
        await outcome
    assert router.quota.items == 0


async def test_links_that_rest_are_forgotten_when_there_are_many() -> None:
    target = Target()
    router = Router("client", target.connect, Config())
    for n in range(1_100):
        job = FakeJob("a", "1")
        assert router.admit(job)
        router.send(f"target-{n}", job)
        await job.done
    assert len(router._links) < 1_100
