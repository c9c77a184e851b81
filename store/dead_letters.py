"""Dead letters: events that a view or process could not apply and left behind, in the shard that has the event."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from eventray.store.records import StoredLetter
from eventray.store.writing import WriteConnection

_PARK = "INSERT OR IGNORE INTO dead_letters(consumer, position, parked_at, reason) VALUES(?,?,?,?)"
_UNPARK = "DELETE FROM dead_letters WHERE consumer = ? AND position = ?"
_PAGE = """SELECT position, parked_at, reason FROM dead_letters
    WHERE consumer = ? AND position > ? ORDER BY position LIMIT ?"""


def park(writer: WriteConnection, consumer: str, position: int, reason: str) -> None:
    """Keep an event as a dead letter; one that is there stays as it is."""
    with writer.transaction() as sql:
        sql.execute(_PARK, (consumer, position, writer.now(), reason))


def unpark(writer: WriteConnection, consumer: str, positions: Sequence[int]) -> None:
    """Forget dead letters of a consumer."""
    with writer.transaction() as sql:
        sql.executemany(_UNPARK, [(consumer, position) for position in positions])


def page(connection: sqlite3.Connection, shard: int, consumer: str, after: int, limit: int) -> list[StoredLetter]:
    """Return dead letters of a consumer in the order of their positions."""
    found = connection.execute(_PAGE, (consumer, after, limit)).fetchall()
    return [StoredLetter(consumer, shard, *row) for row in found]
