"""What activations and time travel do with the records of a shard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from eventray.domain.aggregate import Aggregate
from eventray.domain.errors import EncodingError, StoreCorrupted
from eventray.runtime.model import AggregateModel
from eventray.runtime.recorded import decode_record
from eventray.store.page import Records
from eventray.store.port import ShardPort
from eventray.store.records import Loaded, Record

_log = logging.getLogger("eventray.runtime")

READ_ALONG = 32  # events between two that are wanted which are read along rather than asked for twice


def replay(model: AggregateModel, state: Aggregate, records: Sequence[Record]) -> None:
    """Apply stored events to a state; raises as `decode_record`."""
    page, before, apply = Records.of(records), state.version, model.apply
    try:
        for event in model.events.decoding(page.columns):
            apply(state, event)
    except Exception:
        decode_record(model.events, page[state.version - before])  # was it this? It says where
        raise


async def load_state(
    log: ShardPort, model: AggregateModel, id: str, *, take_over: bool = False, page_events: int
) -> tuple[Loaded, Aggregate]:
    """The stream of an instance with its first page of events, and the state before those.

    That is the state of its snapshot, or the first one. A snapshot whose bytes hold no state of the
    class is ignored with a warning.
    """
    stream = f"{model.name}/{id}"
    loaded = await log.load(stream, fingerprint=model.fingerprint, take_over=take_over, limit=page_events)
    if loaded.snapshot is None:
        return loaded, model.new(id)
    try:
        return loaded, model.decode_state(loaded.snapshot.data, id, loaded.snapshot.version)
    except EncodingError as error:
        _log.warning("the snapshot of %r cannot be decoded and is ignored: %s", stream, error)
    whole = await log.load(stream, limit=page_events)
    return replace(whole, token=loaded.token), model.new(id)


async def next_page(log: ShardPort, stream: str, after: int, until: int, page_events: int) -> Sequence[Record]:
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
            page = Records.of(await next_page(log, stream, after, last, page_events)).columns
            for version, kind, data in zip(page.versions, page.kinds, page.data, strict=True):
                events[version] = (*page.types[kind], data)
            after = page.versions[-1]
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
