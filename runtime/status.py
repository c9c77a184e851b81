"""What `runtime.status()` tells: plain facts about shards, views and activations at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from eventray.runtime.units import Unit


@dataclass(frozen=True, slots=True)
class AggregateStatus:
    """The activations of one aggregate class.

    `active` are in memory now. `started`, `passivated` and `restarts` (of processes that crashed) count since `since`:
    for Dedicated the start of the Directory, for Packed that of the shard which started last (those that run for
    longer have counted since their own). Packed activations have no processes of their own: no `restarts`.
    `warning`: what the runtime has to say about them, or empty.
    """

    name: str
    placement: Literal["Dedicated", "Packed"]
    active: int
    started: int
    passivated: int
    restarts: int | None
    since: datetime
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: `head` is its last position, `active` its packed instances, `pending` their waiting commands.

    `packed`: its part of the packed activations, by class.

    `lost_with_power`: opened after a power cut with `durability="os"`, it may have lost its last commits.
    """

    index: int
    state: Literal["serving", "unavailable"]
    head: int = 0
    epoch: int = 0
    active: int = 0
    pending: int = 0
    pid: int = 0
    node: str = ""
    reason: str = ""
    lost_with_power: bool = False
    packed: tuple[AggregateStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view: `applied` counts events since its process began; when it has stopped, `reason` says where and why.

    `parked`: events that it could not apply and left behind as dead letters. A view of several versions, partitions
    (from 1; 0: not partitioned) or replicas is listed once for each; `serves`: its version answers for the view.
    """

    name: str
    state: Literal["recovering", "following", "stopped", "unavailable"]
    positions: dict[int, int]
    applied: int = 0
    reason: str = ""
    pid: int = 0
    node: str = ""
    parked: int = 0
    version: int = 1
    partition: int = 0
    replica: int = 1
    serves: bool = True

    @property
    def unit(self) -> Unit:
        """Which one it is."""
        return Unit(self.name, self.version, self.partition, self.replica)


@dataclass(frozen=True, slots=True)
class ActivationStatus:
    """One dedicated activation.

    "silent": it did not answer now, since it starts, computes or is gone; `pid` and `node` are the last known ones.
    """

    stream: str
    state: Literal["active", "silent"] = "active"
    pending: int = 0
    idle_s: float = 0.0
    pid: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """An app at one moment: its parts, the dedicated activations one by one, and all activations by class.

    `lag` of a view is heads minus its positions.
    """

    app: str
    data: str
    local: bool
    shards: tuple[ShardStatus, ...]
    views: tuple[ViewStatus, ...]
    activations: tuple[ActivationStatus, ...] = ()
    aggregates: tuple[AggregateStatus, ...] = ()

    def lag(self, view: ViewStatus) -> int:
        """Events that a view has still to look at, over all shards."""
        return sum(max(0, shard.head - view.positions.get(shard.index, 0)) for shard in self.shards)


def added_up(shards: Iterable[ShardStatus]) -> tuple[AggregateStatus, ...]:
    """The packed activations of all shards that answered, by class."""
    parts: dict[str, list[AggregateStatus]] = {}
    for shard in shards:
        for part in shard.packed:
            parts.setdefault(part.name, []).append(part)
    return tuple(_sum(same) for same in parts.values())


def _sum(parts: Sequence[AggregateStatus]) -> AggregateStatus:
    return AggregateStatus(
        parts[0].name,
        parts[0].placement,
        sum(part.active for part in parts),
        sum(part.started for part in parts),
        sum(part.passivated for part in parts),
        None,
        max(part.since for part in parts),
    )
