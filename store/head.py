"""The witness of a shard: its last committed position and digest, in a file of its own.

A shard that is behind its witness went back in time (an older copy was put back, a WAL lost its tail).
The record is rewritten in place after each commit and never synced: it costs microseconds.
"""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from eventray.store.schema import DIGEST_BYTES

_log = logging.getLogger("eventray.store")
_RECORD = struct.Struct("<4sBxxxq32s12s")
_CRC = struct.Struct("<I")
_MAGIC = b"evh1"
_BYTES = _RECORD.size + _CRC.size
_BOOT_BYTES = 12


class Head(NamedTuple):
    """What a witness saw; `synced`: commits survived a power cut then; `boot`: which boot of the machine wrote it."""

    position: int
    digest: bytes
    synced: bool
    boot: bytes

    def lost_with_power(self, boot: str) -> bool:
        """Tell whether the commits it saw may be gone by right: never synced, and the machine booted since."""
        return not self.synced and self.boot != boot_tag(boot)


def boot_tag(boot: str) -> bytes:
    """Return how a witness names a boot of the machine."""
    return boot.replace("-", "").encode()[:_BOOT_BYTES].ljust(_BOOT_BYTES, b"\0")


def read_head(path: Path) -> Head | None:
    """Return what the witness in a file saw, None when it is not there or not readable (a warning says so)."""
    try:
        return _parsed(path, path.read_bytes()[:_BYTES])
    except FileNotFoundError:
        return None


def _parsed(path: Path, raw: bytes) -> Head | None:
    if not raw:
        return None
    if len(raw) == _BYTES and _CRC.unpack(raw[-_CRC.size :])[0] == crc32(raw[: -_CRC.size]):
        magic, synced, position, digest, boot = _RECORD.unpack(raw[: -_CRC.size])
        if magic == _MAGIC:
            return Head(position, digest, bool(synced), boot)
    _log.warning("%s is unreadable and ignored: an older shard file would go unnoticed this time", path)
    return None


class HeadFile:
    """The open witness of one shard."""

    def __init__(self, path: Path, *, synced: bool, boot: str) -> None:
        """Open the file, creating it; OSError when that is not possible."""
        self.path = path
        self._synced = synced
        self._boot = boot
        self._warned = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> Head | None:
        """Return what the witness saw, None when there is nothing readable."""
        return _parsed(self.path, os.pread(self._fd, _BYTES, 0))

    def write(self, position: int, digest: bytes) -> None:
        """Record the last commit; a failure is logged once, for the commit itself stands."""
        assert len(digest) == DIGEST_BYTES
        raw = _RECORD.pack(_MAGIC, self._synced, position, digest, boot_tag(self._boot))
        try:
            os.pwrite(self._fd, raw + _CRC.pack(crc32(raw)), 0)
        except OSError as error:
            if not self._warned:
                _log.warning("%s cannot be written: %s", self.path, error)
                self._warned = True

    def accept(self, position: int, digest: bytes) -> None:
        """Record, on disk before this returns, that the log ends here now, whatever was seen beyond; may raise OSError.

        Without the sync another power cut could bring the old record back, to accuse what was appended since.
        """
        self.write(position, digest)
        os.fsync(self._fd)

    def lost_with_power(self, head: Head | None) -> bool:
        """Tell whether commits may be gone by right: they were never synced, and the machine booted since.

        A witness that has nothing to say may have gone the same way.
        """
        return not self._synced if head is None else head.lost_with_power(self._boot)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
