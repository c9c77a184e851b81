"""Lanes: what waits in a link, one queue for each instance, so that what is sent to one keeps its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from eventray.domain.errors import Overloaded
from eventray.runtime.config import Config
from eventray.runtime.quota import RETRY_AFTER_S
from eventray.runtime.wire import Kind


class Job(Protocol):
    """One item on its way: what to send, and what to do with the answer."""

    lane: Hashable  # items of one lane keep their order; None: no order
    deadline: float
    sent: bool  # whether any call with it has left
    size: int  # bytes

    @property
    def patient(self) -> bool:
        """Whether it waits where others end in `Overloaded`; who sends such jobs bounds their number."""
        ...

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


class _Lane:
    """The jobs of one instance at one target, in order."""

    __slots__ = ("busy", "jobs", "open")

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()  # not on their way
        self.busy = False  # a batch on its way holds some
        self.open = 0  # not yet answered


class Lanes:
    """The lanes of one link. A lane lives as long as it has a job that is not answered."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lanes: dict[Hashable, _Lane] = {}
        self._ready: deque[Hashable] = deque()  # lanes with jobs, none of them on its way

    def __bool__(self) -> bool:
        return bool(self._lanes)

    @property
    def ready(self) -> int:
        """How many lanes have something that can be taken."""
        return len(self._ready)

    def add(self, job: Job) -> bool:
        """Queue a job; False when its lane is full (it has ended with `Overloaded`)."""
        key = key_of(job)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        if lane.open >= self._config.aggregate_commands_max and not job.patient:
            job.fail(Overloaded(_named(job), self._config.aggregate_commands_max, "commands", RETRY_AFTER_S))
            return False
        lane.open += 1
        lane.jobs.append(job)
        if not lane.busy and len(lane.jobs) == 1:
            self._ready.append(key)
        return True

    def take(self) -> list[Job]:
        """The jobs of the next batch; their lanes are busy until they are freed."""
        config, size = self._config, 0
        jobs: list[Job] = []
        while self._ready and len(jobs) < config.batch_commands_max and size < config.batch_bytes_max:
            lane = self._lanes.get(self._ready.popleft())
            if lane is None or lane.busy or not lane.jobs:
                continue
            lane.busy = True
            while lane.jobs and len(jobs) < config.batch_commands_max and size < config.batch_bytes_max:
                job = lane.jobs.popleft()
                size += job.size
                jobs.append(job)
        return jobs

    def is_next(self, job: Job) -> bool:
        """Whether it could be taken now."""
        lane = self._lanes[key_of(job)]
        return not lane.busy and lane.jobs[0] is job

    def take_next(self, job: Job) -> None:
        """Take this one alone, which is next."""
        lane = self._lanes[key_of(job)]
        lane.jobs.popleft()
        lane.busy = True

    def put_back(self, jobs: Sequence[Job]) -> None:
        """These must go again, before all that waits in their lanes."""
        for job in reversed(jobs):
            self._lanes[key_of(job)].jobs.appendleft(job)

    def free(self, keys: Iterable[Hashable]) -> None:
        """These lanes have nothing more on its way."""
        for key in keys:
            lane = self._lanes.get(key)
            if lane is None:
                continue
            lane.busy = False
            if lane.jobs:
                self._ready.append(key)
            elif lane.open == 0:
                del self._lanes[key]

    def remove(self, job: Job) -> None:
        """Take a job out that waits; it has still to be settled."""
        self._lanes[key_of(job)].jobs.remove(job)

    def settle(self, job: Job) -> None:
        """A job has ended."""
        key = key_of(job)
        lane = self._lanes[key]
        lane.open -= 1
        if lane.open == 0 and not lane.busy:
            self._lanes.pop(key, None)

    def waiting(self) -> Iterator[Job]:
        """Every job that is not on its way; they may be removed and settled meanwhile."""
        for lane in list(self._lanes.values()):
            yield from list(lane.jobs)


def key_of(job: Job) -> Hashable:
    """The lane of a job; one without order has a lane of its own."""
    return job.lane if job.lane is not None else id(job)


def _named(job: Job) -> str:
    return "/".join(map(str, job.lane)) if isinstance(job.lane, tuple) else str(job.lane)
