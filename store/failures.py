"""From the errors of SQLite and the operating system to those of eventray."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from eventray.domain.errors import EventRayError, StoreCorrupted, StoreFull, StoreUnavailable

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
# SQLite could not grow its shared-memory file: the only I/O error that means a full disk.
_SHM_SIZE = sqlite3.SQLITE_IOERR_SHMSIZE
# What reading or writing a file may raise. A damaged schema can put bytes into SQLite's message that are no text.
FILE_ERRORS = (sqlite3.Error, OSError, UnicodeDecodeError)
_CORRUPT = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT))


def translated(error: BaseException, path: Path | str) -> EventRayError:
    """Return the error of eventray that says what `error` means for the file or directory `path`."""
    if isinstance(error, EventRayError):
        return error
    if isinstance(error, sqlite3.Error):
        return _from_sqlite(error, str(path))
    if isinstance(error, UnicodeDecodeError):
        return StoreCorrupted(str(path), f"it holds bytes that are no text ({error})")
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return StoreFull(str(path))
        where = f" ({error.filename})" if error.filename else ""
        return StoreUnavailable(str(path), f"{os.strerror(error.errno) if error.errno else error}{where}")
    return StoreUnavailable(str(path), f"{type(error).__name__}: {error}")


def _from_sqlite(error: sqlite3.Error, path: str) -> EventRayError:
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == _SHM_SIZE or is_full(error):
        return StoreFull(path)
    if code & 0xFF in _CORRUPT or "decode to UTF-8" in str(error):
        return StoreCorrupted(path, f"SQLite says {error} ({name})")
    return StoreUnavailable(path, f"SQLite says {error} ({name})")


def is_full(error: BaseException) -> bool:
    """Tell whether SQLite refused a write for want of room: then it stored nothing and the connection is sound."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
