"""From where to where history is read: stretches of shards, fixed before the first event is, and kept with the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from eventray.domain.errors import StoreMismatch
from eventray.domain.messages import Heads
from eventray.runtime.handles import After, positions_after
from eventray.runtime.timetravel import positions_at
from eventray.runtime.transport import Transport

METADATA_KEY = "eventray"
ANOTHER = "The store was restored or resharded since: read everything again, without after="

At = datetime | Mapping[int, int] | None


class Stretch(NamedTuple):
    """The positions after < p <= until of a shard."""

    shard: int
    after: int
    until: int


@dataclass(frozen=True)
class Origin:
    """What data says of itself: the app, its store's generation, and the stored names of the events asked for."""

    app: str
    generation: int
    events: tuple[str, ...]

    def dump(self, stretches: Sequence[Stretch]) -> str:
        """As text, with the positions up to which the data goes."""
        heads = {str(stretch.shard): stretch.until for stretch in stretches}
        return json.dumps({**vars(self), "heads": heads})

    @classmethod
    def load(cls, text: str | bytes) -> tuple[Origin, Heads]:
        """Both from the text."""
        raw: dict[str, Any] = json.loads(text)
        heads = Heads({int(shard): position for shard, position in raw["heads"].items()}, raw["generation"])
        return cls(raw["app"], raw["generation"], tuple(raw["events"])), heads


async def stretches_of(transport: Transport, after: After, at: At) -> list[Stretch]:
    """What to read of every shard, in the order of their numbers.

    The heads are asked for once, here: all that follows reads up to them and no further.

    Raises:
        ValueError: a shard that is not there, a position beyond its end, shards that `at` leaves out, a naive datetime.
        StoreMismatch: positions of another generation.
    """
    heads = await transport.heads()
    begin = _known(*positions_after(after), "after", heads, transport.generation)
    end = await _ends(transport, at, heads)
    # Where `after` lies beyond `at` nothing is read, and the data still goes up to there.
    return [Stretch(shard, begin.get(shard, 0), max(begin.get(shard, 0), end[shard])) for shard in sorted(heads)]


async def _ends(transport: Transport, at: At, heads: dict[int, int]) -> dict[int, int]:
    if at is None:
        return heads
    if isinstance(at, datetime):
        ends = await positions_at(transport.shards, at)
        return {shard: min(head, ends[shard]) for shard, head in heads.items()}
    if not isinstance(at, Mapping):
        raise TypeError(f"at={at!r}: a datetime, or positions per shard such as runtime.heads() gives")
    positions = _known(*positions_after(at), "at", heads, transport.generation)
    missing = sorted(heads.keys() - positions.keys())
    if missing:
        raise ValueError(f"at={at!r}: no position for shard {missing[0]}")
    return positions


def _known(positions: dict[int, int], generation: int, what: str, heads: dict[int, int], now: int) -> dict[int, int]:
    if generation not in (0, now):
        raise StoreMismatch(f"{what}=", "generation", generation, now, ANOTHER)
    for shard, position in positions.items():
        if not 0 <= position <= heads.get(shard, -1):
            there = f"it ends at {heads[shard]}" if shard in heads else f"shards are {min(heads)} to {max(heads)}"
            raise ValueError(f"{what}: position {position} of shard {shard} is not there: {there}")
    return positions
