"""App: the classes that belong together, checked and compiled."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eventray.domain.aggregate import Aggregate
from eventray.domain.annotated import resolve, with_subclasses
from eventray.domain.errors import UnknownName
from eventray.domain.hints import resolve_class
from eventray.domain.messages import Event
from eventray.domain.projection import Projection
from eventray.runtime.model import (
    AggregateModel,
    EventSet,
    ProjectionModel,
    aggregate_model,
    declared_events,
    projection_model,
)
from eventray.runtime.placement import Dedicated, Packed, Placement
from eventray.runtime.units import SEPARATORS, units_of

_APP_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TAKEN = ("view", "process", "directory", "tail")


class App:
    """Aggregates and projections under one name: what `eventray.run` runs.

    Args:
        name: letters, digits, `-`, `_` and `.`, at most 64: the namespace in Ray and the owner of the store.
        aggregates: classes derived from Aggregate.
        projections: classes derived from Projection. Of several with one name and different versions the oldest serves
            until `runtime.switch(...)`; the others follow the log in its shadow.
        placement: aggregate class -> Dedicated(...) or Packed(...); Dedicated() for those not in it.

    Attributes:
        aggregates, projections: their models by stored name; of a projection with several versions the oldest.
        units: the actors that the views are made of.
        events: all events.

    Raises:
        TypeError: a class that cannot work, naming class and field (or method and parameter) and what to do.
        ValueError: a name that cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        aggregates: Iterable[type[Aggregate]] = (),
        projections: Iterable[type[Projection]] = (),
        placement: Mapping[type[Aggregate], Placement] | None = None,
    ) -> None:
        if not isinstance(name, str) or not _APP_NAME.fullmatch(name) or name in (".", ".."):
            raise ValueError(f"app name {name!r}: use 1 to 64 letters, digits, '-', '_' and '.'")
        self.name = name
        aggregate_classes = _classes(aggregates, Aggregate, "aggregates")
        projection_classes = _classes(projections, Projection, "projections")
        frame = sys._getframe(1)
        for cls in (*aggregate_classes, *projection_classes):
            resolve(cls, frame)
        events = _all_events((*aggregate_classes, *projection_classes))
        for event in events:
            resolve_class(event, frame)
        self.events = EventSet(events)
        self.aggregates: dict[str, AggregateModel] = {}
        for aggregate in aggregate_classes:
            _check_name(aggregate, aggregate.__aggregate_name__)
            _add(self.aggregates, aggregate_model(aggregate, events))
        self._versions: dict[str, dict[int, ProjectionModel]] = {}
        for projection in projection_classes:
            name = projection.__projection_name__
            _check_name(projection, name)
            _add(self._versions.setdefault(name, {}), projection_model(projection, events))
        self.projections = {name: versions[min(versions)] for name, versions in self._versions.items()}
        self.units = tuple(unit for model in self.projection_models for unit in units_of(model))
        self._placement = self._checked(placement or {})

    @property
    def projection_models(self) -> Iterator[ProjectionModel]:
        """The models of all projections in all their versions."""
        for versions in self._versions.values():
            yield from versions.values()

    def versions_of(self, projection: str) -> tuple[int, ...]:
        """The versions of a projection, oldest first.

        Raises:
            UnknownName: there is no such projection.
        """
        if projection not in self._versions:
            raise UnknownName("projection", projection, tuple(self._versions))
        return tuple(sorted(self._versions[projection]))

    def projection(self, name: str, version: int) -> ProjectionModel:
        """The model of one version of a projection.

        Raises:
            UnknownName: there is none.
        """
        versions = self.versions_of(name)
        if version not in versions:
            raise UnknownName(f"version of {name}", str(version), tuple(map(str, versions)))
        return self._versions[name][version]

    def placement_of(self, name: str) -> Placement:
        """Where instances of the aggregate with that stored name live.

        Raises:
            KeyError: there is no such aggregate.
        """
        return self._placement[name]

    def _checked(self, placement: Mapping[type[Aggregate], Placement]) -> dict[str, Placement]:
        placed: dict[str, Placement] = {name: Dedicated() for name in self.aggregates}
        for cls, where in placement.items():
            name = getattr(cls, "__aggregate_name__", "")
            if name not in self.aggregates or self.aggregates[name].cls is not cls:
                raise TypeError(f"placement of {cls!r}: it is not among the aggregates of app {self.name!r}")
            if not isinstance(where, (Dedicated, Packed)):
                raise TypeError(f"placement of {cls.__name__}: {where!r} must be Dedicated(...) or Packed(...)")
            placed[name] = where
        return placed

    # What travels is the classes; the models, which hold compiled codecs, are made again on arrival.
    def __reduce__(self) -> tuple[Any, ...]:
        placement = {model.cls: self._placement[name] for name, model in self.aggregates.items()}
        aggregates = tuple(model.cls for model in self.aggregates.values())
        projections = tuple(model.cls for model in self.projection_models)
        return _rebuild, (self.name, aggregates, projections, placement, self.events.classes)

    def __repr__(self) -> str:
        return f"App({self.name!r}, aggregates={list(self.aggregates)}, projections={list(self.projections)})"


def _rebuild(
    name: str,
    aggregates: tuple[type[Aggregate], ...],
    projections: tuple[type[Projection], ...],
    placement: dict[type[Aggregate], Placement],
    events: tuple[type[Event], ...],
) -> App:
    # They travel with the app so that classes derived from a base class are there, too. One that arrives again is made
    # and dropped for the one that is there: a subclass until it is collected.
    if with_subclasses(events) != frozenset(events):
        gc.collect()
    return App(name, aggregates=aggregates, projections=projections, placement=placement)


def _classes(given: Iterable[type[Any]], base: type[Any], what: str) -> tuple[type[Any], ...]:
    classes = tuple(given)
    for cls in classes:
        if not isinstance(cls, type) or not issubclass(cls, base) or cls is base:
            raise TypeError(f"{what}: {cls!r} is not a class derived from {base.__name__}")
    return classes


def _all_events(classes: Iterable[type[Any]]) -> frozenset[type[Event]]:
    events: frozenset[type[Event]] = frozenset()
    for cls in classes:
        events |= declared_events(cls)
    return events


def _check_name(cls: type[Any], name: str) -> None:
    if "/" in name:
        raise ValueError(f"{cls.__name__}: the name {name!r} holds a '/', which separates it from the id in a stream")
    if issubclass(cls, Projection) and any(mark in name for mark in SEPARATORS):
        raise ValueError(f"{cls.__name__}: the name {name!r} holds one of {SEPARATORS}, by which its parts are named")
    if issubclass(cls, Aggregate) and (name in _TAKEN or name.startswith("shard-")):
        raise ValueError(
            f"{cls.__name__}: the name {name!r} is reserved, actors of the engine are called so; give it another name="
        )


def _add(models: dict[Any, Any], model: AggregateModel | ProjectionModel) -> None:
    key: str | int
    key, same, advice = model.name, "", "name="
    if isinstance(model, ProjectionModel):
        key, same, advice = model.version, f" with version {model.version}", "name=, or another version="
    known = models.get(key)
    if known is not None:
        raise TypeError(
            f"{known.cls.__module__}.{known.cls.__qualname__} and {model.cls.__module__}.{model.cls.__qualname__} "
            f"are both named {model.name!r}{same}: give one of them another {advice}"
        )
    models[key] = model
