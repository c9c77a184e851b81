"""What goes into the store and what comes out of it, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from eventray.domain.errors import InvalidId

T = TypeVar("T", bound=tuple[Any, ...])

ID_BYTES_MAX = 1024
_AGGREGATE_BYTES_MAX = 256


def maker(kind: type[T]) -> Callable[[tuple[Any, ...]], T]:
    """Return what makes a NamedTuple of its fields in order: what its `_make` does, in half the time."""
    return partial(tuple.__new__, kind)


def check_id(id: str) -> str:
    """Return `id` if it can name an instance: 1 to 1024 bytes of UTF-8, any characters; else raise `InvalidId`."""
    if not isinstance(id, str):
        raise InvalidId(id, f"an id is a str, not {type(id).__name__}")
    _bytes_of(id, ID_BYTES_MAX, id)
    return id


def stream_name(aggregate: str, id: str) -> str:
    """Return the stream of instance `id`, `"<Aggregate>/<id>"`; `InvalidId` when the id cannot name one."""
    return f"{aggregate}/{check_id(id)}"


def check_stream(stream: str) -> str:
    """Return `stream` if it reads `"<Aggregate>/<id>"` with a valid id; else raise `InvalidId`."""
    if not isinstance(stream, str):
        raise InvalidId(stream, f"a stream is a str, not {type(stream).__name__}")
    aggregate, slash, id = stream.partition("/")
    if not slash or not aggregate:
        raise InvalidId(stream, 'a stream is named "<Aggregate>/<id>"')
    _bytes_of(aggregate, _AGGREGATE_BYTES_MAX, stream)
    _bytes_of(id, ID_BYTES_MAX, stream)
    return stream


def _bytes_of(text: str, bytes_max: int, whole: str) -> int:
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidId(whole, "it holds a lone surrogate, which UTF-8 cannot store") from None
    if not size:
        raise InvalidId(whole, "it is empty")
    if size > bytes_max:
        raise InvalidId(whole, f"it has {size} bytes of UTF-8, at most {bytes_max} are allowed")
    return size


class NewRecord(NamedTuple):
    """An event to append: its stored type name, its body and the caller's metadata, both as bytes."""

    type: str
    data: bytes
    meta: bytes = b""
    type_version: int = 1


class NewCommand(NamedTuple):
    """The events of one command, stored all or none; `fingerprint` tells its arguments from others under its id."""

    command_id: str | None
    records: Sequence[NewRecord]
    name: str = ""
    fingerprint: bytes = b""


class Appended(NamedTuple):
    """Where a command's events are: `version` and `position` are those of the last one; `events` counts them.

    Without events: the stream's last version and position. `duplicate`: the command id was committed before.
    """

    stream: str
    version: int
    shard: int
    position: int
    events: int
    command_id: str | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What a lookup of a command id finds; `appended.duplicate` is True."""

    appended: Appended
    name: str
    fingerprint: bytes


class BatchResult(NamedTuple):
    """One `Appended` per command, what the lookups found, and the stream's last version and position afterwards."""

    appended: list[Appended]
    found: dict[str, Committed]
    version: int
    position: int


class Record(NamedTuple):
    """A stored event; `recorded_at` is in microseconds UTC, `shard` and `position` say where it is."""

    stream: str
    version: int
    type: str
    data: bytes
    meta: bytes
    shard: int
    position: int
    recorded_at: int
    command_id: str | None
    type_version: int

    @property
    def event_id(self) -> str:
        """The event's derived id, as in `Account/alice@7`."""
        return f"{self.stream}@{self.version}"


@dataclass(frozen=True, slots=True)
class ShardPage:
    """Some records of a shard's log, in order; the log was looked at up to `position`: read on after that.

    With a filter `position` may be beyond the last record. Iterates over its records.
    """

    records: Sequence[Record]
    position: int

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a stream at `version` (at `position` in its shard); `fingerprint` names the state's shape."""

    version: int
    position: int
    fingerprint: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stream as it is to be activated: a snapshot, if one fits, and the records after it.

    `version` and `position` are the stream's last (0 and 0: nothing yet). `more`: read on after the last record.
    `token` goes with every append of a dedicated activation (0: packed).
    """

    token: int
    version: int
    position: int
    snapshot: Snapshot | None
    records: Sequence[Record]
    more: bool


class StoredLetter(NamedTuple):
    """An event that a consumer (a view or process) could not apply and left behind; times in microseconds UTC."""

    consumer: str
    shard: int
    position: int
    parked_at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a view or process has applied the log: a position per shard, with its state in `data`."""

    positions: dict[int, int]
    data: bytes
    generation: int
    fingerprint: str


class DuplicateCommands(Exception):  # noqa: N818 - control flow between the store and its caller, not a failure.
    """Some command ids of an append are committed already: nothing of it was stored. `found` tells what they did."""

    def __init__(self, found: Mapping[str, Committed]) -> None:
        super().__init__(f"{len(found)} command ids are committed already: nothing of this batch was stored")
        self.found = dict(found)

    def __reduce__(self) -> tuple[type[DuplicateCommands], tuple[dict[str, Committed]]]:
        return DuplicateCommands, (self.found,)
