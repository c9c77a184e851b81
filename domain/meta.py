"""Meta: what the store knows of an event, beside the event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, repeat
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Told(Protocol):
    """What callers said with the commands of some events, by index; it may be read when it is asked for."""

    @property
    def command_ids(self) -> Sequence[str | None]:
        """The ids of the commands."""
        ...

    @property
    def metadata(self) -> Sequence[Mapping[str, Any]]:
        """What was given with them."""
        ...


class _ToldOfOne(NamedTuple):
    command_ids: tuple[str | None]
    metadata: tuple[Mapping[str, Any]]


def _part(index: int) -> Any:
    return property(itemgetter(index))


class Meta(tuple[Any, ...]):
    """Where and when an event was stored, and what its command said about it. It does not change.

    Give `Meta(...)` a stream, or an aggregate and an id; tests rarely need more.

    Attributes:
        stream: "Account/alice". `aggregate` and `id` are its two parts.
        version: the event's place in its stream: 1, 2, 3, ...
        shard, position: its place in its shard's log.
        command_id: of the command that returned it.
        metadata: what the caller gave with the command.
    """

    # A tuple of (stream, version, shard, position, microseconds, Told, index in that): nothing is made faster, and a
    # view gets one for each event. Few ask for what callers said, so that is looked up when it is asked for.
    __slots__ = ()

    stream: str = _part(0)
    version: int = _part(1)
    shard: int = _part(2)
    position: int = _part(3)
    _recorded_us: int = _part(4)
    _told: Told = _part(5)
    _at: int = _part(6)

    def __new__(
        cls,
        stream: str = "",
        aggregate: str = "",
        id: str = "",
        version: int = 1,
        shard: int = 0,
        position: int = 1,
        recorded_at: datetime = _EPOCH,
        command_id: str | None = None,
        metadata: Mapping[str, Any] = _NOTHING,
    ) -> Meta:
        """Make one for a test."""
        if recorded_at.utcoffset() is None:
            raise ValueError(f"recorded_at={recorded_at!r} is naive: give it a time zone")
        recorded_us = (recorded_at - _EPOCH) // _MICROSECOND
        return cls.of(stream or f"{aggregate}/{id}", version, shard, position, recorded_us, command_id, metadata)

    @classmethod
    def of(
        cls,
        stream: str,
        version: int,
        shard: int,
        position: int,
        recorded_at_us: int,
        command_id: str | None,
        metadata: Mapping[str, Any],
    ) -> Meta:
        """Make one from a stored record, without checks."""
        told = _ToldOfOne((command_id,), (metadata or {},))
        return tuple.__new__(cls, (stream, version, shard, position, recorded_at_us, told, 0))

    @staticmethod
    def of_columns(
        streams: Iterable[str],
        versions: Iterable[int],
        shard: int,
        positions: Iterable[int],
        recorded_at_us: Iterable[int],
        told: Told,
    ) -> Iterator[Meta]:
        """Make those of many stored records."""
        fields = zip(streams, versions, repeat(shard), positions, recorded_at_us, repeat(told), count(), strict=False)
        return map(_new_meta, fields)

    @property
    def command_id(self) -> str | None:
        """The id of the command that returned it."""
        return self._told.command_ids[self._at]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the caller gave with the command."""
        return self._told.metadata[self._at]

    @property
    def aggregate(self) -> str:
        """The stored name of the aggregate: what stands before the first "/" of the stream."""
        return self.stream.partition("/")[0]

    @property
    def id(self) -> str:
        """The instance's id: what stands behind the first "/" of the stream."""
        return self.stream.partition("/")[2]

    @property
    def recorded_at(self) -> datetime:
        """When it was stored (UTC, microseconds; strictly rising in a shard)."""
        return _EPOCH + timedelta(microseconds=self._recorded_us)

    @property
    def event_id(self) -> str:
        """A name for the event that no other has: "Account/alice@7"."""
        return f"{self.stream}@{self.version}"

    def _key(self) -> tuple[Any, ...]:
        place = (self.stream, self.version, self.shard, self.position)
        return (*place, self._recorded_us, self.command_id, dict(self.metadata))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Meta) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.stream, self.version))

    def __reduce__(self) -> tuple[Any, ...]:
        *place, recorded_us = self[:5]
        return Meta.of, (*place, recorded_us, self.command_id, dict(self.metadata))

    def __repr__(self) -> str:
        return (
            f"Meta(stream={self.stream!r}, version={self.version}, shard={self.shard}, position={self.position}, "
            f"recorded_at={self.recorded_at.isoformat()!r}, command_id={self.command_id!r}, "
            f"metadata={dict(self.metadata)!r})"
        )


_new_meta: Any = partial(tuple.__new__, Meta)
