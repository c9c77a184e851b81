"""What the engine needs of a user's aggregate or projection class, compiled once per process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from inspect import iscoroutinefunction
from types import FunctionType
from typing import Any, Generic, TypeVar, cast

from eventray.domain.aggregate import Aggregate, commands_of
from eventray.domain.annotated import applied_by, events_in, resolve, with_subclasses
from eventray.domain.errors import EncodingError
from eventray.domain.messages import Event
from eventray.domain.meta import Meta
from eventray.domain.projection import Projection, queries_of
from eventray.runtime.calls import CommandModel, QueryModel
from eventray.runtime.eventset import EventSet
from eventray.runtime.partitions import key_of, partition_of
from eventray.store.codec import Codec, DecodingError
from eventray.store.pieces import PieceCodec

__all__ = [
    "AggregateModel",
    "CommandModel",
    "EventSet",
    "ProjectionModel",
    "QueryModel",
    "aggregate_model",
    "declared_events",
    "projection_model",
]

S = TypeVar("S", bound=Aggregate | Projection)

_RESERVED = ("id", "version", "apply")
_RESERVED_IN_VIEWS = (*_RESERVED, "key", "merge")
_METHODS = ("apply", "key", "merge")  # of those, the ones that a class may define


def declared_events(cls: type[Any]) -> frozenset[type[Event]]:
    """The events that a class names in `apply` and in what its commands return, subclasses included.

    Raises:
        TypeError: naming class and method.
    """
    return with_subclasses(_named(cls))


def _named(cls: type[Any]) -> frozenset[type[Event]]:
    named = set(applied_by(cls, parameters=(1, 2))[1])
    for name, command in commands_of(cls).items():
        hints = command.function.__annotations__
        if "return" in hints:
            named |= events_in(hints["return"], f"{cls.__name__}.{name}() returns", sequences=True)
    return frozenset(named)


class _State(Generic[S]):
    """The state of a class: made new, to and from bytes."""

    __slots__ = ("codec", "fields", "fingerprint", "kind")

    def __init__(self, cls: type[S], reserved: tuple[str, ...], state_version: int) -> None:
        _check_reserved(cls, reserved)
        self.kind = cls
        self.codec: Codec[S] = Codec(cls, cls.__name__)
        fields = dataclasses.fields(cast(Any, cls))
        self.fields = tuple(field.name for field in fields)
        for field in fields:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise TypeError(f"{cls.__name__}.{field.name} has no default: state begins with one, give it `= ...`")
        shape = f"{self.codec.shape}@{state_version}"
        self.fingerprint = hashlib.blake2b(shape.encode(), digest_size=16).hexdigest()
        try:
            self.codec.encode(cls())
        except EncodingError as error:
            raise TypeError(f"{error.where}: the default does not fit: {error.reason}") from error

    def decode(self, data: bytes) -> S:
        try:
            return self.codec.decode(data)
        except DecodingError as error:
            raise EncodingError(error.where, error.reason) from error


def _check_reserved(cls: type[Any], reserved: tuple[str, ...]) -> None:
    fields = {field.name for field in dataclasses.fields(cls)}
    methods = {**commands_of(cls), **queries_of(cls)}
    for owner in cls.__mro__:
        if owner in (Aggregate, Projection, object):
            continue
        for name in reserved:
            if name in fields or name in methods or (name not in _METHODS and name in vars(owner)):
                raise TypeError(f"{cls.__name__}.{name}: the name is reserved for the engine; choose another")


def _merge_of(cls: type[Projection]) -> Callable[[Any, Any], object] | None:
    merge = getattr(cls, "merge", None)
    if merge is None:
        return None
    if not isinstance(merge, FunctionType) or merge.__code__.co_argcount != 2 or iscoroutinefunction(merge):
        raise TypeError(f"{cls.__name__}.merge: write it as a method merge(self, other) that adds what other has seen")
    return merge


def expand(named: Iterable[type[Event]], app_events: Iterable[type[Event]]) -> frozenset[type[Event]]:
    """The classes that named ones stand for: themselves, those derived, and all of the app's for `Event`."""
    bases = tuple(named)
    return with_subclasses(bases) | frozenset(event for event in app_events if issubclass(event, bases))


class AggregateModel:
    """An aggregate class.

    Attributes:
        name: the stored name.
        events: what its streams hold.
        commands: by name.
        snapshot_every: events between snapshots, or None.
        fingerprint: of the shape of the state; snapshots with another one are not used.

    Raises:
        TypeError: naming class and field, or command and parameter, and what to do.
    """

    __slots__ = ("_applied", "_apply", "_state", "cls", "commands", "events", "fingerprint", "name", "snapshot_every")

    def __init__(self, cls: type[Aggregate], app_events: Iterable[type[Event]] = ()) -> None:
        self.cls = cls
        self.name = cls.__aggregate_name__
        self.snapshot_every = cls.__snapshot_every__
        self._state = _State(cls, _RESERVED, cls.__state_version__)
        self.fingerprint = self._state.fingerprint
        self._apply, applied = applied_by(cls, parameters=(1, 1))
        self._applied = expand(applied, app_events)
        self.commands = {
            name: CommandModel(command, name, f"{cls.__name__}.{name}") for name, command in commands_of(cls).items()
        }
        self.events = EventSet(expand(_named(cls), app_events))

    def new(self, id: str) -> Aggregate:
        """An instance to which nothing has happened yet."""
        aggregate = self.cls()
        aggregate.id = id
        aggregate.version = 0
        return aggregate

    def apply(self, aggregate: Aggregate, event: Event) -> None:
        """Apply an event, if the class wants it, and count it.

        Raises:
            Exception: whatever the class's `apply` raises; the version stays.
        """
        if self._apply is not None and type(event) in self._applied:
            self._apply(aggregate, event)
        aggregate.version += 1

    def encode_state(self, aggregate: Aggregate) -> bytes:
        """The state as bytes, without id and version.

        Raises:
            EncodingError: a value does not fit its annotation, as "Account.balance".
        """
        return self._state.codec.encode(aggregate)

    def decode_state(self, data: bytes, id: str, version: int) -> Aggregate:
        """The instance with the state that the bytes hold.

        Raises:
            EncodingError: they hold none of this class.
        """
        aggregate = self._state.decode(data)
        aggregate.id = id
        aggregate.version = version
        return aggregate

    def state_of(self, aggregate: Aggregate) -> dict[str, Any]:
        """The fields of the state by name, values not copied."""
        return {name: getattr(aggregate, name) for name in self._state.fields}


