"""What activations and time travel do with the records of a shard."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

from eventray.domain.aggregate import Aggregate
from eventray.domain.errors import EncodingError, StoreCorrupted, UnknownEvent, shortened
from eventray.domain.messages import Event
from eventray.domain.meta import Meta
from eventray.runtime.eventset import EventSet
from eventray.runtime.model import AggregateModel
from eventray.runtime.viewstate import meta_of
from eventray.store.port import ShardPort
from eventray.store.records import Loaded, Record

_log = logging.getLogger("eventray.runtime")

READ_ALONG = 32  # events between two that are wanted which are read along rather than asked for twice


class Recorded(NamedTuple):
    """An event with what the store knows of it."""

    event: Event
    meta: Meta


def recorded(events: EventSet, record: Record) -> Recorded:
    """A record as users see it; raises as `decode_record`."""
    return Recorded(decode_record(events, record), meta_of(record))


def decode_record(events: EventSet, record: Record) -> Event:
    """The event of a record.

    Raises:
        UnknownEvent: naming its place. EncodingError: naming it, too.
    """
    try:
        return events.decode(record.type, record.type_version, record.data)
    except UnknownEvent:
        where = record.stream, record.version, record.shard, record.position
        raise UnknownEvent(record.type, record.type_version, *where) from None
    except EncodingError as error:
        place = f"at {shortened(record.stream)}@{record.version}, position {record.position} of shard {record.shard}"
        raise EncodingError(f"{error.where} ({place})", error.reason) from error


def replay(model: AggregateModel, state: Aggregate, record: Record) -> None:
    """Apply one stored event to a state; raises as `decode_record`."""
    model.apply(state, decode_record(model.events, record))


async def load_state(
    log: ShardPort, model: AggregateModel, stream: str, *, take_over: bool = False, page_events: int
) -> tuple[Loaded, Aggregate]:
    """A stream with its first page of events, and the state before those: that of its snapshot, or the first one.

    A snapshot whose bytes hold no state of the class is ignored with a warning.
    """
    identity = stream.split("/", 1)[1]
    loaded = await log.load(stream, fingerprint=model.fingerprint, take_over=take_over, limit=page_events)
    if loaded.snapshot is None:
        return loaded, model.new(identity)
    try:
        return loaded, model.decode_state(loaded.snapshot.data, identity, loaded.snapshot.version)
    except EncodingError as error:
        _log.warning("the snapshot of %r cannot be decoded and is ignored: %s", stream, error)
    whole = await log.load(stream, limit=page_events)
    return replace(whole, token=loaded.token), model.new(identity)


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
