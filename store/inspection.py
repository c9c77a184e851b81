"""`info`: what a store or a backup is and holds, in a moment: nothing is read through, nothing is proven."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from eventray.store import schema
from eventray.store.backups import described, end_of, read_backup
from eventray.store.failures import FILE_ERRORS
from eventray.store.lock import holder_of
from eventray.store.manifest import NAME, Manifest
from eventray.store.moving import shard_file
from eventray.store.quiet import read_quietly, wal_bytes

_CHECKPOINTS = "SELECT name FROM checkpoints WHERE generation = ? ORDER BY name"


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard: its last position, streams and size in bytes (with its WAL), who has it open, or why it is unreadable.

    `state` is "created", "creating" or "unreadable"; `last_event` the time of the last one, `node` where the file is.
    """

    shard: int
    state: str
    position: int = 0
    streams: int = 0
    bytes: int = 0
    last_event: datetime | None = None
    holder: str = ""
    node: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store (or, with `backup_taken_at`, a backup of one) with its shards and the views that have a checkpoint."""

    directory: str
    app: str
    store_id: str
    format: int
    generation: int
    shards: tuple[ShardInfo, ...]
    resharded_from: tuple[int, ...] = ()
    views: tuple[str, ...] = ()
    backup_taken_at: datetime | None = None

    @property
    def events(self) -> int:
        """How many events there are."""
        return sum(shard.position for shard in self.shards)

    @property
    def bytes(self) -> int:
        """The size of the shards."""
        return sum(shard.bytes for shard in self.shards)


def info(directory: Path | str) -> StoreInfo:
    """Return what the store, in use or not, or the backup in `directory` is and holds.

    Raises `StoreUnavailable` (there is none), `StoreCorrupted` or `StoreMismatch` (its `store.json`).
    """
    manifest = described(directory)
    is_backup = not (manifest.directory / NAME).exists()
    return StoreInfo(
        str(manifest.directory),
        manifest.app,
        manifest.store_id,
        manifest.format,
        manifest.generation,
        tuple(_shard(manifest, index) for index in range(manifest.shards)),
        tuple(ancestor.generation for ancestor in manifest.lineage),
        _views(manifest),
        _time(read_backup(directory)[2]) if is_backup else None,
    )


def _shard(manifest: Manifest, index: int) -> ShardInfo:
    path = manifest.directory / shard_file(index, "db")
    state, node = manifest.state_of(index), manifest.node_of(index)
    holder = holder_of(path.with_suffix(".lock"))
    try:
        position, streams, at = read_quietly(path, _facts)
        size = path.stat().st_size + wal_bytes(path)
    except FileNotFoundError:
        reason = "its file is gone" if state == "created" else "its file was not made yet"
        return ShardInfo(index, "unreadable" if state == "created" else state, holder=holder, node=node, reason=reason)
    except FILE_ERRORS as error:
        return ShardInfo(index, "unreadable", holder=holder, node=node, reason=f"it cannot be read ({error})")
    return ShardInfo(index, state, position, streams, size, _time(at) if at else None, holder, node)


def _facts(connection: sqlite3.Connection) -> tuple[int, int, int]:
    position, _ = end_of(connection)
    streams = connection.execute("SELECT count(*) FROM streams").fetchone()[0]
    last = connection.execute(schema.LAST_EVENT).fetchone()
    return position, streams, last[1] if last else 0


def _views(manifest: Manifest) -> tuple[str, ...]:
    try:
        found = read_quietly(
            manifest.directory / "views.db",
            lambda connection: connection.execute(_CHECKPOINTS, (manifest.generation,)).fetchall(),
        )
    except FILE_ERRORS:
        return ()
    return tuple(name for (name,) in found)


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
