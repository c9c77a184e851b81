"""The part of a Runtime that makes views anew: now, and as they were."""

from __future__ import annotations

from typing import Any, TypeVar

from eventray.domain.projection import Projection
from eventray.runtime.guard import refuse_in_domain_code
from eventray.runtime.loop import EngineLoop
from eventray.runtime.model import ProjectionModel
from eventray.runtime.rebuild import Rebuild
from eventray.runtime.response import Response
from eventray.runtime.transport import Transport
from eventray.runtime.view_at import Moment, ViewAt

V = TypeVar("V", bound=Projection)


class Rebuilding:
    """Base of Runtime."""

    _engine: EngineLoop
    _started: Response[None]
    _transport: Transport

    def _projection(self, cls: type[Any]) -> ProjectionModel:
        raise NotImplementedError

    def rebuild(self, projection: type[Projection] | str, progress: bool = False) -> Rebuild:
        """Make a view (by its class or name) anew from the log, while the old one serves; then it takes over at once.

        On Ray in tasks that need a core each: one for each shard, side by side, where the projection has `merge`, else
        one for all. With `progress` a bar on the error stream shows rate and time left. Events that the view had left
        behind are tried again. A view that has stopped follows again.

        The Response gives a `Rebuilt`. When it fails, or is cancelled, the old view serves on: with ProjectionStopped
        where an event cannot be applied, UnknownName for a name of no view, EventRayError when a task or the view's
        process was lost.
        """
        refuse_in_domain_code("runtime.rebuild()")
        name = projection if isinstance(projection, str) else self._projection(projection).name
        return Rebuild(self._engine, self._started, self._transport, name, progress=progress)

    def view_at(self, projection: type[V], at: Moment) -> ViewAt[V]:
        """A view as it was: `with runtime.view_at(Balances, at=...) as view: view.top(5)`. It is made when entered.

        It is a plain instance of the class in this process: its queries are called, and its attributes are there.
        Events that cannot be applied end it (ProjectionStopped), or are left out where the projection parks them.

        Args:
            projection: a class of the app.
            at: an aware datetime (up to the last event that was recorded by then), or a position per shard, like an
                earlier `heads()`; a shard that it does not name is left out.

        Raises:
            UnknownName: at once. ValueError, TypeError, StoreMismatch, ProjectionStopped: when it is entered.
        """
        return ViewAt(self._engine, self._started, self._transport, self._projection(projection), at)
