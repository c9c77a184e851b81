"""Batches of event rows proven: each row against its checksum, each command whole, and what it adds to the chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from zlib import crc32

from eventray.store import rows
from eventray.store.rows import Envelope, TypeName
from eventray.store.stored import UNREADABLE, EventRow, corrupted, envelope_of

Tell = Callable[[str, int, str, int], None]  # what is wrong; the position, stream and version of the event


class Name(NamedTuple):
    """A stream's name, with the checksum of it and its form in a leaf."""

    text: str
    crc: int
    part: bytes

    @classmethod
    def of(cls, text: str) -> Name:
        """Return a name with what is derived from it."""
        raw = text.encode()
        return cls(text, crc32(raw), rows.framed(raw))


class Proof:
    """Reads a log from its first row to its last; `tell` hears of every event that is not as it was written."""

    def __init__(
        self, types: Mapping[int, TypeName], names_of: Callable[[set[int]], Mapping[int, Name]], tell: Tell
    ) -> None:
        self.bad_position = 0  # the last event that was told of
        self._types = types
        self._names_of = names_of
        self._tell = tell
        self._command = 0, 0, 0  # of the last event: its stream, its index, and how many events of it are to come

    def leaves(self, batch: list[EventRow]) -> list[bytes]:
        """Return the leaf of each row; that of a row which cannot be read is empty."""
        names = self._names_of({row[1] for row in batch})
        try:
            return self._by_columns(batch, names)
        except UNREADABLE:
            return [self._leaf(row, names) for row in batch]

    def _by_columns(self, batch: list[EventRow], names: Mapping[int, Name]) -> list[bytes]:
        positions, streams, versions, type_keys, times, keys, indexes, flags, data, metas, crcs = zip(
            *batch, strict=True
        )
        named = [names[stream] for stream in streams]
        kinds = [self._types[key] for key in type_keys]
        heads = list(
            map(
                rows.HEAD.pack,
                positions,
                versions,
                times,
                indexes,
                flags,
                [kind.version for kind in kinds],
                [kind.crc for kind in kinds],
            )
        )
        found = rows.checksums(heads, [name.crc for name in named], keys, metas, data)
        if found != list(crcs):
            raise ValueError("a checksum does not fit")
        ids = [b""] * len(batch)
        for at, (row, key, meta, index) in enumerate(zip(batch, keys, metas, indexes, strict=True)):
            envelope = rows.unpack(meta, key) if key is not None else None
            if envelope is not None and envelope.command_id is not None:
                ids[at] = rows.framed(envelope.command_id.encode())
            self._check_command(row, named[at].text, envelope, index)
        return rows.leaves([name.part for name in named], [kind.part for kind in kinds], heads, ids, metas, data)

    def _leaf(self, row: EventRow, names: Mapping[int, Name]) -> bytes:
        position, stream, version, type_key, at, key, index, flags, data, meta, _ = row
        name = names.get(stream) or Name.of("")
        try:
            envelope = envelope_of(row, name.crc, self._types)
        except UNREADABLE as error:
            self._bad(corrupted("", name.text, version, error).reason, row, name.text)
            return b""
        self._check_command(row, name.text, envelope if key is not None else None, index)
        kind = self._types[type_key]
        head = rows.HEAD.pack(position, version, at, index, flags, kind.version, kind.crc)
        id_part = rows.framed(envelope.command_id.encode()) if envelope.command_id else b""
        return rows.leaf(name.part, kind.part, head, id_part, meta, data)

    def _check_command(self, row: EventRow, stream: str, envelope: Envelope | None, index: int) -> None:
        last_stream, last_index, to_come = self._command
        self._command = row[1], index, max(0, to_come - 1)
        if envelope is not None:
            self._command = row[1], index, envelope.events - 1
            if index or rows.command_key(stream.encode(), envelope.command_id or "") != row[5]:
                self._bad("its command key is not that of its command id", row, stream)
        if bool(to_come) != bool(index) or (index and (row[1], index) != (last_stream, last_index + 1)):
            self._bad("it stands apart from the other events of its command", row, stream)

    def _bad(self, what: str, row: EventRow, stream: str) -> None:
        self.bad_position = row[0]
        self._tell(what, row[0], stream, row[2] if isinstance(row[2], int) else 0)
