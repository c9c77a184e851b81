"""What `runtime.status()` tells: plain facts about shards, views and activations at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: `head` is its last position, `active` its packed instances, `pending` their waiting commands.

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


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view: `applied` counts events since its process began; when it has stopped, `reason` says where and why.

    `parked`: events that it could not apply and left behind as dead letters.
    """

    name: str
    state: Literal["recovering", "following", "stopped", "unavailable"]
    positions: dict[int, int]
    applied: int = 0
    reason: str = ""
    pid: int = 0
    node: str = ""
    parked: int = 0


@dataclass(frozen=True, slots=True)
class ActivationStatus:
    """One dedicated activation."""

    stream: str
    pending: int = 0
    idle_s: float = 0.0
    pid: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """An app at one moment. `lag` of a view is heads minus its positions."""

    app: str
    data: str
    local: bool
    shards: tuple[ShardStatus, ...]
    views: tuple[ViewStatus, ...]
    activations: tuple[ActivationStatus, ...] = ()

    def lag(self, view: ViewStatus) -> int:
        """Events that a view has still to look at, over all shards."""
        return sum(max(0, shard.head - view.positions.get(shard.index, 0)) for shard in self.shards)
