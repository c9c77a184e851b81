"""Units: the actors that a view is made of. Each follows the log, is saved, parks and answers for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from eventray.runtime.model import ProjectionModel


class Unit(NamedTuple):
    """One copy of one partition of one version of a view.

    Its text is the name of its saves and dead letters, and after `view/` of its actor: `Balances`, of version 2
    `Balances@2`, of partition 3 (they count from 1; 0: not partitioned) `Balances#3`, the second copy `Balances~2`.
    """

    view: str
    version: int = 1
    partition: int = 0
    replica: int = 1

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version > 1 else ""
        partition = f"#{self.partition}" if self.partition else ""
        replica = f"~{self.replica}" if self.replica > 1 else ""
        return f"{self.view}{version}{partition}{replica}"


SEPARATORS = "/@#~"  # no view has one of them in its name


def units_of(model: ProjectionModel) -> Iterator[Unit]:
    """The units of one version of a view."""
    for partition in partitions_of(model):
        for replica in range(1, model.replicas + 1):
            yield Unit(model.name, model.version, partition, replica)


def partitions_of(model: ProjectionModel) -> range:
    """The numbers of its partitions; 0 alone where it has but one."""
    return range(1, model.partitions + 1) if model.partitions > 1 else range(1)
