"""`runtime.view_at(...)`: a view as it was at a moment, folded anew and brought into the caller's process."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar, cast

from eventray.domain.errors import StoreMismatch
from eventray.domain.messages import Heads
from eventray.domain.projection import Projection
from eventray.runtime.loop import EngineLoop
from eventray.runtime.model import ProjectionModel
from eventray.runtime.rebuild import Work
from eventray.runtime.rebuild_fold import state_of
from eventray.runtime.timetravel import positions_at
from eventray.runtime.transport import Transport, units_of_view
from eventray.runtime.units import Unit

V = TypeVar("V", bound=Projection)

Moment: TypeAlias = datetime | Mapping[int, int]
"""An aware datetime, or a position per shard, as `heads()` gives."""


class ViewAt(Generic[V]):
    """What `runtime.view_at(...)` returns: for `with` and `async with`, which give the view once it is made."""

    def __init__(
        self, engine: EngineLoop, started: Awaitable[None], transport: Transport, model: ProjectionModel, at: Moment
    ) -> None:
        self._engine = engine
        self._started = started
        self._transport = transport
        self._model = model
        self._at = at

    def __enter__(self) -> V:
        work = self._begin()
        try:
            return work.result()
        except BaseException:  # Ctrl-C
            work.cancel()
            raise

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> V:
        work = self._begin()
        try:
            return await work
        except BaseException:
            work.cancel()
            raise

    async def __aexit__(self, *_: object) -> None: ...

    def _begin(self) -> Work[V]:
        return Work(self._engine, f"the view {self._model.name} at {self._at}", self._fold())

    async def _fold(self) -> V:
        await self._started
        transport, model = self._transport, self._model
        units_of_view(transport, model.name, model.version)  # it must be there
        upto = await _positions(transport, self._at)
        whole = Unit(model.name, model.version)
        folded = await transport.fetch(await transport.fold(whole, upto, lambda _: None))
        if folded.saved.fingerprint != model.fingerprint:
            what = f"{model.cls.__name__} of this process"
            raise StoreMismatch(what, "state", model.fingerprint, folded.saved.fingerprint, "The app runs another one")
        return cast(V, state_of(model, folded).view)


async def _positions(transport: Transport, at: Moment) -> dict[int, int]:
    """The position of each shard at a moment."""
    shards = transport.shards
    if isinstance(at, datetime):
        return await positions_at(shards, at)
    if not isinstance(at, Mapping):
        raise TypeError(f"at={at!r}: give an aware datetime, or a position per shard, like runtime.heads()")
    if isinstance(at, Heads) and at.generation not in (0, transport.generation):
        raise StoreMismatch("at=", "generation", transport.generation, at.generation, "The store was restored since")
    heads = await transport.heads()
    for shard, position in at.items():
        if type(position) is not int or not 0 <= position <= heads.get(shard, -1):
            raise ValueError(f"at={dict(at)}: shard {shard!r} has no position {position!r}; heads are {heads}")
    return {shard: at.get(shard, 0) for shard in shards}
