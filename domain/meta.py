"""Meta: what the store knows of an event, beside the event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Meta:
    """Where and when an event was stored, and what its command said about it.

    Give `Meta(...)` a stream, or an aggregate and an id; tests rarely need more.

    Attributes:
        stream: "Account/alice". `aggregate` and `id` are its two parts.
        version: the event's place in its stream: 1, 2, 3, ...
        shard, position: its place in its shard's log.
        command_id: of the command that returned it.
        metadata: what the caller gave with the command.
    """

    __slots__ = ("_recorded_us", "command_id", "metadata", "position", "shard", "stream", "version")

    stream: str
    version: int
    shard: int
    position: int
    command_id: str | None
    metadata: Mapping[str, Any]
    _recorded_us: int

    def __init__(
        self,
        stream: str = "",
        aggregate: str = "",
        id: str = "",
        version: int = 1,
        shard: int = 0,
        position: int = 1,
        recorded_at: datetime = _EPOCH,
        command_id: str | None = None,
        metadata: Mapping[str, Any] = _NOTHING,
    ) -> None:
        if recorded_at.utcoffset() is None:
            raise ValueError(f"recorded_at={recorded_at!r} is naive: give it a time zone")
        self.stream = stream or f"{aggregate}/{id}"
        self.version = version
        self.shard = shard
        self.position = position
        self._recorded_us = (recorded_at - _EPOCH) // _MICROSECOND
        self.command_id = command_id
        self.metadata = metadata if metadata else {}

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
        """Make one from a stored record, without checks: it is made once per event and view."""
        meta = cls.__new__(cls)
        meta.stream = stream
        meta.version = version
        meta.shard = shard
        meta.position = position
        meta._recorded_us = recorded_at_us
        meta.command_id = command_id
        meta.metadata = metadata
        return meta

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

    def __repr__(self) -> str:
        return (
            f"Meta(stream={self.stream!r}, version={self.version}, shard={self.shard}, position={self.position}, "
            f"recorded_at={self.recorded_at.isoformat()!r}, command_id={self.command_id!r}, "
            f"metadata={dict(self.metadata)!r})"
        )
