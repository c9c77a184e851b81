"""Link: everything of one client that goes to one target, batched and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Mapping, Set
from typing import Any, Protocol

from eventray.domain.errors import EventRayError, Overloaded
from eventray.runtime.blame import CRASHES_MAX, Blame
from eventray.runtime.channel import Channel, Connect, TargetLost
from eventray.runtime.config import Config
from eventray.runtime.flights import Flight, Flights, Traffic
from eventray.runtime.lanes import Job, Lanes, key_of
from eventray.runtime.wire import Batch, BatchRefused, Kind, Reply

BACKOFF_FIRST_S = 0.02
BACKOFF_MOST_S = 1.0
FULL_PAUSE_S = 0.05
AGAIN, FULL = Kind.AGAIN, Kind.FULL  # found faster than in the enum
HOLD_S = 0.0005  # those who were answered are back by then, if they have another command
LARGE = 64  # instances: a call with so many is worth its price, and takes more only by halves
FEW = 2  # another call leaves with at least so many times fewer instances than commands are on their way


class Sender(Protocol):
    """What the links of one client share (the Router)."""

    client: str
    config: Config
    connect: Connect
    traffic: Traffic

    def landed(self, jobs: Collection[Job]) -> None:
        """These have ended, or are about to."""
        ...

    def next_number(self) -> int:
        """Batches are numbered over all targets: a link that is made again does not repeat a number."""
        ...


class Link:
    """Everything that goes to one target."""

    def __init__(self, router: Sender, target: Hashable) -> None:
        self._router = router
        self._target = target
        self._lanes = Lanes(router.config)
        self._flights = Flights(router.traffic)
        self._blame = Blame()
        self._channel: Channel | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._trouble = ""
        self._closed = False
        self._held: asyncio.TimerHandle | None = None
        self._held_for = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Nothing waits here and nothing is on its way."""
        return not self._lanes and not self._flights and self._connecting is None

    def add(self, job: Job) -> Overloaded | None:
        """Queue a job for the next `pump`; or the reason why not, when its lane is full."""
        return self._lanes.add(job)

    def expire(self, now: float) -> float:
        """End the jobs whose time is over; the earliest deadline of the others."""
        waiting = self._lanes.waiting()
        nearest = min((job.deadline for job in waiting if job.deadline > now), default=float("inf"))
        for job in self._withdraw([job for job in waiting if job.deadline <= now]):
            job.expire(self._trouble)
        for flight in self._flights:
            for index, job in flight.unexpired().items():
                if job.deadline <= now:
                    flight.expired.add(index)  # it stays on its way: its lane waits for the end of it
                    job.expire(self._trouble)
                else:
                    nearest = min(nearest, job.deadline)
        return nearest

    def close(self, error: BaseException) -> None:
        """End all that is open with `error`."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for task in self._tasks:
            task.cancel()
        for job in self._lanes.waiting():
            job.fail(error)
        for flight in self._flights:
            for job in flight.jobs.values():
                job.fail(error)

    # sending

    def pump(self) -> None:
        """Send what is ready, as far as the number of calls on their way allows."""
        if self._closed:
            return
        if self._channel is None:
            if self._lanes.ready and self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        if self._held is not None and self._lanes.ready < self._held_for:
            return
        if self._blame.cases and self._find_culprit(self._channel):
            return
        while self._lanes.ready and self._may_start():
            self._start(self._lanes.take(self._share()), self._channel)

    def _share(self) -> int:
        """How many instances the next call may take: of many, half, where the others can leave as a second call.

        All that go in one call come back in one reply: then client and target would work by turns, and never together.
        """
        flights = self._flights
        is_first = not flights.unanswered
        if is_first and self._router.traffic.unanswered + 1 >= self._router.config.link_batches_max:
            return self._lanes.ready
        return max(LARGE, (self._lanes.ready + flights.commands_unanswered + 1) // 2)

    def _may_start(self) -> bool:
        """Few wait for the first reply of many, to go together with those who are answered by it: calls are dear.

        So do all, while calls to other targets are on their way: many calls at once fill the cores, and all wait then.
        """
        flights, calls_max = self._flights, self._router.config.link_batches_max
        if flights.unanswered >= calls_max or (
            flights.commands_unanswered and self._router.traffic.unanswered >= calls_max
        ):
            return False
        return self._lanes.ready * FEW >= flights.commands_unanswered

    def _find_culprit(self, channel: Channel) -> bool:
        """After a loss: send what must go alone, one at a time; gives whether all else has to wait for that."""
        for job in self._withdraw(self._blame.judge(channel.epoch)):
            assert job.poison is not None
            job.fail(job.poison(CRASHES_MAX))
        if any(flight.alone for flight in self._flights):
            return True
        suspect = self._blame.suspect(self._lanes.is_next)
        if suspect is not None and not self._flights:
            self._lanes.take_next(suspect)
            self._start([suspect], channel, alone=True)
        return suspect is not None

    def _start(self, jobs: list[Job], channel: Channel, *, alone: bool = False) -> None:
        flight, floor, voids = self._flights.start(self._router.next_number(), jobs, alone)
        items = [job.item() for job in jobs]
        batch = Batch(self._router.client, channel.epoch, flight.number, floor, voids, items, alone)
        for job in jobs:
            job.sent += 1
        task = asyncio.get_running_loop().create_task(self._fly(flight, batch, channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fly(self, flight: Flight, batch: Batch, channel: Channel) -> None:
        waiting = True
        try:
            reply = await channel.submit(batch)
            waiting = False
            self._flights.answered(flight)
            self._deliver(flight, reply)
            while reply.pending:
                self.pump()
                reply = await channel.collect(self._router.client, flight.number)
                self._deliver(flight, reply)
            if flight.jobs:
                raise BatchRefused("the target left items without an answer")
        except (TargetLost, BatchRefused) as error:
            ran_alone = flight.alone and not waiting and isinstance(error, TargetLost)
            for job in flight.unexpired().values():
                self._blame.lost(job, channel.epoch, alone=ran_alone)
            self._lost(flight, channel, str(error) or type(error).__name__)
        except Exception as error:  # not foreseen: nobody may be left waiting
            self._abandon(flight, error)
        finally:
            if waiting:
                self._flights.answered(flight)
            self._flights.end(flight)
            if flight.commands and not flight.jobs:
                self._hold(flight.commands)
            self.pump()

    def _hold(self, answered: int) -> None:
        """Those who were just answered may come back at once: few that wait give them a moment, and go with them."""
        if 0 < self._lanes.ready < min(answered, LARGE) and self._held is None:
            self._held_for = self._lanes.ready + answered
            self._held = asyncio.get_running_loop().call_later(HOLD_S, self._let_go)

    def _let_go(self) -> None:
        self._held = None
        self.pump()

    # answers

    def _deliver(self, flight: Flight, reply: Reply) -> None:
        ended: list[Job] = []
        outcomes: list[tuple[Job, Kind, Any]] = []
        again: dict[int, Job] = {}
        full: set[Hashable] = set()
        lost = ""
        for index, kind, payload in reply.answers:
            job = flight.jobs.pop(index, None)
            if job is None:
                continue
            if index in flight.expired:
                ended.append(job)
            elif kind is AGAIN:
                again[index] = job
                lost = payload
            elif kind is FULL and (job.patient or job.sent > 1):
                again[index] = job  # that nothing was taken would be said of this call only
                full.add(key_of(job))
            else:
                ended.append(job)
                outcomes.append((job, kind, payload))
        if outcomes:
            self._trouble = ""
        self._land(ended)
        self._send_again(again, full)
        for job, kind, payload in outcomes:
            if kind is FULL:
                job.fail(Overloaded(*payload))
            else:
                job.complete(kind, payload)
        if lost:
            self._reconnect(lost)

    def _lost(self, flight: Flight, channel: Channel, reason: str) -> None:
        """The call failed, its outcome is unknown: what it had not answered goes again, with the same ids, in order."""
        self._flights.give_up(flight)
        again = flight.unexpired()
        self._land([job for index, job in flight.jobs.items() if index in flight.expired])
        flight.jobs.clear()
        if self._channel is channel:
            self._reconnect(reason)
        self._send_again(again)

    def _abandon(self, flight: Flight, error: Exception) -> None:
        unexpired = flight.unexpired()
        self._land(flight.jobs.values())
        flight.jobs.clear()
        for job in unexpired.values():
            job.fail(error)

    def _send_again(self, jobs: Mapping[int, Job], full: Set[Hashable] = frozenset()) -> None:
        """These go again, before what waits in their lanes; those that met a `full` target pause before."""
        if full:
            self._lanes.pause(full)
            asyncio.get_running_loop().call_later(FULL_PAUSE_S, self._resume, full)
        if jobs:
            self._lanes.again(jobs)

    def _resume(self, keys: Set[Hashable]) -> None:
        self._lanes.resume(keys)
        self.pump()

    def _land(self, jobs: Collection[Job]) -> None:
        """These were on their way and have ended, or are about to: whoever is told so finds room for the next."""
        self._lanes.ended(jobs)
        self._leave(jobs)

    def _withdraw(self, jobs: Collection[Job]) -> Collection[Job]:
        """These wait and are about to end."""
        self._lanes.remove(jobs)
        self._leave(jobs)
        return jobs

    def _leave(self, jobs: Collection[Job]) -> None:
        self._router.landed(jobs)
        if self._blame.cases:
            for job in jobs:
                self._blame.forget(job)

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
        self.pump()

    def _refuse(self, error: BaseException) -> None:
        """The target will not be had: what waits for it ends with the reason."""
        for job in self._withdraw(self._lanes.waiting()):
            job.fail(error)
