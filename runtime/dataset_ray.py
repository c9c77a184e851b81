"""History as a Ray Dataset: tasks that read stretches of the shards, through the shards' actors, when they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from eventray.domain.errors import EventRayError
from eventray.runtime.dataset_plan import Stretch
from eventray.runtime.dataset_reader import Reader
from eventray.runtime.remote import PATIENCE_S, RemoteShard, locating
from eventray.store.port import ShardPort

TASK_EVENTS = 100_000  # positions that one task looks at; a longer shard is read by several


class EventLog(Datasource):
    """What Ray Data asks for the tasks that read."""

    def __init__(self, app_name: str, reader: Reader, stretches: Sequence[Stretch]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._schema = reader.schema(stretches)
        self._reads = [_read(app_name, reader, part, self._schema) for stretch in stretches for part in parts(stretch)]

    @property
    def tasks(self) -> int:
        """How many tasks read."""
        return len(self._reads)

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before the events are read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """A task for each stretch: how many there are depends on the log, not on `parallelism`."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown, self._schema, per_task_row_limit) for read in self._reads]


def dataset(
    app_name: str, reader: Reader, stretches: Sequence[Stretch], shards: Mapping[int, ShardPort]
) -> ray.data.Dataset:
    """The stretches as a Dataset.

    Raises:
        EventRayError: the shards are in this process.
    """
    if not all(isinstance(shard, RemoteShard) for shard in shards.values()):
        raise EventRayError(
            "to_dataset() reads in Ray tasks, which do not reach an app that runs with local=True: "
            "leave that word out, or use to_arrow(), to_pandas() or to_parquet()"
        )
    source = EventLog(app_name, reader, stretches)
    # As many blocks as tasks: else Ray, which cannot know the size, cuts what each task reads into a hundred.
    made: ray.data.Dataset = ray.data.read_datasource(source, override_num_blocks=source.tasks)
    return made


def parts(stretch: Stretch) -> list[Stretch]:
    """A stretch as one or more that a task can take."""
    shard, after, until = stretch
    begins = range(after, until, TASK_EVENTS) or [after]
    return [Stretch(shard, begin, min(begin + TASK_EVENTS, until)) for begin in begins]


def _read(app_name: str, reader: Reader, stretch: Stretch, schema: Any) -> Callable[[], Iterator[Any]]:
    def read() -> Iterator[Any]:
        blocks = reader.blocks(RemoteShard(stretch.shard, locating(app_name), PATIENCE_S), stretch)

        async def following() -> Any:
            return await anext(blocks, None)

        yield schema.empty_table()  # without events, too, the columns are there
        with asyncio.Runner() as runner:
            while (block := runner.run(following())) is not None:
                yield block.replace_schema_metadata(schema.metadata)

    return read
