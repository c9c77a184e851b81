"""The events that a reader of the log asks for: checked, and with the classes that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

from eventray.domain.errors import UnknownName
from eventray.domain.messages import Event
from eventray.runtime.app import App
from eventray.runtime.eventset import EventSet
from eventray.runtime.model import expand


def check_events(events: Sequence[type[Event]], call: str) -> None:
    """Check what a caller gave.

    Raises:
        TypeError: naming the call and what is no event class.
    """
    for event in events:
        if not isinstance(event, type) or not issubclass(event, Event):
            raise TypeError(f"{call}(events=...): {event!r} is not a class derived from Event")


def chosen_events(app: App, events: Sequence[type[Event]]) -> EventSet:
    """These classes and those derived from them; all of the app's when none is given.

    Raises:
        UnknownName: one is not among the app's.
    """
    for event in events:
        if not any(issubclass(known, event) for known in app.events.classes):
            raise UnknownName("event", event.__event_name__, tuple(sorted(app.events.names)))
    return EventSet(expand(events, app.events.classes)) if events else app.events
