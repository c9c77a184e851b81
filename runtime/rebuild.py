"""`runtime.rebuild(...)`: a view made anew from the log while the old one serves; and how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from eventray.domain.errors import EventRayError
from eventray.runtime.loop import EngineLoop
from eventray.runtime.response import Response
from eventray.runtime.transport import Transport, units_of_view

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is: events looked at, of how many, in how many seconds."""

    events: int
    total: int
    seconds: float

    @property
    def rate(self) -> float:
        """Events a second since it began."""
        return self.events / self.seconds if self.seconds else 0.0


async def all_or_none(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The outcomes of all, run side by side; when one fails the others are cancelled, and have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Work(Response[T]):
    """A Response of work that runs in the engine's loop and can be cancelled."""

    __slots__ = ("_cancelled", "_engine", "_task", "_what")

    def __init__(self, engine: EngineLoop, what: str, work: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        self._engine = engine
        self._what = what
        self._cancelled = False
        self._task: asyncio.Task[T] | None = None
        spawned = engine.spawn(self._run(work))
        spawned.add_done_callback(lambda: self._complete(spawned._value, spawned._error))

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.ensure_future(work)
        if self._cancelled:
            self._task.cancel()
        try:
            return await self._task
        except asyncio.CancelledError:
            self._task.cancel()  # in case it was this one that was cancelled, with the engine
            if not self._cancelled:
                raise
            raise EventRayError(f"{self._what} was cancelled") from None

    def cancel(self) -> None:
        """Give it up, from any thread: `result()` then raises EventRayError, unless it was done before."""

        def cancel() -> None:
            self._cancelled = True
            if self._task is not None and self._may_be_cancelled():
                self._task.cancel()

        if not self.done():
            self._engine.loop.call_soon_threadsafe(cancel)

    def _may_be_cancelled(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuild that is over: of which view, how many events were looked at, in how many seconds."""

    view: str
    events: int
    seconds: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0


class Rebuild(Work[Rebuilt]):
    """What `runtime.rebuild(...)` returns: a Response that tells how far it is and can be cancelled.

    `progress` counts what is in the log when it begins (once for each partition); what comes meanwhile the new view
    applies before it takes over.
    From that last step on `cancel` comes too late.
    """

    __slots__ = ("_begun", "_events", "_progress", "_taking_over", "_total", "_transport", "_version", "_view")

    def __init__(
        self,
        engine: EngineLoop,
        started: Awaitable[None],
        transport: Transport,
        view: str,
        version: int,
        *,
        progress: bool,
    ) -> None:
        self._transport = transport
        self._view = view
        self._version = version
        self._progress = _Bar(view) if progress else nullcontext()
        self._events = self._total = 0
        self._begun = 0.0
        self._taking_over = False
        super().__init__(engine, f"the rebuild of {view}", self._rebuild(started))

    @property
    def progress(self) -> RebuildProgress:
        """How far it is."""
        return RebuildProgress(self._events, self._total, time.monotonic() - self._begun if self._begun else 0.0)

    async def _rebuild(self, started: Awaitable[None]) -> Rebuilt:
        await started
        transport, view = self._transport, self._view
        units = units_of_view(transport, view, self._version)
        firsts = [unit for unit in units if unit.replica == 1]
        heads = await transport.heads()
        self._total, self._begun = sum(heads.values()) * len(firsts), time.monotonic()
        with self._progress:
            folds = await all_or_none(transport.fold(unit, heads, self._say) for unit in firsts)
            self._taking_over = True
            made = {unit.partition: folded for unit, folded in zip(firsts, folds, strict=True)}
            await asyncio.gather(*(transport.manage(unit, "take_over", made[unit.partition]) for unit in units))
        return Rebuilt(view, self._total, time.monotonic() - self._begun)

    def _say(self, events: int) -> None:
        self._events += events
        if isinstance(self._progress, _Bar):
            self._progress.show(self.progress)

    def _may_be_cancelled(self) -> bool:
        return not self._taking_over


class _Bar:
    """A progress bar on the error stream."""

    def __init__(self, view: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        rate = TextColumn("{task.fields[rate]} events/s")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._shown = Progress(*columns, console=Console(stderr=True))
        self._task = self._shown.add_task(f"rebuild {view}", total=None, rate="-")

    def __enter__(self) -> None:
        self._shown.start()

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def show(self, now: RebuildProgress) -> None:
        """Show how far it is."""
        self._shown.update(self._task, completed=now.events, total=now.total, rate=f"{now.rate:,.0f}")
