"""A view made anew from the log: equal to one that followed, in parts or in one pass, whatever cannot be applied."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given as given_values
from hypothesis import settings
from hypothesis import strategies as st

from eventray import Event, Meta, Projection
from eventray.domain.errors import EventRayError, ProjectionStopped, StoreMismatch, StoreUnavailable
from eventray.runtime.config import Config
from eventray.runtime.model import ProjectionModel
from eventray.runtime.projector import ProjectionRunner
from eventray.runtime.rebuild_fold import Fold, Folded, Want, merged, nothing, parts_of, run_fold, state_of
from eventray.runtime.units import Unit
from eventray.store import EventStore, NewRecord, ShardPage
from eventray.store.codec import Codec
from eventray.store.memory import MemoryCheckpoints, MemoryShard
from tests.waiting import until

SHARDS = 3


class Paid(Event):
    amount: int


class Noted(Event):
    """No projection here wants it."""


class Sums(Projection, on_error="park", retries=1):
    """What each account was paid; multiples of 37 fail half-way as long as `faulty` says so."""

    paid: dict[str, int] = {}
    count: int = 0

    def apply(self, event: Paid, meta: Meta) -> None:
        self.count += 1
        if faulty and event.amount % 37 == 0:
            raise ValueError(event.amount)
        self.paid[meta.id] = self.paid.get(meta.id, 0) + event.amount

    def merge(self, other: Sums) -> None:
        self.count += other.count
        self.paid |= other.paid


class Latest(Projection):
    """All payments in the order of time: that has no `merge`."""

    seen: list[tuple[str, int]] = []

    def apply(self, event: Paid, meta: Meta) -> None:
        self.seen.append((meta.id, event.amount))


class Strict(Sums, name="Strict", on_error="stop", retries=2):
    pass


faulty = True
SUMS, LATEST, STRICT = (ProjectionModel(cls, [Paid]) for cls in (Sums, Latest, Strict))
CODEC: Codec[Paid] = Codec(Paid, "Paid")


@pytest.fixture(autouse=True)
def _faulty() -> Iterator[None]:
    global faulty
    faulty = True
    yield
    faulty = True


async def append(store: EventStore, amounts: list[int]) -> None:
    for amount in amounts:
        kind = "Noted" if amount % 5 == 0 else "Paid"
        data = b"" if kind == "Noted" else CODEC.encode(Paid(amount))
        await store.append(f"Account/a{amount % 11}", [NewRecord(kind, data)])


def fold(model: ProjectionModel, store: EventStore, upto: Mapping[int, int], page_events: int = 7) -> Folded:
    """A fold of shards in memory, in parts where they can be merged."""

    def read(want: Want) -> ShardPage:
        port: Any = store.shards[want.shard]
        work = port.read(after=want.after, limit=want.limit, types=model.events.names)
        try:
            work.send(None)
        except StopIteration as page:
            return page.value  # type: ignore[no-any-return]  # a shard in memory never waits
        raise AssertionError("it waits")

    def part(shards: Mapping[int, int]) -> Folded:
        one = Fold(model, nothing(model, shards, 1), page_events)
        assert sum(run_fold(one, shards, read)) == sum(shards.values())
        return one.folded()

    return merged(model, [part(shards) for shards in parts_of(model, upto)])


def expected(amounts: list[int]) -> dict[str, int]:
    """An independent fold."""
    paid: dict[str, int] = {}
    for amount in amounts:
        if amount % 5 and not (faulty and amount % 37 == 0):
            paid[f"a{amount % 11}"] = paid.get(f"a{amount % 11}", 0) + amount
    return paid


def sums(folded: Folded | ProjectionRunner) -> Sums:
    view = folded._state.view if isinstance(folded, ProjectionRunner) else state_of(SUMS, folded).view
    assert isinstance(view, Sums)
    return view


async def letters(store: EventStore, view: str = "Sums") -> list[tuple[int, int]]:
    return [(one.shard, one.position) for one in await store.dead_letters(view)]


@settings(max_examples=40, deadline=None)
@given_values(st.lists(st.integers(1, 200), max_size=60), st.integers(1, 9))
def test_parts_that_are_merged_equal_one_pass_over_all_shards(amounts: list[int], page_events: int) -> None:
    async def check() -> None:
        clock = itertools.count(1)
        store = EventStore.memory(shards=SHARDS, clock=lambda: next(clock))
        await append(store, amounts)
        heads = await store.heads()
        folded = fold(SUMS, store, heads, page_events)
        assert (sums(folded).paid, folded.saved.positions) == (expected(amounts), heads)
        assert sums(folded).count == len([a for a in amounts if a % 5 and a % 37])
        assert len(folded.left) == len([a for a in amounts if a % 5 and a % 37 == 0])
        in_order = fold(LATEST, store, heads, page_events)
        view: Any = state_of(LATEST, in_order).view
        assert view.seen == [(f"a{a % 11}", a) for a in amounts if a % 5]

    asyncio.run(check())


async def test_a_fold_ends_exactly_at_the_positions_that_it_was_given() -> None:
    store, amounts = EventStore.memory(shards=SHARDS), list(range(1, 150))
    await append(store, amounts[:80])
    then = await store.heads()
    await append(store, amounts[80:])
    assert sums(fold(SUMS, store, then)).paid == expected(amounts[:80])
    assert fold(SUMS, store, then).saved.positions == then
    assert sums(fold(SUMS, store, dict.fromkeys(then, 0))).paid == {}


async def test_an_event_that_cannot_be_applied_ends_the_fold_of_a_projection_that_stops() -> None:
    store = EventStore.memory(shards=SHARDS)
    await append(store, [1, 2, 37, 3])
    with pytest.raises(ProjectionStopped, match=r"ValueError\(37\)"):
        fold(STRICT, store, await store.heads())


async def test_an_apply_that_fails_now_and_then_is_tried_again_and_nothing_is_counted_twice() -> None:
    failures = iter([True, True, False] * 50)

    class Flaky(Sums, name="Flaky", on_error="stop", retries=2):
        def apply(self, event: Paid, meta: Meta) -> None:
            self.count += 1
            if event.amount == 37 and next(failures):
                raise OSError("not now")
            self.count -= 1
            super().apply(event, meta)

    global faulty
    faulty = False
    store, amounts = EventStore.memory(shards=1), [1, 2, 3, 37, 4]
    await append(store, amounts)
    model = ProjectionModel(Flaky, [Paid])
    view: Any = state_of(model, fold(model, store, await store.heads(), 2)).view
    assert (view.paid, view.count) == (expected(amounts), 5)


async def test_a_merge_that_raises_is_named() -> None:
    class Torn(Sums, name="Torn"):
        def merge(self, other: Sums) -> None:
            raise KeyError("torn")

    store = EventStore.memory(shards=SHARDS)
    await append(store, list(range(1, 20)))
    with pytest.raises(ProjectionStopped, match=r"merge.*torn"):
        fold(ProjectionModel(Torn, [Paid]), store, await store.heads())


# taking over


def runner(store: EventStore, checkpoints: MemoryCheckpoints, model: ProjectionModel = SUMS) -> ProjectionRunner:
    settings = Config(read_page_events=7, checkpoint_events=20, checkpoint_s=0.001)
    return ProjectionRunner(model, Unit(model.name), store.shards, checkpoints, settings, generation=1)


async def die(view: ProjectionRunner) -> None:
    """End as a killed process does: nothing is saved any more."""
    for task in view._tasks:
        task.cancel()
    await asyncio.gather(*view._tasks, return_exceptions=True)


async def caught_up(view: ProjectionRunner, store: EventStore) -> None:
    async def done() -> bool:
        status = view.status(0, "")
        return status.positions == await store.heads() and status.state != "recovering"

    await until(done)


async def test_what_takes_over_equals_the_view_that_followed_also_while_events_come() -> None:
    chance = random.Random(7)
    store, checkpoints = EventStore.memory(shards=SHARDS), MemoryCheckpoints()
    amounts = [chance.randrange(1, 200) for _ in range(600)]
    await append(store, amounts[:200])
    view = runner(store, checkpoints)
    await view.start()
    folded = fold(SUMS, store, await store.heads())
    writing = asyncio.create_task(append(store, amounts[200:]))
    for _ in range(5):
        await view.take_over(folded)
        assert all(view._state.positions[s] >= at for s, at in folded.saved.positions.items())
        folded = fold(SUMS, store, await store.heads())
    await writing
    await caught_up(view, store)
    assert sums(view).paid == expected(amounts)
    poison = [a for a in amounts if a % 5 and a % 37 == 0]
    assert len(await letters(store)) == view.status(0, "").parked == len(poison) > 5
    await view.close()
    again = runner(store, checkpoints)
    await again.start()
    assert sums(again).paid == expected(amounts)
    await again.close()


async def test_no_query_meets_an_earlier_state_than_one_before_it() -> None:
    store, checkpoints = EventStore.memory(shards=SHARDS), MemoryCheckpoints()
    await append(store, list(range(1, 100)))
    early = fold(SUMS, store, await store.heads())
    view = runner(store, checkpoints)
    await view.start()
    await append(store, list(range(100, 300)))
    await caught_up(view, store)
    before = dict(view._state.positions)
    taking_over = asyncio.create_task(view.take_over(early))
    while not taking_over.done():
        shown = view._shown()
        assert shown is not None
        assert shown.positions == before
        await asyncio.sleep(0)
    assert sums(view).paid == expected(list(range(1, 300)))
    await view.close()


async def test_what_the_old_view_applies_in_the_last_moment_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    store, checkpoints = EventStore.memory(shards=SHARDS), MemoryCheckpoints()
    view = runner(store, checkpoints)
    await view.start()
    folded = fold(SUMS, store, await store.heads())
    catch_up, news = view._catch_up, [list(range(1, 30))]

    async def news_come_behind_it(fold: Fold) -> None:
        await catch_up(fold)
        if news:
            await append(store, news.pop())
            await caught_up(view, store)

    monkeypatch.setattr(view, "_catch_up", news_come_behind_it)
    await view.take_over(folded)
    assert view._state.positions == await store.heads()
    assert sums(view).paid == expected(list(range(1, 30)))
    await view.close()


async def test_what_the_old_view_had_left_behind_is_tried_again() -> None:
    global faulty
    store, checkpoints = EventStore.memory(shards=1), MemoryCheckpoints()
    await append(store, [1, 37, 2, 74])
    view = runner(store, checkpoints)
    await view.start()
    await caught_up(view, store)
    assert await letters(store) == [(0, 2), (0, 4)]
    faulty = False
    await view.take_over(fold(SUMS, store, await store.heads()))
    assert (sums(view).paid, await letters(store)) == (expected([1, 37, 2, 74]), [])
    assert view.status(0, "").parked == 0
    await view.close()


async def test_a_stopped_view_follows_again_and_one_that_cannot_be_made_anew_stays() -> None:
    global faulty
    store, checkpoints = EventStore.memory(shards=2), MemoryCheckpoints()
    await append(store, [1, 37, 2])
    view = runner(store, checkpoints, STRICT)
    await view.start()

    async def stopped() -> bool:
        return view.status(0, "").state == "stopped"

    await until(stopped)
    faulty = False
    await view.take_over(fold(STRICT, store, await store.heads()))
    assert view.status(0, "").state == "following"
    assert view.status(0, "").reason == ""
    await append(store, [3, 4])
    await caught_up(view, store)
    assert sums(view).paid == expected([1, 37, 2, 3, 4])
    faulty = True
    early = fold(STRICT, store, dict.fromkeys(store.shards, 0))
    with pytest.raises(ProjectionStopped):
        await view.take_over(early)
    faulty = False
    assert sums(view).paid == expected([1, 37, 2, 3, 4])
    await view.close()


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_crash_while_it_takes_over_leaves_one_of_the_two_whole(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the new view is saved, or after that, when what was left behind is still listed."""
    global faulty
    store, checkpoints = EventStore.memory(shards=1), MemoryCheckpoints()
    await append(store, [1, 37, 2])
    view = runner(store, checkpoints)
    await view.start()
    await caught_up(view, store)
    faulty = False
    folded = fold(SUMS, store, await store.heads())
    reached = asyncio.Event()

    async def killed_here(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        owner: object = checkpoints if where == "before" else MemoryShard
        patched.setattr(owner, "save" if where == "before" else "unpark", killed_here)
        taking_over = asyncio.create_task(view.take_over(folded))
        await reached.wait()
        taking_over.cancel()
        await die(view)
    faulty = True  # an event that is applied now was applied before the crash
    again = runner(store, checkpoints)
    await again.start()
    await append(store, [3])
    await caught_up(again, store)

    async def settled() -> bool:
        return len(await letters(store)) == (1 if where == "before" else 0)

    await until(settled)
    faulty = where == "before"
    assert sums(again).paid == expected([1, 37, 2, 3])
    await again.close()


async def test_a_view_that_cannot_be_saved_does_not_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    store, checkpoints = EventStore.memory(shards=1), MemoryCheckpoints()
    await append(store, [1, 2])
    view = runner(store, checkpoints, STRICT)
    await view.start()
    await append(store, [37, 3])
    global faulty
    faulty = False
    await caught_up(view, store)
    folded = fold(STRICT, store, await store.heads())
    before = view._state

    async def full(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("memory", "no room")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", full)
        with pytest.raises(StoreUnavailable):
            await view.take_over(folded)
        assert view._state is before
    await view.take_over(folded)
    assert view._state is not before
    await view.close()


async def test_a_view_of_another_version_does_not_take_over() -> None:
    store, checkpoints = EventStore.memory(shards=1), MemoryCheckpoints()
    view = runner(store, checkpoints, STRICT)
    await view.start()

    class Second(Sums, name="Strict", version=2):
        pass

    with pytest.raises(StoreMismatch):
        await view.take_over(fold(ProjectionModel(Second, [Paid]), store, {0: 0}))
    with pytest.raises(EventRayError):
        await view.take_over(Folded(nothing(STRICT, [0], 2).saved))
    await view.close()
