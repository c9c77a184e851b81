"""Link: everything of one client that goes to one target, batched and in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol

from eventray.domain.errors import EventRayError, Overloaded
from eventray.runtime.blame import CRASHES_MAX, Blame
from eventray.runtime.config import Config
from eventray.runtime.wire import Batch, BatchRefused, Kind, Reply

BACKOFF_FIRST_S = 0.02
BACKOFF_MOST_S = 1.0


class TargetLost(Exception):  # noqa: N818  (control flow between engine parts; users never see it)
    """The target cannot be reached; whether it ran what was sent is not known."""


class Channel(Protocol):
    """A connection to one incarnation of a target."""

    epoch: int

    async def submit(self, batch: Batch) -> Reply:
        """Send a batch; TargetLost, BatchRefused."""
        ...

    async def collect(self, client: str, number: int) -> Reply:
        """The next part of its answers; TargetLost, BatchRefused."""
        ...


class Job(Protocol):
    """One item on its way: what to send, and what to do with the answer."""

    lane: Hashable  # items of one lane keep their order; None: no order
    deadline: float
    sent: bool  # whether any call with it has left
    size: int  # bytes

    @property
    def poison(self) -> Callable[[int], BaseException] | None:
        """Its error for having ended its target so often; None: it is never blamed for that."""
        ...

    def item(self) -> Any:
        """What travels."""
        ...

    def complete(self, kind: Kind, payload: Any) -> None:
        """The answer is there."""
        ...

    def expire(self, reason: str) -> None:
        """Its time is over; `reason`: the last failure on the way, or empty."""
        ...

    def fail(self, error: BaseException) -> None:
        """It ends with this error."""
        ...


Connect = Callable[[Hashable], Awaitable[Channel]]  # finds a target's live incarnation; TargetLost


class Sender(Protocol):
    """What the links of one client share (the Router)."""

    client: str
    config: Config
    connect: Connect

    def landed(self) -> None:
        """A job has ended."""
        ...

    def next_number(self) -> int:
        """Batches are numbered over all targets: a link that is made again does not repeat a number."""
        ...


class _Lane:
    """The jobs of one instance at one target, in order."""

    __slots__ = ("busy", "jobs", "open")

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()  # not on their way
        self.busy = False  # a batch on its way holds some
        self.open = 0  # not yet answered


class Link:
    """Everything that goes to one target."""

    def __init__(self, router: Sender, target: Hashable) -> None:
        self._router = router
        self._config = router.config
        self._target = target
        self._lanes: dict[Hashable, _Lane] = {}
        self._ready: deque[Hashable] = deque()  # lanes with jobs, none of them on its way
        self._flights: dict[int, _Flight] = {}
        self._unanswered = 0  # flights that wait for their first reply
        self._voids: list[int] = []
        self._blame = Blame()
        self._channel: Channel | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._trouble = ""
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumping = False

    @property
    def idle(self) -> bool:
        """Nothing waits here and nothing is on its way."""
        return not self._lanes and not self._flights and self._connecting is None

    def add(self, job: Job) -> bool:
        """Queue a job; False when the queue of its lane is full (it has ended with `Overloaded`)."""
        key = _key(job)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        if lane.open >= self._config.aggregate_commands_max:
            job.fail(Overloaded(str(key), self._config.aggregate_commands_max, "commands", 0.05))
            return False
        lane.open += 1
        lane.jobs.append(job)
        if not lane.busy and len(lane.jobs) == 1:
            self._ready.append(key)
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)
        return True

    def expire(self, now: float) -> float:
        """End the jobs whose time is over; the earliest deadline of the others."""
        nearest = float("inf")
        for lane in list(self._lanes.values()):
            for job in [job for job in lane.jobs if job.deadline <= now]:
                lane.jobs.remove(job)
                job.expire(self._trouble)
                self._settle(job)
            nearest = min([nearest, *(job.deadline for job in lane.jobs)])
        for flight in self._flights.values():
            for index, job in list(flight.jobs.items()):
                if job.deadline <= now and index not in flight.expired:
                    flight.expired.add(index)  # it stays on its way: its lane waits for the end of it
                    job.expire(self._trouble)
                elif index not in flight.expired:
                    nearest = min(nearest, job.deadline)
        return nearest

    def close(self, error: BaseException) -> None:
        """End all that is open with `error`."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for task in self._tasks:
            task.cancel()
        for lane in self._lanes.values():
            for job in lane.jobs:
                job.fail(error)
        for flight in self._flights.values():
            for job in (*flight.jobs.values(), *flight.again.values()):
                job.fail(error)

    # sending

    def _pump(self) -> None:
        """Send what is ready, as far as the number of calls on their way allows."""
        self._pumping = False
        if self._closed:
            return
        if self._channel is None:
            if self._ready and self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        if self._blame.cases and self._find_culprit(self._channel):
            return
        while self._ready and self._unanswered < self._config.link_batches_max:
            jobs = self._take()
            if jobs:
                self._start(jobs, self._channel)

    def _find_culprit(self, channel: Channel) -> bool:
        """After a loss: send what must go alone, one at a time; gives whether all else has to wait for that."""
        for job in self._blame.judge(channel.epoch):
            assert job.poison is not None
            self._lanes[_key(job)].jobs.remove(job)
            job.fail(job.poison(CRASHES_MAX))
            self._settle(job)
        if any(flight.alone for flight in self._flights.values()):
            return True
        suspect = self._blame.suspect(self._is_next)
        if suspect is not None and not self._flights:
            lane = self._lanes[_key(suspect)]
            lane.jobs.popleft()
            lane.busy = True
            self._start([suspect], channel, alone=True)
        return suspect is not None

    def _is_next(self, job: Job) -> bool:
        lane = self._lanes[_key(job)]
        return not lane.busy and lane.jobs[0] is job

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        size = 0
        while self._ready and len(jobs) < self._config.batch_commands_max and size < self._config.batch_bytes_max:
            lane = self._lanes.get(self._ready.popleft())
            if lane is None or lane.busy or not lane.jobs:
                continue
            lane.busy = True
            while lane.jobs and len(jobs) < self._config.batch_commands_max and size < self._config.batch_bytes_max:
                job = lane.jobs.popleft()
                size += job.size
                jobs.append(job)
        return jobs

    def _start(self, jobs: list[Job], channel: Channel, *, alone: bool = False) -> None:
        flight = _Flight(self._router.next_number(), jobs, alone)
        floor = min(self._flights, default=flight.number)
        self._voids = [number for number in self._voids if number >= floor]
        items = [job.item() for job in jobs]
        batch = Batch(self._router.client, channel.epoch, flight.number, floor, tuple(self._voids), items, alone)
        for job in jobs:
            job.sent = True
        self._flights[flight.number] = flight
        self._unanswered += 1
        task = asyncio.get_running_loop().create_task(self._fly(flight, batch, channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fly(self, flight: _Flight, batch: Batch, channel: Channel) -> None:
        waiting = True
        try:
            reply = await channel.submit(batch)
            waiting = False
            self._unanswered -= 1
            self._deliver(flight, reply)
            while reply.pending:
                self._pump()
                reply = await channel.collect(self._router.client, flight.number)
                self._deliver(flight, reply)
            if flight.jobs:
                raise BatchRefused("the target left items without an answer")
        except (TargetLost, BatchRefused) as error:
            ran_alone = flight.alone and not waiting and isinstance(error, TargetLost)
            for job in flight.unexpired():
                self._blame.lost(job, channel.epoch, alone=ran_alone)
            self._lost(flight, channel, str(error) or type(error).__name__)
        except Exception as error:  # not foreseen: nobody may be left waiting
            self._abandon(flight, error)
        finally:
            if waiting:
                self._unanswered -= 1
            self._flights.pop(flight.number, None)
            self._pump()

    # answers

    def _deliver(self, flight: _Flight, reply: Reply) -> None:
        again = ""
        for index, kind, payload in reply.answers:
            job = flight.jobs.pop(index, None)
            if job is None:
                continue
            if index in flight.expired:
                self._settle(job)
            elif kind is Kind.AGAIN:
                flight.again[index] = job
                again = payload
            else:
                self._trouble = ""
                job.complete(kind, payload)
                self._settle(job)
        self._release(flight, flight.lanes - {_key(job) for job in flight.jobs.values()})
        if again:
            self._reconnect(again)

    def _lost(self, flight: _Flight, channel: Channel, reason: str) -> None:
        """The call failed, its outcome is unknown: what it had not answered goes again, with the same ids, in order."""
        self._voids.append(flight.number)
        for index, job in flight.jobs.items():
            if index in flight.expired:
                self._settle(job)
            else:
                flight.again[index] = job
        flight.jobs.clear()
        if self._channel is channel:
            self._reconnect(reason)
        self._release(flight, set(flight.lanes))

    def _abandon(self, flight: _Flight, error: Exception) -> None:
        for index, job in flight.jobs.items():
            if index not in flight.expired:
                job.fail(error)
            self._settle(job)
        flight.jobs.clear()
        self._release(flight, set(flight.lanes))

    def _settle(self, job: Job) -> None:
        """A job has ended."""
        key = _key(job)
        lane = self._lanes[key]
        lane.open -= 1
        self._router.landed()
        if self._blame.cases:
            self._blame.forget(job)
        if lane.open == 0 and not lane.busy:
            self._lanes.pop(key, None)

    def _release(self, flight: _Flight, keys: set[Hashable]) -> None:
        """These lanes have nothing more in this flight: what must go again goes first, then what waited."""
        flight.lanes -= keys
        for index in sorted(flight.again, reverse=True):
            if (key := _key(flight.again[index])) in keys:
                self._lanes[key].jobs.appendleft(flight.again.pop(index))
        for key in keys:
            lane = self._lanes.get(key)
            if lane is None:
                continue
            lane.busy = False
            if lane.jobs:
                self._ready.append(key)
            elif lane.open == 0:
                del self._lanes[key]

    # connecting

    def _reconnect(self, reason: str) -> None:
        self._trouble = reason
        self._channel = None

    async def _connect(self) -> None:
        delay = 0.0 if not self._trouble else BACKOFF_FIRST_S
        while not self._closed and self._lanes:
            await asyncio.sleep(delay)
            delay = min(BACKOFF_MOST_S, max(BACKOFF_FIRST_S, delay * 2))
            try:
                self._channel = await self._router.connect(self._target)
            except (TargetLost, BatchRefused) as error:
                self._trouble = str(error)
            except EventRayError as error:
                self._refuse(error)
            except Exception as error:  # not foreseen: nobody may be left waiting
                self._refuse(error)
            else:
                break
        self._connecting = None
        self._pump()

    def _refuse(self, error: BaseException) -> None:
        """The target will not be had: what waits for it ends with the reason."""
        for lane in list(self._lanes.values()):
            while lane.jobs:
                job = lane.jobs.popleft()
                job.fail(error)
                self._settle(job)


class _Flight:
    """One call on its way."""

    __slots__ = ("again", "alone", "expired", "jobs", "lanes", "number")

    def __init__(self, number: int, jobs: list[Job], alone: bool) -> None:
        self.number = number
        self.alone = alone
        self.jobs = dict(enumerate(jobs))
        self.lanes = {_key(job) for job in jobs}
        self.expired: set[int] = set()  # their callers have been told that the time is over
        self.again: dict[int, Job] = {}  # to be sent again, once their lane has nothing more on its way

    def unexpired(self) -> list[Job]:
        """What is still wanted and has no answer."""
        return [job for index, job in self.jobs.items() if index not in self.expired]


def _key(job: Job) -> Hashable:
    return job.lane if job.lane is not None else id(job)
