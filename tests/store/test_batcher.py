from __future__ import annotations

import asyncio
from pathlib import Path

from eventray.store import NewCommand
from eventray.store.batcher import Batcher
from tests.store.conftest import deposits, one_shard
from tests.waiting import LIMIT_S


class Runs:
    """Notes the batches it is given; each ends when `gate` is open."""

    def __init__(self, *again: int) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.again = list(again)

    async def __call__(self, jobs: list[int]) -> list[int]:
        self.batches.append(jobs)
        await self.gate.wait()
        again, self.again = self.again, []
        return again


async def test_what_arrives_while_a_batch_runs_is_the_next_batch() -> None:
    runs = Runs()
    batcher: Batcher[int] = Batcher(runs, lambda _: 1, 100)
    batcher.put(1)
    await asyncio.sleep(0)
    for job in (2, 3, 4):
        batcher.put(job)
    runs.gate.set()
    await batcher.settled()
    assert runs.batches == [[1], [2, 3, 4]]


async def test_a_batch_is_bounded_by_weight_and_one_job_always_fits() -> None:
    runs = Runs()
    runs.gate.set()
    batcher: Batcher[int] = Batcher(runs, lambda job: job, 10)
    for job in (4, 6, 1, 50, 3, 7, 1):
        batcher.put(job)
    await batcher.settled()
    assert runs.batches == [[4, 6], [1], [50], [3, 7], [1]]


async def test_jobs_that_had_no_room_go_first_into_the_next_batch() -> None:
    runs = Runs(2, 3)
    batcher: Batcher[int] = Batcher(runs, lambda _: 1, 3)
    for job in (1, 2, 3, 4):
        batcher.put(job)
    runs.gate.set()
    await batcher.settled()
    assert runs.batches == [[1, 2, 3], [2, 3, 4]]


async def test_between_batches_waits_for_the_batch_that_runs() -> None:
    runs = Runs()
    batcher: Batcher[int] = Batcher(runs, lambda _: 1, 1)
    await batcher.between_batches()
    batcher.put(1)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(batcher.between_batches())
    await asyncio.sleep(0)
    assert not waiting.done()
    runs.gate.set()
    await waiting
    await batcher.settled()


async def test_a_take_over_sees_the_append_that_was_on_its_way(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        first = await shard.load("A/1", take_over=True)
        appending = asyncio.create_task(shard.append_batch("A/1", [NewCommand(None, deposits(1))], token=first.token))
        for _ in range(2):  # the call queues the append, the next turn sends it
            await asyncio.sleep(0)
        assert shard._appends._running is not None
        second = await shard.load("A/1", take_over=True)
        assert (second.version, (await appending).version) == (1, 1)


async def test_a_load_whose_caller_has_gone_leaves_those_that_share_its_hop_alone(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard, asyncio.timeout(LIMIT_S):
        gone, here = asyncio.create_task(shard.load("A/1")), asyncio.create_task(shard.load("A/2"))
        await asyncio.sleep(0)  # both wait now
        gone.cancel()
        assert (await here).version == 0
