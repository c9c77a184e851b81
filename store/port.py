"""What a shard and the keeper of checkpoints are to those who use them: a file, memory, or an actor far away.

`EventStore`, activations and views know these methods only. `MemoryShard` defines by its code what they do; the tests
in `tests/store/contract` hold every implementation to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from eventray.store.records import (
    BatchResult,
    Checkpoint,
    Committed,
    Loaded,
    NewCommand,
    Record,
    ShardPage,
    Snapshot,
    StoredLetter,
)
from eventray.store.settling import AppendJob
from eventray.store.spool import Spool


class ShardPort(Protocol):
    """One shard. All methods but `close` raise `ShardUnavailable` after it, and InvalidId or ValueError before any I/O.

    `index` is the shard's number.
    """

    index: int

    async def append_batch(
        self,
        stream: str,
        commands: Sequence[NewCommand],
        *,
        expected_version: int | None = None,
        token: int | None = None,
        lookups: Sequence[str] = (),
    ) -> BatchResult:
        """Append the events of some commands to one stream, all or none.

        Judged in this order: `token` is not the stream's current one (`ActivationSuperseded`); an id is committed
        (`DuplicateCommands`; those of commands without events count only where the batch is refused anyway); the
        stream has another version (`ConcurrencyConflict`). `BatchResult.found` tells what the ids in `lookups` did.
        """
        ...

    async def load(
        self, stream: str, *, fingerprint: str | None = None, take_over: bool = False, limit: int = 2000
    ) -> Loaded:
        """Return a stream to activate: its snapshot if it has this `fingerprint` (None: no snapshot), and what follows.

        At most `limit` records (`more` tells). `take_over` gives the stream a new token.
        """
        ...

    async def read_stream(
        self, stream: str, *, after: int = 0, until: int | None = None, reverse: bool = False, limit: int
    ) -> Sequence[Record]:
        """Return one page of a stream, after < version <= until, newest first with `reverse`; [] ends it."""
        ...

    async def read(
        self, *, after: int, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        """Return a page of the log after position `after`; with nothing there, wait up to `wait` seconds for news."""
        ...

    async def lookup(self, stream: str, command_ids: Sequence[str]) -> dict[str, Committed]:
        """Return what those of the ids did that are committed in the stream."""
        ...

    async def version_at(self, stream: str, recorded_at_us: int) -> int:
        """Return the stream's last version that was recorded at or before a time (microseconds UTC); 0: none."""
        ...

    async def position_at(self, recorded_at_us: int) -> int:
        """Return the last position that was recorded at or before a time (microseconds UTC); 0: none."""
        ...

    async def save_snapshot(self, stream: str, *, version: int, data: bytes, fingerprint: str = "") -> None:
        """Keep the state of the stream at `version` in place of its snapshot so far."""
        ...

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """Return the snapshot as it was saved; None when there is none or it is corrupt."""
        ...

    async def streams(self, *, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Return a page of the streams whose names begin with `prefix`, in the order of their UTF-8 bytes."""
        ...

    async def fetch_head(self) -> int:
        """Return the last committed position, 0 when the shard is empty."""
        ...

    async def park(self, consumer: str, position: int, reason: str) -> None:
        """Keep the event at `position` as a dead letter of a consumer; one that is there stays as it is."""
        ...

    async def unpark(self, consumer: str, positions: Sequence[int]) -> None:
        """Forget dead letters of a consumer; those that are not there do not matter."""
        ...

    async def dead_letters(self, consumer: str, *, after: int = 0, limit: int = 1000) -> list[StoredLetter]:
        """Return a page of a consumer's dead letters in the order of their positions, after a position."""
        ...

    async def close(self) -> None:
        """Finish what waits and let go; a second call does nothing."""
        ...


class LocalShardPort(ShardPort, Protocol):
    """A shard that lives in this process."""

    @property
    def epoch(self) -> int:
        """A number that rises with each opening."""
        ...

    @property
    def head(self) -> int:
        """The last committed position."""
        ...

    def submit_batch(self, job: AppendJob) -> None:
        """Put an `append_batch` on its way without a task: `job.settle` is called once, when it has ended.

        What `append_batch` raises may come at once, then it is not called.
        """
        ...


class CheckpointPort(Protocol):
    """Where views and processes save how far they are. A save replaces the one before it as a whole, or not at all."""

    async def save(
        self,
        name: str,
        positions: Mapping[int, int],
        data: bytes | Spool,
        *,
        generation: int,
        fingerprint: str = "",
        witness: bool = True,
    ) -> None:
        """Save positions (per shard) and state together; `witness`: the shards were seen to reach these positions."""
        ...

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint; None when there is none or it is corrupt."""
        ...

    async def names(self) -> list[str]:
        """Return the names that have a checkpoint, in order."""
        ...

    async def close(self) -> None:
        """Let go; a second call does nothing, any other raises `StoreUnavailable`."""
        ...
