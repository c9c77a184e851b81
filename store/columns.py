"""The rows of one transaction, gathered column by column.

Whole columns go through `map` and `zip`: the checksum, the two hashes and the row of an event cost 2 us that way,
half of what a loop over events takes, and next to SQLite's 5 us an insert that is most of what the store adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from eventray.store import rows
from eventray.store.records import NewCommand
from eventray.store.rows import TypeName
from eventray.store.stored import EventRow


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
        command: NewCommand,
        key: bytes | None,
        types: Sequence[TypeName],
    ) -> None:
        """Add a command's events, of versions after `version`; `stream` is its key, framed name and that's checksum."""
        records, count = command.records, len(types)
        stream_key, stream_part, stream_crc = stream
        self._streams += [stream_key] * count
        self._stream_parts += [stream_part] * count
        self._stream_crcs += [stream_crc] * count
        self._versions += range(version + 1, version + count + 1)
        self._types += types
        self._data += [record.data for record in records]
        first = len(self._metas)
        self._metas += [rows.pack_meta(record.meta) if record.meta else None for record in records]
        self._ids += [b""] * count
        self._keys += [None] * count
        if command.command_id is None:  # such events do not belong together: each has index 0
            self._indexes += [0] * count
            return
        self._indexes += range(count)
        id, meta = command.command_id, records[0].meta
        self._keys[first] = key
        self._ids[first] = rows.framed(id.encode())
        self._metas[first] = rows.pack_command(meta, id, command.name, count, command.fingerprint)

    def finished(self) -> tuple[list[EventRow], list[bytes]]:
        """Return the rows and their leaves, and move `position` and `recorded_at` to the last event's."""
        count, types = len(self), self._types
        positions = range(self.position + 1, self.position + count + 1)
        times = range(self.recorded_at + 1, self.recorded_at + count + 1)
        versions = [type.version for type in types]
        names = [type.crc for type in types]
        heads = list(map(rows.HEAD.pack, positions, self._versions, times, self._indexes, repeat(0), versions, names))
        found = list(
            zip(
                positions,
                self._streams,
                self._versions,
                [type.key for type in types],
                times,
                self._keys,
                self._indexes,
                repeat(0),
                self._data,
                self._metas,
                rows.checksums(heads, self._stream_crcs, self._keys, self._metas, self._data),
            )
        )
        self.position += count
        self.recorded_at += count
        parts = [type.part for type in types]
        return found, rows.leaves(self._stream_parts, parts, heads, self._ids, self._metas, self._data)
