"""The rows of one transaction, gathered column by column.

Whole columns go through `map` and `zip`: the checksum, the two hashes and the parameters of an event cost 1 us that
way, a third of what a loop over events takes; SQLite's insert takes 2, and that is most of an append.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from eventray.store import rows, schema
from eventray.store.records import NewCommand, NewRecord
from eventray.store.rows import CommandId, TypeName


class Columns:
    """Events in the order of their positions, which begin after `position`; their times after `recorded_at`."""

    __slots__ = ("_commands", "_ids", "_records", "_runs", "_types", "position", "recorded_at")

    def __init__(self, position: int, recorded_at: int) -> None:
        self.position = position
        self.recorded_at = recorded_at
        self._runs: list[tuple[int, bytes, int, range]] = []  # stream key, its framed name, that's checksum, versions
        self._commands: list[NewCommand] = []
        self._ids: list[CommandId | None] = []
        self._records: list[NewRecord] = []
        self._types: list[TypeName] = []

    def __len__(self) -> int:
        return len(self._records)

    def add(
        self,
        stream: tuple[int, bytes, int],
        version: int,
        commands: Sequence[NewCommand],
        ids: Sequence[CommandId | None],
        records: Sequence[NewRecord],
        types: Sequence[TypeName],
    ) -> None:
        """Add the events of some commands of one stream, of versions after `version`.

        `stream` is its key, framed name and that's checksum; `records` are those of all the commands, `types` theirs.
        """
        self._runs.append((*stream, range(version + 1, version + len(records) + 1)))
        self._commands += commands
        self._ids += ids
        self._records += records
        self._types += types

    def finished(self) -> tuple[list[object], str, list[bytes]]:
        """Return the events' parameters one after the other, the SQL of one event's values, and the leaves.

        Moves `position` and `recorded_at` to the last event's.
        """
        count, types = len(self), self._types
        positions = range(self.position + 1, self.position + count + 1)
        times = range(self.recorded_at + 1, self.recorded_at + count + 1)
        streams = [key for key, _, _, run in self._runs for _ in run]
        stream_parts = [part for _, part, _, run in self._runs for _ in run]
        stream_crcs = [crc for _, _, crc, run in self._runs for _ in run]
        event_versions = [version for _, _, _, run in self._runs for version in run]
        data = [record.data for record in self._records]
        metas, keys, ids, indexes = self._envelopes()
        versions = [type.version for type in types]
        names = [type.crc for type in types]
        heads = list(map(rows.HEAD.pack, positions, event_versions, times, indexes, repeat(0), versions, names))
        plain = metas.count(None) == count  # an event with a key has an envelope, too
        columns: list[Sequence[object]] = [
            *(positions, streams, event_versions, [type.key for type in types], times),
            *(() if plain else ([key and bytearray(key) for key in keys],)),
            *(indexes, list(map(bytearray, data))),  # sqlite3 binds a bytearray in half the time of bytes
            *(() if plain else ([meta and bytearray(meta) for meta in metas],)),
            rows.checksums(heads, stream_crcs, keys, metas, data),
        ]
        parameters: list[object] = [None] * (count * len(columns))
        for place, column in enumerate(columns):
            parameters[place :: len(columns)] = column
        self.position += count
        self.recorded_at += count
        parts = [type.part for type in types]
        leaves = rows.leaves(stream_parts, parts, heads, ids, metas, data)
        return parameters, schema.PLAIN_EVENT_VALUES if plain else schema.EVENT_VALUES, leaves

    def _envelopes(self) -> tuple[list[bytes | None], list[bytes | None], list[bytes], list[int]]:
        """Each event's envelope, command key, framed id and index in its command."""
        count = len(self)
        metas = [rows.pack_meta(record.meta) if record.meta else None for record in self._records]
        keys: list[bytes | None] = [None] * count
        ids, indexes = [b""] * count, [0] * count  # events without an id do not belong together
        first = 0
        for command, id in zip(self._commands, self._ids, strict=True):
            own = command.records
            if id is not None and own:
                keys[first] = id.key
                ids[first] = rows.framed(id.raw)
                metas[first] = rows.pack_command(own[0].meta, id, command.name, len(own), command.fingerprint)
                if len(own) > 1:
                    indexes[first : first + len(own)] = range(len(own))
            first += len(own)
        return metas, keys, ids, indexes
