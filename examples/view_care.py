"""A view and its keeper: rebuilt, given new versions, killed and repaired while events arrive, and right all the time.

Shows what is done to views of an app that serves: a rebuild, a new version that `compare` finds wrong, another one that
takes over and is taken back, ten kills, and a poison event that is left behind and retried after the fix. After each
step the view's answer is compared with what another process counts in the SQLite files, by itself.

    python -m examples.view_care --events 1000000
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgpack
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import eventray
from eventray import Aggregate, App, Event, Meta, Packed, Projection, Runtime, command, query
from eventray.store import EventStore, NewRecord

APP = "care"
EVENTS_A_COMMAND = 10
REFUNDS = 100  # accounts that have one, about
WRITERS = 64
TICKS_A_SECOND = 10
KILLS = 10
WAIT_S = 600.0  # for a view that has a million events to catch up with, on a busy machine


class Paid(Event):
    amount: int


class Refunded(Event):
    amount: int


class Converted(Event):
    """What was paid in another currency; the file `rates` says what it comes to."""

    amount: int
    currency: str
    rates: str


class Account(Aggregate):
    events: int = 0

    @command
    def pay(self, amounts: list[int]) -> list[Paid]:
        return [Paid(amount) for amount in amounts]

    @command
    def convert(self, amount: int, currency: str, rates: str) -> Converted:
        return Converted(amount, currency, rates)

    def apply(self, event: Paid | Refunded | Converted) -> None:
        self.events += 1


class Balances(Projection, on_error="park", retries=0):
    """The sum of each account. An amount in a currency whose rate is not known is left behind."""

    total: dict[str, int] = {}

    def apply(self, event: Paid | Refunded | Converted, meta: Meta) -> None:
        self.total[meta.id] = self.total.get(meta.id, 0) + self.worth(event)

    def worth(self, event: Paid | Refunded | Converted) -> int:
        match event:
            case Paid(amount):
                return amount
            case Refunded(amount):
                return -amount
            case Converted(amount, currency, rates):
                worth: int = amount * json.loads(Path(rates).read_text())[currency]
                return worth

    def merge(self, other: Balances) -> None:
        self.total |= other.total  # an account is in one shard

    @query
    def all(self) -> dict[str, int]:
        return self.total


class WrongBalances(Balances, name="Balances", version=2, on_error="park", retries=0):
    """The next version, with a bug: it forgets that a refund is taken away."""

    def worth(self, event: Paid | Refunded | Converted) -> int:
        return event.amount if isinstance(event, Refunded) else super().worth(event)


class RightBalances(Balances, name="Balances", version=3, on_error="park", retries=0):
    """The next version, mended."""


def id_of(n: int) -> str:
    """The id of an account."""
    return f"a{n:06d}"


# The other process: it counts in the files by itself, with SQLite and MessagePack alone.

_totals: dict[str, int] = {}
_converted: dict[tuple[int, int], tuple[str, int, str, str]] = {}
_refunded: set[str] = set()
_counted: dict[int, int] = {}


def counted(data: str, positions: Mapping[int, int]) -> tuple[dict[str, int], set[str]]:
    """What each account comes to at these positions, without what is left behind now; the accounts with a refund.

    It goes on from where it was asked before: positions only grow.
    """
    left = set()
    for shard, upto in positions.items():
        file = Path(data) / f"shard-{shard:04d}.db"
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
        rows = connection.execute(
            "SELECT position, streams.name, types.name, data FROM events JOIN streams ON streams.key = events.stream "
            "JOIN types ON types.key = events.type WHERE position > ? AND position <= ? ORDER BY position",
            (_counted.get(shard, 0), upto),
        )
        for position, stream, kind, body in rows:
            _count(shard, position, stream.partition("/")[2], kind, msgpack.unpackb(body))
        _counted[shard] = upto
        letters = connection.execute("SELECT position FROM dead_letters WHERE consumer = 'Balances'")
        left |= {(shard, position) for (position,) in letters}
        connection.close()
    totals = dict(_totals)
    for place, (id, amount, currency, rates) in _converted.items():
        if place not in left:
            totals[id] = totals.get(id, 0) + amount * json.loads(Path(rates).read_text())[currency]
    return totals, _refunded


def _count(shard: int, position: int, id: str, kind: str, body: dict[str, object]) -> None:
    amount = body["amount"]
    assert isinstance(amount, int)
    if kind == "Converted":
        _converted[shard, position] = id, amount, str(body["currency"]), str(body["rates"])
        return
    if kind == "Refunded":
        _refunded.add(id)
    _totals[id] = _totals.get(id, 0) + (amount if kind == "Paid" else -amount)


# What comes first, and what comes meanwhile.


async def fill(data: Path, shards: int, events: int, keys: int) -> None:
    """A store of so many events of so many accounts, some of them with a refund: written without the app."""
    streams = iter(track(range(keys), "writing events", console=Console(stderr=True), transient=True))
    chance = random.Random(events)

    async def write() -> None:
        for n in streams:
            count = events // keys + (n < events % keys)
            bodies = [("Paid", chance.randrange(1, 1000)) for _ in range(count)]
            if bodies and n % max(1, keys // REFUNDS) == 0:
                bodies[-1] = ("Refunded", 1)
            records = [NewRecord(kind, msgpack.packb({"amount": amount})) for kind, amount in bodies]
            await store.append_batch(f"Account/{id_of(n)}", [(f"fill-{n}", records)], expected_version=0)

    async with await EventStore.open(data, app=APP, shards=shards) as store:
        await asyncio.gather(*(write() for _ in range(WRITERS)))


class Traffic(threading.Thread):
    """Events that arrive: so many a second, as long as the engine keeps up."""

    def __init__(self, runtime: Runtime, keys: int, rate: int) -> None:
        super().__init__()
        self.events = 0
        self.seconds = 0.0
        self._runtime = runtime
        self._keys = keys
        self._commands = max(1, rate // EVENTS_A_COMMAND // TICKS_A_SECOND)
        self._ending = threading.Event()
        self._failed: list[object] = []

    def run(self) -> None:
        """Send until told to end."""
        chance, started, tick = random.Random(1), time.monotonic(), 0
        while not self._ending.wait(max(0.0, started + tick / TICKS_A_SECOND - time.monotonic())):
            ids = [id_of(chance.randrange(self._keys)) for _ in range(self._commands)]
            amounts = [chance.randrange(1, 1000) for _ in range(EVENTS_A_COMMAND)]
            for outcome in self._runtime.send_all(Account.pay.to(id, amounts) for id in ids):
                if isinstance(outcome, Exception):
                    self._failed.append(outcome)
                else:
                    self.events += EVENTS_A_COMMAND
            tick += 1
        self.seconds = time.monotonic() - started

    def end(self) -> float:
        """Send no more; how many events a second there were."""
        self._ending.set()
        self.join()
        if self._failed:
            raise SystemExit(f"{len(self._failed)} commands failed, the first with {self._failed[0]}")
        return self.events / self.seconds


class Keeper:
    """Does things to the view, and compares its answer with the count of the other process."""

    def __init__(self, runtime: Runtime, data: Path, counting: ProcessPoolExecutor) -> None:
        self.steps: list[tuple[str, float, str]] = []
        self.checks = 0
        self.events = 0
        self._runtime = runtime
        self._data = data
        self._counting = counting
        self._console = Console(stderr=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; what it is told is shown beside the seconds. At its end the view has to be right."""
        started, said = time.monotonic(), [""]
        with self._console.status(name):
            yield lambda text: said.__setitem__(0, text)
            seconds = time.monotonic() - started
            self.check(name)
        self.steps.append((name, seconds, said[0]))

    def check(self, name: str) -> None:
        """The view's answer with all that is in the log now is what the other process counts there."""
        heads = self._runtime.heads().result()
        answer = self._runtime.view(Balances).all.options(after=heads, timeout=WAIT_S).remote()
        got = answer.result()
        expected, _ = self._count(answer.positions)
        if got != expected:
            wrong = [id for id in got.keys() | expected.keys() if got.get(id) != expected.get(id)]
            raise SystemExit(f"{name}: {len(wrong)} of {len(expected)} accounts are wrong, like {wrong[0]}")
        self.checks += 1
        self.events = sum(answer.positions.values())

    def _count(self, positions: Mapping[int, int]) -> tuple[dict[str, int], set[str]]:
        return self._counting.submit(counted, str(self._data), dict(positions)).result()

    def rebuild(self) -> None:
        """The view is made anew from the log while the old one serves."""
        with self.step("rebuilt") as said:
            done = self._runtime.rebuild(Balances).result()
            said(f"{done.events:,} events, {done.rate:,.0f} events/s")

    def find_the_bug(self) -> None:
        """Version 2 follows in the shadow; where it differs is where there are refunds."""
        with self.step("version 2 compared, which has a bug") as said:
            found = self._runtime.compare(Balances, 1, 2).result()
            _, refunded = self._count(found.positions)
            differing = {one.where for one in found.differences if one.where.startswith("total")}
            if differing != {f"total[{id!r}]" for id in refunded}:
                raise SystemExit(f"{len(differing)} accounts differ between the versions, {len(refunded)} should")
            said(f"{len(differing)} accounts differ, those with a refund, like {found.differences[0].where}")

    def take_over(self) -> None:
        """Version 3 does not differ, and takes over; then back to version 1."""
        with self.step("version 3 compared") as said:
            found = self._runtime.compare(Balances, 1, 3).result()
            if found.count:
                raise SystemExit(f"versions 1 and 3 differ: {found.differences[0]}")
            said("no difference")
        for version, name in ((3, "version 3 took over"), (1, "back to version 1"), (3, "version 3 again")):
            with self.step(name) as said:
                self._runtime.switch(Balances, version=version).result()
                serving = [one.version for one in self._runtime.status().result().views if one.serves]
                if serving != [version]:
                    raise SystemExit(f"{name}, but versions {serving} serve")

    def kill(self, times: int) -> None:
        """The process that serves is killed, again and again."""
        for n in range(1, times + 1):
            with self.step(f"killed ({n} of {times})") as said:
                pid = self._serving_pid()
                os.kill(pid, signal.SIGKILL)
                heads = self._runtime.heads().result()
                self._runtime.view(Balances).all.options(after=heads, timeout=WAIT_S).remote().result()
                said(f"process {pid}, then {self._serving_pid()}")

    def _serving_pid(self) -> int:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for one in self._runtime.status().result().views:
                if one.serves and one.pid:
                    return one.pid
        raise SystemExit("no view serves")

    def poison(self, rates: Path) -> None:
        """An event that cannot be applied is left behind; after the fix it is applied."""
        rates.write_text(json.dumps({"EUR": 25}))
        letters = self._runtime.dead_letters(Balances)
        with self.step("a poison event was left behind") as said:
            self._runtime.get(Account, id_of(0)).convert.remote(10, "EUR", str(rates)).result()
            receipt = self._runtime.get(Account, id_of(0)).convert.remote(10, "USD", str(rates)).result()
            for version in (1, 2, 3):
                view = self._runtime.view(Balances, version=version)
                view.all.options(after=receipt, timeout=WAIT_S).remote().result()
            left = letters.list().result()
            if len(left) != 3:
                raise SystemExit(f"{len(left)} dead letters, not one for each version")
            said(f"{left[0].event_id} in shard:position {left[0].id}")
        rates.write_text(json.dumps({"EUR": 25, "USD": 22}))
        with self.step("retried after the fix") as said:
            outcomes = letters.retry().result()
            if any(outcomes.values()) or letters.list().result():
                raise SystemExit(f"not applied: {outcomes}")
            said(f"{len(outcomes)} event applied in each version")


