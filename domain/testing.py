"""given / when / then: tests of aggregates and projections without a runtime.

    given(Account, [Opened("Alice")]).when(Account.deposit, Decimal(5)).then(Deposited(Decimal(5)))
    given(Account).when(Account.deposit, Decimal(-1)).then_rejected("must be positive")
    given(Balances, [(Deposited(Decimal(5)), "alice")]).query(Balances.top, 3).then([("alice", Decimal(5))])

What does not hold is an AssertionError that shows both sides.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, overload

from eventray.domain.aggregate import Aggregate, UnboundCommand
from eventray.domain.annotated import applied_by, as_events, resolve
from eventray.domain.errors import ImpureCommand, Rejected
from eventray.domain.messages import Event
from eventray.domain.meta import Meta
from eventray.domain.projection import Projection, UnboundQuery

A = TypeVar("A", bound=Aggregate)
V = TypeVar("V", bound=Projection)
P = ParamSpec("P")
R = TypeVar("R")

Happened = Event | tuple[Event, object]
"""An event of a view's log: alone, with an id or stream (str), with keywords of its Meta (a mapping), or its Meta."""


def _as_is(event: Event) -> Event:
    return event


stored: Callable[[Event], Event] = _as_is
"""What an event is once it was stored; `eventray.testing` puts the codec here, so that unfit values show in tests."""


@overload
def given(cls: type[A], events: Iterable[Event] = (), *, id: str = "test") -> AggregateTest[A]: ...
@overload
def given(cls: type[V], events: Iterable[Happened] = ()) -> ProjectionTest[V]: ...
def given(cls: type[Any], events: Iterable[Any] = (), *, id: str = "test") -> Any:
    """Begin with what has happened: an aggregate's own events, or the log that a projection follows.

    Args:
        cls: the aggregate or projection class.
        events: of the instance in order; for a projection also `(event, "alice")`, `(event, "Account/alice")`,
            `(event, {"id": "alice", "metadata": {...}})` or `(event, Meta(...))`.
        id: of the aggregate instance.

    Raises:
        TypeError: the class is neither.
    """
    if not isinstance(cls, type) or not issubclass(cls, (Aggregate, Projection)):
        raise TypeError(f"given({cls!r}): give a class derived from Aggregate or Projection")
    resolve(cls, sys._getframe(1))
    return AggregateTest(cls, events, id) if issubclass(cls, Aggregate) else ProjectionTest(cls, events)


class AggregateTest(Generic[A]):
    """An instance to which the given events have happened.

    Attributes:
        aggregate: that instance.
    """

    def __init__(self, cls: type[A], events: Iterable[Event], id: str) -> None:
        self.aggregate = cls()
        self.aggregate.id = id
        for event in events:
            _apply(self.aggregate, stored(event))

    def when(self, command: UnboundCommand[P], *args: P.args, **kwargs: P.kwargs) -> Outcome[A]:
        """Run a command, as in `when(Account.deposit, Decimal(5))`.

        Raises:
            ImpureCommand: the command changed the state itself.
            TypeError: it returned something else than events.
            Exception: what it raises, `Rejected` excepted.
        """
        aggregate, shown = self.aggregate, _call_shown(command.owner, command.name, args, kwargs)
        before = copy.deepcopy(vars(aggregate))
        events: list[Event] = []
        rejected: Rejected | None = None
        try:
            returned = command.function(aggregate, *args, **kwargs)
        except Rejected as error:
            rejected = error
        else:
            events = as_events(returned, shown)
        after = vars(aggregate)
        changed = tuple(
            n for n in sorted({*before, *after}) if n not in before or n not in after or before[n] != after[n]
        )
        if changed:
            name = type(aggregate).__aggregate_name__
            raise ImpureCommand(f"{name}/{aggregate.id}", command.name, changed)
        return Outcome(aggregate, shown, [stored(event) for event in events], rejected)


class Outcome(Generic[A]):
    """What a command came to.

    Attributes:
        aggregate: a copy of the instance with the command's events applied.
        events: what the command returned.
        rejected: its refusal, or None.
    """

    def __init__(self, aggregate: A, shown: str, events: list[Event], rejected: Rejected | None) -> None:
        self.aggregate = copy.deepcopy(aggregate)
        self.events = events
        self.rejected = rejected
        self._shown = shown
        for event in events:
            _apply(self.aggregate, event)

    def then(self, *expected: Event) -> Outcome[A]:
        """The command returned exactly these events."""
        if self.rejected is not None:
            self._fail(_listed(expected), f"  rejected: {self.rejected!r}")
        if list(expected) != self.events:
            self._fail(_listed(expected), _listed(self.events), _first_difference(expected, self.events))
        return self

    def then_nothing(self) -> Outcome[A]:
        """The command was accepted and returned no events."""
        return self.then()

    def then_rejected(self, expected: type[Rejected] | str = Rejected, match: str = "") -> Outcome[A]:
        """The command raised `Rejected`.

        Args:
            expected: the class of the refusal, or a text that its message holds.
            match: a text that its message holds.
        """
        kind, text = (Rejected, expected) if isinstance(expected, str) else (expected, match)
        wanted = f"  rejected: {kind.__name__}" + (f" with {text!r}" if text else "")
        if self.rejected is None:
            self._fail(wanted, _listed(self.events))
        if not isinstance(self.rejected, kind) or text not in str(self.rejected):
            self._fail(wanted, f"  rejected: {self.rejected!r}")
        return self

    def then_state(self, **expected: Any) -> Outcome[A]:
        """After its events, the state has these values."""
        _check_state(self.aggregate, expected, f"after {self._shown}")
        return self

    def _fail(self, expected: str, got: str, difference: str = "") -> None:
        raise AssertionError(f"{self._shown}\nexpected\n{expected}\ngot\n{got}{difference}")


