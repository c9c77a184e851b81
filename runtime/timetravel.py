"""The state of an instance at any version or moment, folded from its log by whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from eventray.domain.aggregate import Aggregate
from eventray.runtime.model import AggregateModel
from eventray.runtime.streamlog import next_page, replay
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


async def state_at(
    model: AggregateModel, shard: ShardPort, stream: str, at: int | datetime | None, page_events: int
) -> Aggregate:
    """Fold a stream up to `at`: a version, a moment, or None for all of it. Starts from the snapshot where it can.

    Raises:
        ValueError: `at` is negative, beyond the stream's end, or a naive datetime.
        UnknownEvent: an event on the way that no class stands for.
    """
    if isinstance(at, bool) or (isinstance(at, int) and at < 0):
        raise ValueError(f"at={at!r}: a version is 0 or above")
    loaded = await shard.load(stream, fingerprint=model.fingerprint, limit=page_events)
    upto = await shard.version_at(stream, microseconds(at)) if isinstance(at, datetime) else at
    if upto is None:
        upto = loaded.version
    if upto > loaded.version:
        raise ValueError(f"{stream} has {loaded.version} events: there is no version {upto} yet")
    identity = stream.split("/", 1)[1]
    state = model.new(identity)
    snapshot = loaded.snapshot
    records = [record for record in loaded.records if record.version <= upto]
    if snapshot is not None and snapshot.version <= upto:
        state = model.decode_state(snapshot.data, identity, snapshot.version)
    elif snapshot is not None:
        records = []  # they begin after the snapshot, which is too late
    for record in records:
        replay(model, state, record)
    while state.version < upto:
        for record in await next_page(shard, stream, state.version, upto, page_events):
            replay(model, state, record)
    return state
