"""A view whose process is killed again and again, whose saves fail, and that meets events which it cannot apply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

from eventray import Event, Meta, Projection
from eventray.domain.errors import StoreUnavailable
from eventray.runtime.config import Config
from eventray.runtime.model import ProjectionModel
from eventray.runtime.projector import ProjectionRunner
from eventray.runtime.units import Unit
from eventray.store import Checkpoint, EventStore, NewRecord
from eventray.store.codec import Codec
from eventray.store.memory import MemoryCheckpoints, MemoryShard
from eventray.store.spool import Spool
from tests.waiting import until

SHARDS, EVENTS, KILLS = 3, 600, 100


class Counted(Event):
    number: int


class Numbers(Projection, on_error="park", retries=1):
    """Every number that it has applied, in order; while `broken`, multiples of 37 fail half-way."""

    seen: list[int] = []

    def apply(self, event: Counted, meta: Meta) -> None:
        self.seen.append(event.number)
        if broken and event.number % 37 == 0:
            raise ValueError(event.number)


broken = True
MODEL = ProjectionModel(Numbers, [Counted])
UNIT = Unit("Numbers")
CODEC: Codec[Counted] = Codec(Counted, "Counted")


@pytest.fixture(autouse=True)
def _broken() -> Any:
    global broken
    broken = True
    yield
    broken = True


class FragileCheckpoints(MemoryCheckpoints):
    """Saves that fail at times."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def save(self, name: str, positions: Mapping[int, int], data: bytes | Spool, **facts: Any) -> None:
        await self._take_a_while()
        if self._chance.random() < 0.2:
            raise StoreUnavailable("memory", "by chance")
        await super().save(name, positions, data, **facts)

    async def load(self, name: str) -> Checkpoint | None:
        await self._take_a_while()
        return await super().load(name)

    async def _take_a_while(self) -> None:
        """As real ones do: others run meanwhile."""
        for _ in range(self._chance.randrange(30)):
            await asyncio.sleep(0)


def runner(store: EventStore, checkpoints: MemoryCheckpoints, **config: Any) -> ProjectionRunner:
    settings = Config(**{"read_page_events": 7, "checkpoint_events": 20, "checkpoint_s": 0.001, **config})
    return ProjectionRunner(MODEL, UNIT, store.shards, checkpoints, settings, generation=1)


async def append(store: EventStore, numbers: list[int]) -> None:
    for number in numbers:
        await store.append(f"Counter/{number % 10}", [NewRecord("Counted", CODEC.encode(Counted(number)))])


async def die(view: ProjectionRunner) -> None:
    """End as a killed process does: nothing is saved any more."""
    for task in view._tasks:
        task.cancel()
    await asyncio.gather(*view._tasks, return_exceptions=True)


async def caught_up(view: ProjectionRunner, store: EventStore) -> None:
    heads = await store.heads()

    async def done() -> bool:
        status = view.status(0, "")
        return status.positions == heads and status.state != "recovering"

    await until(done)


async def without_letters(store: EventStore) -> None:
    async def done() -> bool:
        return not await letters(store)

    await until(done)


async def letters(store: EventStore) -> list[int]:
    found = await store.dead_letters("Numbers")
    records = [(await store.read_shard(shard=one.shard, after=one.position - 1, limit=1))[0] for one in found]
    return sorted(CODEC.decode(record.data).number for record in records)


def applied(view: ProjectionRunner) -> list[int]:
    state = view._state.view
    assert isinstance(state, Numbers)
    return sorted(state.seen)


async def with_one_left_behind() -> tuple[EventStore, MemoryCheckpoints, ProjectionRunner]:
    """A view that has applied 1 and 2, and left 37 between them behind."""
    store, checkpoints = EventStore.memory(shards=1), MemoryCheckpoints()
    await append(store, [1, 37, 2])
    view = runner(store, checkpoints)
    await view.start()
    await caught_up(view, store)
    return store, checkpoints, view


@pytest.mark.parametrize("seed", range(3))
async def test_a_view_that_is_killed_again_and_again_skips_nothing_and_applies_nothing_twice(seed: int) -> None:
    chance = random.Random(seed)
    store, checkpoints = EventStore.memory(shards=SHARDS), FragileCheckpoints(chance)
    numbers = list(range(1, EVENTS + 1))
    for kill in range(KILLS):
        view = runner(store, checkpoints)
        await view.start()
        await append(store, numbers[kill * EVENTS // KILLS : (kill + 1) * EVENTS // KILLS])
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        await die(view)
    view = runner(store, checkpoints)
    await view.start()
    await caught_up(view, store)
    poison = [number for number in numbers if number % 37 == 0]
    assert applied(view) == [number for number in numbers if number not in poison]
    assert await letters(store) == poison
    assert view.status(0, "").parked == len(poison)
    await view.close()


async def test_a_retry_that_a_crash_interrupts_applies_the_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    global broken
    store, checkpoints, view = await with_one_left_behind()
    assert (applied(view), await letters(store)) == ([1, 2], [37])
    broken = False
    reached = asyncio.Event()

    async def killed_here(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(MemoryShard, "unpark", killed_here)
        retry = asyncio.create_task(view.retry([(0, 2)]))
        await reached.wait()  # applied and saved; the letter is still there
        retry.cancel()
        await die(view)
    again = runner(store, checkpoints)
    await again.start()
    await append(store, [3])
    await caught_up(again, store)
    await without_letters(store)
    assert applied(again) == [1, 2, 3, 37]
    await again.close()


async def test_a_retry_that_cannot_be_saved_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    global broken
    store, checkpoints, view = await with_one_left_behind()
    broken = False

    async def full(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("memory", "no room")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", full)
        with pytest.raises(StoreUnavailable):
            await view.retry([(0, 2)])
    assert (applied(view), await letters(store)) == ([1, 2], [37])
    assert await view.retry([(0, 2)]) == [""]
    assert (applied(view), await letters(store)) == ([1, 2, 37], [])
    await view.close()


async def test_a_view_that_is_built_anew_tries_again_what_it_has_left_behind() -> None:
    global broken
    store, checkpoints, view = await with_one_left_behind()
    await view.close()
    broken = False

    class Fixed(Numbers, name="Numbers"):
        more: int = 0

    model, config = ProjectionModel(Fixed, [Counted]), Config(checkpoint_s=0.001)
    fixed = ProjectionRunner(model, UNIT, store.shards, checkpoints, config, generation=1)
    await fixed.start()
    await caught_up(fixed, store)
    await without_letters(store)
    assert applied(fixed) == [1, 2, 37]
    await fixed.close()
