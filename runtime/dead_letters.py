"""Dead letters as a user sees them: what a view could not apply, and why."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from eventray.domain.errors import StoreCorrupted, UnknownName
from eventray.runtime.loop import EngineLoop
from eventray.runtime.response import Response
from eventray.runtime.timetravel import EPOCH
from eventray.runtime.transport import Transport
from eventray.store.port import ShardPort
from eventray.store.records import StoredLetter


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a view could not apply and left behind (`on_error="park"`).

    `id` names it within its view (shard and position); `reason` is what was raised, with the traceback's last frames.
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
    """The dead letters of one view. Each Response fails with UnknownName for a name of no view."""

    def __init__(self, view: str, engine: EngineLoop, started: Awaitable[None], transport: Transport) -> None:
        self._view = view
        self._engine = engine
        self._started = started
        self._transport = transport

    def list(self) -> Response[Letters]:
        """All of them, by shard and position."""
        return self._engine.spawn(self._list())

    def retry(self, letters: Iterable[DeadLetter | str] | None = None) -> Response[dict[str, str]]:
        """Apply dead letters (all, or some, by themselves or their ids) to the view as it is now, after a fix.

        Gives by id why each failed again (it stays a dead letter), or "" where it was applied: once, whatever crashes.
        The event then comes later than those that were written after it. A projection that depends on their order is
        better served by a new `version=`, which is built from the whole log.

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
        if self._view not in self._transport.views:
            raise UnknownName("projection", self._view, self._transport.views)
        found: Letters = []
        for shard in self._transport.shards.values():
            after = 0
            while page := await shard.dead_letters(self._view, after=after):
                after = page[-1].position
                found += [await _shown(shard, letter) for letter in page]
        return found

    async def _manage(self, method: str, letters: Iterable[DeadLetter | str] | None) -> dict[str, str]:
        chosen = places(await self._list() if letters is None else letters)
        await self._started
        outcomes = await self._transport.manage(self._view, method, chosen)
        return {f"{shard}:{at}": outcome for (shard, at), outcome in zip(chosen, outcomes, strict=True)}


async def _shown(shard: ShardPort, letter: StoredLetter) -> DeadLetter:
    records = (await shard.read(after=letter.position - 1, limit=1)).records
    if not records:
        raise StoreCorrupted(f"shard {shard.index}", f"the event at position {letter.position} is missing")
    [record] = records
    parked_at = EPOCH + timedelta(microseconds=letter.parked_at)
    id = f"{letter.shard}:{letter.position}"
    return DeadLetter(letter.consumer, id, record.stream, record.version, record.type, parked_at, letter.reason)


def places(letters: Iterable[DeadLetter | str]) -> list[tuple[int, int]]:
    """Shard and position of dead letters, given themselves or by their ids.

    Raises:
        ValueError: an id that is none.
    """
    return [_place(letter.id if isinstance(letter, DeadLetter) else letter) for letter in letters]


def _place(id: str) -> tuple[int, int]:
    shard, _, position = id.partition(":")
    if not shard.isdecimal() or not position.isdecimal():
        raise ValueError(f"{id!r} is no id of a dead letter: they look like 0:17, shard and position")
    return int(shard), int(position)
