"""Answering: a view's queries. One that asks for positions waits until the view has applied them, stops, or is late."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eventray.domain.errors import (
    CommandFailed,
    EventRayError,
    ProjectionStopped,
    Rejected,
    StaleView,
    StoreMismatch,
    UnknownName,
)
from eventray.runtime.guard import DomainCode
from eventray.runtime.model import ProjectionModel
from eventray.runtime.outcomes import Outcomes, outcome_of
from eventray.runtime.quota import RETRY_AFTER_S
from eventray.runtime.viewstate import ViewState
from eventray.runtime.wire import Answerer, Kind, QueryItem

_RETIRED = "another version of the view serves"


@dataclass(slots=True)
class _Waiter:
    item: QueryItem
    answer: Answerer
    timer: asyncio.TimerHandle | None = None


class Answering:
    """The queries of one view.

    Args:
        waiting_max: how many may wait; more are refused at once.
        state: gives the view's state, or None while it has none that may be shown.
        stopped: gives why the view applies nothing more, or "".

    Attributes:
        serves: whether its version answers for the view; else it answers only who asks for this version.
    """

    def __init__(
        self,
        model: ProjectionModel,
        generation: int,
        waiting_max: int,
        state: Callable[[], ViewState | None],
        stopped: Callable[[], str],
        *,
        serves: bool = True,
    ) -> None:
        self.serves = serves
        self._model = model
        self._generation = generation
        self._waiting_max = waiting_max
        self._state = state
        self._stopped = stopped
        self._waiters: list[_Waiter] = []
        self._moved: asyncio.Future[None] | None = None  # until the state changes, where somebody waits for that
        self.outcomes: Outcomes = Counter()  # how queries ended in this process

    @property
    def waiting(self) -> int:
        """Queries that wait for what they ask for."""
        return len(self._waiters)

    def handle(self, item: QueryItem, answer: Answerer) -> None:
        """Answer a query, when the view has applied what it asks for."""
        if not (self.serves or item.shadow):
            answer(Kind.AGAIN, _RETIRED)
            return
        if item.generation not in (0, self._generation):
            store, advice = (
                f"the store of view {self._model.name}",
                "It was restored or resharded: ask after new receipts",
            )
            self.outcomes["failed"] += 1
            answer(Kind.ERROR, StoreMismatch(store, "generation", item.generation, self._generation, advice))
            return
        state = self._state()
        if state is not None and _has(state, item.after):
            self._answer(state, item, answer)
            return
        if self._stopped():
            self.outcomes["failed"] += 1
            answer(Kind.ERROR, ProjectionStopped(self._model.name, self._stopped()))
            return
        if len(self._waiters) >= self._waiting_max:
            self.outcomes["overloaded"] += 1
            answer(Kind.FULL, (f"view {self._model.name}", self._waiting_max, "waiting queries", RETRY_AFTER_S))
            return
        waiter = _Waiter(item, answer)
        waiter.timer = asyncio.get_running_loop().call_later(item.wait_s, self._expire, waiter)
        self._waiters.append(waiter)

    def wake(self) -> None:
        """The view has moved on: answer whom that was enough for; if it has stopped, the others, too."""
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None
        state, stopped = self._state(), self._stopped()
        for waiter in list(self._waiters):
            if state is not None and _has(state, waiter.item.after):
                self._forget(waiter)
                self._answer(state, waiter.item, waiter.answer)
            elif stopped:
                self.outcomes["failed"] += 1
                self._end(waiter, Kind.ERROR, ProjectionStopped(self._model.name, stopped))

    def serve(self) -> None:
        """Answer for the view."""
        self.serves = True

    def retire(self) -> None:
        """Answer for it no more: who waits is sent to the version that does."""
        self.serves = False
        for waiter in list(self._waiters):
            if not waiter.item.shadow:
                self._end(waiter, Kind.AGAIN, _RETIRED)

    async def reach(self, positions: Mapping[int, int]) -> None:
        """Wait until the view shows a state at these positions.

        Raises:
            ProjectionStopped: it will not.
        """
        while (state := self._state()) is None or not _has(state, positions):
            if self._stopped():
                raise ProjectionStopped(self._model.name, self._stopped())
            self._moved = self._moved or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._moved)

    def close(self) -> None:
        """Send whoever waits to the view's next process."""
        for waiter in list(self._waiters):
            self._end(waiter, Kind.AGAIN, f"view {self._model.name} is closing")

    def _expire(self, waiter: _Waiter) -> None:
        state, item = self._state(), waiter.item
        if item.serve_stale and state is not None:
            self._forget(waiter)
            self._answer(state, item, waiter.answer)
            return
        positions: Mapping[int, int] = {} if state is None else state.positions
        behind = {
            shard: position - positions.get(shard, 0)
            for shard, position in item.after.items()
            if position > positions.get(shard, 0)
        }
        self.outcomes["stale"] += 1
        self._end(waiter, Kind.ERROR, StaleView(self._model.name, behind, item.wait_s))

    def _end(self, waiter: _Waiter, kind: Kind, payload: Any) -> None:
        self._forget(waiter)
        waiter.answer(kind, payload)

    def _forget(self, waiter: _Waiter) -> None:
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)
        if waiter.timer is not None:
            waiter.timer.cancel()

    def _answer(self, state: ViewState, item: QueryItem, answer: Answerer) -> None:
        name = f"{self._model.name}.{item.query}"
        query = self._model.queries.get(item.query)
        if query is None:
            self.outcomes["failed"] += 1
            answer(Kind.ERROR, UnknownName("query", name, tuple(self._model.queries)))
            return
        try:
            with DomainCode(name):
                result = query.encode_result(query.call(state.view, query.decode(item.args)))
        except (Rejected, EventRayError) as error:
            self.outcomes[outcome_of(error)] += 1
            answer(Kind.ERROR, error)
        except BaseException as error:
            self.outcomes["failed"] += 1
            trace = "".join(traceback.format_exception(error))
            answer(Kind.ERROR, CommandFailed(f"view/{self._model.name}", name, str(error), type(error).__name__, trace))
        else:
            self.outcomes["answered"] += 1
            answer(Kind.VALUE, (result, dict(state.positions)))


def _has(state: ViewState, after: Mapping[int, int]) -> bool:
    return all(state.positions.get(shard, 0) >= position for shard, position in after.items())
