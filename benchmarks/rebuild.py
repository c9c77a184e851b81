"""`rebuild`: a view made anew from the whole log, and with it on the way, the old one serves."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import eventray
from benchmarks import peer
from benchmarks.bank import SHARDS, Account, Deposited
from benchmarks.events import uuid7
from benchmarks.harness import Bench, Case
from benchmarks.own_ray import own_ray
from benchmarks.result import Goal
from eventray import App, Meta, Packed, Projection, Runtime, query
from eventray.store import EventStore, NewCommand, NewRecord
from eventray.store.codec import Codec

ACCOUNTS, BATCH = 1_000, 100
PEER, LOCAL = "eventsourcing", "in one process, without Ray"


class Balances(Projection):
    """What each account holds."""

    total: dict[str, int] = {}

    def apply(self, event: Deposited, meta: Meta) -> None:
        """Add it."""
        id = meta.id
        self.total[id] = self.total.get(id, 0) + event.amount

    def merge(self, other: Balances) -> None:
        """An account is in one of them."""
        self.total |= other.total

    @query
    def sum(self) -> int:
        """Of all accounts."""
        return sum(self.total.values())


BANK = App("bench-rebuild", aggregates=[Account], projections=[Balances], placement={Account: Packed()})


def rebuild(bench: Bench) -> Iterator[Case]:
    """One projection with `merge`; the peer folds a tenth as many, in its only process: its rate stays the same."""
    events = bench.pick(full=1_000_000, quick=20_000, tiny=2_000)
    few = max(ACCOUNTS, events // 10)
    data, copy = bench.directory(), bench.directory()
    asyncio.run(fill(data, events))
    shutil.copytree(data, copy, dirs_exist_ok=True)
    with ExitStack() as stack:
        peer_fold = stack.enter_context(peer.log(bench.directory(), few, ACCOUNTS))
        own_ray()
        on_ray, local = (
            stack.enter_context(eventray.run(BANK, data=path, local=path is copy)) for path in (data, copy)
        )
        follow(on_ray)
        follow(local)
        yield Case(
            f"a view of {events:,} events on {SHARDS} shards",
            "events/s",
            lambda: rate(on_ray, events),
            {
                PEER: (lambda: (few + ACCOUNTS) / peer_fold()) if peer_fold else None,
                LOCAL: lambda: rate(local, events),
            },
            (Goal(">=", 5, to=PEER),),
        )


def follow(runtime: Runtime) -> None:
    """Wait until the view has followed the log to its end: nothing is measured before."""
    runtime.view(Balances).sum.options(after=runtime.heads().result(), timeout=600).remote().result()


async def fill(directory: Path, events: int, app: str = BANK.name) -> None:
    """Store deposits of 1 to accounts in turn, a command with an id for each, as the engine stores them."""
    codec: Codec[Deposited] = Codec(Deposited, "Deposited")
    record = NewRecord("Deposited", codec.encode(Deposited(1)))
    each = min(BATCH, events)
    async with await EventStore.open(directory, app=app, shards=SHARDS) as store:
        for first in range(0, events // each, SHARDS * 5):
            batches = range(first, min(first + SHARDS * 5, events // each))
            await asyncio.gather(*(_append(store, f"Account/a{number % ACCOUNTS}", record, each) for number in batches))


async def _append(store: EventStore, stream: str, record: NewRecord, count: int) -> None:
    commands = [NewCommand(uuid7(), [record], "deposit", b"\x01" * 8) for _ in range(count)]
    await store.shard_of(stream).append_batch(stream, commands)


def rate(runtime: Runtime, events: int) -> float:
    """Make the view of so many events anew; events a second."""
    done = runtime.rebuild(Balances).result()
    assert done.events == events
    assert runtime.view(Balances).sum.remote().result() == events
    return done.rate
