"""A folder of Parquet files that grows: one file per shard and export, named by its positions, written whole or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from eventray.domain.errors import StoreMismatch
from eventray.domain.messages import Heads
from eventray.runtime.dataset_plan import ANOTHER, METADATA_KEY, Origin, Stretch
from eventray.runtime.dataset_reader import Reader
from eventray.store.files import sync
from eventray.store.port import ShardPort

_FILE = re.compile(r"shard-(\d+)-(\d+)-(\d+)\.parquet")


class ParquetFolder:
    """The folder of an export.

    Raises:
        ValueError: it holds Parquet files that no export wrote, or of different exports.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heads = Heads({})
        self.origin: Origin | None = None
        self.schema: Any = None
        for file in sorted(path.glob("*.parquet")):
            self._look_at(file)

    def _look_at(self, file: Path) -> None:
        schema = pq.read_schema(file)
        text = (schema.metadata or {}).get(METADATA_KEY.encode())
        if text is None or not _FILE.fullmatch(file.name):
            raise ValueError(f"{file} was not written by to_parquet(): give a folder of its own")
        origin, heads = Origin.load(text)
        if self.origin not in (None, origin):
            raise ValueError(f"{file} is of another export than those beside it: give a folder of its own")
        self.origin, self.schema = origin, schema
        positions = {shard: max(position, self.heads.get(shard, 0)) for shard, position in heads.items()}
        self.heads = Heads({**self.heads, **positions}, origin.generation)

    def require_same(self, reader: Reader) -> None:
        """Check that an export may be added.

        Raises:
            ValueError: what is there is of another app, of other events, or has other columns.
            StoreMismatch: it is of another generation of the store.
        """
        if self.origin is None:
            return
        if self.origin.generation != reader.origin.generation:
            raise StoreMismatch(str(self.path), "generation", self.origin.generation, reader.origin.generation, ANOTHER)
        if self.origin != reader.origin or not self.schema.equals(reader.schema([])):
            raise ValueError(f"{self.path} holds an export of other events or columns: give a folder of its own")

    async def add(self, reader: Reader, shard: ShardPort, stretch: Stretch) -> None:
        """Write the events of a stretch into a file of their own, which is there once it is complete."""
        schema = reader.schema([stretch])
        target = self.path / f"shard-{stretch.shard:04}-{stretch.after}-{stretch.until}.parquet"
        part = target.with_suffix(".part")
        try:
            with pq.ParquetWriter(part, schema) as writer:
                async for block in reader.blocks(shard, stretch):
                    await _to_the_end(writer.write_table, block)
            await _to_the_end(sync, part)
            part.replace(target)
            await _to_the_end(sync, self.path)
        finally:
            part.unlink(missing_ok=True)


async def _to_the_end(work: Callable[[Any], object], argument: Any) -> None:
    """Do it in a thread; a cancellation comes after it, so that nobody closes a file that is being written."""
    task = asyncio.ensure_future(asyncio.to_thread(work, argument))
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait([task])


def begun(folder: ParquetFolder, stretches: Sequence[Stretch]) -> list[Stretch]:
    """The stretches without what the folder holds already."""
    found = []
    for shard, after, until in stretches:
        begin = max(after, folder.heads.get(shard, 0))
        found.append(Stretch(shard, begin, max(begin, until)))
    return found
