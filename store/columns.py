"""The rows of one transaction, gathered column by column.

Whole columns go through `map` and `zip`: the ids, checksum, hashes and parameters of an event cost 3 us that way, a
third of what a loop over events takes; SQLite's insert takes 2, and that is most of an append.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, repeat
from typing import TypeVar
from zlib import crc32

from eventray.store import rows, schema
from eventray.store.records import NewCommand, NewRecord
from eventray.store.rows import TypeName

T = TypeVar("T")


class Columns:
    """Events in the order of their positions, which begin after `position`; their times after `recorded_at`."""

    __slots__ = ("_commands", "_counts", "_keys", "_streams", "_versions", "events", "position", "recorded_at")

    def __init__(self, position: int, recorded_at: int) -> None:
        self.position = position
        self.recorded_at = recorded_at
        self.events = 0
        self._commands: list[NewCommand] = []
        # Of each run of events of one stream: its key and name, the version before the run, and how many they are.
        self._keys: list[int] = []
        self._streams: list[str] = []
        self._versions: list[int] = []
        self._counts: list[int] = []

    def add(self, key: int, stream: str, version: int, commands: Sequence[NewCommand], events: int) -> int:
        """Add the events of some commands of one stream, of versions after `version`; return the last one's position.

        `key` is the stream's, `events` how many they are: at least 1.
        """
        self._keys.append(key)
        self._streams.append(stream)
        self._versions.append(version)
        self._counts.append(events)
        self._commands += commands
        self.events += events
        return self.position + self.events

    def records(self) -> list[NewRecord]:
        """Return the events."""
        return [record for command in self._commands for record in command.records]

    def finished(
        self, records: Sequence[NewRecord], types: Sequence[TypeName]
    ) -> tuple[list[object], str, list[bytes]]:
        """Return the events' parameters one after the other, the SQL of one event's values, and the leaves.

        `records` are the events, `types` theirs. Moves `position` and `recorded_at` to the last event's.
        """
        count = self.events
        positions = range(self.position + 1, self.position + count + 1)
        times = range(self.recorded_at + 1, self.recorded_at + count + 1)
        names = [stream.encode() for stream in self._streams]
        parts = self._spread([rows.framed(name) for name in names])
        versions = self._event_versions()
        data = [record.data for record in records]
        metas, keys, ids, indexes = self._envelopes(records, parts)
        type_versions, type_crcs = [type.version for type in types], [type.crc for type in types]
        heads = list(map(rows.HEAD.pack, positions, versions, times, indexes, repeat(0), type_versions, type_crcs))
        plain = metas.count(None) == count  # an event with a key has an envelope, too
        columns: list[Sequence[object]] = [
            *(positions, self._spread(self._keys), versions, [type.key for type in types], times),
            *(() if plain else ([key and bytearray(key) for key in keys],)),
            *(indexes, list(map(bytearray, data))),  # sqlite3 binds a bytearray in half the time of bytes
            *(() if plain else ([meta and bytearray(meta) for meta in metas],)),
            rows.checksums(heads, self._spread(list(map(crc32, names))), keys, metas, data),
        ]
        parameters: list[object] = [None] * (count * len(columns))
        for place, column in enumerate(columns):
            parameters[place :: len(columns)] = column
        self.position += count
        self.recorded_at += count
        leaves = rows.leaves(parts, [type.part for type in types], heads, ids, metas, data)
        return parameters, schema.PLAIN_EVENT_VALUES if plain else schema.EVENT_VALUES, leaves

    def _spread(self, column: list[T]) -> list[T]:
        """What each run has, for each of its events."""
        return column if len(column) == self.events else _chained(map(repeat, column, self._counts))

    def _event_versions(self) -> list[int]:
        ends = [version + count + 1 for version, count in zip(self._versions, self._counts, strict=True)]
        return _chained(map(range, [version + 1 for version in self._versions], ends))

    def _envelopes(
        self, records: Sequence[NewRecord], parts: Sequence[bytes]
    ) -> tuple[list[bytes | None], list[bytes | None], list[bytes], list[int]]:
        """Each event's envelope, command key, framed id and index in its command."""
        count = len(records)
        metas = [rows.pack_meta(record.meta) if record.meta else None for record in records]
        keys: list[bytes | None] = [None] * count
        ids, indexes = [b""] * count, [0] * count  # events without an id do not belong together
        sizes = [len(command.records) for command in self._commands]
        firsts = accumulate(sizes, initial=0)
        named = [
            (at, command.command_id, command.name, size, command.fingerprint)
            for command, at, size in zip(self._commands, firsts, sizes, strict=False)
            if command.command_id is not None and size
        ]
        forms = rows.command_ids([parts[one[0]] for one in named], [one[1] for one in named])
        for (first, _, name, size, fingerprint), id in zip(named, forms, strict=True):
            keys[first] = id.key
            ids[first] = rows.framed(id.raw)
            metas[first] = rows.pack_command(records[first].meta, id, name, size, fingerprint)
            if size > 1:
                indexes[first : first + size] = range(size)
        return metas, keys, ids, indexes


def _chained(columns: Iterable[Iterable[T]]) -> list[T]:
    return list(chain.from_iterable(columns))
