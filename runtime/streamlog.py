"""What activations and time travel do with the records of a shard."""

from __future__ import annotations

from eventray.domain.aggregate import Aggregate
from eventray.domain.errors import StoreCorrupted, UnknownEvent
from eventray.domain.messages import Event
from eventray.runtime.model import AggregateModel
from eventray.store.port import ShardPort
from eventray.store.records import Record

READ_ALONG = 32  # events between two that are wanted which are read along rather than asked for twice


def decode_record(model: AggregateModel, record: Record) -> Event:
    """The event of a record.

    Raises:
        UnknownEvent: naming its place.
    """
    try:
        return model.events.decode(record.type, record.type_version, record.data)
    except UnknownEvent:
        raise UnknownEvent(record.type, record.type_version, record.stream, record.version) from None


def replay(model: AggregateModel, state: Aggregate, record: Record) -> None:
    """Apply one stored event to a state; raises as `decode_record`."""
    model.apply(state, decode_record(model, record))


async def next_page(log: ShardPort, stream: str, after: int, until: int, page_events: int) -> list[Record]:
    """The records after a version, a page at most, of a stream that was seen to reach `until`.

    Raises:
        StoreCorrupted: it does not (any more).
    """
    page = await log.read_stream(stream, after=after, until=until, limit=page_events)
    if not page:
        raise StoreCorrupted(f"shard {log.index}", "this event is missing", stream, after + 1)
    return page


async def read_versions(
    log: ShardPort, stream: str, ranges: list[tuple[int, int]], page_events: int
) -> dict[int, tuple[str, int, bytes]]:
    """Encoded events by version, for inclusive ranges of versions; those that lie close together are read at once."""
    events: dict[int, tuple[str, int, bytes]] = {}
    for first, last in merged(ranges, gap=READ_ALONG):
        after = first - 1
        while after < last:
            page = await next_page(log, stream, after, last, page_events)
            for record in page:
                events[record.version] = (record.type, record.type_version, record.data)
            after = page[-1].version
    return events


def merged(ranges: list[tuple[int, int]], *, gap: int) -> list[tuple[int, int]]:
    """Inclusive ranges in order, those with at most `gap` between them as one."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first - result[-1][1] <= gap + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result
