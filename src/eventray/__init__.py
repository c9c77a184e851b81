"""Event sourcing and CQRS for Python, on Ray: one actor per aggregate, events in sharded SQLite.

Importing this starts no Ray and imports none of it; `run` and `connect` do, unless `local=True`.
"""

from typing import TYPE_CHECKING

from eventray.domain.aggregate import Aggregate, command
from eventray.domain.errors import (
    AppEnded,
    CommandFailed,
    CommandIdReused,
    CommandPoisoned,
    CommandTimeout,
    ConcurrencyConflict,
    EncodingError,
    EventRayError,
    EventTooLarge,
    ExtraMissing,
    ImpureCommand,
    InvalidId,
    Overloaded,
    ProjectionStopped,
    RayUnavailable,
    RayUnprotected,
    Rejected,
    ShardFenced,
    ShardUnavailable,
    StaleView,
    StoreCorrupted,
    StoreFull,
    StoreLocked,
    StoreMismatch,
    StoreUnavailable,
    UnknownEvent,
    UnknownName,
)
from eventray.domain.lazy import lazily
from eventray.domain.messages import Command, CommandOptions, Event, Receipt
from eventray.domain.meta import Meta
from eventray.domain.projection import Projection, query
from eventray.domain.response import Answer, Response
from eventray.domain.upcast import upcast
from eventray.runtime.app import App
from eventray.runtime.placement import Dedicated, Packed

if TYPE_CHECKING:
    from eventray.runtime.client import connect, run
    from eventray.runtime.comparing import Comparison, Difference
    from eventray.runtime.dead_letters import DeadLetter
    from eventray.runtime.rebuild import Rebuild, Rebuilt
    from eventray.runtime.session import Runtime

__all__ = [
    "Aggregate",
    "Answer",
    "App",
    "AppEnded",
    "Command",
    "CommandFailed",
    "CommandIdReused",
    "CommandOptions",
    "CommandPoisoned",
    "CommandTimeout",
    "Comparison",
    "ConcurrencyConflict",
    "DeadLetter",
    "Dedicated",
    "Difference",
    "EncodingError",
    "Event",
    "EventRayError",
    "EventTooLarge",
    "ExtraMissing",
    "ImpureCommand",
    "InvalidId",
    "Meta",
    "Overloaded",
    "Packed",
    "Projection",
    "ProjectionStopped",
    "RayUnavailable",
    "RayUnprotected",
    "Rebuild",
    "Rebuilt",
    "Receipt",
    "Rejected",
    "Response",
    "Runtime",
    "ShardFenced",
    "ShardUnavailable",
    "StaleView",
    "StoreCorrupted",
    "StoreFull",
    "StoreLocked",
    "StoreMismatch",
    "StoreUnavailable",
    "UnknownEvent",
    "UnknownName",
    "command",
    "connect",
    "query",
    "run",
    "upcast",
]

_LAZY = {
    "Comparison": "eventray.runtime.comparing",
    "Difference": "eventray.runtime.comparing",
    "Rebuild": "eventray.runtime.rebuild",
    "Rebuilt": "eventray.runtime.rebuild",
    "DeadLetter": "eventray.runtime.dead_letters",
    "Runtime": "eventray.runtime.session",
    "connect": "eventray.runtime.client",
    "run": "eventray.runtime.client",
}
__getattr__, __dir__ = lazily(globals(), _LAZY)
