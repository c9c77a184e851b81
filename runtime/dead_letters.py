"""Dead letters as a user sees them: what a view could not apply, and why."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from eventray.domain.errors import StoreCorrupted
from eventray.runtime.loop import EngineLoop
from eventray.runtime.response import Response
from eventray.runtime.timetravel import EPOCH
from eventray.runtime.transport import Transport, units_of_view
from eventray.store.port import ShardPort
from eventray.store.records import StoredLetter


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a view could not apply and left behind (`on_error="park"`).

    `view` is its name, with what tells apart versions, partitions and replicas, like `Balances@2#3`: each leaves behind
    for itself. `id` names the event within it (shard and position); `reason` is what was raised, with the traceback's
    last frames.
    """

    view: str
    id: str
    stream: str
    version: int
    type: str
    parked_at: datetime
    reason: str

    @property
    def event_id(self) -> str:
        """The event's id, as in `Account/alice@7`."""
        return f"{self.stream}@{self.version}"


Letters: TypeAlias = list[DeadLetter]


class DeadLetters:
    """The dead letters of one view, in all its versions. Each Response fails with UnknownName for a name of no view."""

    def __init__(self, view: str, engine: EngineLoop, started: Awaitable[None], transport: Transport) -> None:
        self._view = view
        self._engine = engine
        self._started = started
        self._transport = transport

    def list(self) -> Response[Letters]:
        """All of them, by version and partition, shard and position."""
        return self._engine.spawn(self._list())

    def retry(self, letters: Iterable[DeadLetter | str] | None = None) -> Response[dict[str, str]]:
        """Apply dead letters (all, or some, by themselves or their ids) to the view as it is now, after a fix.

        Gives by id why each failed again (it stays a dead letter), or "" where it was applied: once, whatever crashes.
        The event then comes later than those that were written after it. A projection that depends on their order is
        better served by a new `version=`, which is built from the whole log. An id stands for the event in every
        version, partition and replica that has left it behind.

        The Response fails with UnknownName for what is no dead letter (any more), with EventRayError when the view is
        lost or cannot be saved meanwhile.
        """
        return self._engine.spawn(self._manage("retry", letters))

    def drop(self, letters: Iterable[DeadLetter | str] | None = None) -> Response[dict[str, str]]:
        """Give up dead letters (all, or some): they are listed no more. The events stay in the log.

        Gives and fails as `retry`.
        """
        return self._engine.spawn(self._manage("drop", letters))

    async def _list(self) -> Letters:
        await self._started
        found: Letters = []
        for unit in units_of_view(self._transport, self._view):
            for shard in self._transport.shards.values():
                after = 0
                while page := await shard.dead_letters(str(unit), after=after):
                    after = page[-1].position
                    found += [await _shown(shard, letter) for letter in page]
        return found

    async def _manage(self, method: str, letters: Iterable[DeadLetter | str] | None) -> dict[str, str]:
        listed = await self._list()
        chosen = listed if letters is None else [*letters]
        units, places = units_of_view(self._transport, self._view), list(dict.fromkeys(map(_place, chosen)))
        left = {str(unit): {_place(letter) for letter in listed if letter.view == str(unit)} for unit in units}
        outcomes: dict[str, str] = {}
        for unit in units:
            # what is listed nowhere, the first is asked for: it says what it has
            known = left[str(unit)] | (set(places) - set().union(*left.values()) if unit == units[0] else set())
            mine = [place for place in places if place in known]
            if mine:
                for (shard, at), outcome in zip(mine, await self._transport.manage(unit, method, mine), strict=True):
                    outcomes[f"{shard}:{at}"] = outcomes.get(f"{shard}:{at}") or outcome
        return {f"{shard}:{at}": outcomes[f"{shard}:{at}"] for shard, at in places}


async def _shown(shard: ShardPort, letter: StoredLetter) -> DeadLetter:
    records = (await shard.read(after=letter.position - 1, limit=1)).records
    if not records:
        raise StoreCorrupted(f"shard {shard.index}", f"the event at position {letter.position} is missing")
    [record] = records
    parked_at = EPOCH + timedelta(microseconds=letter.parked_at)
    id = f"{letter.shard}:{letter.position}"
    return DeadLetter(letter.consumer, id, record.stream, record.version, record.type, parked_at, letter.reason)


def _place(letter: DeadLetter | str) -> tuple[int, int]:
    """Shard and position of a dead letter, given itself or by its id; ValueError: an id that is none."""
    id = letter.id if isinstance(letter, DeadLetter) else letter
    shard, _, position = id.partition(":")
    if not shard.isdecimal() or not position.isdecimal():
        raise ValueError(f"{id!r} is no id of a dead letter: they look like 0:17, shard and position")
    return int(shard), int(position)
