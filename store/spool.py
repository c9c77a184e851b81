"""Spool: bytes on their way, of any number. More than one part of them lie in a temporary file, not in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from eventray.store.limits import MIB

PART_BYTES = MIB


class Spool:
    """Written once, from the beginning to the end, then read in parts, as often as wanted; `close` forgets it.

    Methods raise OSError: the disk for temporary files is full, or fails.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=PART_BYTES)  # noqa: SIM115  (closed by `close`)
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Add bytes to the end."""
        self.size_bytes += self._file.write(data)

    def rewrite(self, at: int, data: bytes) -> None:
        """Put bytes in the place of others."""
        self._file.seek(at)
        self._file.write(data)
        self._file.seek(0, 2)

    def parts(self) -> Iterator[bytes]:
        """All of it, in order; each part but the last has `PART_BYTES`."""
        for at in range(0, self.size_bytes, PART_BYTES):
            self._file.seek(at)
            yield self._file.read(PART_BYTES)

    def close(self) -> None:
        """Forget it."""
        self._file.close()


def whole(data: bytes | Spool) -> bytes:
    """All of it in memory."""
    return b"".join(data.parts()) if isinstance(data, Spool) else data
