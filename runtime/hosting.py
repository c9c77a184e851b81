"""PackedHost: stands behind a shard's inbox and finds, or makes, the activation that a command is for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from eventray.domain.errors import UnknownName
from eventray.runtime.activation import Activation
from eventray.runtime.app import App
from eventray.runtime.config import Config
from eventray.runtime.decide import Decider, Round
from eventray.runtime.metrics import Sample, of_activations, of_commands
from eventray.runtime.outcomes import with_refused
from eventray.runtime.placement import Packed
from eventray.runtime.status import AggregateStatus
from eventray.runtime.threads import Threads
from eventray.runtime.wire import Answerer, CommandItem, Kind
from eventray.store.port import LocalShardPort

SWEEPS_PER_IDLE_TIMEOUT = 4
LOOKS_FOR_ROOM = 16  # activations with work that are passed over at a time


class PackedHost:
    """The activations that live in their shard's process: loaded on demand, least recently used out."""

    def __init__(self, app: App, shard: LocalShardPort, config: Config) -> None:
        self._app = app
        self._shard = shard
        self._config = config
        threads = Threads(config.blocking_threads_max)
        self._deciders = {name: Decider(model, config, threads) for name, model in app.aggregates.items()}
        self._active: dict[str, OrderedDict[str, Activation]] = {name: OrderedDict() for name in app.aggregates}
        self._crowded: set[str] = set()  # classes with more in memory than they may have, since those have work
        self._started: Counter[str] = Counter()
        self._passivated: Counter[str] = Counter()
        self._since = datetime.now(UTC)
        self._schedule = self._take_ready  # one bound method for all: it is kept in each of them
        self._sweeper: asyncio.Task[None] | None = None
        self._ready: list[Activation] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """Instances in memory."""
        return sum(len(active) for active in self._active.values())

    @property
    def pending(self) -> int:
        """Commands that wait."""
        return sum(a.pending for active in self._active.values() for a in active.values() if not a.idle)

    def samples(self, overloaded: Mapping[str, int]) -> Iterator[Sample]:
        """Its metrics; `overloaded`: commands that were not even taken, by class."""
        yield Sample("eventray_shard_waiting_commands", self.pending, (str(self._shard.index),))
        for name, decider in self._deciders.items():
            yield from of_commands(name, with_refused(decider.outcomes, overloaded.get(name, 0)))
        yield from of_activations(self.statuses())

    def statuses(self) -> tuple[AggregateStatus, ...]:
        """The activations by class; of those that live elsewhere nothing."""
        return tuple(
            AggregateStatus(name, "Packed", len(active), self._started[name], self._passivated[name], None, self._since)
            for name, active in self._active.items()
            if active or self._started[name] or isinstance(self._app.placement_of(name), Packed)
        )

    def handle(self, item: CommandItem, answer: Answerer) -> None:
        """Give a command to its activation."""
        active = self._active.get(item.aggregate)
        if active is None:
            answer(Kind.ERROR, UnknownName("aggregate", item.aggregate, tuple(self._app.aggregates)))
            return
        activation = active.get(item.id)
        if activation is None:
            activation = active[item.id] = self._activate(item)
            self._started[item.aggregate] += 1
            activation.submit(item, answer)  # first: one without work might have to make room
            self._make_room(item.aggregate)
        else:
            active.move_to_end(item.id)
            activation.submit(item, answer)

    async def drain(self) -> None:
        """Wait until every command taken so far is answered."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for active in self._active.values():
            for activation in list(active.values()):
                await activation.drain()

    def _activate(self, item: CommandItem) -> Activation:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        stream = f"{item.aggregate}/{item.id}"
        decider = self._deciders[item.aggregate]
        return Activation(
            decider,
            stream,
            self._shard,
            take_over=False,
            schedule=self._schedule,
        )

    # What is decided in one turn of the loop goes to the shard without a task, and is answered without one.

    def _take_ready(self, activation: Activation) -> None:
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._run_ready)
        self._ready.append(activation)

    def _run_ready(self) -> None:
        ready, self._ready = self._ready, []
        for activation in ready:
            try:
                done = activation.begin()
            except Exception as error:  # a fault of ours: it must not leave the others of the group waiting
                activation.abort(Round(0), error)
                continue
            if done is None:
                self._spawn(activation.run())
            else:
                self._append(activation, done)

    def _append(self, activation: Activation, done: Round) -> None:
        done.stream, done.activation, done.settle = activation.stream, activation, self._settle
        try:
            self._shard.submit_batch(done)
        except Exception as error:
            done.fail(error)
            self._settle(done)

    def _settle(self, done: Round) -> None:
        activation = done.activation
        try:
            rest = activation.settle(done)
        except Exception as error:  # a fault of ours: it must not leave the others of the group waiting
            activation.abort(done, error)
            return
        if rest is not None:
            self._spawn(rest)
        elif self._crowded:
            self._make_room_again()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._make_room_again()

    def _make_room_again(self) -> None:
        for aggregate in [*self._crowded]:  # what had work may have none now
            self._make_room(aggregate)

    def _make_room(self, aggregate: str) -> None:
        """Passivate the least recently used while there are too many: never one with work, it is in use now."""
        placement, active = self._app.placement_of(aggregate), self._active[aggregate]
        if not isinstance(placement, Packed):
            return
        looks = LOOKS_FOR_ROOM
        while len(active) > placement.max_active and looks:
            oldest = next(iter(active))
            if active[oldest].idle:
                self._passivate(aggregate, oldest)
            else:
                active.move_to_end(oldest)
                looks -= 1
        if len(active) > placement.max_active:
            self._crowded.add(aggregate)
        else:
            self._crowded.discard(aggregate)

    def _passivate(self, aggregate: str, id: str) -> None:
        del self._active[aggregate][id]
        self._passivated[aggregate] += 1

    async def _sweep(self) -> None:
        """Passivate what has not been used for its idle timeout: an idle activation is only its state."""
        timeouts = {name: self._app.placement_of(name).idle_timeout for name in self._app.aggregates}
        while True:
            await asyncio.sleep(min(timeouts.values()) / SWEEPS_PER_IDLE_TIMEOUT)
            now = time.monotonic()
            for name, active in self._active.items():
                for identity, activation in list(active.items()):
                    if now - activation.used_at < timeouts[name]:
                        break  # ordered by use: all later ones are younger
                    if activation.idle:
                        self._passivate(name, identity)