class ProjectionTest(Generic[V]):
    """A view that has applied the given events.

    Attributes:
        view: that view.
    """

    def __init__(self, cls: type[V], events: Iterable[Happened]) -> None:
        self.view = cls()
        self._log: list[tuple[Event, Meta]] = []
        versions: dict[str, int] = {}
        for position, happened in enumerate(events, start=1):
            event, place = happened if isinstance(happened, tuple) else (happened, "test")
            self._log.append((stored(event), _meta(place, position, versions)))
            _apply(self.view, *self._log[-1])

    def query(self, query: UnboundQuery[P, R], *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """Ask the view, as in `query(Balances.top, 3)`."""
        return Answer(query.function(self.view, *args, **kwargs), _call_shown(query.owner, query.name, args, kwargs))

    def then_merges(self) -> ProjectionTest[V]:
        """Parts that have seen a stream each, merged in either order, equal the view that has seen all of the log.

        Raises:
            TypeError: the class has no `merge`.
        """
        cls = type(self.view)
        merge = getattr(cls, "merge", None)
        if merge is None:
            raise TypeError(f"{cls.__name__} has no merge(self, other)")
        for order in (list, reversed):
            merged = cls()
            for stream in order(dict.fromkeys(meta.stream for _, meta in self._log)):
                part = cls()
                for event, meta in self._log:
                    if meta.stream == stream:
                        _apply(part, event, meta)
                merge(merged, part)
            _check_state(merged, vars(self.view), "after the parts of each stream were merged")
        return self

    def then_state(self, **expected: Any) -> ProjectionTest[V]:
        """The view's attributes have these values."""
        _check_state(self.view, expected, "after the given events")
        return self


class Answer(Generic[R]):
    """What a query answered, in `value`."""

    def __init__(self, value: R, shown: str) -> None:
        self.value = value
        self._shown = shown

    def then(self, expected: R) -> Answer[R]:
        """The answer equals this."""
        if self.value != expected:
            raise AssertionError(f"{self._shown}\nexpected\n  {expected!r}\ngot\n  {self.value!r}")
        return self


def _apply(instance: Any, event: Event, meta: Meta | None = None) -> None:
    if not isinstance(event, Event):
        raise TypeError(f"{event!r} is not an event")
    function, wanted = applied_by(type(instance), parameters=(1, 1 if meta is None else 2))
    if function is not None and isinstance(event, tuple(wanted)):
        takes_meta = function.__code__.co_argcount == 3
        function(instance, event, meta) if takes_meta else function(instance, event)
    if meta is None:
        instance.version += 1


def _meta(place: object, position: int, versions: dict[str, int]) -> Meta:
    if isinstance(place, Meta):
        return place
    if isinstance(place, str):
        place = {"stream": place if "/" in place else f"Test/{place}"}
    if not isinstance(place, Mapping):
        raise TypeError(f"{place!r} beside an event: give an id, a stream, a mapping of Meta's keywords, or a Meta")
    known = Meta(**{"aggregate": "Test", "id": "test", **place})
    versions[known.stream] = versions.get(known.stream, 0) + 1
    return Meta(**{"aggregate": "Test", "id": "test", "version": versions[known.stream], "position": position, **place})


def _call_shown(owner: type[Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{owner.__name__}.{name}({', '.join(given)})"


def _listed(events: Iterable[Event]) -> str:
    return "\n".join(f"  {n}. {event!r}" for n, event in enumerate(events, start=1)) or "  no events"


def _first_difference(expected: tuple[Event, ...], got: list[Event]) -> str:
    for number, (left, right) in enumerate(zip(expected, got, strict=False), start=1):
        if left == right or type(left) is not type(right):
            continue
        for field in dataclasses.fields(left):  # type: ignore[arg-type]  # every event class is a dataclass
            one, other = getattr(left, field.name), getattr(right, field.name)
            if one != other:
                return f"\nevent {number} differs in {field.name}: expected {one!r}, got {other!r}"
    return ""


def _check_state(instance: Any, expected: dict[str, Any], when: str) -> None:
    for name, value in expected.items():
        if not hasattr(instance, name):
            raise AssertionError(f"{type(instance).__name__} has no {name!r} {when}")
        if getattr(instance, name) != value:
            raise AssertionError(f"{name} {when}\nexpected\n  {value!r}\ngot\n  {getattr(instance, name)!r}")
