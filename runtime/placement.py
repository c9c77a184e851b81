"""Placement: where the activations of an aggregate class live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_NAMED_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus"}  # what Ray wants under its own name, not among the resources


def _check(name: str, value: float | None, *, above_zero: bool) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 if above_zero else value >= 0):
        raise ValueError(f"{name}={value!r}: must be a number {'above 0' if above_zero else 'of at least 0'}")


def _check_count(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name}={value!r}: must be a whole number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dedicated:
    """Each active instance is a Ray actor of its own: isolated, with its own resources and line in the dashboard.

    Args:
        num_cpus, num_gpus, resources, label_selector: of each instance's actor, as Ray takes them.
        idle_timeout: seconds without a command after which an instance leaves memory.
        max_active: instances of the class in memory at once, on each node; None: 16 for each core of the node, or one
            for each 128 MiB of its memory (both as Ray counts them) where that is less, and at least 4. A node never
            takes more than the resources asked for allow, and one without CPUs none while there are others.

    The next one goes to the node with the fewest, or with resources or labels asked for to where Ray puts it. When
    there is no room the one that was used least recently leaves, never one with work: a new one waits for that.

    Raises:
        ValueError: naming the option.
    """

    num_cpus: float = 0
    num_gpus: float = 0
    resources: Mapping[str, float] | None = field(default=None, hash=False)
    label_selector: Mapping[str, str] | None = field(default=None, hash=False)
    idle_timeout: float = 300.0
    max_active: int | None = None

    def __post_init__(self) -> None:
        _check("num_cpus", self.num_cpus, above_zero=False)
        _check("num_gpus", self.num_gpus, above_zero=False)
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"num_gpus={self.num_gpus!r}: Ray gives a part of one GPU, or whole ones")
        for name, amount in (self.resources or {}).items():
            if name in _NAMED_OPTIONS:
                raise ValueError(f"resources={{{name!r}: ...}}: use {_NAMED_OPTIONS[name]}=")
            _check(f"resources[{name!r}]", amount, above_zero=False)
        _check("idle_timeout", self.idle_timeout, above_zero=True)
        _check_count("max_active", self.max_active)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Instances live in their shard's actor: about 0.7 KB each above their state, one hop instead of two.

    Args:
        idle_timeout: seconds without a command after which an instance leaves memory.
        max_active: instances of the class in memory at once, per shard. Above it the one that was used least recently
            leaves; while all have work there may be more.

    Raises:
        ValueError: naming the option.
    """

    idle_timeout: float = 300.0
    max_active: int = 100_000

    def __post_init__(self) -> None:
        _check("idle_timeout", self.idle_timeout, above_zero=True)
        _check_count("max_active", self.max_active)


Placement = Dedicated | Packed
