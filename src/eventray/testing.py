"""given / when / then for aggregates and projections: pure, without a runtime.

Events pass the codec on the way, so a value that could not be stored fails the test with `EncodingError`.
"""

from eventray.domain import testing as _testing
from eventray.domain.messages import Event
from eventray.domain.testing import given
from eventray.runtime.eventset import EventSet

__all__ = ["given"]


def _stored(event: Event) -> Event:
    if not isinstance(event, Event):
        return event
    events = EventSet([type(event)])
    return events.decode(*events.encode(event))


_testing.stored = _stored
