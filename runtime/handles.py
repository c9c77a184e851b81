"""Handles: what `runtime.get` and `runtime.view` return: typed as the user's class, with its commands or queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from eventray.domain.errors import InvalidId
from eventray.domain.messages import CommandOptions, Heads, Receipt
from eventray.runtime.asking import Answer
from eventray.runtime.guard import refuse_in_domain_code
from eventray.runtime.model import AggregateModel, CommandModel, ProjectionModel, QueryModel
from eventray.runtime.response import Response

PLAIN = CommandOptions()
After = Receipt | Sequence[Receipt] | Mapping[int, int] | None


class QueryOptions(NamedTuple):
    """How a query is asked: after which positions, for how long (s), what then, and of which version (0: any)."""

    after: After = None
    timeout_s: float | None = None
    stale: str = "raise"
    version: int = 0


class Sender(Protocol):
    """The runtime, as a handle needs it."""

    app_name: str

    def send_command(
        self, model: AggregateModel, id: str, command: CommandModel, args: bytes, options: CommandOptions
    ) -> Response[Receipt]:
        """Put a command on its way."""
        ...

    def send_query(self, model: ProjectionModel, query: QueryModel, args: bytes, options: QueryOptions) -> Answer[Any]:
        """Put a query on its way."""
        ...


class AggregateHandle:
    """One aggregate instance, from afar."""

    __slots__ = ("__weakref__", "_id", "_model", "_runtime")

    def __init__(self, runtime: Sender, model: AggregateModel, id: str) -> None:
        _set(self, _runtime=runtime, _model=model, _id=id)

    @property
    def id(self) -> str:
        """The instance's id."""
        return str(object.__getattribute__(self, "_id"))

    def __getattr__(self, name: str) -> RemoteCommand:
        get = object.__getattribute__
        model: AggregateModel = get(self, "_model")
        command = model.commands.get(name)
        if command is None:
            raise AttributeError(
                f"a handle of {model.name} has no {name!r}: commands are {', '.join(model.commands) or 'none'}; "
                f"for the state ask runtime.state({model.name}, {self.id!r}).result()"
            )
        return RemoteCommand(get(self, "_runtime"), model, get(self, "_id"), command, PLAIN)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r} on {self!r}: state changes by commands only")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AggregateHandle) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<handle {object.__getattribute__(self, '_model').name}/{self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        runtime: Sender = object.__getattribute__(self, "_runtime")
        return _unpickled_handle, (runtime.app_name, object.__getattribute__(self, "_model").cls, self.id)

    def _key(self) -> tuple[str, str, str]:
        runtime: Sender = object.__getattribute__(self, "_runtime")
        return runtime.app_name, object.__getattribute__(self, "_model").name, self.id


