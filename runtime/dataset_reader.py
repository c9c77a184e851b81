"""Reads stretches of shards as Arrow tables, page by page: the same in this process and in a Ray task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from eventray.domain.errors import EncodingError, StoreCorrupted, shortened
from eventray.domain.messages import Event
from eventray.runtime.dataset_columns import Convert, Decimals, Kinds, json_text
from eventray.runtime.dataset_plan import METADATA_KEY, Origin, Stretch
from eventray.runtime.eventset import EventSet
from eventray.runtime.recorded import Recorded, recorded
from eventray.store.page import Records
from eventray.store.port import ShardPort
from eventray.store.records import Record

PREFIX = "meta_"
BLOCK_ROWS, BLOCK_BYTES = 65_536, 16 * 1024 * 1024  # a block is given on when it has one of them

_META: dict[str, tuple[Any, Callable[[Recorded], Any]]] = {
    "type": (pa.string(), lambda r: r.event.__event_name__),
    "stream": (pa.string(), lambda r: r.meta.stream),
    "aggregate": (pa.string(), lambda r: r.meta.aggregate),
    "id": (pa.string(), lambda r: r.meta.id),
    "version": (pa.int64(), lambda r: r.meta.version),
    "shard": (pa.int32(), lambda r: r.meta.shard),
    "position": (pa.int64(), lambda r: r.meta.position),
    "recorded_at": (pa.timestamp("us", "UTC"), lambda r: r.meta.recorded_at),
    "command_id": (pa.string(), lambda r: r.meta.command_id),
    "metadata": (pa.string(), lambda r: json_text(r.meta.metadata) if r.meta.metadata else None),
}


class Field(NamedTuple):
    """A column that holds a field of some of the classes."""

    name: str
    type: Any
    converts: dict[type[Event], Convert | None]


class Columns:
    """The columns of some event classes: their fields by name, then `meta_...`, the same for every event.

    Raises:
        TypeError: a field has another type in another class, or a name that begins as those of the meta columns do.
        ValueError: `decimals` makes no sense.
    """

    def __init__(self, classes: Sequence[type[Event]], decimals: Decimals) -> None:
        self._fields: dict[str, Field] = {}
        shown: dict[str, tuple[str, str]] = {}
        kinds = Kinds(decimals)
        for event in classes:
            for name, kind in kinds.of_fields(event).items():
                where, known = shown.setdefault(name, (f"{event.__name__}.{name}", kind.shown))
                if known != kind.shown:
                    raise TypeError(
                        f"{where} is a column of {known}, {event.__name__}.{name} one of {kind.shown}: "
                        "one table cannot hold both; read these events apart"
                    )
                if name.startswith(PREFIX) and name.removeprefix(PREFIX) in _META:
                    raise TypeError(f"{event.__name__}.{name}: a column of this name says where the event was stored")
                self._fields.setdefault(name, Field(name, kind.type, {})).converts[event] = kind.convert
        self.schema = pa.schema(
            [pa.field(field.name, field.type) for field in self._fields.values()]
            + [pa.field(PREFIX + name, type) for name, (type, _) in _META.items()]
        )

    def batch(self, rows: Sequence[Recorded]) -> Any:
        """The rows as an Arrow record batch.

        Raises:
            EncodingError: a value does not fit its column, naming the field and the event's place.
        """
        arrays = [self._array(field, rows) for field in self._fields.values()]
        arrays += [pa.array([value(row) for row in rows], type) for type, value in _META.values()]
        return pa.record_batch(arrays, schema=self.schema)

    def _array(self, field: Field, rows: Sequence[Recorded]) -> Any:
        values = [_value(field, event) for event, _ in rows]
        try:
            return pa.array(values, field.type)
        except (pa.ArrowException, OverflowError) as error:
            for value, row in zip(values, rows, strict=True):
                _require_fit(field, value, row)
            raise EncodingError(field.name, str(error)) from error


def _value(field: Field, event: Event) -> Any:
    if type(event) not in field.converts:
        return None
    value, convert = getattr(event, field.name), field.converts[type(event)]
    return value if convert is None or value is None else convert(value)


def _require_fit(field: Field, value: Any, row: Recorded) -> None:
    try:
        pa.array([value], field.type)
    except (pa.ArrowException, OverflowError) as error:
        where = f"{type(row.event).__name__}.{field.name} (at {shortened(row.meta.event_id)})"
        hint = (
            '; give decimals=(precision, scale) that hold it, or decimals="text"'
            if "decimal" in str(field.type)
            else ""
        )
        raise EncodingError(where, f"{shortened(value)} does not fit a column of {field.type}{hint}") from error


@dataclass(frozen=True)
class Reader:
    """What to read, and how; travels to Ray tasks.

    Attributes:
        classes: the event classes.
        decimals: how Decimals stand in columns.
        page_events: events that are read at once.
        origin: what the tables say of themselves, in the metadata of their schema.
    """

    classes: tuple[type[Event], ...]
    decimals: Decimals
    page_events: int
    origin: Origin

    @cached_property
    def _events(self) -> EventSet:
        return EventSet(self.classes)

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self._events.classes, self.decimals)

    def __reduce__(self) -> tuple[Any, ...]:
        return Reader, (self.classes, self.decimals, self.page_events, self.origin)

    def schema(self, stretches: Sequence[Stretch]) -> Any:
        """The schema of a table of these stretches, which says up to where they go."""
        return self._columns.schema.with_metadata({METADATA_KEY: self.origin.dump(stretches)})

    async def blocks(self, shard: ShardPort, stretch: Stretch) -> AsyncIterator[Any]:
        """The events of a stretch as Arrow tables, in order; none without events.

        Raises:
            UnknownEvent, EncodingError: naming the place of an event that cannot be decoded, or not stand in a column.
            EventRayError: the shard cannot be read.
        """
        batches: list[Any] = []
        async for page in self._pages(shard, stretch):
            batches.append(await asyncio.to_thread(self._batch, page))
            if sum(b.num_rows for b in batches) >= BLOCK_ROWS or sum(b.nbytes for b in batches) >= BLOCK_BYTES:
                yield pa.Table.from_batches(batches).combine_chunks()
                batches = []
        if batches:
            yield pa.Table.from_batches(batches).combine_chunks()

    async def _pages(self, shard: ShardPort, stretch: Stretch) -> AsyncIterator[Sequence[Record]]:
        position = stretch.after
        while position < stretch.until:
            page = await shard.read(after=position, limit=self.page_events, types=self._events.names)
            if page.position <= position:
                raise StoreCorrupted(f"shard {stretch.shard}", f"its log ends at {position}, not at {stretch.until}")
            position = page.position
            records = Records.of(page.records).upto(stretch.until)
            if records:
                yield records

    def _batch(self, records: Sequence[Record]) -> Any:
        return self._columns.batch(recorded(self._events, records))
