"""The baseline of the store: the same tables, rows and settings through nothing but Python's sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.durability import require_full
from eventray.store import NewCommand, schema
from eventray.store.columns import Columns
from eventray.store.rows import chain, type_name
from eventray.store.stored import EventRow

Commit = tuple[int, int, int, bytes]


def connect(path: Path) -> sqlite3.Connection:
    """Open a file with the settings of a shard's writer."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (*schema.PRAGMAS, *schema.WRITER_PRAGMAS, schema.SYNCHRONOUS["power"]):
        connection.execute(pragma)
    require_full(connection.execute("PRAGMA synchronous").fetchone()[0])
    return connection


def make(path: Path, streams: Sequence[str]) -> sqlite3.Connection:
    """Make an empty shard that knows its streams and one type, Deposited."""
    connection = connect(path)
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema.TABLES:
        connection.execute(statement)
    connection.executemany(schema.INSERT_STREAMS, list(enumerate(streams, 1)))
    connection.execute(schema.INSERT_TYPES, (1, "Deposited", 1))
    connection.execute("COMMIT")
    return connection


def rows_of(batches: Sequence[tuple[str, Sequence[NewCommand]]], streams: Sequence[str]) -> list[list[EventRow]]:
    """Return the rows that eventray would store for batches, each of some commands of one stream."""
    keys = {stream: key for key, stream in enumerate(streams, 1)}
    versions = dict.fromkeys(streams, 0)
    type, position, recorded_at = type_name(1, "Deposited", 1), 0, 0
    found = []
    for stream, commands in batches:
        columns = Columns(position, recorded_at)
        events = sum(len(command.records) for command in commands)
        columns.add(keys[stream], stream, versions[stream], commands, events)
        versions[stream] += events
        found.append(_rows(*columns.finished(columns.records(), [type] * events)[:2]))
        position, recorded_at = columns.position, columns.recorded_at
    return found


def _rows(parameters: Sequence[Any], values: str) -> list[Any]:
    """Put the literals of `values` between the parameters, as if each column had been bound."""
    bound, literals, found = iter(parameters), {"?": None, "NULL": (None,), "0": (0,)}, []
    shape = [literals[one] for one in values.strip("()").split(",")]
    for _ in range(len(parameters) // values.count("?")):
        row = [next(bound) if one is None else one[0] for one in shape]
        found.append(tuple(bytes(one) if type(one) is bytearray else one for one in row))
    return found


def append(connection: sqlite3.Connection, rows: Sequence[EventRow]) -> None:
    """Store a batch in a transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(schema.INSERT_EVENTS, rows)
    commit: Commit = (rows[-1][0], rows[0][0], rows[-1][4], chain(b"", []))
    connection.execute(schema.INSERT_COMMIT, commit)
    connection.execute("COMMIT")