class RemoteCommand:
    """A command of a handle: `.remote(...)` sends it, `.options(...)` says how."""

    __slots__ = ("_command", "_id", "_model", "_options", "_runtime")

    def __init__(
        self, runtime: Sender, model: AggregateModel, id: str, command: CommandModel, options: CommandOptions
    ) -> None:
        self._runtime = runtime
        self._model = model
        self._id = id
        self._command = command
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> Response[Receipt]:
        """Send the command at once.

        Raises:
            TypeError, EncodingError: arguments that do not fit the command.
            RuntimeError: called inside a command, an apply or a query.
        """
        refuse_in_domain_code(f"{self._model.name}.{self._command.name}.remote()")
        data = self._command.encode(args, kwargs)
        return self._runtime.send_command(self._model, self._id, self._command, data, self._options)

    def options(
        self,
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RemoteCommand:
        """The same command with an id that makes it exactly-once, a version to stand on, seconds to wait, metadata."""
        options = CommandOptions(command_id, expected_version, timeout, metadata)
        return RemoteCommand(self._runtime, self._model, self._id, self._command, options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse a plain call: it would look as if it ran here."""
        raise TypeError(f"call {self._command.name}.remote(...): a handle runs its commands elsewhere")


class ViewHandle:
    """One view, from afar; `version` 0: whichever serves."""

    __slots__ = ("__weakref__", "_model", "_runtime", "_version")

    def __init__(self, runtime: Sender, model: ProjectionModel, version: int) -> None:
        _set(self, _runtime=runtime, _model=model, _version=version)

    def __getattr__(self, name: str) -> RemoteQuery:
        model: ProjectionModel = object.__getattribute__(self, "_model")
        query = model.queries.get(name)
        if query is None:
            raise AttributeError(
                f"a handle of view {model.name} has no {name!r}: queries are {', '.join(model.queries) or 'none'}; "
                "add a method marked @query to read more of the view"
            )
        get = object.__getattribute__
        return RemoteQuery(get(self, "_runtime"), model, query, QueryOptions(version=get(self, "_version")))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r} on {self!r}: a view changes by events only")

    def __repr__(self) -> str:
        return f"<handle view/{object.__getattribute__(self, '_model').name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        get = object.__getattribute__
        runtime: Sender = get(self, "_runtime")
        return _unpickled_view, (runtime.app_name, get(self, "_model").cls, get(self, "_version"))


class RemoteQuery:
    """A query of a view: `.remote(...)` asks it, `.options(...)` says how fresh."""

    __slots__ = ("_model", "_options", "_query", "_runtime")

    def __init__(self, runtime: Sender, model: ProjectionModel, query: QueryModel, options: QueryOptions) -> None:
        self._runtime = runtime
        self._model = model
        self._query = query
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> Answer[Any]:
        """Ask at once.

        Raises:
            TypeError, EncodingError: arguments that do not fit the query.
            RuntimeError: called inside a command, an apply or a query.
        """
        refuse_in_domain_code(f"{self._model.name}.{self._query.name}.remote()")
        data = self._query.encode(args, kwargs)
        return self._runtime.send_query(self._model, self._query, data, self._options)

    def options(self, *, after: After = None, timeout: float | None = None, stale: str = "raise") -> RemoteQuery:
        """The same query, answered once the view has applied `after`; at the timeout (s) it raises, or serves stale."""
        if stale not in ("raise", "serve"):
            raise ValueError(f"stale={stale!r}: choose 'raise' (the default) or 'serve'")
        options = QueryOptions(after, timeout, stale, self._options.version)
        return RemoteQuery(self._runtime, self._model, self._query, options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse a plain call: it would look as if it ran here."""
        raise TypeError(f"call {self._query.name}.remote(...): a handle asks its view elsewhere")


def positions_after(after: After) -> tuple[dict[int, int], int]:
    """Positions per shard of a receipt, of several, or of heads, and the generation they are of (0: not known)."""
    if after is None:
        return {}, 0
    if isinstance(after, Mapping):
        return dict(after), after.generation if isinstance(after, Heads) else 0
    positions: dict[int, int] = {}
    generations = set()
    for receipt in [after] if isinstance(after, Receipt) else after:
        positions[receipt.shard] = max(positions.get(receipt.shard, 0), receipt.position)
        generations.add(receipt.generation)
    return positions, min(generations - {0}, default=0)  # of two, the older one cannot be the store's


def check_instance_id(id: object) -> str:
    """The id itself, if it is a str; its content is checked by the store's rules."""
    if not isinstance(id, str):
        raise InvalidId(repr(id), f"an id is a str, not {type(id).__name__}")
    return id


def _set(handle: object, **attributes: object) -> None:
    for name, value in attributes.items():
        object.__setattr__(handle, name, value)


def _unpickled_handle(app_name: str, cls: type[Any], id: str) -> Any:
    from eventray.runtime.client import runtime_here

    return runtime_here(app_name).get(cls, id)


def _unpickled_view(app_name: str, cls: type[Any], version: int) -> Any:
    from eventray.runtime.client import runtime_here

    return runtime_here(app_name).view(cls, version or None)
