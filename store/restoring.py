"""`restore`: a store made of a backup, as a new generation of it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from eventray.domain.errors import StoreCorrupted
from eventray.store.backups import BACKUP, ShardEnd, byte_counter, end_of, read_backup
from eventray.store.failures import FILE_ERRORS, translated
from eventray.store.files import make_empty_directory, sync
from eventray.store.head import HeadFile
from eventray.store.lock import boot_id
from eventray.store.moving import shard_file
from eventray.store.parallel import Progress
from eventray.store.verification import require_sound


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was brought back: the new `generation`, and where each shard ends."""

    directory: str
    app: str
    generation: int
    shards: tuple[ShardEnd, ...]
    seconds: float


def restore(
    backup: Path | str, directory: Path | str, *, check: bool = True, progress: Progress | None = None
) -> RestoreReport:
    """Make a store of a backup in the new or empty folder `directory`, as a new generation.

    Positions that were seen before (checkpoints, receipts) are of another generation then, and not trusted. With
    `check` the backup is proven first. `progress(phase, done, total)` counts events ("verify") and bytes ("copy").
    Raises as `read_backup`, `StoreMismatch` (an older format: a version of that format restores it), `StoreCorrupted`
    (the backup is damaged), `StoreUnavailable` (the folder is not empty), `StoreFull`. What a failed restore leaves has
    no `store.json` and does not open: remove it.
    """
    started = time.monotonic()
    manifest, ends, _ = read_backup(backup)
    manifest.require_current()
    if check:
        require_sound(backup, progress=progress)
    source, manifest.directory = manifest.directory, Path(directory)
    names = [shard_file(index, "db") for index in range(manifest.shards)]
    manifest.begin_generation()
    try:
        make_empty_directory(manifest.directory)
        count = byte_counter([source / name for name in names], progress)
        for index, (name, end) in enumerate(zip(names, ends, strict=True)):
            copied = manifest.directory / name
            shutil.copyfile(source / name, copied)
            copied.chmod(0o600)
            _stamp(copied, manifest.generation, end)
            write_witness(manifest.directory / shard_file(index, "head"), end)
            count(copied.stat().st_size)
        manifest.save()
    except OSError as error:
        raise translated(error, manifest.directory) from error
    return RestoreReport(
        str(manifest.directory), manifest.app, manifest.generation, tuple(ends), time.monotonic() - started
    )


def _stamp(path: Path, generation: int, expected: ShardEnd) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        position, digest = end_of(connection)
        if ShardEnd(position, digest.hex()) != expected:
            raise StoreCorrupted(str(path), f"it does not end at position {expected.position}, as {BACKUP} says")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("UPDATE info SET value = ? WHERE key = 'generation'", (generation,))
    except FILE_ERRORS as error:
        raise translated(error, path) from error
    finally:
        connection.close()
    sync(path)


def write_witness(path: Path, end: ShardEnd) -> None:
    """Write the witness of a shard that ends there."""
    witness = HeadFile(path, synced=True, boot=boot_id())
    witness.write(end.position, bytes.fromhex(end.digest))
    witness.close()
