"""Live state is replayed state, with and without snapshots; and what cannot be replayed fails where it is, alone."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventray
from eventray import App, EncodingError, Packed, UnknownEvent
from eventray.domain.aggregate import Aggregate, command
from eventray.domain.errors import StoreFull
from eventray.domain.messages import Event
from eventray.runtime.config import Config
from eventray.runtime.decide import Decider, Waiting
from eventray.runtime.streamlog import load_state, replay
from eventray.runtime.timetravel import state_at
from eventray.runtime.wire import CommandItem
from eventray.store import EventStore, MemoryShard, NewCommand, NewRecord, StoreLimits
from eventray.store.writing import utc_now_us
from tests.bank_app import Account, Balances, Deposited
from tests.runtime.test_activation import MODEL, STREAM, Running
from tests.store.values import FLOATS, MOMENTS, TEXT, TREES, Color, Level, Point, Rights, Tree, same


class Text(str):
    """A subclass comes back plain: so live state must be plain, too."""


class Count(int):
    pass


class Kept(Event):
    name: str
    count: int | None
    pair: tuple[int, str]
    color: Color
    level: Level
    rights: Rights
    at: datetime
    amounts: dict[UUID, list[Decimal]]
    tags: frozenset[str | None]
    tree: Tree
    where: Point | list[int] | None
    share: float


GIVEN: list[Kept] = []


class Keeper(Aggregate):
    """Holds whatever it is given, in itself and in containers."""

    last: Kept | None = None
    names: dict[str, int] = {}
    colors: set[Color] = set()
    pairs: list[tuple[int, str]] = []
    trees: list[Tree] = []

    @command
    def keep(self, number: int) -> Kept:
        return GIVEN[number]  # as it is: no argument that has been made plain on its way

    def apply(self, event: Kept) -> None:
        self.last = event
        self.names[event.name] = self.names.get(event.name, 0) + (event.count or 0)
        self.colors.add(event.color)
        self.pairs.append(event.pair)
        self.trees.append(event.tree)


KEEPER = App("tests", aggregates=[Keeper]).aggregates["Keeper"]
SMALL = st.integers(-5, 5)
KEPT = st.builds(
    Kept,
    name=TEXT | TEXT.map(Text),
    count=st.none() | SMALL | SMALL.map(Count) | st.just(Level.LOW),
    pair=st.tuples(SMALL | SMALL.map(Count), TEXT | TEXT.map(Text)),
    color=st.sampled_from(Color),
    level=st.sampled_from(Level),
    rights=st.sampled_from([Rights(0), Rights.READ, Rights.READ | Rights.WRITE]),
    at=MOMENTS,
    amounts=st.dictionaries(st.uuids(), st.lists(st.decimals(allow_nan=False), max_size=2), max_size=2),
    tags=st.frozensets(TEXT | st.none(), max_size=2),
    tree=TREES,
    where=st.none() | st.builds(Point, SMALL, TEXT) | st.lists(SMALL, max_size=2),
    share=FLOATS | SMALL,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(KEPT, max_size=6), st.integers(0, 6), st.integers(1, 3))
def test_live_state_is_replayed_state_with_and_without_a_snapshot(
    events: list[Kept], snapshot_at: int, page_events: int
) -> None:
    asyncio.run(_live_and_replayed(events, snapshot_at, page_events))


async def _live_and_replayed(events: list[Kept], snapshot_at: int, page_events: int) -> None:
    shard, decider, stream = MemoryShard(0, StoreLimits(), utc_now_us), Decider(KEEPER, Config()), "Keeper/a"
    live = KEEPER.new("a")
    GIVEN[:] = events
    for number in range(len(events)):
        args = KEEPER.commands["keep"].encode((number,), {})
        item = CommandItem("Keeper", "a", "keep", args, f"c{number}", False, None, b"")
        done = decider.decide(live, deque([Waiting(item, lambda kind, payload: None)]))
        assert done.decided[0].error is None
        await shard.append_batch(stream, done.commands, expected_version=done.expected_version)
        if live.version == snapshot_at:
            data = KEEPER.encode_state(live)
            await shard.save_snapshot(stream, version=snapshot_at, data=data, fingerprint=KEEPER.fingerprint)
    loaded, begun = await load_state(shard, KEEPER, "a", page_events=100)
    assert begun.version == (snapshot_at if 0 < snapshot_at <= len(events) else 0)
    for record in loaded.records:
        replay(KEEPER, begun, [record])
    plain = KEEPER.new("a")
    for record in await shard.read_stream(stream, limit=100):
        replay(KEEPER, plain, [record])
    paged = await state_at(KEEPER, shard, "a", None, page_events)
    for state in (begun, plain, paged):
        assert state.version == live.version == len(events)
        assert same(KEEPER.state_of(state), KEEPER.state_of(live))


# snapshots that cannot be written or read


@pytest.fixture
def shard() -> MemoryShard:
    return MemoryShard(0, StoreLimits(), utc_now_us)


async def test_a_snapshot_that_cannot_be_written_fails_no_command(
    shard: MemoryShard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*args: Any, **kwargs: Any) -> None:
        raise StoreFull("the disk")

    monkeypatch.setattr(shard, "save_snapshot", full)
    one = Running(shard)
    with caplog.at_level(logging.WARNING):
        receipts = [await one.send("deposit", Decimal(1)) for _ in range(45)]
    assert [receipt.version for _, receipt in receipts] == list(range(1, 46))
    assert "snapshot" in caplog.text
    assert (await Running(shard).send("withdraw", Decimal(45)))[1].version == 46


async def test_a_snapshot_that_holds_no_state_is_ignored_with_a_warning(
    shard: MemoryShard, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        await Running(shard).send("deposit", Decimal(1))
    await shard.save_snapshot(STREAM, version=3, data=b"\xc1", fingerprint=MODEL.fingerprint)
    with caplog.at_level(logging.WARNING):
        one = Running(shard, take_over=True, load_page_events=2)
        assert (await one.send("withdraw", Decimal(5)))[1].version == 6
        assert (await one.send("deposit", Decimal(1)))[1].version == 7
        state = await state_at(MODEL, shard, "alice", 4, 2)
    assert isinstance(state, Account)
    assert state.balance == 4
    assert caplog.text.count("cannot be decoded") == 2


async def test_a_moment_that_lies_ahead_is_the_state_as_it_is_then(
    shard: MemoryShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Running(shard).send("deposit", Decimal(1))
    version_at = shard.version_at

    async def others_append_first(*args: Any) -> int:
        await Running(shard).send("deposit", Decimal(1))
        return await version_at(*args)

    monkeypatch.setattr(shard, "version_at", others_append_first)
    state = await state_at(MODEL, shard, "alice", datetime(9000, 1, 1, tzinfo=UTC), 10)
    assert state.version == 2


# events that cannot be replayed

APP = App("unreadable", aggregates=[Account], projections=[Balances], placement={Account: Packed()})
DEPOSITED = MODEL.events.encode(Deposited(Decimal(1)))


@pytest.fixture
async def runtime(tmp_path: Any) -> AsyncIterator[eventray.Runtime]:
    """Accounts of which some hold, as their second event, what this release cannot read."""
    good = NewRecord(DEPOSITED[0], DEPOSITED[2], b"", DEPOSITED[1])
    second = {
        "unknown": NewRecord("Closed", b"\x80"),
        "newer": good._replace(type_version=7),
        "renamed": good._replace(data=b"\x81\xa3sum\xa11"),
    }
    async with await EventStore.open(tmp_path, app=APP.name, shards=1) as store:
        for id, bad in second.items():
            await store.append_batch(f"Account/{id}", [NewCommand(None, [good]), NewCommand(None, [bad])])
    async with eventray.run(APP, data=tmp_path, shards=1, local=True) as runtime:
        yield runtime


@pytest.mark.parametrize(
    ("id", "error", "named"),
    [
        ("unknown", UnknownEvent, ["'Closed' version 1", "Account/unknown@2"]),
        ("newer", UnknownEvent, ["'Deposited' version 7", "Account/newer@2", "position 4"]),
        ("renamed", EncodingError, ["Deposited version 1", "amount", "Account/renamed@2", "position 6"]),
    ],
)
async def test_an_event_that_cannot_be_read_fails_its_stream_by_name_and_no_other(
    runtime: eventray.Runtime, id: str, error: type[Exception], named: list[str]
) -> None:
    for reading in (runtime.get(Account, id).deposit.remote(Decimal(1)), runtime.state(Account, id)):
        with pytest.raises(error) as caught:
            await reading
        assert [name for name in named if name not in str(caught.value)] == []
    with pytest.raises(error):
        _ = [entry async for entry in runtime.history(Account, id)]
    assert (await runtime.state(Account, id, at=1)).version == 1
    assert (await runtime.get(Account, "bob").deposit.remote(Decimal(1))).version == 1


async def test_an_event_that_cannot_be_read_stops_the_views_that_want_it_by_name(runtime: eventray.Runtime) -> None:
    heads = await runtime.heads()
    with pytest.raises(eventray.ProjectionStopped, match=r"Deposited Account/newer@2 in shard 0"):
        await runtime.view(Balances).sum.options(after=heads).remote()
    assert (await runtime.get(Account, "bob").deposit.remote(Decimal(1))).version == 1
