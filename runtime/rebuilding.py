"""The part of a Runtime that makes views anew, as they are and as they were, and that changes their versions."""

from __future__ import annotations

from typing import Any, TypeVar

from eventray.domain.projection import Projection
from eventray.runtime.comparing import Comparison, compare
from eventray.runtime.guard import refuse_in_domain_code
from eventray.runtime.loop import EngineLoop
from eventray.runtime.model import ProjectionModel
from eventray.runtime.rebuild import Rebuild, Work
from eventray.runtime.response import Response
from eventray.runtime.transport import Transport, units_of_view
from eventray.runtime.view_at import Moment, ViewAt

V = TypeVar("V", bound=Projection)


class Rebuilding:
    """Base of Runtime."""

    _engine: EngineLoop
    _started: Response[None]
    _transport: Transport

    def _projection(self, cls: type[Any]) -> ProjectionModel:
        raise NotImplementedError

    def rebuild(
        self, projection: type[Projection] | str, progress: bool = False, version: int | None = None
    ) -> Rebuild:
        """Make a view anew from the log, while the old one serves; then it takes over at once.

        By its class: in that version; by its name: in the one that serves, or in `version`. On Ray in tasks that need a
        core each: one for each shard, side by side, where the projection has `merge`, else one for all; as many for
        each partition.
        With `progress` a bar on the error stream shows rate and time left. Events that the view had left behind are
        tried again. A view that has stopped follows again.

        The Response gives a `Rebuilt`. When it fails, or is cancelled, the old view serves on: with ProjectionStopped
        where an event cannot be applied, UnknownName for a name of no view, EventRayError when a task or the view's
        process was lost.
        """
        refuse_in_domain_code("runtime.rebuild()")
        name, known = self._named(projection)
        return Rebuild(self._engine, self._started, self._transport, name, version or known, progress=progress)

    def _named(self, projection: type[Projection] | str) -> tuple[str, int]:
        """Name and version of a view; 0: the one that serves."""
        if isinstance(projection, str):
            return projection, 0
        model = self._projection(projection)
        return model.name, model.version

    def switch(self, projection: type[Projection] | str, version: int) -> Response[None]:
        """Let another version of a view answer its queries; going back is the same call with the version before.

        It waits until that version, in the shadow so far, has applied all that is in the log now and all that the
        present one has shown: no query meets an earlier state than one before it. Then both follow on, so that going
        back takes no time. Kept across restarts; a store restored from a backup begins with the oldest version again.

        The Response fails with UnknownName for a version that the app has not, with ProjectionStopped when that version
        has stopped, with EventRayError when a process was lost meanwhile: then the version before serves on.
        """
        refuse_in_domain_code("runtime.switch()")
        name, _ = self._named(projection)

        async def switch() -> None:
            await self._started
            units_of_view(self._transport, name, version)
            await self._transport.switch(name, version)

        return self._engine.spawn(switch())

    def compare(
        self, projection: type[Projection] | str, old: int | None = None, new: int | None = None
    ) -> Response[Comparison]:
        """Where two versions of a view differ, both brought to the same positions of the log.

        Compared are the attributes that both have, down to the key, and the answers of those queries of both that need
        no arguments. Partitions are put together by `merge(self, other)` first; of a view without it only answers are
        compared, by the queries' `merge=`. The views' states are brought into this process. What depends on the order
        of events of different shards may differ without a mistake.

        Args:
            projection: by its class or name.
            old: a version; the one that serves if you name none.
            new: another one; the latest other if you name none.

        The Response fails with UnknownName for a version that is not there, or if there is no other; with
        ProjectionStopped where one cannot apply an event that the other has.
        """
        refuse_in_domain_code("runtime.compare()")
        name, _ = self._named(projection)
        return Work(self._engine, f"the comparison of {name}", compare(self._started, self._transport, name, old, new))

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
