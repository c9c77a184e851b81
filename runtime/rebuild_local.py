"""Folding a view in this process: in a thread of its own, so that the engine serves on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from eventray.runtime.model import ProjectionModel
from eventray.runtime.rebuild_fold import PAGE_EVENTS, Fold, Folded, Want, merged, nothing, parts_of, run_fold
from eventray.runtime.rebuild_sources import StorePlace, reader
from eventray.store.port import ShardPort
from eventray.store.records import ShardPage


async def fold_here(
    model: ProjectionModel,
    partition: int,
    place: StorePlace,
    ports: Mapping[int, ShardPort],
    upto: Mapping[int, int],
    say: Callable[[int], None],
) -> Folded:
    """A view, or a partition of it, as it is at these positions.

    `say(n)` hears, in this loop, of events as they are looked at. Cancelled, it ends at its next page. Raises as `Fold`
    and `merged`.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def ask(want: Want, types: frozenset[str]) -> ShardPage:
        page = ports[want.shard].read(after=want.after, limit=want.limit, types=types)
        return asyncio.run_coroutine_threadsafe(page, loop).result()

    def fold_part(part: Mapping[int, int]) -> Folded:
        fold = Fold(model, nothing(model, part, place.generation), PAGE_EVENTS, partition)
        with ExitStack() as files:
            for events in run_fold(fold, part, reader(files, place, part, model.events.names, ask)):
                if stop.is_set():
                    break
                loop.call_soon_threadsafe(say, events)
        return fold.folded()

    def work() -> Folded:
        return merged(model, [fold_part(part) for part in parts_of(model, upto)])

    working = loop.run_in_executor(None, work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(working, return_exceptions=True)
        raise
