"""Commands and queries as the engine calls them: arguments to and from bytes, results checked."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from eventray.domain.aggregate import Aggregate, CommandDescriptor
from eventray.domain.annotated import as_events
from eventray.domain.errors import EncodingError
from eventray.domain.messages import Event
from eventray.domain.projection import Projection, QueryDescriptor
from eventray.store.codec import Codec, DecodingError


class Parameters:
    """The parameters of a method, as a codec of one map from name to value, defaults filled in.

    Raises:
        TypeError: naming method and parameter: no annotation, `*args` or `**kwargs`, or what cannot be stored.
    """

    __slots__ = ("_bundle", "_codec", "_positional", "names", "required", "where")

    def __init__(self, function: Callable[..., Any], where: str) -> None:
        self.where = where
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise TypeError(f"{where}: it has no self; a command or query is an ordinary method")
        self._positional = [p.name for p in parameters[1:] if p.kind is p.POSITIONAL_ONLY]
        fields = [_field(parameter, f"{where}.{parameter.name}") for parameter in parameters[1:]]
        self.names = tuple(name for name, *_ in fields)
        self.required = any(parameter.default is parameter.empty for parameter in parameters[1:])
        self._bundle = dataclasses.make_dataclass("Arguments", fields, eq=False, repr=False)
        self._bundle.__name__ = where  # what the codec's errors say
        self._bundle.__init__.__qualname__ = where  # type: ignore[misc]  # what Python's errors say
        self._codec: Codec[Any] = Codec(self._bundle, where, canonical=True)

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments as a map with defaults applied. Equal arguments give equal bytes: sets and dicts are sorted.

        Raises:
            TypeError: missing, unknown or too many arguments.
            EncodingError: a value that does not fit its annotation, as "Account.deposit.amount".
        """
        return self._codec.encode(self._bundle(*args, **kwargs))

    def decode(self, data: bytes) -> dict[str, object]:
        """The arguments by name.

        Raises:
            EncodingError: the bytes do not hold them.
        """
        try:
            arguments: dict[str, object] = self._codec.decode(data).__dict__
        except DecodingError as error:
            raise EncodingError(error.where, error.reason) from error
        return arguments

    def call(self, function: Callable[..., Any], instance: object, kwargs: dict[str, object]) -> Any:
        """Call the method with arguments by name."""
        if not self._positional:
            return function(instance, **kwargs)
        named = {name: value for name, value in kwargs.items() if name not in self._positional}
        return function(instance, *(kwargs[name] for name in self._positional), **named)


def _field(parameter: inspect.Parameter, where: str) -> tuple[str, Any, Any]:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"{where}: *args and **kwargs cannot be sent; name each parameter")
    if parameter.annotation is parameter.empty:
        raise TypeError(f"{where}: annotate it, so that it can be sent and checked")
    keywords: dict[str, Any] = {"kw_only": parameter.kind is parameter.KEYWORD_ONLY}
    default = parameter.default
    if default is not parameter.empty and type(default).__hash__ is None:
        keywords["default_factory"] = lambda: default  # only ever encoded, so it need not be a fresh one
    elif default is not parameter.empty:
        keywords["default"] = default
    return parameter.name, parameter.annotation, dataclasses.field(**keywords)


def check_ordinary(function: Callable[..., Any], where: str) -> None:
    """Refuse a method that is async or a generator.

    Raises:
        TypeError: naming it.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{where} is async: commands, applies and queries are ordinary methods without I/O")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{where} is a generator: return a list instead of yielding")


class CommandModel:
    """A command of an aggregate class."""

    __slots__ = ("_function", "_parameters", "blocking", "decode", "encode", "name", "where")

    def __init__(self, command: CommandDescriptor[Any, ..., Any], name: str, where: str) -> None:
        check_ordinary(command.function, where)
        self.name = name
        self.where = where
        self.blocking = command.blocking
        self._function = command.function
        self._parameters = Parameters(command.function, where)
        self.encode = self._parameters.encode
        self.decode = self._parameters.decode

    def call(self, aggregate: Aggregate, kwargs: dict[str, object]) -> list[Event]:
        """Run the command and give its events as a list.

        Raises:
            TypeError: it returned something else than an event, a list or tuple of events, or None.
            Exception: whatever the command raises.
        """
        return as_events(self._parameters.call(self._function, aggregate, kwargs), self.where)


class QueryModel:
    """A query of a projection class.

    Attributes:
        name: of the method.
        key: the parameter whose value says which partition is asked, or None.
    """

    __slots__ = (
        "_function",
        "_merge",
        "_merge_takes",
        "_parameters",
        "_result",
        "decode",
        "encode",
        "key",
        "name",
        "where",
    )

    def __init__(self, query: QueryDescriptor[Any, ..., Any], name: str, where: str) -> None:
        check_ordinary(query.function, where)
        self.name = name
        self.where = where
        self._function = query.function
        self._parameters = Parameters(query.function, where)
        self.encode = self._parameters.encode
        self.decode = self._parameters.decode
        hints = query.function.__annotations__
        if "return" not in hints:
            raise TypeError(f"{where} has no return annotation: say what it answers, so that it can be sent")
        self._result: Codec[Any] = Codec(hints["return"], f"{where}()")
        self.key = query.key
        if query.key is not None and query.key not in self._parameters.names:
            raise TypeError(
                f"{where}: key={query.key!r} is none of its parameters: {', '.join(self._parameters.names)}"
            )
        self._merge = query.merge
        self._merge_takes = () if query.merge is None else self._taken_by(query.merge)

    def _taken_by(self, merge: Callable[..., Any]) -> tuple[str, ...]:
        """The query's parameters that its merge gets, too."""
        try:
            _, *others = inspect.signature(merge).parameters.values()
        except ValueError:  # of some builtins nothing is known
            return ()
        for other in others:
            if other.default is other.empty and other.name not in self._parameters.names:
                raise TypeError(f"{self.where}: its merge has a parameter {other.name!r}, which the query has not")
        return tuple(other.name for other in others if other.name in self._parameters.names)

    @property
    def needs_arguments(self) -> bool:
        """Whether it cannot be asked without arguments."""
        return self._parameters.required

    @property
    def merges(self) -> bool:
        """Whether it can ask all partitions of a view."""
        return self._merge is not None

    def key_in(self, args: bytes) -> object:
        """The key in encoded arguments, which says what partition is asked; None where the query names none."""
        return None if self.key is None else self.decode(args)[self.key]

    def merged(self, answers: list[Any], args: bytes) -> Any:
        """One answer of those of all partitions.

        Raises:
            Exception: whatever the class's merge raises.
        """
        assert self._merge is not None
        known = self.decode(args) if self._merge_takes else {}
        return self._merge(answers, **{name: known[name] for name in self._merge_takes})

    def call(self, view: Projection, kwargs: dict[str, object]) -> Any:
        """Ask the view."""
        return self._parameters.call(self._function, view, kwargs)

    def encode_result(self, value: Any) -> bytes:
        """The answer as bytes.

        Raises:
            EncodingError: it does not fit the return annotation, as "Balances.top()[0][1]".
        """
        return self._result.encode(value)

    def decode_result(self, data: bytes) -> Any:
        """The answer.

        Raises:
            EncodingError: the bytes do not hold one.
        """
        try:
            return self._result.decode(data)
        except DecodingError as error:
            raise EncodingError(error.where, error.reason) from error
