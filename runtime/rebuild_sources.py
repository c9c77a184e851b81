"""Where a fold reads the log: in the shard's own file where that is at hand, else by asking the shard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from eventray.domain.errors import ShardUnavailable
from eventray.runtime.rebuild_fold import Read, Want
from eventray.store.limits import StoreLimits
from eventray.store.logfile import LogFile
from eventray.store.manifest import Manifest
from eventray.store.records import ShardPage

log = logging.getLogger("eventray.runtime")

Ask = Callable[[Want, frozenset[str]], ShardPage]  # a shard for a page, from wherever it is


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Which store this is, and where its files are on the nodes that have them."""

    directory: Path
    store_id: str
    generation: int
    limits: StoreLimits

    @classmethod
    def of(cls, manifest: Manifest, limits: StoreLimits) -> StorePlace:
        """The store that a manifest describes."""
        return cls(manifest.directory, manifest.store_id, manifest.generation, limits)


def reader(files: ExitStack, place: StorePlace, upto: Mapping[int, int], types: frozenset[str], ask: Ask) -> Read:
    """What reads pages of these types of some shards, each up to a position; the files are open until the stack ends.

    To be used in the thread that calls this.
    """
    here: dict[int, LogFile] = {}
    for index, head in upto.items():
        try:
            file = LogFile(
                place.directory,
                index,
                store_id=place.store_id,
                generation=place.generation,
                head=head,
                limits=place.limits,
            )
            here[index] = files.enter_context(file)
        except ShardUnavailable as error:
            log.info("shard %d is asked for its log: %s", index, error)

    def read(want: Want) -> ShardPage:
        file = here.get(want.shard)
        return ask(want, types) if file is None else file.page(want.after, want.limit, types)

    return read
