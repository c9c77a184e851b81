"""What is said: events (facts), commands as values, and receipts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, dataclass_transform

from eventray.domain.fields import check_stored_name, defining_frame, make_dataclass
from eventray.domain.own import Own, set_own

if TYPE_CHECKING:
    from eventray.domain.aggregate import Aggregate

VERSION_MAX = 2**63 - 1


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Event:
    """An immutable fact. Derive from it and annotate the fields; a frozen dataclass comes out.

    Class keywords: `name=` is the stored name (else the class name), `version=` the version of its fields (else 1).
    The stored name is a format: a renamed class keeps it with `name=`.
    """

    __event_name__ = Own[str]()
    __event_version__ = Own[int]()

    def __init_subclass__(cls, *, name: str | None = None, version: int = 1, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        check_stored_name(cls, cls.__name__ if name is None else name, version)
        set_own(cls, event_name=cls.__name__ if name is None else name, event_version=version)
        make_dataclass(cls, defining_frame(), frozen=True, kw_only=False)


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """How a command is sent. None: not given.

    Args:
        command_id: makes the command exactly-once in its stream, however often it is sent.
        expected_version: the stream's version that it stands on; another one is `ConcurrencyConflict`.
        timeout: seconds until `CommandTimeout`.
        metadata: a small map stored with the events (`correlation_id`, `causation_id`, `user`, ...).

    Raises:
        ValueError: naming the option.
    """

    command_id: str | None = None
    expected_version: int | None = None
    timeout: float | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.command_id is not None and (not isinstance(self.command_id, str) or not self.command_id):
            raise ValueError(f"command_id={self.command_id!r}: must be a str that is not empty")
        expected = self.expected_version
        if expected is not None and (type(expected) is not int or not 0 <= expected <= VERSION_MAX):
            raise ValueError(f"expected_version={expected!r}: must be an int from 0 (nothing yet) up, or None for any")
        if self.timeout is not None:
            check_timeout(self.timeout)
        if self.metadata is not None and not isinstance(self.metadata, Mapping):
            raise ValueError(f"metadata={self.metadata!r}: must be a mapping")

    def but(self, **given: Any) -> CommandOptions:
        """The same options with those that are `given` (not None) in their place."""
        names = ("command_id", "expected_version", "timeout", "metadata")
        return CommandOptions(*(getattr(self, n) if given.get(n) is None else given[n] for n in names))


def check_timeout(timeout: object) -> None:
    """Check a timeout in seconds.

    Raises:
        ValueError: it is not a number above 0.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: must be a number of seconds above 0")


@dataclass(frozen=True, slots=True)
class Command:
    """A request to one aggregate instance, as a value: `Account.deposit.to("alice", Decimal(5))` makes one."""

    aggregate: type[Aggregate]
    id: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: CommandOptions = CommandOptions()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a caller gets for a command that ran.

    Attributes:
        version, position: of the last event; of a command without events, of the stream's last event.
        events: what the command returned, as stored.
        duplicate: the command id was committed before this send reached the store.
        generation: of the store. A restore or a reshard begins another one, in which this position means nothing.
    """

    stream: str
    version: int
    shard: int
    position: int
    events: tuple[Event, ...] = ()
    command_id: str = ""
    duplicate: bool = False
    generation: int = field(default=0, compare=False)  # two receipts of one command are the same


class Heads(dict[int, int]):
    """The position of every shard at one moment, with the store's `generation` (0: not known)."""

    def __init__(self, positions: Mapping[int, int], generation: int = 0) -> None:
        super().__init__(positions)
        self.generation = generation

    def __reduce__(self) -> tuple[type[Heads], tuple[dict[int, int], int]]:
        return Heads, (dict(self), self.generation)
