"""`store.json`: what a store is, and which shard each stream lives in."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from eventray.domain.errors import StoreCorrupted, StoreMismatch, StoreUnavailable
from eventray.store import formats, schema
from eventray.store.failures import translated
from eventray.store.files import make_directory, manifest_lock, replace_file, sync
from eventray.store.moving import Move, finish_move

FORMAT = schema.FORMAT
HASH = "blake2b-64"
BUCKETS = 4096
SHARDS_DEFAULT = 4
ShardState = Literal["creating", "created"]
NAME = "store.json"


@dataclass(slots=True)
class ShardEntry:
    """Whether a shard's file exists, and the node that has it (empty: wherever the store is)."""

    state: ShardState = "creating"
    node: str = ""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A generation that this store was resharded from: where each of its shards ended, position and digest (hex)."""

    generation: int
    ends: tuple[tuple[int, str], ...]

    @property
    def digest(self) -> bytes:
        """What the digest chains of the generation after it begin with."""
        ends = json.dumps([self.generation, self.ends], separators=(",", ":"))
        return blake2b(ends.encode(), digest_size=32).digest()


@dataclass(slots=True)
class Manifest:
    """The identity of a store. A file that it calls created is never made again.

    Streams hash to one of 4096 buckets (`hash`: blake2b of 8 bytes over the UTF-8 of the stream, big endian, modulo
    the buckets), buckets map to shards. `generation` is 1 in a new store; a restore or a reshard gives a later one,
    taken from the clock so that no two copies share it. `lineage` lists what it was resharded from, oldest first.
    `format` is that of the files: an older one until they are migrated.
    """

    directory: Path
    app: str
    store_id: str
    generation: int
    buckets: list[int]
    entries: list[ShardEntry]
    lineage: list[Ancestor] = field(default_factory=list)
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
            check_count(shards)
        try:
            make_directory(directory)
            path = directory / NAME
            if not path.exists():
                with manifest_lock(directory):
                    if not path.exists():  # not made by another process meanwhile
                        return cls._create(directory, app, shards or SHARDS_DEFAULT)
            return cls._load(path, app, shards)
        except OSError as error:
            raise translated(error, directory) from error

    @classmethod
    def _create(cls, directory: Path, app: str, shards: int) -> Manifest:
        left = next(directory.glob("shard-*.db"), None)
        if left is not None:
            raise StoreCorrupted(str(directory / NAME), f"it is gone, but {left.name} is there")
        manifest = cls.fresh(directory, app, shards)
        with contextlib.suppress(PermissionError):  # a folder that only others may list is theirs to keep
            sync(directory.absolute().parent)
        manifest.save()
        return manifest

    @classmethod
    def fresh(cls, directory: Path, app: str, shards: int) -> Manifest:
        """Return the manifest of a new store, written nowhere yet; ValueError: a shard count outside 1 to 4096."""
        check_count(shards)
        return cls(directory, app, uuid.uuid4().hex, 1, even_buckets(shards), [ShardEntry() for _ in range(shards)])

    @classmethod
    def load(cls, directory: Path | str) -> Manifest:
        """Return the manifest of the store in `directory`, whatever its app and number of shards.

        Raises `StoreUnavailable` (there is none, or it cannot be read), `StoreMismatch`, `StoreCorrupted`.
        """
        directory = Path(directory)
        try:
            if not (directory / NAME).exists():
                raise StoreUnavailable(str(directory), f"there is no store here (no {NAME})")
            return cls._load(directory / NAME, None, None)
        except OSError as error:
            raise translated(error, directory) from error

    @classmethod
    def _load(cls, path: Path, app: str | None, shards: int | None) -> Manifest:
        raw = _read(path)
        try:
            if raw.get("unfinished"):
                raw = finish_reshard(path)
            for what, expected, found in (("hash", HASH, raw["hash"]), ("app", app, raw["app"])):
                if expected is not None and expected != found:
                    raise StoreMismatch(str(path), what, expected, found)
            manifest = cls.parsed(path.parent, raw)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupted(str(path), f"it cannot be read ({error!r})") from error
        if shards is not None and shards != manifest.shards:
            raise StoreMismatch(str(path), "number of shards", shards, manifest.shards)
        return manifest

    @classmethod
    def parsed(cls, directory: Path, raw: dict[str, Any]) -> Manifest:
        """Return the manifest that `as_json` gave, of this format or of an older one.

        Raises `StoreMismatch` (a newer format); ValueError, KeyError or TypeError when it cannot be a manifest.
        """
        format, raw = raw["format"], formats.stepped(directory / NAME, raw)
        buckets = [shard for shard, count in raw["buckets"] for _ in range(count)]
        entries = [ShardEntry(entry["state"], entry["node"]) for entry in raw["shards"]]
        if len(buckets) != BUCKETS or not all(0 <= shard < len(entries) for shard in buckets):
            raise ValueError(f"its map does not give each of {BUCKETS} buckets a shard")
        if not all(entry.state in ("creating", "created") for entry in entries):
            raise ValueError("a shard is neither creating nor created")
        lineage = [
            Ancestor(older["generation"], tuple((position, digest) for position, digest in older["ends"]))
            for older in raw.get("lineage", [])
        ]
        return cls(directory, raw["app"], raw["store_id"], int(raw["generation"]), buckets, entries, lineage, format)

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
        self._save_locked()

    def place(self, nodes: Mapping[int, str]) -> None:
        """Record, on disk before this returns, on which node the file of each of these shards is, or will be made."""
        if any(self.entries[index].node != node for index, node in nodes.items()):
            for index, node in nodes.items():
                self.entries[index] = ShardEntry(self.entries[index].state, node)
            self._save_locked()

    def set_format(self, format: int) -> None:
        """Record that all files of the store have this format now."""
        self.format = format
        self._save_locked()

    def _save_locked(self) -> None:
        try:
            with manifest_lock(self.directory):
                self.save()
        except OSError as error:
            raise translated(error, self.directory) from error

    def save(self, *, unfinished: Move | None = None) -> None:
        """Write `store.json`; OSError. `unfinished`: the move that a reshard is about to make."""
        raw = self.as_json()
        if unfinished:
            raw["unfinished"] = asdict(unfinished)
        write_sealed(self.directory / NAME, raw)

    def as_json(self) -> dict[str, Any]:
        """Return what `store.json` says, as plain values."""
        raw: dict[str, Any] = {
            "format": self.format,
            "app": self.app,
            "store_id": self.store_id,
            "generation": self.generation,
            "hash": self.hash,
            "buckets": [[shard, len(list(same))] for shard, same in groupby(self.buckets)],
            "shards": [{"state": entry.state, "node": entry.node} for entry in self.entries],
        }
        if self.lineage:
            raw["lineage"] = [asdict(older) for older in self.lineage]
        return raw

    def require_current(self) -> None:
        """Raise `StoreMismatch` when the files are of an older format: opened as a store they are migrated."""
        if self.format != schema.FORMAT:
            raise StoreMismatch(str(self.directory), "format", schema.FORMAT, self.format)

    def begin_generation(self) -> None:
        """Make this the manifest of a new copy, whose files are all there and on no certain node."""
        self.generation = max(self.generation + 1, time.time_ns() // 1000)
        self.entries = [ShardEntry("created") for _ in self.entries]


def check_count(shards: object) -> None:
    """Raise ValueError unless `shards` is an int from 1 to 4096."""
    if type(shards) is not int or not 1 <= shards <= BUCKETS:
        raise ValueError(f"shards is an int from 1 to {BUCKETS}, not {shards!r}")


def finish_reshard(path: Path) -> dict[str, Any]:
    """End the move of files that `store.json` calls unfinished, and return what it says then; OSError."""
    with manifest_lock(path.parent):
        raw = _read(path)
        if raw.get("unfinished"):  # not ended by another process meanwhile
            finish_move(path.parent, Move.parsed(raw.pop("unfinished")))
            write_sealed(path, raw)
    return raw


def even_buckets(shards: int) -> list[int]:
    """Return the shard of each bucket when `shards` of them share the buckets evenly."""
    return [bucket * shards // BUCKETS for bucket in range(BUCKETS)]


def write_sealed(path: Path, raw: dict[str, Any]) -> None:
    """Write a JSON file with a checksum of its other fields in it, whole or not at all; OSError."""
    replace_file(path, (json.dumps(raw | {"checksum": _seal(raw)}, indent=1) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    return read_sealed(path, format=schema.FORMAT, oldest=formats.oldest())


def read_sealed(path: Path, *, format: int = FORMAT, oldest: int | None = None) -> dict[str, Any]:
    """Return what `write_sealed` wrote; a missing checksum passes. `oldest`: the first format that will do, too.

    Raises OSError, `StoreMismatch` (another format), `StoreCorrupted`.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        found = raw["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupted(str(path), f"it cannot be read ({error!r})") from error
    if found not in range(format if oldest is None else oldest, format + 1):
        raise StoreMismatch(str(path), "format", format, found)
    checksum = raw.pop("checksum", None)
    if checksum is not None and checksum != _seal(raw):
        raise StoreCorrupted(str(path), "its checksum does not fit its content")
    return raw


def _seal(raw: dict[str, Any]) -> int:
    return crc32(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode())