class ProjectionModel:
    """A projection class.

    Attributes:
        name, version: as stored.
        events: those that it wants.
        queries: by name.
        fingerprint: of the shape of the state and the version; saves with another one are not used.
        on_error, retries: what happens when its `apply` raises.
        merge: adds to a view what another one has seen, or None: it is built in one pass.
        partitions, replicas: how many actors share the view, and how many run the same part.

    Raises:
        TypeError: naming class and field, or query and parameter, and what to do.
    """

    __slots__ = (
        "_apply",
        "_key",
        "_pieces",
        "_state",
        "_wanted",
        "_with_meta",
        "cls",
        "events",
        "fingerprint",
        "merge",
        "name",
        "on_error",
        "partitions",
        "queries",
        "replicas",
        "retries",
        "version",
    )

    def __init__(self, cls: type[Projection], app_events: Iterable[type[Event]]) -> None:
        self.cls = cls
        self.name = cls.__projection_name__
        self.version = cls.__projection_version__
        self.on_error = cls.__on_error__
        self.retries = cls.__retries__
        self._state = _State(cls, _RESERVED_IN_VIEWS, self.version)
        self._pieces = PieceCodec(cls, cls.__name__)
        self.partitions = cls.__partitions__
        self.replicas = cls.__replicas__
        parts = "" if self.partitions == 1 else f"/{self.partitions}"  # of other parts a save is of no use
        self.fingerprint = self._state.fingerprint + parts
        self._key = key_of(cls, self.partitions)
        self.merge = _merge_of(cls)
        apply, wanted = applied_by(cls, parameters=(1, 2))
        if apply is None:
            raise TypeError(f"{cls.__name__} has no apply(self, event, meta): it would stay empty")
        self._apply = apply
        self._with_meta = apply.__code__.co_argcount == 3
        self._wanted = expand(wanted, app_events)
        self.events = EventSet(self._wanted)
        self.queries = {
            name: QueryModel(query, name, f"{cls.__name__}.{name}") for name, query in queries_of(cls).items()
        }
        for query in self.queries.values():
            if self.partitions > 1 and query.key is None and not query.merges:
                raise TypeError(
                    f"{query.where}: which of the {self.partitions} partitions is asked? "
                    "Say @query(key=...) or @query(merge=...)"
                )

    def new(self) -> Projection:
        """A view that has seen nothing yet."""
        return self.cls()

    def apply(self, view: Projection, event: Event, meta: Meta, partition: int = 0) -> None:
        """Apply an event, if the class wants it, to a partition (1, 2, ...) if it belongs there; 0: to a whole view.

        Raises:
            Exception: whatever the class's `apply` or `key` raises.
        """
        if type(event) not in self._wanted:
            return
        if partition and self._key is not None and partition_of(self._key(event, meta), self.partitions) != partition:
            return
        if self._with_meta:
            self._apply(view, event, meta)
        else:
            self._apply(view, event)

    def encode_state(self, view: Projection) -> bytes:
        """The read model as bytes.

        Raises:
            EncodingError: a value does not fit its annotation, as "Balances.total['a']".
        """
        return self._state.codec.encode(view)

    def encode_in_pieces(self, view: Projection) -> Iterator[bytes]:
        """The same bytes, or others that are read as the same read model, piece by piece.

        Raises:
            EncodingError: as `encode_state`.
        """
        return self._pieces.encode(view)

    def decode_state(self, data: bytes) -> Projection:
        """The view with the read model that the bytes hold.

        Raises:
            EncodingError: they hold none of this class.
        """
        return self._state.decode(data)


_aggregates: dict[tuple[type[Any], frozenset[Any]], AggregateModel] = {}
_projections: dict[tuple[type[Any], frozenset[Any]], ProjectionModel] = {}


def aggregate_model(cls: type[Aggregate], app_events: Iterable[type[Event]] = ()) -> AggregateModel:
    """The model of a class, made once. `app_events` matters to a class that names a base class such as `Event`.

    Raises:
        TypeError: as AggregateModel.
    """
    key = (cls, frozenset(app_events))
    model = _aggregates.get(key)
    if model is None:
        resolve(cls)
        model = _aggregates[key] = AggregateModel(cls, key[1])
    return model


def projection_model(cls: type[Projection], app_events: Iterable[type[Event]]) -> ProjectionModel:
    """The model of a class, made once for these events of an app.

    Raises:
        TypeError: as ProjectionModel.
    """
    key = (cls, frozenset(app_events))
    model = _projections.get(key)
    if model is None:
        resolve(cls)
        model = _projections[key] = ProjectionModel(cls, key[1])
    return model
