"""How much the store takes at once. Every bound has its unit last in its name."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
WAL_BYTES_MAX = 80 * MIB  # SQLite's own 4 MB would cost a third of the rate and double the p99


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of one shard; what is above a bound is refused before anything is written.

    `event_bytes_max` counts data and meta of one event; `batch_*` bound one append call, `commit_*` what one
    transaction collects from waiting calls, `pending_*` what may wait (above: `Overloaded`), `page_*` one page. A file
    of up to `check_bytes_max` is checked by SQLite whenever it is opened (0.3 s for 64 MiB), a larger one by `verify`.
    Above `wal_bytes_max` the WAL is emptied into the file as soon as readers let it.
    """

    event_bytes_max: int = MIB
    batch_bytes_max: int = 16 * MIB
    batch_events_max: int = 10_000
    commit_events_max: int = 10_000
    pending_bytes_max: int = 64 * MIB
    pending_calls_max: int = 100_000
    page_bytes_max: int = 8 * MIB
    page_records_max: int = 10_000
    snapshot_bytes_max: int = 256 * MIB
    cached_streams_max: int = 100_000
    tokens_max: int = 200_000
    check_bytes_max: int = 64 * MIB
    wal_bytes_max: int = WAL_BYTES_MAX

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"StoreLimits.{name} must be at least 1, not {getattr(self, name)}")
