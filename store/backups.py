"""`backup`: a store carried away while it is written to.

A backup is a folder with one SQLite file a shard and `backup.json`, written last: what the store was, and the position
and digest that each shard's copy ends with. It is no store: it opens only where it was restored to. Each shard is
copied as it was at one moment; two shards may be of different moments. Views are not in it: they follow the log anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from threading import Lock

from eventray.domain.errors import ShardUnavailable, StoreCorrupted, StoreUnavailable
from eventray.store import schema
from eventray.store.failures import FILE_ERRORS, translated
from eventray.store.files import make_empty_directory, sync, write_back
from eventray.store.manifest import NAME, Manifest, read_sealed, write_sealed
from eventray.store.moving import shard_file
from eventray.store.parallel import Progress
from eventray.store.quiet import read_quietly
from eventray.store.writing import utc_now_us

BACKUP = "backup.json"
FORMAT = 1
_STEP_PAGES = 2048
_COPIES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """The last position of a shard's copy, and the digest (hex) of its log up to there."""

    position: int
    digest: str


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds: of which store and generation, where each shard ends, its size and when it was taken."""

    directory: str
    app: str
    generation: int
    shards: tuple[ShardEnd, ...]
    bytes: int
    taken_at: int
    seconds: float

    @property
    def positions(self) -> dict[int, int]:
        """The last position of each shard."""
        return {index: end.position for index, end in enumerate(self.shards)}


def backup(directory: Path | str, to: Path | str, *, progress: Progress | None = None) -> BackupReport:
    """Copy the store in `directory`, in use or not, into the new or empty folder `to`; readers and writers go on.

    `progress("copy", done, total)` counts bytes, in a thread of ours. Raises `StoreUnavailable`, `StoreFull`,
    `StoreCorrupted`, and `ShardUnavailable` (a shard's file is gone or was never made). A backup that failed has no
    `backup.json`: remove it.
    """
    started = time.monotonic()
    manifest, to = Manifest.load(directory), Path(to)
    sources = [manifest.directory / shard_file(index, "db") for index in range(manifest.shards)]
    try:
        make_empty_directory(to)
        taken_at = utc_now_us()
        count = byte_counter(sources, progress)
        with ThreadPoolExecutor(_COPIES_AT_ONCE) as threads:  # one copies while another waits for the disk
            targets = [to / source.name for source in sources]
            ends = list(threads.map(_copy, range(len(sources)), sources, targets, repeat(count)))
        raw = {"format": FORMAT, "taken_at": taken_at, "store": manifest.as_json()}
        raw["shards"] = [{"position": end.position, "digest": end.digest} for end in ends]
        write_sealed(to / BACKUP, raw)
        size = sum((to / source.name).stat().st_size for source in sources)
    except OSError as error:
        raise translated(error, to) from error
    seconds = time.monotonic() - started
    return BackupReport(str(to), manifest.app, manifest.generation, tuple(ends), size, taken_at, seconds)


def byte_counter(sources: list[Path], progress: Progress | None) -> Callable[[int], None]:
    """Return what is to be called, from any thread, with every number of bytes that was copied of these files."""
    total = sum(source.stat().st_size for source in sources if source.exists())
    done = 0
    lock = Lock()

    def count(bytes_: int) -> None:
        nonlocal done
        with lock:
            done += bytes_
            if progress is not None:
                progress("copy", min(done, total), total)

    return count


def _copy(index: int, source: Path, target: Path, count: Callable[[int], None]) -> ShardEnd:
    try:
        end = read_quietly(source, lambda connection: _copy_from(connection, target, count))
        sync(target)
    except FileNotFoundError:
        raise ShardUnavailable(index, f"its file {source} is not there") from None
    except FILE_ERRORS as error:
        raise translated(error, source) from error
    return end


def _copy_from(connection: sqlite3.Connection, target: Path, count: Callable[[int], None]) -> ShardEnd:
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    connection.execute("BEGIN")  # one state of the file for the end and for all pages, whatever is written meanwhile
    position, digest = end_of(connection)
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    before = 0

    def step(_: int, remaining: int, total: int) -> None:
        nonlocal before
        count((total - remaining - before) * page_bytes)
        before = total - remaining
        write_back(written)

    written = os.open(target, os.O_RDONLY)
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode=OFF")
            copy.execute("PRAGMA synchronous=OFF")
            connection.backup(copy, pages=_STEP_PAGES, progress=step, sleep=0)
    finally:
        os.close(written)  # after SQLite's: closing a file takes this process's locks on it away
    return ShardEnd(position, digest.hex())


def end_of(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Return the last position of a shard and its digest; sqlite3.Error."""
    row = connection.execute(schema.LAST_COMMIT).fetchone()
    return (row[0], row[2]) if row else (0, schema.chain_start(connection))


def read_backup(directory: Path | str) -> tuple[Manifest, list[ShardEnd], int]:
    """Return what a backup says of its store, where its shards end, and when it was taken (microseconds UTC).

    Raises `StoreUnavailable` (there is none), `StoreCorrupted`, `StoreMismatch` (a newer format).
    """
    path = Path(directory) / BACKUP
    try:
        raw = read_sealed(path, format=FORMAT)
        ends = [ShardEnd(shard["position"], shard["digest"]) for shard in raw["shards"]]
        return Manifest.parsed(path.parent, raw["store"]), ends, int(raw["taken_at"])
    except FileNotFoundError:
        raise StoreUnavailable(str(path.parent), f"there is no complete backup here (no {BACKUP})") from None
    except OSError as error:
        raise translated(error, path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupted(str(path), f"it cannot be read ({error!r})") from error


def described(directory: Path | str) -> Manifest:
    """Return the manifest of a store or of a backup of one; raises as `Manifest.load` and `read_backup`."""
    if not (Path(directory) / NAME).exists() and (Path(directory) / BACKUP).exists():
        return read_backup(directory)[0]
    return Manifest.load(directory)
