"""Fold: a view made anew from the log up to given positions, page by page, whoever reads the pages and wherever.

It only says which page it needs next: so the same fold runs in a Ray task over a file, in a thread, and in the event
loop of a view that catches up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from eventray.domain.errors import EventRayError, ProjectionStopped
from eventray.runtime.guard import DomainCode
from eventray.runtime.model import ProjectionModel
from eventray.runtime.tries import Tries
from eventray.runtime.viewstate import Failure, ViewState
from eventray.store.admission import REASON_CHARS_MAX
from eventray.store.page import Records
from eventray.store.records import Checkpoint, Record, ShardPage

PAGE_EVENTS = 2_000
_time = attrgetter("recorded_at")
_shard = attrgetter("shard")


class Want(NamedTuple):
    """The page that a fold needs next: of a shard, after a position, after a pause."""

    shard: int
    after: int
    limit: int
    pause_s: float = 0.0


Steps = Generator[Want, ShardPage, Failure | None]
Read = Callable[[Want], ShardPage]


class Left(NamedTuple):
    """An event that a fold has left behind, and why."""

    shard: int
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold came to, as it would be saved, and what it has left behind on the way."""

    saved: Checkpoint
    left: tuple[Left, ...] = ()


class Fold:
    """Applies the log to a view up to positions, as its projection says also where an event cannot be applied.

    Of several shards the events come in the order of time. In memory are the view, its last good state as bytes, and a
    page of each shard.

    Args:
        begun: where to begin; `nothing(...)` for the beginning.
        page_events: how many events a page may have.
        partition: of the view; 0: all of it.
    """

    def __init__(self, model: ProjectionModel, begun: Folded, page_events: int, partition: int = 0) -> None:
        self._model = model
        self._partition = partition
        self._page_events = page_events
        self._safe = begun  # a good state, to go back to when an event has been applied by half
        self.left = list(begun.left)
        self.state = state_of(model, begun, partition)

    @property
    def looked_at(self) -> int:
        """Events that were applied or left out, all shards together."""
        return sum(self.state.positions.values())

    def folded(self) -> Folded:
        """The view as it is now."""
        saved, state = self._safe.saved, self.state
        now = Checkpoint(dict(state.positions), state.encode(), saved.generation, saved.fingerprint)
        return Folded(now, tuple(self.left))

    def steps(self, upto: Mapping[int, int]) -> Generator[Want, ShardPage, None]:
        """Say what page is needed, be sent it, and so on until the view is at these positions.

        Raises:
            ProjectionStopped: an event that cannot be applied, by a projection that stops then.
            EncodingError: the view holds a value that does not fit its annotation.
        """
        tries, pause_s = Tries(self._model), 0.0
        while (failure := (yield from self._apply(upto, pause_s))) is not None:
            yield from self._take_back()
            record, pause_s = failure.record, 0.0
            verdict = tries.after(failure)
            if verdict == "park":
                self.state.park(record)
                self.left.append(Left(record.shard, record.position, failure.reason[:REASON_CHARS_MAX]))
                self._safe = self.folded()  # so that the next failure is taken back to here
            elif verdict == "stop":
                raise ProjectionStopped(self._model.name, failure.reason, record.shard, record.position)
            else:
                pause_s = verdict

    def _take_back(self) -> Generator[Want, ShardPage, None]:
        """From half of an event back to what was before it: the last good state and the events since."""
        applied = dict(self.state.positions)
        self.state = state_of(self._model, self._safe, self._partition)
        if self.state.positions != applied:
            failure = yield from self._apply(applied)
            if failure is not None:  # an apply that is not the same each time
                raise EventRayError(f"an event that was applied before cannot be applied again: {failure.reason}")
            self._safe = self.folded()

    def _apply(self, upto: Mapping[int, int], pause_s: float = 0.0) -> Steps:
        state, held = self.state, dict[int, Sequence[Record]]()
        read = dict(state.positions)
        while True:
            for shard, end in upto.items():
                while shard not in held and read[shard] < end:
                    page = yield Want(shard, read[shard], min(self._page_events, end - read[shard]), pause_s)
                    pause_s = 0.0
                    read[shard] = min(page.position, end)
                    if records := Records.of(page.records).upto(end):
                        held[shard] = records
            if len(held) > 1:
                failure = _apply_in_order(state, held)
            else:
                shard = next(iter(held), -1)
                if shard < 0:
                    break
                failure = state.apply_page(shard, ShardPage(held.pop(shard), read[shard]))
            if failure is not None:
                return failure
        for shard, end in upto.items():
            state.apply_page(shard, ShardPage([], end))  # what its class does not want was looked at, too
        return None


