"""Inbox: takes numbered batches at a target, each number once, and gives back answers as they become ready.

A call may arrive late, after the client gave it up and sent its items again; or twice. The number tells. A restarted
target knows no numbers, so a batch also names the epoch that it was meant for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from eventray.runtime.config import Config
from eventray.runtime.gate import Gate
from eventray.runtime.quota import Quota
from eventray.runtime.wire import Answer, Answerer, Batch, BatchRefused, Kind, Reply, full
from eventray.store.records import maker

Handle = Callable[[Any, Answerer], None]
FORGET_CLIENT_S = 900.0
RESERVED_S = 5.0  # how long a client that wants to be alone may take to come back for its answers

_answer = maker(Answer)


class Inbox:
    """The receiving end of many Routers.

    `handle(item, answer)` starts an item and returns at once; `answer(kind, payload)` is called once when it ends.
    """

    def __init__(self, epoch: int, handle: Handle, config: Config) -> None:
        self.epoch = epoch
        self._handle = handle
        self._config = config
        self._clients: dict[str, _Client] = {}
        self._gate = Gate()
        self._quota = Quota("this actor", config.actor_commands_max, config.actor_bytes_max)

    @property
    def overloaded(self) -> Counter[str]:
        """Items that were not taken since too many were there, by aggregate (or by query, at a view)."""
        return self._quota.refused

    def hello(self, client: str) -> int:
        """Greet a client; the epoch that its batches must name."""
        now = time.monotonic()
        for name in [n for n, c in self._clients.items() if now - c.heard_at > FORGET_CLIENT_S]:
            del self._clients[name]
        self._clients.setdefault(client, _Client()).heard_at = now
        return self.epoch

    async def submit(self, batch: Batch) -> Reply:
        """Start a batch; its answers, all of them if they come without a pause.

        Raises:
            BatchRefused: the number was seen, or the batch is meant for another incarnation.
        """
        if batch.epoch != self.epoch:
            raise BatchRefused(f"meant for epoch {batch.epoch}, this is {self.epoch}")
        client = self._clients.setdefault(batch.client, _Client())
        client.accept(batch)
        if batch.alone:
            return await self._reserve(client, batch)
        await self._gate.enter()
        pending = _PendingBatch(batch.items, self._gate.leave, self._quota)
        pending.start(self._handle)
        answers = await pending.take(self._config.reply_first_s, self._config.reply_grace_s)
        return self._reply(client, batch.number, pending, answers)

    async def collect(self, client_name: str, number: int) -> Reply:
        """The next part of a batch's answers; waits for one, then until they pause.

        Raises:
            BatchRefused: no such batch is open here.
        """
        client = self._clients.get(client_name)
        pending = client.open.get(number) if client else None
        if client is None or pending is None:
            raise BatchRefused(f"batch {number} is not open here")
        client.heard_at = time.monotonic()
        if pending.reserved is not None:
            pending.reserved.cancel()
            pending.reserved = None
            pending.start(self._handle)
        answers = await pending.take(self._config.poll_s, self._config.reply_grace_s)
        return self._reply(client, number, pending, answers)

    async def _reserve(self, client: _Client, batch: Batch) -> Reply:
        """Wait until nothing runs and keep it so, but start nothing: the client must know first that it is alone."""
        await self._gate.enter_alone()
        pending = client.open[batch.number] = _PendingBatch(batch.items, self._gate.leave_alone, self._quota)
        pending.reserved = asyncio.get_running_loop().call_later(RESERVED_S, self._lapse, client, batch.number)
        return Reply([], True)

    def _lapse(self, client: _Client, number: int) -> None:
        client.open.pop(number, None)
        self._gate.leave_alone()

    def _reply(self, client: _Client, number: int, pending: _PendingBatch, answers: list[Answer]) -> Reply:
        if pending.open:
            client.open[number] = pending
        else:
            client.open.pop(number, None)
        return Reply(answers, pending.open > 0)


class _Client:
    """What one client has sent: numbers seen above its floor, and batches with answers to come."""

    __slots__ = ("floor", "heard_at", "open", "seen")

    def __init__(self) -> None:
        self.floor = 0
        self.seen: set[int] = set()
        self.open: dict[int, _PendingBatch] = {}
        self.heard_at = time.monotonic()

    def accept(self, batch: Batch) -> None:
        self.heard_at = time.monotonic()
        for number in batch.voids:
            self.open.pop(number, None)
        self.seen.update(batch.voids)
        if batch.floor > self.floor:
            self.floor = batch.floor
            self.seen = {number for number in self.seen if number >= batch.floor}
        if batch.number < self.floor or batch.number in self.seen:
            raise BatchRefused(f"batch {batch.number} was seen or given up")
        self.seen.add(batch.number)


class _PendingBatch:
    """The answers of one batch, gathered until they are taken."""

    __slots__ = ("_answers", "_end", "_items", "_quota", "_waiter", "open", "reserved")

    def __init__(self, items: Sequence[Any], end: Callable[[], None], quota: Quota) -> None:
        self.open = len(items)  # not yet taken
        self.reserved: asyncio.TimerHandle | None = None  # it waits for its client: its place is lost when this rings
        self._items = items
        self._end = end  # called when all is answered
        self._quota = quota
        self._answers: list[Answer] = []
        self._waiter: asyncio.Future[None] | None = None

    def start(self, handle: Handle) -> None:
        items, self._items = self._items, ()
        sizes = [item.size for item in items]
        all_fit = self._quota.admit_all(len(items), sum(sizes))
        for index, (item, size) in enumerate(zip(items, sizes, strict=True)):
            refusal = None if all_fit else self._quota.admit(size)
            if refusal is not None:
                self._quota.refused[item[0]] += 1
                self.add(Answer(index, Kind.FULL, full(refusal)))
                continue
            slot = _Slot(self, index, size)
            try:
                handle(item, slot)
            except Exception as error:  # a fault of ours: it must not leave the others waiting
                slot(Kind.ERROR, error)

    def end(self, answer: Answer, size: int) -> None:
        self._quota.let_go(size)
        self.add(answer)

    def add(self, answer: Answer) -> None:
        self._answers.append(answer)
        if len(self._answers) == self.open:
            self._end()
        if self._waiter is not None:
            self._wake()

    async def take(self, first_s: float, grace_s: float) -> list[Answer]:
        """The answers so far: once all are there, none came for `grace_s` after one, or none at all for `first_s`."""
        seen = 0
        while len(self._answers) < self.open and await self._more(grace_s if seen else first_s, seen):
            seen = len(self._answers)
        answers, self._answers = self._answers, []
        self.open -= len(answers)
        return answers

    async def _more(self, timeout_s: float, seen: int) -> bool:
        if len(self._answers) == seen:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)  # wait_for would take a turn of the loop more
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return len(self._answers) > seen

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Slot:
    """Where one item's end is reported; a second report is ignored."""

    __slots__ = ("_index", "_pending", "_size")

    def __init__(self, pending: _PendingBatch, index: int, size: int) -> None:
        self._pending: _PendingBatch | None = pending
        self._index = index
        self._size = size

    def __call__(self, kind: Kind, payload: Any) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.end(_answer((self._index, kind, payload)), self._size)
