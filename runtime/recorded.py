"""Stored records as users see them: their events, and what is known of those; one, or a page at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgpack

from eventray.domain.errors import EncodingError, UnknownEvent, shortened
from eventray.domain.messages import Event
from eventray.domain.meta import Meta
from eventray.runtime.eventset import EventSet
from eventray.store.page import Records
from eventray.store.records import Record


class Recorded(NamedTuple):
    """An event with what the store knows of it."""

    event: Event
    meta: Meta


def recorded(events: EventSet, records: Sequence[Record]) -> list[Recorded]:
    """Records of a shard as users see them; raises as `decode_record`."""
    page, entries = Records.of(records), list[Recorded]()
    try:
        entries.extend(map(Recorded, events.decoding(page.columns), metas_of(page)))
    except Exception:
        decode_record(events, page[len(entries)])
        raise
    return entries


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


def meta_of(record: Record) -> Meta:
    """The Meta of a stored event."""
    place = record.stream, record.version, record.shard, record.position, record.recorded_at
    return Meta.of(*place, record.command_id, _metadata(record.meta))


def metas_of(records: Records) -> Iterator[Meta]:
    """The Meta of each stored event; what callers gave with commands is decoded only when somebody asks for it."""
    c = records.columns
    return Meta.of_columns(c.streams, c.versions, c.shard, c.positions, c.recorded_at, _Told(records))


class _Told:
    def __init__(self, records: Records) -> None:
        self._records = records

    @property
    def command_ids(self) -> Sequence[str | None]:
        return self._records.command_ids

    @cached_property
    def metadata(self) -> Sequence[Mapping[str, Any]]:
        return list(map(_metadata, self._records.metas))


def _metadata(packed: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgpack.unpackb(packed, strict_map_key=False, timestamp=3) if packed else {}
    return found
