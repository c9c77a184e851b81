"""Projection and `@query`: what a user derives from and marks to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    dataclass_transform,
    get_args,
    overload,
)

from eventray.domain.fields import check_stored_name, defining_frame, make_dataclass
from eventray.domain.messages import Receipt
from eventray.domain.own import Own, set_own
from eventray.domain.response import Answer

P = ParamSpec("P")
V = TypeVar("V")
R = TypeVar("R")

ACTORS_MAX = 256  # partitions or replicas of a view; each is a process

OnError: TypeAlias = Literal["stop", "park"]
"""What a view does with an event that it cannot apply."""

Positions: TypeAlias = Receipt | Sequence[Receipt] | Mapping[int, int] | None
"""What a query may wait for: a receipt, several, or a position per shard (as `heads()` gives)."""


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Projection:
    """Folds events into a read model in memory. The annotated attributes with defaults are the model.

    `apply(self, event, meta)` changes it; the annotation of `event` says which events it gets. Methods marked
    `@query` read it.

    Class keywords: `name=` is the stored name (else the class name); raise `version=` when `apply` changes its
    meaning, so that the view is built anew from the log: alone, or beside the class of the version before it, with the
    same `name=`, in its shadow until `runtime.switch(...)`. When `apply` raises, the view is taken back to what it was
    before the event and the event is applied again, up to `retries=` times (3); then `on_error=` says what happens:
    "stop" (the default) keeps the last good state serving, until the app is started again with an `apply` that works;
    "park" leaves the event behind as a dead letter and goes on. A derived class has what its base class has.

    `partitions=n` spreads the view over n actors. A static method `key(event, meta)` says to which an event belongs:
    the str, int or bytes that it gives is hashed, and each actor applies the events of its own keys. Each reads the
    whole log, though, and decodes what it wants of it. A query then says where it goes: `@query(key="id")`, to the one
    that has the key in parameter `id`; `@query(merge=sum)`, to all, and `sum` makes one answer of a list of theirs (see
    `query`). `replicas=n` runs each of these actors n times for more reads: a client asks them in turn.

    A method `merge(self, other)` lets the view be built in parallel: it adds to this view all that `other`, another
    instance of the class, has seen. The two have followed different shards, so different streams, from their beginning;
    what belongs to one stream is in one of them, and which of two streams came first means nothing. Sums, counts and
    dicts by id can be merged; what depends on the order of events of different streams (a list of the latest, a
    running rank) cannot: leave `merge` away, and the view is built in one pass in the order of time. The test kit's
    `given(...).then_merges()` compares both.

    Raises:
        ValueError: a keyword that cannot be, naming it.
    """

    __projection_name__ = Own[str]()
    __projection_version__ = Own[int]()
    __on_error__: ClassVar[OnError] = "stop"
    __retries__: ClassVar[int] = 3
    __partitions__: ClassVar[int] = 1
    __replicas__: ClassVar[int] = 1

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        on_error: OnError | None = None,
        retries: int | None = None,
        partitions: int | None = None,
        replicas: int | None = None,
        **keywords: Any,
    ) -> None:
        super().__init_subclass__(**keywords)
        check_stored_name(cls, cls.__name__ if name is None else name, version)
        set_own(cls, projection_name=cls.__name__ if name is None else name, projection_version=version)
        if on_error is not None:
            if on_error not in get_args(OnError):
                raise ValueError(f"{cls.__name__}: on_error={on_error!r}: choose 'stop' (the default) or 'park'")
            cls.__on_error__ = on_error
        if retries is not None:
            if type(retries) is not int or retries < 0:
                raise ValueError(f"{cls.__name__}: retries={retries!r} must be 0, 1, 2, ...")
            cls.__retries__ = retries
        if partitions is not None:
            cls.__partitions__ = _count(cls, "partitions", partitions)
        if replicas is not None:
            cls.__replicas__ = _count(cls, "replicas", replicas)
        make_dataclass(cls, defining_frame(), frozen=False, kw_only=True)


def _count(cls: type[Any], keyword: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= ACTORS_MAX:
        raise ValueError(f"{cls.__name__}: {keyword}={value!r} must be 1 to {ACTORS_MAX}")
    return value


class BoundQuery(Generic[P, R]):
    """A query of a view: call it, or, on a handle, ask it with `.remote()`."""

    __slots__ = ("_instance", "_query")

    def __init__(self, query: QueryDescriptor[Any, P, R], instance: object) -> None:
        self._query = query
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer of this very view."""
        return self._query.function(self._instance, *args, **kwargs)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """Ask the view (on a handle, as `runtime.view` returns it).

        Raises:
            RuntimeError: on a plain instance, in an apply, a query or a test.
        """
        self._refuse("remote")

    def options(
        self, *, after: Positions = None, timeout: float | None = None, stale: Literal["raise", "serve"] = "raise"
    ) -> BoundQuery[P, R]:
        """The same query, answered once the view has applied `after` (on a handle).

        Args:
            after: a receipt, several, or positions per shard.
            timeout: seconds to wait for the view.
            stale: what then happens: "raise" `StaleView`, or "serve" what the view has.

        Raises:
            RuntimeError: on a plain instance.
        """
        self._refuse("options")

    def _refuse(self, method: str) -> NoReturn:
        name = f"{type(self._instance).__name__}.{self._query.name}"
        raise RuntimeError(
            f"{name}.{method}() on a plain instance: inside apply and queries nothing is sent. "
            f"Call {self._query.name}(...), or ask it through runtime.view(...)"
        )

    def __repr__(self) -> str:
        return f"<query {type(self._instance).__name__}.{self._query.name}>"


