"""Aggregate and `@command`: what a user derives from and marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, dataclass_transform, overload

from eventray.domain.fields import check_stored_name, defining_frame, make_dataclass
from eventray.domain.messages import Command, CommandOptions, Event, Receipt
from eventray.domain.own import Own, set_own
from eventray.domain.response import Response

_PLAIN = CommandOptions()
P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R", bound=Event | Sequence[Event] | None)


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Aggregate:
    """A consistency boundary. The annotated attributes with defaults are its state; `apply` alone changes them.

    Class keywords: `name=` is the stored name (else the class name); `snapshot_every=` saves the state every so many
    events (else as in the base class); raise `state_version=` when the meaning of the state changes, so that older
    snapshots are not used.

    Attributes:
        id: of the instance; set by the engine.
        version: number of events applied; set by the engine.
    """

    # Plain attributes, not fields: two accounts with equal state are equal, and the constructor takes state only.
    id = ""
    version = 0

    __aggregate_name__ = Own[str]()
    __state_version__ = Own[int]()
    __snapshot_every__: ClassVar[int | None]

    def __init_subclass__(
        cls, *, name: str | None = None, snapshot_every: int | None = None, state_version: int = 1, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        check_stored_name(cls, cls.__name__ if name is None else name, state_version)
        if snapshot_every is not None and (type(snapshot_every) is not int or snapshot_every < 1):
            raise ValueError(f"{cls.__name__}: snapshot_every={snapshot_every!r} must be a number of events, or None")
        set_own(cls, aggregate_name=cls.__name__ if name is None else name, state_version=state_version)
        cls.__snapshot_every__ = snapshot_every or getattr(cls, "__snapshot_every__", None)
        make_dataclass(cls, defining_frame(), frozen=False, kw_only=True)


class BoundCommand(Generic[P, R]):
    """A command of an instance: call it for its events, or, on a handle, send it with `.remote()`."""

    __slots__ = ("_command", "_instance")

    def __init__(self, command: CommandDescriptor[Any, P, R], instance: object) -> None:
        self._command = command
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The events of the command; nothing is stored or changed."""
        return self._command.function(self._instance, *args, **kwargs)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Response[Receipt]:
        """Send the command (on a handle, as `runtime.get` returns it).

        Raises:
            RuntimeError: on a plain instance, in a command, an apply or a test.
        """
        self._refuse("remote")

    def options(
        self,
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> BoundCommand[P, R]:
        """The same command, sent with these options (on a handle); see `CommandOptions`.

        Raises:
            RuntimeError: on a plain instance.
        """
        self._refuse("options")

    def _refuse(self, method: str) -> NoReturn:
        name = f"{type(self._instance).__name__}.{self._command.name}"
        raise RuntimeError(
            f"{name}.{method}() on a plain instance: inside commands and apply nothing is sent, effects belong to "
            f"processes and clients. Call {self._command.name}(...) for its events, or send it through runtime.get(...)"
        )

    def __repr__(self) -> str:
        return f"<command {type(self._instance).__name__}.{self._command.name} of {self._instance!r}>"


class UnboundCommand(Generic[P]):
    """A command of a class: `.to(id, ...)` makes it a value to send."""

    __slots__ = ("_command", "_options", "owner")

    def __init__(
        self, command: CommandDescriptor[Any, P, Any], owner: type[Any], options: CommandOptions | None = None
    ) -> None:
        self._command = command
        self._options = _PLAIN if options is None else options
        self.owner = owner

    @property
    def name(self) -> str:
        """The method's name."""
        return self._command.name

    @property
    def blocking(self) -> bool:
        """Whether it runs in a thread of its own."""
        return self._command.blocking

    @property
    def function(self) -> Callable[..., Any]:
        """The method as written."""
        return self._command.function

    def to(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> Command:
        """The command as a value, for the instance `id`."""
        return Command(self.owner, id, self._command.name, args, kwargs, self._options)

    def options(
        self,
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> UnboundCommand[P]:
        """The same command with these options; see `CommandOptions`.

        Raises:
            ValueError: naming the option.
        """
        options = self._options.but(
            command_id=command_id, expected_version=expected_version, timeout=timeout, metadata=metadata
        )
        return UnboundCommand(self._command, self.owner, options)

    def __repr__(self) -> str:
        return f"<command {self.owner.__name__}.{self.name}>"


class CommandDescriptor(Generic[A, P, R]):
    """What `@command` leaves in the class."""

    def __init__(self, function: Callable[Concatenate[A, P], R], *, blocking: bool) -> None:
        self.function: Callable[..., R] = function
        self.blocking = blocking
        self.name: str = getattr(function, "__name__", "command")
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> UnboundCommand[P]: ...
    @overload
    def __get__(self, instance: A, owner: type[Any] | None = None) -> BoundCommand[P, R]: ...
    def __get__(self, instance: A | None, owner: type[Any] | None = None) -> UnboundCommand[P] | BoundCommand[P, R]:
        if instance is None:
            assert owner is not None
            return UnboundCommand(self, owner)
        return BoundCommand(self, instance)


@overload
def command(function: Callable[Concatenate[A, P], R], /) -> CommandDescriptor[A, P, R]: ...
@overload
def command(*, blocking: bool = False) -> Callable[[Callable[Concatenate[A, P], R]], CommandDescriptor[A, P, R]]: ...
def command(function: Callable[..., Any] | None = None, /, *, blocking: bool = False) -> Any:
    """Mark a method as a command: it looks at `self` and returns an event, a list of events, or None.

    It must not change `self`; it may raise `Rejected`. `@command(blocking=True)` runs it in a thread, for one that
    computes or waits for long.
    """
    if function is not None:
        return CommandDescriptor(function, blocking=False)
    return lambda marked: CommandDescriptor(marked, blocking=blocking)


def commands_of(cls: type[Any]) -> dict[str, CommandDescriptor[Any, ..., Any]]:
    """The commands of a class by name, inherited ones included."""
    found: dict[str, CommandDescriptor[Any, ..., Any]] = {}
    for owner in reversed(cls.__mro__):
        for name, attribute in vars(owner).items():
            if isinstance(attribute, CommandDescriptor):
                found[name] = attribute
            else:
                found.pop(name, None)
    return found
