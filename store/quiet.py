"""Reading a database file from outside its store: nothing is written, locked or left behind.

A file that nobody has open and that has no WAL is read as it is: a plain read-only connection would leave an empty WAL
and its index beside it. Any other file is read through its WAL, with or without its writer.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from eventray.store.failures import FILE_ERRORS

T = TypeVar("T")

_BUSY_TIMEOUT_S = 10.0


def read_quietly(path: Path, job: Callable[[sqlite3.Connection], T]) -> T:
    """Run `job` on a read-only connection; once more when a writer opened the file meanwhile.

    Raises FILE_ERRORS of `failures`; FileNotFoundError when the file is not there.
    """
    path.stat()
    if wal_bytes(path):
        with _opened(path, "mode=ro") as connection:
            return job(connection)
    before = _change(path)
    try:
        with _opened(path, "mode=ro&immutable=1") as connection:
            result = job(connection)
    except FILE_ERRORS:
        if not wal_bytes(path) and _change(path) == before:
            raise
    else:
        if not wal_bytes(path) and _change(path) == before:
            return result
    return read_quietly(path, job)


def _change(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def wal_bytes(path: Path) -> int:
    """Return the size of a database file's WAL; 0 when there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.with_name(f"{path.name}-wal").stat().st_size
    return 0


@contextlib.contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        yield connection
    finally:
        connection.close()
