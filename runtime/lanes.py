"""Lanes: what waits in a link, one queue for each instance, so that what is sent to one keeps its order."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from eventray.domain.errors import Overloaded
from eventray.runtime.config import Config
from eventray.runtime.quota import RETRY_AFTER_S
from eventray.runtime.wire import Kind


class Job(Protocol):
    """One item on its way: what to send, and what to do with the answer."""

    lane: Hashable  # items of one lane keep their order; None: no order
    deadline: float
    sent: int  # calls with it that have left
    size: int  # bytes

    @property
    def patient(self) -> bool:
        """Whether it waits where others end in `Overloaded`; who sends such jobs bounds their number."""
        ...

    @property
    def poison(self) -> Callable[[int], BaseException] | None:
        """Its error for having ended its target so often; None: it is never blamed for that."""
        ...

    def __hash__(self) -> int: ...

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


class Lanes:
    """The lanes of one link. A call on its way holds all that a lane has on its way.

    Most lanes have one job at a time. Such a lane is a number here and nothing else: a queue is made for what comes
    while its lane has an open job.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._open: dict[Hashable, int] = {}  # jobs of each lane that have not ended
        self._ready: OrderedDict[Job, None] = OrderedDict()  # the next one of each lane that has nothing on its way
        self._behind: dict[Hashable, deque[Job]] = {}  # the others that wait, in order
        self._again: dict[Hashable, dict[int, Job]] = {}  # those to go again once the call has ended the lane's others
        self._paused: set[Hashable] = set()

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def ready(self) -> int:
        """How many lanes have something that can be taken."""
        return len(self._ready)

    def add(self, job: Job) -> Overloaded | None:
        """Queue a job; or the reason why not, when its lane is full."""
        key = key_of(job)
        open = self._open.get(key, 0)
        if not open:
            self._ready[job] = None
        elif open < self._config.aggregate_commands_max or job.patient:
            self._behind.setdefault(key, deque()).append(job)
        else:
            return Overloaded(str(key), self._config.aggregate_commands_max, "commands", RETRY_AFTER_S)
        self._open[key] = open + 1
        return None

    def take(self, lanes_max: int) -> list[Job]:
        """The jobs of the next call, of so many lanes; of these nothing else can be taken until they are answered."""
        ready, behind, commands_max = self._ready, self._behind, self._config.batch_commands_max
        jobs: list[Job] = []
        room = self._config.batch_bytes_max
        while ready and lanes_max and room > 0 and len(jobs) < commands_max:
            lanes_max -= 1
            job, _ = ready.popitem(last=False)
            jobs.append(job)
            room -= job.size
            key = key_of(job)
            if key not in behind:
                continue
            queue = behind[key]
            while queue and room > 0 and len(jobs) < commands_max:
                job = queue.popleft()
                jobs.append(job)
                room -= job.size
            if not queue:
                del behind[key]
        return jobs

    def is_next(self, job: Job) -> bool:
        """Whether it could be taken now."""
        return job in self._ready

    def take_next(self, job: Job) -> None:
        """Take this one alone, which is next."""
        del self._ready[job]

    def ended(self, jobs: Iterable[Job]) -> None:
        """These were on their way and have ended."""
        shared: set[Hashable] = set()
        for job in jobs:
            key = key_of(job)
            left = self._open.pop(key) - 1
            if left:
                self._open[key] = left
                shared.add(key)
        self._go_on(shared)

    def again(self, jobs: Mapping[int, Job]) -> None:
        """These were on their way and must go again, in the order of their places and before all that waits."""
        for place, job in jobs.items():
            self._again.setdefault(key_of(job), {})[place] = job
        self._go_on({key_of(job) for job in jobs.values()})

    def remove(self, jobs: Collection[Job]) -> None:
        """Take jobs out that wait: they have ended."""
        gone = set(jobs)
        for job in gone:
            self._ready.pop(job, None)
        lanes = Counter(map(key_of, jobs))
        for key, lost in lanes.items():
            if behind := deque(job for job in self._behind.pop(key, ()) if job not in gone):
                self._behind[key] = behind
            if again := {place: job for place, job in self._again.pop(key, {}).items() if job not in gone}:
                self._again[key] = again
            if left := self._open.pop(key) - lost:
                self._open[key] = left
        self._go_on(lanes)

    def pause(self, keys: Iterable[Hashable]) -> None:
        """Keep what waits in these lanes until `resume`."""
        self._paused.update(keys)

    def resume(self, keys: Iterable[Hashable]) -> None:
        """Let them go on."""
        self._paused.difference_update(keys)
        self._go_on(keys)

    def waiting(self) -> list[Job]:
        """Every job that is not on its way."""
        again = (jobs.values() for jobs in self._again.values())
        return [*self._ready, *chain.from_iterable(self._behind.values()), *chain.from_iterable(again)]

    def _go_on(self, keys: Iterable[Hashable]) -> None:
        """Make the next job of each of these lanes ready, where there is one and nothing of the lane is on its way."""
        for key in keys:
            waiting = len(self._behind.get(key, ())) + len(self._again.get(key, ()))
            if not waiting or waiting < self._open[key] or key in self._paused:
                continue
            queue = self._behind.setdefault(key, deque())
            again = self._again.pop(key, {})
            self.put_back(queue, [again[place] for place in sorted(again)])
            self._ready[queue.popleft()] = None
            if not queue:
                del self._behind[key]

    @staticmethod
    def put_back(queue: deque[Job], jobs: Sequence[Job]) -> None:
        """These go before all that waits in their lane."""
        queue.extendleft(reversed(jobs))


def key_of(job: Job) -> Hashable:
    """The lane of a job; one without order has a lane of its own."""
    return job.lane or job
