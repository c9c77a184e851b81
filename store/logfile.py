"""LogFile: the log of a shard, read by a process beside the one that owns the file, without asking that one.

A reader of its own, which may not write and so never checkpoints: its owner does not notice it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any

from eventray.domain.errors import ShardUnavailable, StoreMismatch
from eventray.store import schema
from eventray.store.failures import FILE_ERRORS, translated
from eventray.store.identity import check_info
from eventray.store.limits import StoreLimits
from eventray.store.moving import shard_file
from eventray.store.reading import ReadConnection
from eventray.store.records import ShardPage

_BUSY_TIMEOUT_S = 10.0


class LogFile:
    """The log of shard `index` in `directory` up to the position `head`, which its owner has told; for `with`.

    Raises:
        ShardUnavailable: the file is not here, is that of another store, or does not reach `head`: ask its owner.
    """

    def __init__(
        self, directory: Path, index: int, *, store_id: str, generation: int, head: int, limits: StoreLimits
    ) -> None:
        self._path = directory / shard_file(index, "db")
        self._head = head
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            self._connection: Any = sqlite3.connect(
                uri, uri=True, factory=ReadConnection, isolation_level=None, timeout=_BUSY_TIMEOUT_S
            )
        except FILE_ERRORS as error:
            raise ShardUnavailable(index, f"{self._path} cannot be read here ({error})") from error
        try:
            self._connection.prepare(self._path, "power", limits.wal_bytes_max, ("PRAGMA query_only=ON",))
            self._connection.start(index, limits)
            check_info(self._connection, schema.shard_info(store_id, index, generation))
            last = self._connection.execute(schema.LAST_EVENT).fetchone()
        except (*FILE_ERRORS, StoreMismatch) as error:
            self.close()
            raise ShardUnavailable(index, f"{self._path} cannot be read here ({error})") from error
        if (last[0] if last else 0) < head:
            self.close()
            raise ShardUnavailable(index, f"{self._path} ends before position {head}: it is an older copy")

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def page(self, after: int, limit: int, types: frozenset[str]) -> ShardPage:
        """Return the next page of records of these types after a position, checked.

        Raises:
            StoreCorrupted, StoreUnavailable: the file cannot be read on.
        """
        try:
            page: ShardPage = self._connection.log(after, self._head, limit, types)
        except FILE_ERRORS as error:
            raise translated(error, self._path) from error
        return page

    def close(self) -> None:
        """Let the file go."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
