"""Reporting: how an app stands, for those who ask and for its metrics."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from eventray.runtime.metrics import Sample, of_activations, of_commands, of_parts
from eventray.runtime.outcomes import Outcomes
from eventray.runtime.placing import Placer
from eventray.runtime.remote import ask_status
from eventray.runtime.serving import Serving
from eventray.runtime.sharding import Shards
from eventray.runtime.status import ShardStatus, Status, ViewStatus, added_up
from eventray.runtime.units import Unit


class Reporting:
    """Asks the parts of an app, in its Directory.

    Args:
        where: the app's name and its data directory.
        views: gives the actors of views.
    """

    def __init__(
        self,
        where: tuple[str, str],
        shards: Shards,
        placer: Placer,
        serving: Serving,
        views: Callable[[], Mapping[Unit, Any]],
    ) -> None:
        self._where = where
        self._shards = shards
        self._placer = placer
        self._serving = serving
        self._views = views
        self._outcomes: defaultdict[str, Outcomes] = defaultdict(Counter)

    def count(self, aggregate: str, outcomes: Outcomes) -> None:
        """Add up how commands of dedicated activations ended."""
        self._outcomes[aggregate] += outcomes

    async def status(self) -> Status:
        """How every part stands."""
        (shards, views), activations = await asyncio.gather(self._parts(), self._placer.statuses())
        classes = (*self._placer.counts(), *added_up(shards))
        return Status(*self._where, False, shards, views, tuple(activations), classes)

    async def samples(self) -> list[Sample]:
        """The metrics that nobody else can know."""
        parts = await self._parts()
        commands = (sample for name, ended in self._outcomes.items() for sample in of_commands(name, ended))
        return [*of_parts(*parts), *commands, *of_activations(self._placer.counts())]

    async def _parts(self) -> tuple[tuple[ShardStatus, ...], tuple[ViewStatus, ...]]:
        views = self._views()
        shards, told = await asyncio.gather(
            self._shards.statuses(), asyncio.gather(*(ask_status(actor) for actor in views.values()))
        )
        return shards, tuple(
            status if isinstance(status, ViewStatus) else self._unavailable(unit, str(status))
            for unit, status in zip(views, told, strict=True)
        )

    def _unavailable(self, unit: Unit, reason: str) -> ViewStatus:
        return ViewStatus(
            unit.view,
            "unavailable",
            {},
            reason=reason,
            version=unit.version,
            partition=unit.partition,
            replica=unit.replica,
            serves=self._serving.serves(unit),
        )
