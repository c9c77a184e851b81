"""History as data: the runtime's `to_dataset`, `to_arrow`, `to_pandas` and `to_parquet`. Needs the extra `data`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eventray.domain.errors import ExtraMissing
from eventray.domain.messages import Event, Heads
from eventray.runtime.chosen import check_events, chosen_events
from eventray.runtime.config import Config
from eventray.runtime.dataset_plan import METADATA_KEY, At, Origin, Stretch, stretches_of
from eventray.runtime.guard import refuse_in_domain_code
from eventray.runtime.handles import After
from eventray.runtime.loop import EngineLoop
from eventray.runtime.response import Response
from eventray.runtime.transport import Transport

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import ray.data

    from eventray.runtime.dataset_columns import Decimals
    from eventray.runtime.dataset_reader import Reader

T = TypeVar("T")

SHARDS_AT_ONCE = 8  # are read by one process; each has a page and a block in memory
MONEY = (38, 18)  # holds 20 digits before the point and 18 behind it, exactly


class HistoryAsData:
    """The part of a Runtime that gives the log as tables.

    All four calls take the same arguments. They ask for the heads once and read every shard up to there: what comes
    out is the beginning of each shard's log, without a gap. They wait: in async code use `asyncio.to_thread`.

    Args:
        events: classes of the app (all, if none is given); a base class stands for those derived from it. One table
            holds them all: their fields by name, empty where a class has none of that name, then `meta_type`,
            `meta_stream`, `meta_aggregate`, `meta_id`, `meta_version`, `meta_shard`, `meta_position`,
            `meta_recorded_at`, `meta_command_id` and `meta_metadata` (JSON). Older versions come upcast.
        after: what was read already: heads (`eventray.data.heads_of`), a receipt, or several.
        at: up to where: a moment (an aware datetime; what was recorded then or earlier), or positions of all shards.
        decimals: precision and scale of Decimal columns, or "text". Nothing is rounded: see EncodingError.

    Raises:
        ExtraMissing: a package that it needs is not installed.
        TypeError: no event class, or two fields of one name whose types differ.
        ValueError: positions beyond the end of a shard, a naive datetime, `decimals` that make no sense.
        UnknownName: the app has no such event. StoreMismatch: positions of another generation of the store.
        UnknownEvent, EncodingError: an event cannot be decoded, or does not fit its column; they name its place.
        RuntimeError: called inside a command, an apply or a query.
    """

    _engine: EngineLoop
    _started: Response[None]
    _transport: Transport
    config: Config
    app_name: str

    def to_arrow(
        self, events: Sequence[type[Event]] = (), *, after: After = None, at: At = None, decimals: Decimals = MONEY
    ) -> pyarrow.Table:
        """The events as an Arrow table, ordered by shard and position."""
        check_call("to_arrow", events, "pyarrow")
        return self._engine.spawn(self._table(events, after, at, decimals)).result()

    def to_pandas(
        self, events: Sequence[type[Event]] = (), *, after: After = None, at: At = None, decimals: Decimals = MONEY
    ) -> pandas.DataFrame:
        """The events as a DataFrame of Arrow's types (`pandas.ArrowDtype`): integers and Decimals stay exact."""
        check_call("to_pandas", events, "pyarrow", "pandas")
        from pandas import ArrowDtype

        table = self._engine.spawn(self._table(events, after, at, decimals)).result()
        frame = table.to_pandas(types_mapper=ArrowDtype)
        frame.attrs[METADATA_KEY] = table.schema.metadata[METADATA_KEY.encode()].decode()
        return frame

    def to_parquet(
        self,
        path: str | Path,
        events: Sequence[type[Event]] = (),
        *,
        after: After = None,
        at: At = None,
        decimals: Decimals = MONEY,
    ) -> Heads:
        """Write the events into a folder, a Parquet file per shard; gives up to where the folder goes now.

        A folder that has an export goes on where that ended: the same call again adds what is new, nothing twice.
        A file is there once it is complete.

        Raises:
            ValueError, StoreMismatch: the folder holds other files, or an export of something else.
        """
        check_call("to_parquet", events, "pyarrow")
        return self._engine.spawn(self._export(Path(path), events, after, at, decimals)).result()

    def to_dataset(
        self, events: Sequence[type[Event]] = (), *, after: After = None, at: At = None, decimals: Decimals = MONEY
    ) -> ray.data.Dataset:
        """The events as a Ray Dataset, which reads the shards in parallel when it is used, block by block.

        Raises:
            EventRayError: the app runs with local=True.
        """
        check_call("to_dataset", events, "pyarrow", "ray.data")
        reader, stretches = self._engine.spawn(self._plan(events, after, at, decimals)).result()
        from eventray.runtime.dataset_ray import dataset

        return dataset(self.app_name, reader, stretches, self._transport.shards)

    async def _plan(
        self, events: Sequence[type[Event]], after: After, at: At, decimals: Decimals
    ) -> tuple[Reader, list[Stretch]]:
        from eventray.runtime.dataset_reader import Reader

        await self._started
        transport = self._transport
        chosen = chosen_events(transport.app, events)
        origin = Origin(self.app_name, transport.generation, tuple(sorted(chosen.names)))
        reader = Reader(chosen.classes, decimals, self.config.read_page_events, origin)
        reader.schema(())  # whether there can be such a table is known before anything is read
        return reader, await stretches_of(transport, after, at)

    async def _table(self, events: Sequence[type[Event]], after: After, at: At, decimals: Decimals) -> Any:
        import pyarrow as pa

        reader, stretches = await self._plan(events, after, at, decimals)

        async def read(stretch: Stretch) -> list[Any]:
            return [block async for block in reader.blocks(self._transport.shards[stretch.shard], stretch)]

        schema = reader.schema(stretches)
        tables = [schema.empty_table()]
        for blocks in await _few_at_once(read, stretches):
            tables += blocks
        return pa.concat_tables(tables)

    async def _export(
        self, path: Path, events: Sequence[type[Event]], after: After, at: At, decimals: Decimals
    ) -> Heads:
        from eventray.runtime.dataset_parquet import ParquetFolder, begun

        reader, stretches = await self._plan(events, after, at, decimals)
        folder = ParquetFolder(path)
        folder.require_same(reader)
        path.mkdir(parents=True, exist_ok=True)
        stretches = begun(folder, stretches)

        async def write(stretch: Stretch) -> None:
            await folder.add(reader, self._transport.shards[stretch.shard], stretch)

        await _few_at_once(write, stretches)
        return Heads({stretch.shard: stretch.until for stretch in stretches}, reader.origin.generation)


