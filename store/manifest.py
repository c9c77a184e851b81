"""`store.json`: what a store is, and which shard each stream lives in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from eventray.domain.errors import StoreCorrupted, StoreMismatch
from eventray.store.failures import translated

FORMAT = 1
HASH = "blake2b-64"
BUCKETS = 4096
SHARDS_DEFAULT = 4
ShardState = Literal["creating", "created"]


@dataclass(slots=True)
class ShardEntry:
    """Whether a shard's file exists, and the node that has it (empty: wherever the store is)."""

    state: ShardState = "creating"
    node: str = ""


@dataclass(slots=True)
class Manifest:
    """The identity of a store. A file that it calls created is never made again.

    Streams hash to one of 4096 buckets (`hash`: blake2b of 8 bytes over the UTF-8 of the stream, big endian, modulo
    the buckets), buckets map to shards.
    """

    directory: Path
    app: str
    store_id: str
    generation: int
    buckets: list[int]
    entries: list[ShardEntry]
    format: int = FORMAT
    hash: str = HASH

    @property
    def shards(self) -> int:
        """The number of shards."""
        return len(self.entries)

    @classmethod
    def load_or_create(cls, directory: Path | str, *, app: str, shards: int | None = None) -> Manifest:
        """Return the manifest of the store in `directory`, made there if there is none; `shards=None`: what it has.

        Raises `StoreMismatch` (another app, shard count, hash, or a newer format), `StoreCorrupted` (unreadable, or
        gone while shard files are there), `StoreUnavailable`, `StoreFull`; ValueError: a shard count outside 1 to 4096.
        """
        directory = Path(directory)
        if shards is not None:
            _check_count(shards)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = directory / "store.json"
            if not path.exists():
                with _locked(directory):
                    if not path.exists():  # not made by another process meanwhile
                        return cls._create(directory, app, shards or SHARDS_DEFAULT)
            return cls._load(path, app, shards)
        except OSError as error:
            raise translated(error, directory) from error

    @classmethod
    def _create(cls, directory: Path, app: str, shards: int) -> Manifest:
        left = next(directory.glob("shard-*.db"), None)
        if left is not None:
            raise StoreCorrupted(str(directory / "store.json"), f"it is gone, but {left.name} is there")
        manifest = cls.fresh(directory, app, shards)
        manifest._save()
        return manifest

    @classmethod
    def fresh(cls, directory: Path, app: str, shards: int) -> Manifest:
        """Return the manifest of a new store, written nowhere yet; ValueError: a shard count outside 1 to 4096."""
        _check_count(shards)
        buckets = [bucket * shards // BUCKETS for bucket in range(BUCKETS)]
        return cls(directory, app, uuid.uuid4().hex, 1, buckets, [ShardEntry() for _ in range(shards)])

    @classmethod
    def _load(cls, path: Path, app: str, shards: int | None) -> Manifest:
        try:
            raw = json.loads(path.read_bytes())
            found_format, found_hash, found_app = raw["format"], raw["hash"], raw["app"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupted(str(path), f"it cannot be read ({error!r})") from error
        asked: list[tuple[str, object, object]] = [("format", FORMAT, found_format), ("hash", HASH, found_hash)]
        asked.append(("app", app, found_app))
        for what, expected, found in asked:
            if expected != found:
                raise StoreMismatch(str(path), what, expected, found)
        try:
            manifest = cls._parsed(path.parent, raw)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupted(str(path), f"it cannot be read ({error!r})") from error
        if shards is not None and shards != manifest.shards:
            raise StoreMismatch(str(path), "number of shards", shards, manifest.shards)
        return manifest

    @classmethod
    def _parsed(cls, directory: Path, raw: dict[str, Any]) -> Manifest:
        buckets = [shard for shard, count in raw["buckets"] for _ in range(count)]
        entries = [ShardEntry(entry["state"], entry["node"]) for entry in raw["shards"]]
        if len(buckets) != BUCKETS or not all(0 <= shard < len(entries) for shard in buckets):
            raise ValueError(f"its map does not give each of {BUCKETS} buckets a shard")
        if not all(entry.state in ("creating", "created") for entry in entries):
            raise ValueError("a shard is neither creating nor created")
        return cls(directory, raw["app"], raw["store_id"], int(raw["generation"]), buckets, entries)

    def shard_of(self, stream: str) -> int:
        """Return the index of the shard that the stream lives in."""
        digest = blake2b(stream.encode(), digest_size=8).digest()
        return self.buckets[int.from_bytes(digest, "big") % BUCKETS]

    def state_of(self, index: int) -> ShardState:
        """Tell whether the file of a shard exists already."""
        return self.entries[index].state

    def node_of(self, index: int) -> str:
        """Return the node that has the file of a shard."""
        return self.entries[index].node

    def mark(self, index: int, state: ShardState, node: str = "") -> None:
        """Record, on disk before this returns, where a shard is made or was made."""
        self.mark_all([index], state, node)

    def mark_all(self, indexes: list[int], state: ShardState, node: str = "") -> None:
        """Record the same of several shards at once."""
        for index in indexes:
            self.entries[index] = ShardEntry(state, node)
        try:
            with _locked(self.directory):
                self._save()
        except OSError as error:
            raise translated(error, self.directory) from error

    def _save(self) -> None:
        runs = [[shard, len(list(same))] for shard, same in groupby(self.buckets)]
        raw = {
            "format": self.format,
            "app": self.app,
            "store_id": self.store_id,
            "generation": self.generation,
            "hash": self.hash,
            "buckets": runs,
            "shards": [{"state": entry.state, "node": entry.node} for entry in self.entries],
        }
        replace_file(self.directory / "store.json", (json.dumps(raw, indent=1) + "\n").encode())


def _check_count(shards: object) -> None:
    if type(shards) is not int or not 1 <= shards <= BUCKETS:
        raise ValueError(f"shards is an int from 1 to {BUCKETS}, not {shards!r}")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that, whatever happens, the old or the new content is there; OSError when neither can be done."""
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # Held for milliseconds by whoever changes the manifest, so waiting is right.
    fd = os.open(directory / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
