"""Folding a view in Ray tasks: one for each shard where parts can be merged, on the node that has the shard's file.

The tasks belong to whoever asks for the view: they end with him, and what serves does not notice.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from eventray.domain.errors import EventRayError
from eventray.runtime.collector import COLLECT_AFTER_OBJECTS
from eventray.runtime.model import ProjectionModel
from eventray.runtime.nodes import id_of
from eventray.runtime.rebuild_fold import PAGE_EVENTS, Fold, Folded, Want, merged, nothing, parts_of, run_fold
from eventray.runtime.rebuild_sources import StorePlace, reader
from eventray.runtime.remote import PATIENCE_S, RemoteShard, dump_error, load_error, locating
from eventray.runtime.shell import Plan
from eventray.runtime.units import Unit
from eventray.store.records import ShardPage

_COMES = object()  # what a task gives next is the view
ONE_CORE = {"num_cpus": 1, "max_retries": 0}  # Ray runs as many at once as there are cores to spare


async def fold_on_ray(
    plan: Plan,
    model: ProjectionModel,
    partition: int,
    place: StorePlace,
    nodes: Mapping[int, str],
    upto: Mapping[int, int],
    say: Callable[[int], None],
) -> Any:
    """A reference to the view, or to a partition of it, as it is at these positions.

    `say(n)` hears of events as they are looked at. Cancelled, it ends its tasks. Raises as `Fold` and `merged`;
    EventRayError: a task was lost.
    """
    told, unit = ray.put(plan), Unit(model.name, model.version, partition)
    running = []
    for part in parts_of(model, upto):
        options = {**ONE_CORE, "name": f"fold {unit}", "num_returns": "streaming"}
        if len(part) == 1:
            options |= _near(nodes[next(iter(part))])
        running.append(ray.remote(_fold).options(**options).remote(told, unit, place, part))
    try:
        parts = await asyncio.gather(*(_followed(task, say, running) for task in [*running]))
        if len(parts) == 1:
            return parts[0]
        options = {**ONE_CORE, "name": f"merge {unit}", "num_returns": 2}
        merging: Any = ray.remote(_merge).options(**options)
        failure, whole = merging.remote(told, unit, *parts)
        running.append(failure)
        error = await failure
        running.remove(failure)
        if error is not None:
            raise load_error(error)
        return whole
    except RayError as error:
        raise EventRayError(f"a task that folds {model.name} was lost, do it again: {error}") from None
    finally:
        for task in running:  # by force: users' code may not mind anything less. Never one that may have ended:
            ray.cancel(task, force=True)  # its process may have another task by now


async def _followed(task: Any, say: Callable[[int], None], running: list[Any]) -> Any:
    """Listen to a task until it has the view and has ended; a reference to the view."""
    folded = failure = None
    async for reference in task:
        if folded is _COMES:
            folded = reference
            continue
        news = await reference
        if news is None:
            folded = _COMES
        elif isinstance(news, bytes):
            failure = load_error(news)
        else:
            say(news)
    running.remove(task)
    if failure is not None:
        raise failure
    return folded


def _fold(plan: Plan, unit: Unit, place: StorePlace, upto: Mapping[int, int]) -> Iterator[int | bytes | Folded | None]:
    """A task: gives how many events more it has looked at, again and again; then None and the view, or an error."""

    def ask(want: Want, types: frozenset[str]) -> ShardPage:
        port = RemoteShard(want.shard, locating(plan.app_name), PATIENCE_S)
        return loop.run(port.read(after=want.after, limit=want.limit, types=types))

    try:
        model = plan.load_app().projection(unit.view, unit.version)
        gc.freeze()  # what a fold makes has no cycles: this process need not look for them, nor at what was here before
        gc.set_threshold(COLLECT_AFTER_OBJECTS)
        fold = Fold(model, nothing(model, upto, place.generation), PAGE_EVENTS, unit.partition)
        with ExitStack() as files, asyncio.Runner() as loop:
            yield from run_fold(fold, upto, reader(files, place, upto, model.events.names, ask))
        folded = fold.folded()
    except EventRayError as error:
        yield dump_error(error)
    else:
        yield None
        yield folded


def _merge(plan: Plan, unit: Unit, *parts: Folded) -> tuple[bytes | None, Folded | None]:
    """A task: the error that it ended with, or None; and the view of all parts."""
    try:
        return None, merged(plan.load_app().projection(unit.view, unit.version), parts)
    except EventRayError as error:
        return dump_error(error), None


def _near(node: str) -> dict[str, Any]:
    """Options that prefer a node: elsewhere the shard is asked."""
    if not node:
        return {}
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=id_of(node), soft=True)}
