"""Asking: a query on its way from the call to its Answer: to one unit of its view, or to one of each partition."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from eventray.domain.errors import CommandFailed, EventRayError, Rejected, StaleView
from eventray.runtime.channel import ViewMoved
from eventray.runtime.guard import DomainCode
from eventray.runtime.loop import EngineLoop
from eventray.runtime.model import QueryModel
from eventray.runtime.partitions import partition_of
from eventray.runtime.response import Response
from eventray.runtime.transport import Transport, view_target
from eventray.runtime.units import Unit
from eventray.runtime.wire import Kind, QueryItem

T = TypeVar("T")


class Answer(Response[T]):
    """The outcome of a query that is on its way."""

    __slots__ = ("_positions",)

    def __init__(self) -> None:
        super().__init__()
        self._positions: Mapping[int, int] | None = None

    @property
    def positions(self) -> Mapping[int, int]:
        """Up to which position of each shard its view had applied the log; of several partitions the least.

        Raises:
            RuntimeError: the answer is not there yet, or it is an error.
        """
        if self._positions is None:
            raise RuntimeError("no positions: the answer is not there yet, or it is an error")
        return self._positions

    def set_answer(self, value: T, positions: Mapping[int, int]) -> None:
        """Complete with a value (the engine's side)."""
        self._positions = positions
        self.set_result(value)


class Question(NamedTuple):
    """A query as it was asked.

    Args:
        version: of the view; 0: whichever serves.
    """

    view: str
    query: QueryModel
    item: QueryItem
    version: int

    def units(self, transport: Transport, turn: int) -> list[Unit]:
        """Who has to be asked now: one unit, or one of each partition; of replicas each in its `turn`.

        Raises:
            UnknownName: there is no such view, or not in this version.
            EventRayError: the query does not say which partition to ask.
        """
        app, view = transport.app, self.view
        model = app.projection(view, self.version or transport.serving.get(view, 0))
        replica = turn % model.replicas + 1
        if model.partitions == 1:
            return [Unit(view, model.version, 0, replica)]
        key = self.query.key_in(self.item.args)
        if key is not None:
            return [Unit(view, model.version, partition_of(key, model.partitions), replica)]
        if not self.query.merges:
            where, version = self.query.where, model.version
            raise EventRayError(f"{where} has no key= or merge=, and version {version} of the view has partitions")
        return [Unit(view, model.version, part, replica) for part in range(1, model.partitions + 1)]

    def merged(self, answers: list[Any]) -> Any:
        """One answer of those of all partitions.

        Raises:
            CommandFailed: the query's merge raised.
        """
        where = f"the merge of {self.query.where}"
        try:
            with DomainCode(where):
                return self.query.merged(answers, self.item.args)
        except (Rejected, EventRayError):
            raise
        except Exception as error:
            raise CommandFailed(f"view/{self.view}", where, str(error), type(error).__name__) from error


class QueryJob:
    """A question to one unit; `unit` None: to the only one that can answer it, as is known when it is sent."""

    __slots__ = ("_asking", "_question", "_unit", "answer", "deadline", "lane", "sent", "size")

    patient = False
    poison = None  # a view may as well die of an event that it applies, whatever is asked

    def __init__(self, asking: Asking, question: Question, unit: Unit | None = None) -> None:
        self._asking = asking
        self._question = question
        self._unit = unit
        self.lane: Hashable = None
        # The view itself answers at the end of wait_s; this is for a view that cannot be reached.
        self.deadline = time.monotonic() + question.item.wait_s * 1.25 + 1.0
        self.sent = 0
        self.size = question.item.size
        self.answer: Answer[Any] = Answer()

    def target(self, transport: Transport) -> Hashable:
        """Where it goes.

        Raises:
            ViewMoved: not to one unit. UnknownName, EventRayError: as `Question.units`.
        """
        unit, question = self._unit, self._question
        if unit is None:
            unit, *others = question.units(transport, self._asking.turn())
            if others:
                raise ViewMoved(question.view, unit.version)
        return view_target(unit, own=question.item.shadow)

    def item(self) -> QueryItem:
        """What travels."""
        return self._question.item

    def complete(self, kind: Kind, payload: Any) -> None:
        """Turn the answer into the query's result, or the error."""
        if kind is Kind.ERROR:
            self.answer.set_exception(payload)
            return
        data, positions = payload
        try:
            self.answer.set_answer(self._question.query.decode_result(data), positions)
        except Exception as error:
            self.answer.set_exception(error)

    def expire(self, reason: str) -> None:
        """End without an answer."""
        item = self._question.item
        self.fail(StaleView(self._question.view, dict(item.after), item.wait_s))

    def fail(self, error: BaseException) -> None:
        """End with an error; who was told of another version asks that."""
        if self._unit is None and isinstance(error, ViewMoved):
            self._asking.ask_all(self._question, self.answer)
        else:
            self.answer.set_exception(error)


class Asking:
    """The queries of one runtime."""

    def __init__(self, engine: EngineLoop, started: Response[None], transport: Transport) -> None:
        self._engine = engine
        self._started = started
        self._transport = transport
        self._turns = itertools.count()

    def turn(self) -> int:
        """A number above the last one: replicas are asked in turn."""
        return next(self._turns)

    def ask(self, question: Question, *, partitions: int) -> Answer[Any]:
        """Put a question on its way; `partitions` of the view, as far as the caller knows."""
        if partitions > 1 and question.query.key is None:
            answer: Answer[Any] = Answer()
            self.ask_all(question, answer)
            return answer
        job = QueryJob(self, question)
        self._engine.post(job)
        return job.answer

    def ask_all(self, question: Question, answer: Answer[Any]) -> None:
        """Ask whoever has to be asked, from any thread; asks anew when the view's version changes meanwhile."""
        asked = self._engine.spawn(self._ask_all(question))

        def end() -> None:
            if (error := asked.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_answer(*asked.result())

        asked.add_done_callback(end)

    async def _ask_all(self, question: Question) -> tuple[Any, dict[int, int]]:
        await self._started
        deadline = time.monotonic() + question.item.wait_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            question = question._replace(item=question.item._replace(wait_s=left_s))
            units = question.units(self._transport, self.turn())
            jobs = [QueryJob(self, question, unit) for unit in units]
            for job in jobs:
                self._engine.post(job)
            try:
                answers = [await job.answer for job in jobs]
            except ViewMoved:
                await asyncio.sleep(0)
                continue
            positions = _least(job.answer.positions for job in jobs)
            return answers[0] if len(answers) == 1 else question.merged(answers), positions


def _least(positions: Iterable[Mapping[int, int]]) -> dict[int, int]:
    first, *others = positions
    return {shard: min(at, *(other[shard] for other in others)) if others else at for shard, at in first.items()}
