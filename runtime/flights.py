"""Flights: the calls of a link that are on their way, numbered so that the target takes each once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventray.runtime.lanes import Job


class Flight:
    """One call on its way."""

    __slots__ = ("alone", "commands", "expired", "jobs", "number")

    def __init__(self, number: int, jobs: Sequence[Job], alone: bool) -> None:
        self.number = number
        self.alone = alone
        self.jobs = dict(enumerate(jobs))  # that have no answer yet
        self.commands = 0 if jobs[0].lane is None else len(jobs)  # queries may wait long for what they ask for
        self.expired: set[int] = set()  # their callers have been told that the time is over

    def unexpired(self) -> dict[int, Job]:
        """What is still wanted and has no answer."""
        return {index: job for index, job in self.jobs.items() if index not in self.expired}


class Traffic:
    """How many calls with commands wait for their first reply, of all links of a client together."""

    __slots__ = ("unanswered",)

    def __init__(self) -> None:
        self.unanswered = 0


class Flights:
    """The flights of one link.

    Args:
        traffic: of the client: they are counted in.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
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
        self._traffic.unanswered += bool(flight.commands)
        self.commands_unanswered += flight.commands
        return flight, floor, tuple(self._voids)

    def answered(self, flight: Flight) -> None:
        """The first reply to a flight is there, or none will come."""
        self.unanswered -= 1
        self._traffic.unanswered -= bool(flight.commands)
        self.commands_unanswered -= flight.commands

    def give_up(self, flight: Flight) -> None:
        """Its call failed: if it still arrives, it must not be taken."""
        self._voids.append(flight.number)

    def end(self, flight: Flight) -> None:
        """Nothing more will come of it."""
        self._flights.pop(flight.number, None)
