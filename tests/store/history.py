"""Judges what happened to an append log by its rules. Pure: a history and the final logs in, anomalies out.

A history is every append and read with its begin, its end and its outcome. Times are any numbers that rise for all
who take part (a counter in one process, `time.monotonic_ns()` for several). Bodies of events must differ throughout a
history: so every stored event is traced to the command that it belongs to. A command that is sent again (same
stream, same bodies) is one command.

The kinds of anomaly: `lost` (answered or seen, and not there), `duplicate` (there twice), `torn` (a part of a command),
`reordered` (elsewhere than answered, against the order in time, or out of sequence), `stale` (a read that does not see
what was there before it began), `invented` (there, and nobody was told so or sent it).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, NamedTuple

from eventray.store import Appended, Record

Kind = Literal["lost", "duplicate", "torn", "reordered", "stale", "invented"]
Outcome = Appended | Literal["refused", "unknown"]  # unknown: cancelled, killed, an error that does not say


class Anomaly(NamedTuple):
    """A rule that was broken, and where."""

    kind: Kind
    what: str


@dataclass(frozen=True, slots=True)
class Write:
    """One append call of one command."""

    stream: str
    bodies: tuple[bytes, ...]
    begun: float
    ended: float  # math.inf: never answered
    outcome: Outcome
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a stream, or (`source` is an int) of a shard's log, after a version or position.

    `whole`: it read on until there was nothing more; else it may have ended at a limit.
    """

    source: str | int
    after: int
    found: tuple[Record, ...]
    begun: float
    ended: float
    whole: bool = True


@dataclass(slots=True)
class History:
    """All that was called, in any order."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)


Logs = Mapping[int, Sequence[Record]]  # the whole log of each shard, in the order in which it is read


def anomalies(history: History, logs: Logs) -> list[Anomaly]:
    """Return every rule that the history and the final logs break; [] is what should come out."""
    found = [anomaly for log in logs.values() for anomaly in sequence_anomalies(log)]
    found += command_anomalies(history.writes, logs)
    found += order_anomalies(history.writes, logs)
    found += read_anomalies(history, logs)
    return found


def sequence_anomalies(log: Sequence[Record]) -> Iterator[Anomaly]:
    """Positions are 1, 2, 3, ..., the versions of each stream too, and the times of recording rise."""
    versions: dict[str, int] = defaultdict(int)
    last_at = -1
    for number, record in enumerate(log, 1):
        where = f"{record.event_id} at position {record.position} of shard {record.shard}"
        if record.position != number:
            yield Anomaly(_misplaced(number, [r.position for r in log]), f"{where}: {number} should come here")
            return  # all that follow are off by as much
        versions[record.stream] += 1
        if record.version != versions[record.stream]:
            own = [r.version for r in log if r.stream == record.stream]
            kind = _misplaced(versions[record.stream], own)
            yield Anomaly(kind, f"{where}: version {versions[record.stream]} should come here")
            return
        if record.recorded_at <= last_at:
            yield Anomaly("reordered", f"{where}: recorded no later than the event before it")
        last_at = record.recorded_at


def _misplaced(missing: int, places: Sequence[int]) -> Kind:
    return "reordered" if missing in places else "lost"


def command_anomalies(writes: Sequence[Write], logs: Logs) -> Iterator[Anomaly]:
    """Every command is in the log once and whole where its callers were told, or not at all."""
    places: dict[bytes, list[Record]] = defaultdict(list)
    for log in logs.values():
        for record in log:
            places[record.data].append(record)
    for command, sends in _commands(writes).items():
        yield from _judge(command, sends, [places.get(body, []) for body in command.bodies])
        for body in command.bodies:
            places.pop(body, None)
    for records in places.values():
        yield Anomaly("invented", f"{records[0].event_id} was never sent: {records[0].data!r}")


class _Command(NamedTuple):
    stream: str
    bodies: tuple[bytes, ...]


def _commands(writes: Sequence[Write]) -> dict[_Command, list[Write]]:
    commands: dict[_Command, list[Write]] = defaultdict(list)
    for write in writes:
        if write.bodies:
            commands[_Command(write.stream, write.bodies)].append(write)
    return commands


def _judge(command: _Command, sends: list[Write], found: list[list[Record]]) -> Iterator[Anomaly]:
    what = f"the command of {command.stream} that begins with {command.bodies[0]!r}"
    answers = [send.outcome for send in sends if isinstance(send.outcome, Appended)]
    if any(len(records) > 1 for records in found):
        yield Anomaly("duplicate", f"{what} is stored twice")
        return
    stored = [records[0] for records in found if records]
    if not stored:
        if answers:
            yield Anomaly("lost", f"{what} was answered with {answers[0]} and is not stored")
        return
    if len(stored) < len(command.bodies):
        yield Anomaly("torn", f"{what} has {len(command.bodies)} events, {len(stored)} of them are stored")
        return
    first, last = stored[0], stored[-1]
    for offset, record in enumerate(stored):
        place = (command.stream, first.shard, first.version + offset, first.position + offset)
        if (record.stream, record.shard, record.version, record.position) != place:
            yield Anomaly("reordered", f"{what}: its event {offset + 1} is {record.event_id} at {record.position}")
            return
    if all(send.outcome == "refused" for send in sends):
        yield Anomaly("invented", f"{what} was refused and is stored at {first.position}")
    for answer in answers:
        if (answer.shard, answer.version, answer.position) != (last.shard, last.version, last.position):
            yield Anomaly("reordered", f"{what} was answered with {answer} and ends at {last.event_id}")
    for send in sends:
        fresh = isinstance(send.outcome, Appended) and not send.outcome.duplicate
        if fresh and send.expected is not None and first.version != send.expected + 1:
            yield Anomaly("reordered", f"{what} expected version {send.expected} and begins at {first.version}")
    if sum(not answer.duplicate for answer in answers) > 1:
        yield Anomaly("duplicate", f"{what} was twice answered as if it were new")


def order_anomalies(writes: Sequence[Write], logs: Logs) -> Iterator[Anomaly]:
    """A command that was answered before another was sent comes before it in their shard's log."""
    begun: dict[bytes, float] = {}
    ended: dict[bytes, float] = {}
    for command, sends in _commands(writes).items():
        answered = [send.ended for send in sends if isinstance(send.outcome, Appended)]
        begun[command.bodies[0]] = min(send.begun for send in sends)
        ended[command.bodies[0]] = min(answered, default=math.inf)
    for log in logs.values():
        latest, culprit = -math.inf, None
        for record in log:
            if record.data not in begun:
                continue
            if ended[record.data] < latest:
                yield Anomaly("reordered", f"{record.event_id} was answered before {culprit} was sent, and is after it")
            if begun[record.data] > latest:
                latest, culprit = begun[record.data], record.event_id


