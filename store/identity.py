"""What a file of a store says of itself, and whether it has the tables that it must have."""

from __future__ import annotations

import sqlite3

from eventray.domain.errors import StoreCorrupted, StoreMismatch
from eventray.store import schema
from eventray.store.connection import StoreConnection


def check_info(connection: StoreConnection, expected: dict[str, object]) -> None:
    """Compare what a file says of itself; raises `StoreMismatch`, `StoreCorrupted` when it says nothing."""
    path = str(connection.path)
    try:
        found = dict(connection.execute("SELECT key, value FROM info").fetchall())
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        raise StoreCorrupted(path, "it has no tables: another file, or one that lost its content") from error
    for key, value in expected.items():
        if found.get(key) != value:
            raise StoreMismatch(path, key, value, found.get(key))


def check_structure(connection: StoreConnection, bytes_max: int) -> None:
    """Raise `StoreCorrupted` unless tables and indexes are as they were made, and agree in a file of up to `bytes_max`.

    A damaged index hides events without a sign: no checksum of a record can tell what is not found.
    """
    path = str(connection.path)
    if not schema.has_its_tables(connection):
        raise StoreCorrupted(path, "its tables are not those of a shard")
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * page_bytes <= bytes_max:
        message = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if message != "ok":
            raise StoreCorrupted(path, f"SQLite's own check says: {message}")
