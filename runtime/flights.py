"""Flights: the calls of a link that are on their way, numbered so that the target takes each once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from eventray.runtime.lanes import Job, key_of


class Flight:
    """One call on its way."""

    __slots__ = ("again", "alone", "commands", "expired", "jobs", "lanes", "number", "repeated")

    def __init__(self, number: int, jobs: Sequence[Job], alone: bool) -> None:
        self.number = number
        self.alone = alone
        self.jobs = dict(enumerate(jobs))
        self.commands = sum(job.lane is not None for job in jobs)  # queries may wait long for what they ask for
        self.lanes = {key_of(job) for job in jobs}
        self.repeated = {index for index, job in self.jobs.items() if job.sent}  # an earlier call may have done them
        self.expired: set[int] = set()  # their callers have been told that the time is over
        self.again: dict[int, Job] = {}  # to be sent again, once their lane has nothing more on its way

    def unexpired(self) -> list[Job]:
        """What is still wanted and has no answer."""
        return [job for index, job in self.jobs.items() if index not in self.expired]

    def finished(self) -> set[Hashable]:
        """The lanes that wait for nothing more of this flight."""
        return self.lanes - {key_of(job) for job in self.jobs.values()}

    def leave(self, keys: set[Hashable]) -> list[Job]:
        """Let go of these lanes; gives what of them has to be sent again, in order."""
        self.lanes -= keys
        indexes = sorted(index for index, job in self.again.items() if key_of(job) in keys)
        return [self.again.pop(index) for index in indexes]


class Flights:
    """The flights of one link."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self._voids: list[int] = []
        self.unanswered = 0  # flights that wait for their first reply
        self.commands_unanswered = 0  # in those

    def __bool__(self) -> bool:
        return bool(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights.values())

    def start(self, number: int, jobs: Sequence[Job], alone: bool) -> tuple[Flight, int, tuple[int, ...]]:
        """A new flight, the floor (every number below it is settled), and the numbers above that were given up."""
        flight = Flight(number, jobs, alone)
        floor = min(self._flights, default=number)
        self._voids = [void for void in self._voids if void >= floor]
        self._flights[number] = flight
        self.unanswered += 1
        self.commands_unanswered += flight.commands
        return flight, floor, tuple(self._voids)

    def answered(self, flight: Flight) -> None:
        """The first reply to a flight is there, or none will come."""
        self.unanswered -= 1
        self.commands_unanswered -= flight.commands

    def give_up(self, flight: Flight) -> None:
        """Its call failed: if it still arrives, it must not be taken."""
        self._voids.append(flight.number)

    def end(self, flight: Flight) -> None:
        """Nothing more will come of it."""
        self._flights.pop(flight.number, None)
