"""Records: the events of a page as columns; the `Record` of one is made when somebody looks at it.

Who applies events needs their types and bodies: for him no envelope is opened and no record is made, which is half of
what reading them costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, overload

from eventray.domain.errors import StoreCorrupted
from eventray.store import rows
from eventray.store.records import Record, maker

_new_record = maker(Record)


class Envelopes(NamedTuple):
    """The columns of a page that say which commands its events are of, as they are stored.

    `earlier` has the command ids at the positions of commands that began before the page; `path` is for errors.
    """

    metas: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    indexes: Sequence[int]
    earlier: Mapping[int, str | None]
    path: str


class Told(NamedTuple):
    """The columns of a page that callers gave with the commands: what envelopes hold."""

    metas: Sequence[bytes]
    command_ids: Sequence[str | None]


class Columns(NamedTuple):
    """A page of a shard's events: one of each per event, as in `Record`, but for `types`: those of `kinds`.

    Either `envelopes` or `told` is there.
    """

    shard: int
    streams: Sequence[str]
    versions: Sequence[int]
    kinds: Sequence[int]
    types: Mapping[int, tuple[str, int]]
    data: Sequence[bytes]
    positions: Sequence[int]
    recorded_at: Sequence[int]
    envelopes: Envelopes | None
    told: Told | None = None


class Records(Sequence[Record]):
    """The records of a page; equal to any sequence of the same records."""

    __slots__ = ("_made", "_told", "columns")

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._told = columns.told
        self._made: list[Record] | None = None

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Return some records of a shard as columns."""
        if isinstance(records, Records):
            return records
        if not records:
            return NO_RECORDS
        streams, versions, names, data, metas, shards, positions, times, ids, numbers = zip(*records, strict=True)
        types = list(zip(names, numbers, strict=True))
        keys = {type: key for key, type in enumerate(dict.fromkeys(types))}
        kinds, by_key = [keys[type] for type in types], {key: type for type, key in keys.items()}
        told = Told(metas, ids)
        made = cls(Columns(shards[0], streams, versions, kinds, by_key, data, positions, times, None, told))
        made._made = list(records)
        return made

    @property
    def metas(self) -> Sequence[bytes]:
        """The callers' metadata; raises as `command_ids`."""
        return self._tell().metas

    @property
    def command_ids(self) -> Sequence[str | None]:
        """The ids of the events' commands.

        Raises:
            StoreCorrupted: an envelope is none, though its row is as it was written.
        """
        return self._tell().command_ids

    def upto(self, position: int) -> Sequence[Record]:
        """Return the records up to a position, of a page of a log."""
        positions = self.columns.positions
        if not positions or positions[-1] <= position:
            return self
        return self[: bisect_right(positions, position)]

    def size_bytes(self) -> int:
        """Return how many bytes the bodies and envelopes have."""
        columns = self.columns
        metas = (columns.envelopes or self._tell()).metas
        return sum(map(len, columns.data)) + sum([len(meta) for meta in metas if meta])

    def _tell(self) -> Told:
        if self._told is None:
            columns = self.columns
            assert columns.envelopes is not None
            try:
                self._told = _opened(columns.envelopes, columns.positions)
            except Exception as error:
                raise _corrupted(columns, columns.envelopes, error) from error
        return self._told

    def _records(self) -> list[Record]:
        if self._made is None:
            c, told = self.columns, self._tell()
            types = [c.types[kind] for kind in c.kinds]
            names, numbers = zip(*types, strict=True) if types else ((), ())
            columns = (c.streams, c.versions, names, c.data, told.metas, repeat(c.shard), c.positions)
            fields = zip(*columns, c.recorded_at, told.command_ids, numbers, strict=False)
            self._made = list(map(_new_record, fields))
        return self._made

    def __len__(self) -> int:
        return len(self.columns.data)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._records()[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._records() == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return repr(self._records())

    def __reduce__(self) -> tuple[Any, ...]:
        return Records, (self.columns,)


NO_RECORDS = Records(Columns(0, (), (), (), {}, (), (), (), None, Told((), ())))


def _opened(envelopes: Envelopes, positions: Sequence[int]) -> Told:
    metas, keys, indexes, earlier, _ = envelopes
    users, ids = rows.unpack_columns(metas, keys)
    if any(indexes):
        firsts = {at: id for at, id, index in zip(positions, ids, indexes, strict=True) if not index}
        firsts.update(earlier)
        begun = [position - index for position, index in zip(positions, indexes, strict=True)]
        ids = [firsts[first] if index else id for first, index, id in zip(begun, indexes, ids, strict=True)]
    return Told(users, ids)


def _corrupted(columns: Columns, envelopes: Envelopes, error: Exception) -> StoreCorrupted:
    stream, version, reason = columns.streams[0], columns.versions[0], str(error)
    for place, meta, key in zip(
        zip(columns.streams, columns.versions, strict=True), envelopes.metas, envelopes.keys, strict=True
    ):
        try:
            rows.unpack(meta, key)
        except ValueError as found:
            (stream, version), reason = place, str(found)
            break
    return StoreCorrupted(envelopes.path, reason, stream, version)
