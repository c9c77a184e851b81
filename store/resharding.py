"""`reshard`: the buckets of a store that is not in use, spread over another number of shards, as a new generation.

The new shards are made beside the old ones, proven, and only then take their place (see `moving.py`); until then
nothing of the store has changed, and afterwards the old shards are kept as a store of their own.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from eventray.domain.errors import StoreCorrupted
from eventray.store.backups import ShardEnd
from eventray.store.failures import translated
from eventray.store.files import make_empty_directory, manifest_lock, sync
from eventray.store.lock import whole_store
from eventray.store.manifest import NAME, Ancestor, Manifest, ShardEntry, check_count, even_buckets, finish_reshard
from eventray.store.moving import STAGING, Move, shard_file
from eventray.store.parallel import Progress, side_by_side
from eventray.store.restoring import write_witness
from eventray.store.verification import VerifyReport, require_sound


@dataclass(frozen=True, slots=True)
class ReshardReport:
    """What became of a store: where each new shard ends, and `kept`, the folder with the shards of before."""

    directory: str
    app: str
    generation: int
    events: int
    shards: tuple[ShardEnd, ...]
    kept: str
    seconds: float


def reshard(directory: Path | str, *, shards: int, progress: Progress | None = None) -> ReshardReport:
    """Spread a store over `shards` shards: streams keep their events, versions, times and command ids.

    Positions change: those seen before (checkpoints, receipts) are of another generation, and not trusted. Snapshots
    and dead letters go along. The old and the new shards are proven, and the digests of the new ones begin with those
    of the old. It needs room for a second copy. `progress(phase, done, total)` counts events: "verify", "reshard" and
    "verify again".

    Raises ValueError (a number outside 1 to 4096, or the one that it has), `StoreLocked` (in use), `StoreMismatch` (an
    older format: open it once), `StoreCorrupted`, `StoreFull`, `StoreUnavailable`; nothing of the store has changed.
    """
    started, directory = time.monotonic(), Path(directory)
    check_count(shards)
    old = Manifest.load(directory)
    old.require_current()
    if shards == old.shards:
        raise ValueError(f"{old.directory} has {shards} shards already")
    staging = old.directory / STAGING
    try:
        with whole_store(old.directory, max(shards, old.shards), f"reshard-{uuid.uuid4().hex}"):
            _close_wals(old)
            before = require_sound(old.directory, progress=progress)
            new = _planned(old, staging, shards, before)
            shutil.rmtree(staging, ignore_errors=True)  # of one that was cut off before its point of no return
            try:
                make_empty_directory(staging)
                ends = _build(old, new, before.events, progress)
                _require_equal(before, require_sound(staging, progress=_again(progress)))
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            kept = _switch(old, new)
    except OSError as error:
        raise translated(error, directory) from error
    return ReshardReport(
        str(directory), old.app, new.generation, before.events, ends, str(kept), time.monotonic() - started
    )


def _close_wals(manifest: Manifest) -> None:
    """Bring into each file what a crash left in its WAL: the files are about to be moved."""
    for index in range(manifest.shards):
        path = manifest.directory / shard_file(index, "db")
        if path.exists():
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                with contextlib.suppress(sqlite3.Error):  # its damage is told by the proof that follows
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _planned(old: Manifest, staging: Path, shards: int, before: VerifyReport) -> Manifest:
    ancestor = Ancestor(old.generation, tuple((shard.position, shard.digest) for shard in before.shards))
    entries = [ShardEntry("created") for _ in range(shards)]
    lineage = [*old.lineage, ancestor]
    new = Manifest(staging, old.app, old.store_id, old.generation, even_buckets(shards), entries, lineage)
    new.begin_generation()
    return new


def _build(old: Manifest, new: Manifest, events: int, progress: Progress | None) -> tuple[ShardEnd, ...]:
    new.save()
    jobs = [{"source": str(old.directory), "target": str(new.directory), "shard": n} for n in range(new.shards)]
    task = "eventray.store.new_shard:build_shard"
    found = side_by_side(task, jobs, phase="reshard", total=events, progress=progress)
    ends = tuple(ShardEnd(position, digest) for position, digest in found)
    for index, end in enumerate(ends):
        write_witness(new.directory / shard_file(index, "head"), end)
        sync(new.directory / shard_file(index, "head"))
    sync(new.directory)
    return ends


def _again(progress: Progress | None) -> Progress | None:
    return None if progress is None else lambda phase, done, total: progress(f"{phase} again", done, total)


def _require_equal(before: VerifyReport, after: VerifyReport) -> None:
    for what in ("events", "streams"):
        old, new = (sum(getattr(shard, what) for shard in report.shards) for report in (before, after))
        if old != new:
            raise StoreCorrupted(after.directory, f"the new shards have {new} {what}, the old ones {old}")


def _switch(old: Manifest, new: Manifest) -> Path:
    directory = old.directory
    kept = directory / f"generation-{old.generation}"
    kept.mkdir(mode=0o700, exist_ok=True)
    with manifest_lock(directory):
        old.directory = kept
        old.save()
        (new.directory / NAME).unlink()
        new.directory = directory
        new.save(unfinished=Move(kept.name, old.shards))  # the point of no return
    finish_reshard(directory / NAME)
    return kept
