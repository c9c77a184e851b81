"""Upcasters: functions that turn the fields of an older version of an event into those of the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from eventray.domain.messages import Event

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
F = TypeVar("F", bound=Upcaster)

_ATTRIBUTE = "__event_upcasters__"


def upcast(event: type[Event], *, from_version: int) -> Callable[[F], F]:
    """Register a function from the fields of `from_version` to those of `from_version + 1`.

    The function gets and returns a dict by field name. Values are as stored: Decimal, UUID, date, time and timedelta
    as text, an Enum as its value, tuples and sets as lists, datetimes in UTC. It must not depend on anything else.
    Register before the App is built.

        @upcast(Deposited, from_version=1)
        def add_currency(fields: dict[str, Any]) -> dict[str, Any]:
            return {**fields, "currency": "EUR"}

    Raises:
        TypeError: the class is no event, or has an upcaster from that version already.
        ValueError: the version is not below the class's.
    """
    if not (isinstance(event, type) and issubclass(event, Event)) or event is Event:
        raise TypeError(f"@upcast: {event!r} is not a class derived from Event")
    if type(from_version) is not int or not 0 < from_version < event.__event_version__:
        raise ValueError(
            f"@upcast({event.__name__}, from_version={from_version!r}): must be at least 1 and below the class's "
            f"version, which is {event.__event_version__}; raise that with `version=` in the class statement"
        )

    def register(function: F) -> F:
        own: dict[int, Upcaster] = event.__dict__.get(_ATTRIBUTE, {})
        if from_version in own:
            raise TypeError(f"@upcast({event.__name__}, from_version={from_version}): there is one already")
        setattr(event, _ATTRIBUTE, {**own, from_version: function})
        return function

    return register


def upcasters_of(event: type[Event]) -> dict[int, Upcaster]:
    """The upcasters of a class by the version that they take.

    Raises:
        TypeError: the chain has a gap: it must reach the class's version without one.
    """
    own: dict[int, Upcaster] = event.__dict__.get(_ATTRIBUTE, {})
    missing = [v for v in range(min(own), event.__event_version__) if v not in own] if own else []
    if missing:
        raise TypeError(
            f"{event.__name__}: no @upcast from version {', '.join(map(str, missing))}; "
            f"the chain must lead from {min(own)} to {event.__event_version__} without a gap"
        )
    return dict(sorted(own.items()))
