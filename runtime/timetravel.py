"""The state of an instance at any version or moment, folded from its log by whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from eventray.domain.aggregate import Aggregate
from eventray.runtime.model import AggregateModel
from eventray.runtime.streamlog import load_state, next_page, replay
from eventray.store.port import ShardPort

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Microseconds UTC of an aware datetime.

    Raises:
        ValueError: it is naive.
    """
    if moment.tzinfo is None:
        raise ValueError(f"at={moment!r} is naive: give it a time zone, such as datetime(..., tzinfo=UTC)")
    return (moment - EPOCH) // timedelta(microseconds=1)


async def positions_at(shards: Mapping[int, ShardPort], moment: datetime) -> dict[int, int]:
    """The last position of each shard that was recorded at or before a moment (0: none).

    Raises:
        ValueError: it is naive.
    """
    at = microseconds(moment)
    found = await asyncio.gather(*(shard.position_at(at) for shard in shards.values()))
    return dict(zip(shards, found, strict=True))


async def state_at(
    model: AggregateModel, shard: ShardPort, id: str, at: int | datetime | None, page_events: int
) -> Aggregate:
    """Fold an instance's stream up to `at`: a version, a moment, or None for all. Starts from the snapshot if it can.

    Raises:
        ValueError: `at` is negative, beyond the stream's end, or a naive datetime.
        UnknownEvent, EncodingError: an event on the way that no class stands for, or that does not decode.
    """
    if isinstance(at, bool) or (isinstance(at, int) and at < 0):
        raise ValueError(f"at={at!r}: a version is 0 or above")
    stream = f"{model.name}/{id}"
    loaded, state = await load_state(shard, model, id, page_events=page_events)
    upto = await shard.version_at(stream, microseconds(at)) if isinstance(at, datetime) else at
    if upto is None:
        upto = loaded.version
    if upto > loaded.version and not isinstance(at, datetime):  # after a moment others may have appended meanwhile
        raise ValueError(f"{stream} has {loaded.version} events: there is no version {upto} yet")
    if state.version > upto:
        state = model.new(state.id)  # the snapshot is too late, and so are the events after it
    else:
        replay(model, state, loaded.records[: upto - state.version])
    while state.version < upto:
        replay(model, state, await next_page(shard, stream, state.version, upto, page_events))
    return state
