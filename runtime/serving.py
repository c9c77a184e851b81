"""Serving: which version of each view answers its queries, and the change from one to another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import msgpack

from eventray.runtime.app import App
from eventray.runtime.channel import TargetLost, ViewMoved
from eventray.runtime.status import ViewStatus
from eventray.runtime.units import Unit, units_of
from eventray.store.port import CheckpointPort


class Manage(Protocol):
    """Calls a method of a unit that is no query."""

    def __call__(self, unit: Unit, method: str, *args: Any) -> Awaitable[Any]:
        """Call it."""
        ...


class Serving:
    """Kept beside the views' saves: the oldest version, until `switch` was told otherwise."""

    def __init__(self, app: App, checkpoints: CheckpointPort) -> None:
        self._app = app
        self._checkpoints = checkpoints
        self._changing = asyncio.Lock()
        self._nobody: set[str] = set()  # views that no version answers for at this moment
        self.versions: dict[str, int] = {}

    async def load(self) -> None:
        """Take up what was kept, as far as the app has these versions."""
        for view in self._app.projections:
            known = self._app.versions_of(view)
            saved = await self._checkpoints.load(_key(view)) if len(known) > 1 else None
            kept = known[0] if saved is None else msgpack.unpackb(saved.data)
            self.versions[view] = kept if kept in known else known[0]

    def serves(self, unit: Unit) -> bool:
        """Whether this unit is to answer for its view."""
        return unit.version == self.versions[unit.view] and unit.view not in self._nobody

    def require(self, unit: Unit) -> None:
        """Let a query for the view go to this unit.

        Raises:
            ViewMoved: another version serves. TargetLost: none does, for a moment.
        """
        if unit.view in self._nobody:
            raise TargetLost(f"view {unit.view} changes its version")
        if unit.version != self.versions[unit.view]:
            raise ViewMoved(unit.view, self.versions[unit.view])

    async def switch(self, view: str, version: int, heads: Mapping[int, int], manage: Manage) -> None:
        """Let another version answer, once it has applied the log up to `heads` and all that the present one has shown.

        Whatever fails or dies meanwhile, one of the two serves in the end.

        Raises:
            UnknownName: there is no such version. ProjectionStopped: it cannot go on. EventRayError: a unit was lost,
                or it could not be kept: the present version serves on.
        """
        new = [*units_of(self._app.projection(view, version))]
        async with self._changing:
            if self.versions[view] == version:
                return
            await asyncio.gather(*(manage(unit, "reach", heads) for unit in new))
            old = [*units_of(self._app.projection(view, self.versions[view]))]
            self._nobody.add(view)
            try:
                shown = await asyncio.gather(*(manage(unit, "retire") for unit in old))
                upto = {shard: max(positions[shard] for positions in shown) for shard in heads}
                await asyncio.gather(*(manage(unit, "reach", upto) for unit in new))
                await self._checkpoints.save(_key(view), {}, msgpack.packb(version), generation=0, witness=False)
                self.versions[view] = version
            finally:
                self._nobody.discard(view)
                serving = new if self.versions[view] == version else old
                await asyncio.gather(*(manage(unit, "serve") for unit in serving), return_exceptions=True)

    async def reconcile(self, unit: Unit, status: ViewStatus, manage: Manage) -> None:
        """Tell a unit whether it serves, if it does not know: it was lost, or its teller was, during a change."""
        if status.serves != self.serves(unit) and not self._changing.locked():
            await manage(unit, "serve" if self.serves(unit) else "retire")


def _key(view: str) -> str:
    return f"serving/{view}"  # no view has a name with a slash