def heads_of(data: Any) -> Heads:
    """Up to where the history in `data` goes; `after=` it comes what is new.

    Args:
        data: a table, DataFrame or Dataset as it came from a runtime, or the path of a folder that `to_parquet` wrote.

    Raises:
        ValueError: it does not say.
    """
    if isinstance(data, (str, Path)):
        check_call("heads_of", (), "pyarrow")
        from eventray.runtime.dataset_parquet import ParquetFolder

        folder = ParquetFolder(Path(data))
        if folder.origin is None:
            raise ValueError(f"{data} holds no export of to_parquet()")
        return folder.heads
    text = getattr(data, "attrs", {}).get(METADATA_KEY) or _in_schema(data)
    if text is None:
        raise ValueError(f"this {type(data).__name__} does not say up to where it goes: keep runtime.heads() instead")
    return Origin.load(text)[1]


def _in_schema(data: Any) -> bytes | None:
    schema = getattr(data, "schema", None)
    if callable(schema):  # a Dataset
        schema = schema().base_schema
    found: bytes | None = (getattr(schema, "metadata", None) or {}).get(METADATA_KEY.encode())
    return found


def check_call(call: str, events: Sequence[type[Event]], *packages: str) -> None:
    """Check what can be checked before anything is asked.

    Raises:
        RuntimeError, ExtraMissing, TypeError: see HistoryAsData.
    """
    refuse_in_domain_code(f"{call}()")
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise ExtraMissing(f"{call}()", package, "data") from error
    check_events(events, call)


async def _few_at_once(work: Callable[[Stretch], Awaitable[T]], stretches: Sequence[Stretch]) -> list[T]:
    """Do it for all stretches, some at a time; the first error ends the others."""
    places = asyncio.Semaphore(SHARDS_AT_ONCE)

    async def one(stretch: Stretch) -> T:
        async with places:
            return await work(stretch)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(stretch)) for stretch in stretches]
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
