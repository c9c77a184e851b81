"""Dead letters as a user sees them: what a view could not apply, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eventray.domain.errors import StoreCorrupted
from eventray.store.port import ShardPort
from eventray.store.records import StoredLetter

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


async def dead_letters(shards: Mapping[int, ShardPort], view: str) -> list[DeadLetter]:
    """The dead letters of a view by shard and position."""
    found: list[DeadLetter] = []
    for shard in shards.values():
        after = 0
        while page := await shard.dead_letters(view, after=after):
            after = page[-1].position
            found += [await _shown(shard, letter) for letter in page]
    return found


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
