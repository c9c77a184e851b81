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

    __slots__ = (
        "_data",
        "_ids",
        "_indexes",
        "_keys",
        "_metas",
        "_stream_crcs",
        "_stream_parts",
        "_streams",
        "_types",
        "_versions",
        "position",
        "recorded_at",
    )

    def __init__(self, position: int, recorded_at: int) -> None:
        self.position = position
        self.recorded_at = recorded_at
        self._streams: list[int] = []
        self._stream_parts: list[bytes] = []
        self._stream_crcs: list[int] = []
        self._versions: list[int] = []
        self._types: list[TypeName] = []
        self._keys: list[bytes | None] = []
        self._ids: list[bytes] = []
        self._indexes: list[int] = []
        self._data: list[bytes] = []
        self._metas: list[bytes | None] = []

    def __len__(self) -> int:
        return len(self._data)

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
        first, count = len(self._data), len(records)
        stream_key, stream_part, stream_crc = stream
        self._streams += [stream_key] * count
        self._stream_parts += [stream_part] * count
        self._stream_crcs += [stream_crc] * count
        self._versions += range(version + 1, version + count + 1)
        self._types += types
        self._data += [record.data for record in records]
        self._metas += [rows.pack_meta(record.meta) if record.meta else None for record in records]
        self._keys += [None] * count
        self._ids += [b""] * count
        self._indexes += [0] * count  # events without an id do not belong together
        for command, id in zip(commands, ids, strict=True):
            own = command.records
            if id is not None and own:
                self._keys[first] = id.key
                self._ids[first] = rows.framed(id.raw)
                self._metas[first] = rows.pack_command(own[0].meta, id, command.name, len(own), command.fingerprint)
                self._indexes[first : first + len(own)] = range(len(own))
            first += len(own)

    def finished(self) -> tuple[list[object], str, list[bytes]]:
        """Return the events' parameters one after the other, the SQL of one event's values, and the leaves.

        Moves `position` and `recorded_at` to the last event's.
        """
        count, types = len(self), self._types
        positions = range(self.position + 1, self.position + count + 1)
        times = range(self.recorded_at + 1, self.recorded_at + count + 1)
        versions = [type.version for type in types]
        names = [type.crc for type in types]
        heads = list(map(rows.HEAD.pack, positions, self._versions, times, self._indexes, repeat(0), versions, names))
        plain = self._metas.count(None) == count  # an event with a key has an envelope, too
        columns: list[Sequence[object]] = [
            *(positions, self._streams, self._versions, [type.key for type in types], times),
            *(() if plain else ([key and bytearray(key) for key in self._keys],)),
            *(self._indexes, list(map(bytearray, self._data))),  # sqlite3 binds a bytearray in half the time of bytes
            *(() if plain else ([meta and bytearray(meta) for meta in self._metas],)),
            rows.checksums(heads, self._stream_crcs, self._keys, self._metas, self._data),
        ]
        parameters: list[object] = [None] * (count * len(columns))
        for place, column in enumerate(columns):
            parameters[place :: len(columns)] = column
        self.position += count
        self.recorded_at += count
        parts = [type.part for type in types]
        leaves = rows.leaves(self._stream_parts, parts, heads, self._ids, self._metas, self._data)
        return parameters, schema.PLAIN_EVENT_VALUES if plain else schema.EVENT_VALUES, leaves