def tend(folder: Path, events: int, shards: int, keys: int, rate: int, kills: int) -> tuple[Keeper, float]:
    """All of it."""
    data = folder / "data"
    started = time.monotonic()
    asyncio.run(fill(data, shards, events, keys))
    filled_s = time.monotonic() - started
    app = App(
        APP,
        aggregates=[Account],
        projections=[Balances, WrongBalances, RightBalances],
        placement={Account: Packed()},
    )
    spawning = multiprocessing.get_context("spawn")  # a fork would have the files of this process
    with (
        ProcessPoolExecutor(1, mp_context=spawning) as counting,
        eventray.run(app, data=data, shards=shards) as runtime,
    ):
        keeper = Keeper(runtime, data, counting)
        keeper.steps.append(("written", filled_s, f"{events:,} events, {events / filled_s:,.0f} events/s"))
        with keeper.step("three versions of the view followed the log from its beginning") as said:
            heads = runtime.heads().result()
            for version in (1, 2, 3):
                runtime.view(Balances, version=version).all.options(after=heads, timeout=WAIT_S).remote().result()
            said(f"{keys:,} accounts in {shards} shards")
        traffic = Traffic(runtime, keys, rate)
        traffic.start()
        try:
            keeper.rebuild()
            keeper.find_the_bug()
            keeper.take_over()
            keeper.kill(kills)
            keeper.poison(folder / "rates.json")
        finally:
            arrived = traffic.end()
        keeper.check("at the end")
    return keeper, arrived


def main(
    events: Annotated[int, typer.Option(min=1, help="How many events there are before.")] = 100_000,
    shards: Annotated[int, typer.Option(min=1, help="Shards of the store.")] = 4,
    keys: Annotated[int, typer.Option(min=REFUNDS, help="Accounts, and keys of the view.")] = 10_000,
    rate: Annotated[int, typer.Option(min=100, help="Events that arrive each second meanwhile.")] = 5_000,
    kills: Annotated[int, typer.Option(min=0, help="How often the view is killed.")] = KILLS,
    folder: Annotated[Path | None, typer.Option(help="Where to work; a temporary folder.")] = None,
) -> None:
    """Rebuild a view, give it versions, kill it, poison it, while events arrive; and count what is right."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        keeper, arrived = tend(Path(scratch).absolute(), events, shards, keys, rate, kills)
    table = Table("step", "seconds", "figures")
    for name, seconds, said in keeper.steps:
        table.add_row(name, f"{seconds:.1f}", said)
    Console(file=sys.stdout).print(table)
    print(f"{arrived:,.0f} events/s arrived meanwhile")
    print(f"{keeper.checks} of {keeper.checks} answers equal the log, which has {keeper.events:,} events")


if __name__ == "__main__":
    typer.run(main)