def read_anomalies(history: History, logs: Logs) -> Iterator[Anomaly]:
    """A read gives a gapless piece of the final log, as far as it was answered or seen before the read began."""
    final: dict[str | int, list[Record]] = defaultdict(list)
    for shard, log in logs.items():
        final[shard] = list(log)
        for record in log:
            final[record.stream].append(record)
    known = _Known()
    for write in history.writes:
        if isinstance(write.outcome, Appended):
            known.add(write.stream, write.ended, write.outcome.version)
            known.add(write.outcome.shard, write.ended, write.outcome.position)
    for read in history.reads:
        known.add(read.source, read.ended, read.after + len(read.found) if read.found else 0)
    for read in history.reads:
        what = f"a read of {read.source!r} after {read.after}"
        end = read.after + len(read.found)
        if list(read.found) != final[read.source][read.after : end]:
            yield _difference(what, read, final[read.source])
        elif read.whole and (least := known.before(read.source, read.begun)) > max(end, read.after):
            yield Anomaly("stale", f"{what} ends at {end}, but {least} was there when it began")


def _difference(what: str, read: Read, final: Sequence[Record]) -> Anomaly:
    places = [record.position if isinstance(read.source, int) else record.version for record in read.found]
    for number, (place, record) in enumerate(zip(places, read.found, strict=True), read.after + 1):
        if place != number:
            return Anomaly(_misplaced(number, places), f"{what} has {place} where {number} should come")
        if number > len(final):
            return Anomaly("lost", f"{what} saw {record.event_id}, which is gone")
        if record != final[number - 1]:
            return Anomaly("reordered", f"{what} saw {record}, where {final[number - 1]} is now")
    raise AssertionError("nothing differs")


class _Known:
    """How far each log was known to go at a time."""

    def __init__(self) -> None:
        self._facts: dict[str | int, list[tuple[float, int]]] = defaultdict(list)
        self._sorted: dict[str | int, tuple[list[float], list[int]]] = {}

    def add(self, source: str | int, at: float, end: int) -> None:
        self._facts[source].append((at, end))

    def before(self, source: str | int, moment: float) -> int:
        """Return the furthest place that was answered or seen before a moment."""
        if source not in self._sorted:
            facts = sorted(self._facts[source])
            self._sorted[source] = [at for at, _ in facts], list(accumulate((end for _, end in facts), max))
        times, ends = self._sorted[source]
        count = bisect_left(times, moment)
        return ends[count - 1] if count else 0
