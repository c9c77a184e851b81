"""`runtime.compare(...)`: where two versions of a view differ, at the same positions of the log."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from eventray.domain.errors import UnknownName
from eventray.domain.projection import Projection
from eventray.runtime.guard import DomainCode
from eventray.runtime.model import ProjectionModel
from eventray.runtime.rebuild_fold import PAGE_EVENTS, Fold, Folded, Want, follow_fold, merged, state_of
from eventray.runtime.transport import Transport, units_of_view
from eventray.store.records import ShardPage

ABSENT = "-"
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """A place in the state (`total['alice']`) or an answer (`top()[0]`), and what both versions have there.

    `old` and `new` are as `repr` shows them, "-" where there is nothing.
    """

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions of a view, both at `positions` (per shard), and all `differences` of them."""

    view: str
    old: int
    new: int
    positions: Mapping[int, int]
    differences: tuple[Difference, ...]

    @property
    def count(self) -> int:
        """How many differences there are."""
        return len(self.differences)


async def compare(
    started: Awaitable[None], transport: Transport, view: str, old: int | None, new: int | None
) -> Comparison:
    """Bring both versions here, as they are, fold them on to the positions of the one that is ahead, and compare."""
    await started
    old, new = _chosen(transport, view, old, new)
    versions = [transport.app.projection(view, version) for version in (old, new)]
    fetched = [await _fetched(transport, model) for model in versions]
    upto: dict[int, int] = {}
    for folded in (*fetched[0], *fetched[1]):
        for shard, position in folded.saved.positions.items():
            upto[shard] = max(position, upto.get(shard, 0))
    views = [
        _Version(model, [await _brought_to(upto, transport, model, number, part) for number, part in _numbered(parts)])
        for model, parts in zip(versions, fetched, strict=True)
    ]
    found = await asyncio.to_thread(lambda: tuple(_differences_of(*views)))
    return Comparison(view, old, new, upto, found)


def _chosen(transport: Transport, view: str, old: int | None, new: int | None) -> tuple[int, int]:
    known = {unit.version for unit in units_of_view(transport, view)}
    old = old or transport.serving[view]
    others = known - {old}
    if new is None and not others:
        raise UnknownName(f"other version of {view}", "compare", tuple(map(str, known)))
    new = new or max(others)
    for version in (old, new):
        units_of_view(transport, view, version)  # it must be there
    return old, new


async def _fetched(transport: Transport, model: ProjectionModel) -> list[Folded]:
    units = [unit for unit in units_of_view(transport, model.name, model.version) if unit.replica == 1]
    return [*await asyncio.gather(*(transport.manage(unit, "folded") for unit in units))]


def _numbered(parts: Sequence[Folded]) -> Iterator[tuple[int, Folded]]:
    return enumerate(parts, 1 if len(parts) > 1 else 0)


async def _brought_to(
    upto: Mapping[int, int], transport: Transport, model: ProjectionModel, partition: int, folded: Folded
) -> Fold:
    fold, types = Fold(model, folded, PAGE_EVENTS, partition), model.events.names

    async def read(want: Want) -> ShardPage:
        return await transport.shards[want.shard].read(after=want.after, limit=want.limit, types=types)

    await follow_fold(fold, upto, read)
    return fold


class _Version:
    """One version of a view, in this process: its parts, and the whole where they can be put together."""

    def __init__(self, model: ProjectionModel, folds: Sequence[Fold]) -> None:
        self.model = model
        self.parts = [fold.state.view for fold in folds]
        self.whole: Projection | None = self.parts[0] if len(folds) == 1 else None
        if len(folds) > 1 and model.merge is not None:
            self.whole = state_of(model, merged(model, [fold.folded() for fold in folds])).view

    def answers(self, query: str) -> bool:
        """Whether it can be asked this without arguments."""
        model = self.model.queries.get(query)
        return model is not None and not model.needs_arguments and (len(self.parts) == 1 or model.merges)

    def answer(self, query: str) -> Any:
        """What it answers, or the error."""
        model = self.model.queries[query]
        args = model.encode((), {})
        try:
            with DomainCode(model.where):
                answers = [model.call(part, model.decode(args)) for part in self.parts]
                return answers[0] if len(answers) == 1 else model.merged(answers, args)
        except Exception as error:
            return repr(error)


def _differences_of(old: _Version, new: _Version) -> Iterator[Difference]:
    if old.whole is not None and new.whole is not None:
        for name, value in vars(old.whole).items():
            if name in vars(new.whole):
                yield from differences(name, value, vars(new.whole)[name])
    for query in old.model.queries:
        if old.answers(query) and new.answers(query):
            yield from differences(f"{query}()", old.answer(query), new.answer(query))


def differences(where: str, old: object, new: object) -> Iterator[Difference]:
    """Where two values differ, as deep as both are maps, sequences, sets or dataclasses of one kind."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differ_at(f"{where}[{key!r}]", old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        for number, (one, other) in enumerate(itertools.zip_longest(old, new, fillvalue=_ABSENT)):
            yield from _differ_at(f"{where}[{number}]", one, other)
    elif isinstance(old, Set) and isinstance(new, Set):
        for member in sorted(old ^ new, key=repr):
            there = repr(member)
            yield Difference(where, there, ABSENT) if member in old else Difference(where, ABSENT, there)
    elif dataclasses.is_dataclass(old) and type(old) is type(new):
        for field in dataclasses.fields(old):
            yield from differences(f"{where}.{field.name}", getattr(old, field.name), getattr(new, field.name))
    elif old != new:
        yield Difference(where, repr(old), repr(new))


def _differ_at(where: str, old: object, new: object) -> Iterator[Difference]:
    if old is _ABSENT:
        yield Difference(where, ABSENT, repr(new))
    elif new is _ABSENT:
        yield Difference(where, repr(old), ABSENT)
    else:
        yield from differences(where, old, new)
