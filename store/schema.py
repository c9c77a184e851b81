"""The tables of a shard. Every statement binds its values; names of tables and columns are a format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3  # who only opens envelopes (`rows`) needs none

FORMAT = 1
DIGEST_BYTES = 32

PRAGMAS = (
    "PRAGMA foreign_keys=OFF",
    "PRAGMA trusted_schema=OFF",
)

# Room for the inner pages of both indexes, which streams and random command ids touch all over.
WRITER_PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA cache_size=-16384")

SYNCHRONOUS = {"power": "PRAGMA synchronous=FULL", "os": "PRAGMA synchronous=NORMAL"}

INDEXES = (
    "CREATE UNIQUE INDEX events_by_stream ON events(stream, version)",
    "CREATE UNIQUE INDEX events_by_command ON events(command_key) WHERE command_key IS NOT NULL",
)
TABLES = (
    "CREATE TABLE info(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE streams(key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE types(key INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, UNIQUE(name, version))",
    # Integer keys for streams and types: half the bytes and nearly twice the rate of text keys.
    """CREATE TABLE events(
        position INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        version INTEGER NOT NULL,
        type INTEGER NOT NULL,
        recorded_at INTEGER NOT NULL,
        command_key BLOB,
        command_index INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        data BLOB NOT NULL,
        meta BLOB,
        crc INTEGER NOT NULL)""",
    *INDEXES,
    """CREATE TABLE snapshots(
        stream INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        position INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        data BLOB NOT NULL,
        crc INTEGER NOT NULL)""",
    """CREATE TABLE dead_letters(
        consumer TEXT NOT NULL,
        position INTEGER NOT NULL,
        parked_at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY(consumer, position)) WITHOUT ROWID""",
    """CREATE TABLE commits(
        last INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        recorded_at INTEGER NOT NULL,
        digest BLOB NOT NULL)""",
)

INSERT_EVENTS = "INSERT INTO events VALUES(?,?,?,?,?,?,?,?,?,?,?)"
# Those of the writer: `flags` are 0 so far, and a commit without ids and metadata binds no NULLs, because Python's
# sqlite3 takes longer to bind one than SQLite to store it. Many rows a statement take half as long as single ones.
EVENT_VALUES = "(?,?,?,?,?,?,?,0,?,?,?)"
PLAIN_EVENT_VALUES = "(?,?,?,?,?,NULL,?,0,?,NULL,?)"
BLOCKS_ROWS = (40, 16, 4, 1)
INSERT_STREAMS = "INSERT INTO streams(key, name) VALUES(?,?)"
INSERT_TYPES = "INSERT INTO types(key, name, version) VALUES(?,?,?)"
INSERT_COMMIT = "INSERT INTO commits(last, first, recorded_at, digest) VALUES(?,?,?,?)"
SAVE_SNAPSHOT = (
    "INSERT OR REPLACE INTO snapshots(stream, version, position, fingerprint, data, crc) VALUES(?,?,?,?,?,?)"
)

STREAM_KEY = "SELECT key FROM streams WHERE name = ?"
STREAM_LAST = "SELECT version, position FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1"
STREAM_AND_SNAPSHOT = """SELECT s.key, n.version, n.position, n.fingerprint, n.data, n.crc
    FROM streams s LEFT JOIN snapshots n ON n.stream = s.key WHERE s.name = ?"""
SNAPSHOT = "SELECT version, position, fingerprint, data, crc FROM snapshots WHERE stream = ?"
BY_COMMAND = "SELECT * FROM events WHERE command_key = ?"
BY_POSITIONS = "SELECT * FROM events WHERE position IN (SELECT value FROM json_each(?))"
STREAM_UP = "SELECT * FROM events WHERE stream = ? AND version > ? AND version <= ? ORDER BY version LIMIT ?"
STREAM_DOWN = "SELECT * FROM events WHERE stream = ? AND version > ? AND version <= ? ORDER BY version DESC LIMIT ?"
LOG = "SELECT * FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
# The unary plus keeps the planner on the order of positions.
LOG_OF_TYPES = """SELECT * FROM events WHERE position > ? AND position <= ?
    AND +type IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?"""
LOG_COUNT = "SELECT count(*) FROM events WHERE position > ? AND position <= ?"
LOG_POSITIONS = "SELECT position FROM events WHERE position > ? AND position <= ? ORDER BY position"
STREAM_NAMES = "SELECT key, name FROM streams WHERE key IN (SELECT value FROM json_each(?))"
TYPES = "SELECT key, name, version FROM types"
# A stream that has a snapshot but no events does not exist.
STREAMS_FROM = """SELECT name FROM streams WHERE name >= ? AND name > ?
    AND EXISTS(SELECT 1 FROM events WHERE stream = streams.key) ORDER BY name LIMIT ?"""
RECORDED_AT = "SELECT e.recorded_at FROM events e WHERE e.stream = ? AND e.version = ?"
POSITION_RECORDED_AT = "SELECT recorded_at FROM events WHERE position = ?"
LAST_EVENT = "SELECT position, recorded_at FROM events ORDER BY position DESC LIMIT 1"
LAST_COMMIT = "SELECT last, recorded_at, digest FROM commits ORDER BY last DESC LIMIT 1"
COMMIT_AT = "SELECT digest FROM commits WHERE last = ?"
DEFINITIONS = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
EPOCH = "SELECT value FROM info WHERE key = 'epoch'"


def insert_events(values: str, rows: int) -> str:
    """Return the statement that stores some events."""
    return "INSERT INTO events VALUES" + ",".join([values] * rows)


def shard_info(store_id: str, shard: int, generation: int) -> dict[str, object]:
    """Return what the file of a shard must say of itself."""
    return {"format": FORMAT, "store_id": store_id, "shard": shard, "generation": generation}


def chain_start(connection: sqlite3.Connection) -> bytes:
    """Return what a shard's digest chain begins with: after a reshard its ancestors' digests, else zeros."""
    row: tuple[bytes] | None = connection.execute("SELECT value FROM info WHERE key = 'chain_start'").fetchone()
    return row[0] if row else bytes(DIGEST_BYTES)


def has_its_tables(connection: sqlite3.Connection) -> bool:
    """Tell whether a file has the tables and indexes of a shard, and no others; sqlite3.Error."""
    return {sql for (sql,) in connection.execute(DEFINITIONS).fetchall()} == set(TABLES)