def _apply_in_order(state: ViewState, held: dict[int, Sequence[Record]]) -> Failure | None:
    """Apply, in the order of time, what no shard can have an earlier event to; keep the rest."""
    horizon = min(records[-1].recorded_at for records in held.values())
    due: list[Record] = []
    for shard, records in [*held.items()]:
        cut = bisect_right(records, horizon, key=_time)
        due += records[:cut]
        held[shard] = records[cut:]
        if cut == len(records):
            del held[shard]
    due.sort(key=_time)
    for shard, run in groupby(due, key=_shard):
        records = [*run]
        failure = state.apply_page(shard, ShardPage(records, records[-1].position))
        if failure is not None:
            return failure
    return None


def nothing(model: ProjectionModel, shards: Iterable[int], generation: int) -> Folded:
    """What a fold from the beginning begins with."""
    state = ViewState(model, shards)
    return Folded(Checkpoint(dict(state.positions), state.encode(), generation, model.fingerprint))


def state_of(model: ProjectionModel, folded: Folded, partition: int = 0) -> ViewState:
    """The view of a fold.

    Raises:
        EncodingError: it is of another class.
    """
    state = ViewState(model, folded.saved.positions, partition)
    state.restore(folded.saved)
    return state


def parts_of(model: ProjectionModel, upto: Mapping[int, int]) -> list[dict[int, int]]:
    """The positions that each fold goes up to: one for every shard, side by side, where their parts can be merged."""
    return [dict(upto)] if model.merge is None else [{shard: end} for shard, end in upto.items()]


def run_fold(fold: Fold, upto: Mapping[int, int], read: Read) -> Iterator[int]:
    """Run a fold with what reads a page; gives how many events more it has looked at, page by page."""
    steps, told = fold.steps(upto), fold.looked_at
    try:
        want = next(steps)
        while True:
            if want.pause_s:
                time.sleep(want.pause_s)
            want = steps.send(read(want))
            if (now := fold.looked_at) > told:  # after a failure it goes back
                yield now - told
                told = now
    except StopIteration:
        yield fold.looked_at - told


async def follow_fold(fold: Fold, upto: Mapping[int, int], read: Callable[[Want], Awaitable[ShardPage]]) -> None:
    """Run a fold in an event loop, with what reads a page there."""
    steps = fold.steps(upto)
    with contextlib.suppress(StopIteration):
        want = next(steps)
        while True:
            await asyncio.sleep(want.pause_s)
            want = steps.send(await read(want))


def merged(model: ProjectionModel, parts: Sequence[Folded]) -> Folded:
    """One view of parts that were folded from different shards.

    Raises:
        ProjectionStopped: `merge` raised. EncodingError: a value of the outcome does not fit its annotation.
    """
    if len(parts) == 1:
        return parts[0]
    assert model.merge is not None
    whole, *others = [state_of(model, part) for part in parts]
    with DomainCode(f"{model.name}.merge"):
        for other in others:
            try:
                model.merge(whole.view, other.view)
            except Exception as error:
                raise ProjectionStopped(model.name, f"its merge(self, other) raised {error!r}") from error
            whole.positions.update(other.positions)
            whole.parked.update(other.parked)
    saved = parts[0].saved
    data = Checkpoint(dict(whole.positions), whole.encode(), saved.generation, saved.fingerprint)
    return Folded(data, tuple(left for part in parts for left in part.left))
