"""A store of an older format is brought to this version's when it is opened, before anything else reads it.

All its locks first: a store that another run has open stays as it is. Then each file in one transaction that also sets
its format, and `store.json` last: a migration that was killed at any point goes on at the next opening.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from operator import attrgetter
from pathlib import Path

from eventray.domain.errors import ShardUnavailable
from eventray.store import formats, schema
from eventray.store.connection import StoreConnection
from eventray.store.failures import translated
from eventray.store.formats import Change
from eventray.store.identity import check_info
from eventray.store.limits import WAL_BYTES_MAX
from eventray.store.lock import whole_store
from eventray.store.manifest import Manifest
from eventray.store.moving import shard_file


def open_manifest(directory: Path | str, *, app: str, shards: int | None, run: str) -> Manifest:
    """Return the manifest of a store whose files all have this version's format, made if there is no store.

    Blocks: call it in a thread. Raises what `Manifest.load_or_create` does, and `StoreLocked` when the store would have
    to be migrated and another run has it open.
    """
    manifest = Manifest.load_or_create(directory, app=app, shards=shards)
    return manifest if manifest.format == schema.FORMAT else _migrated(manifest, run)


def _migrated(manifest: Manifest, run: str) -> Manifest:
    directory = manifest.directory
    with whole_store(directory, manifest.shards, run):
        manifest = Manifest.load(directory)  # as it is under the locks: another process may have done it all meanwhile
        for index in range(manifest.shards):
            if manifest.state_of(index) == "created" and not (directory / shard_file(index, "db")).exists():
                raise ShardUnavailable(index, "its file is gone, and a store is migrated whole or not at all")
        identity: dict[str, object] = {"store_id": manifest.store_id}
        for index in range(manifest.shards):
            expected = {**identity, "generation": manifest.generation, "shard": index}
            _migrate(directory / shard_file(index, "db"), expected, attrgetter("shard"))
        _migrate(directory / "views.db", identity, attrgetter("views"))
        manifest.set_format(schema.FORMAT)
    return manifest


def _migrate(path: Path, expected: dict[str, object], change_of: attrgetter[Change]) -> None:
    if not path.exists() or not path.stat().st_size:
        return  # not made yet; or, in a store of this format, whoever opens it says what that means
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, factory=StoreConnection, isolation_level=None)
        with closing(connection):
            connection.prepare(path, "power", WAL_BYTES_MAX, ())
            _in_one_transaction(connection, expected, change_of)
    except (sqlite3.Error, OSError) as error:
        raise translated(error, path) from error


def _in_one_transaction(
    connection: StoreConnection, expected: dict[str, object], change_of: attrgetter[Change]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # A file without tables is one whose creation was cut off: it is made in this version's format.
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            check_info(connection, expected)
            row = connection.execute("SELECT value FROM info WHERE key = 'format'").fetchone()
            for step in formats.steps_from(connection.path, row and row[0]):
                change_of(step)(connection)
            connection.execute("UPDATE info SET value = ? WHERE key = 'format'", (schema.FORMAT,))
        connection.execute("COMMIT")
    finally:
        connection.undo()