class UnboundQuery(Generic[P, R]):
    """A query of a class."""

    __slots__ = ("_query", "owner")

    def __init__(self, query: QueryDescriptor[Any, P, R], owner: type[Any]) -> None:
        self._query = query
        self.owner = owner

    @property
    def name(self) -> str:
        """The method's name."""
        return self._query.name

    @property
    def function(self) -> Callable[..., R]:
        """The method as written."""
        return self._query.function

    def __repr__(self) -> str:
        return f"<query {self.owner.__name__}.{self.name}>"


class QueryDescriptor(Generic[V, P, R]):
    """What `@query` leaves in the class."""

    def __init__(
        self,
        function: Callable[Concatenate[V, P], R],
        key: str | None = None,
        merge: Callable[..., R] | None = None,
    ) -> None:
        self.function: Callable[..., R] = function
        self.key = key
        self.merge = merge
        self.name: str = getattr(function, "__name__", "query")
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> UnboundQuery[P, R]: ...
    @overload
    def __get__(self, instance: V, owner: type[Any] | None = None) -> BoundQuery[P, R]: ...
    def __get__(self, instance: V | None, owner: type[Any] | None = None) -> UnboundQuery[P, R] | BoundQuery[P, R]:
        if instance is None:
            assert owner is not None
            return UnboundQuery(self, owner)
        return BoundQuery(self, instance)


class _Marker(Protocol):
    """`@query(...)` with keywords."""

    def __call__(self, function: Callable[Concatenate[V, P], R], /) -> QueryDescriptor[V, P, R]: ...


@overload
def query(function: Callable[Concatenate[V, P], R], /) -> QueryDescriptor[V, P, R]: ...
@overload
def query(*, key: str | None = None, merge: Callable[..., Any] | None = None) -> _Marker: ...
def query(
    function: Callable[..., Any] | None = None, /, *, key: str | None = None, merge: Callable[..., Any] | None = None
) -> Any:
    """Mark a method as a query: it reads the view and returns a value of its annotated return type.

    In a projection with partitions it says in addition where it is asked.

    Args:
        key: the parameter whose value is the key (as the projection's `key` gives it) of the one partition to ask.
        merge: all are asked, and this makes one answer of the list of theirs: `merge=sum`. It runs in the caller's
            process. Parameters of it that have the name of one of the query's get the same value: so
            `merge=lambda parts, n: heapq.nlargest(n, itertools.chain(*parts))` for a query with a parameter `n`.
    """
    if function is not None:
        return QueryDescriptor(function)
    return lambda function: QueryDescriptor(function, key, merge)


def queries_of(cls: type[Any]) -> dict[str, QueryDescriptor[Any, ..., Any]]:
    """The queries of a class by name, inherited ones included."""
    found: dict[str, QueryDescriptor[Any, ..., Any]] = {}
    for owner in reversed(cls.__mro__):
        for name, attribute in vars(owner).items():
            if isinstance(attribute, QueryDescriptor):
                found[name] = attribute
            else:
                found.pop(name, None)
    return found
