"""Nodes: what the engine has to know of the machines of a Ray cluster, and how to keep an actor on one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NODE_SHOWN_CHARS = 12


# Actors are dealt round over the nodes. Ray places one that needs nothing at random, so each needs some memory.
SPREAD: dict[str, Any] = {"scheduling_strategy": "SPREAD", "memory": 1 << 20}


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive. A machine that comes back is another node: its id is new."""

    id: str
    address: str
    cpus: float
    memory_bytes: float
    labels: Mapping[str, str]
    resources: Mapping[str, float]  # all it has, whoever uses them now

    def __str__(self) -> str:
        """Who it is and where, as `store.json` records it."""
        return f"{self.id} at {self.address}"


def id_of(recorded: str) -> str:
    """The id of a node that `store.json` records."""
    return recorded.partition(" ")[0]


def shown(recorded: str) -> str:
    """A recorded node as a message names it, like "node 3fa2cd90b1e4 at 10.0.0.5"."""
    id, at, address = recorded.partition(" ")
    return f"node {id[:NODE_SHOWN_CHARS]}{at}{address}"


def alive_nodes() -> dict[str, Node]:
    """The nodes of the cluster by id, in the order of their ids. One call to the head, about a millisecond."""
    entries: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = sorted((entry for entry in entries if entry["Alive"]), key=lambda entry: str(entry["NodeID"]))
    return {entry["NodeID"]: _node(entry) for entry in alive}


def this_node() -> str:
    """The id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def pinned_to(node_id: str) -> dict[str, Any]:
    """Options that keep an actor or task on a node (a soft affinity is mostly ignored).

    When the node is gone for good they fail with `ActorUnschedulableError`, or its like for tasks.
    """
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)}


def _node(entry: Mapping[str, Any]) -> Node:
    resources = entry["Resources"]
    return Node(
        entry["NodeID"],
        entry["NodeManagerAddress"],
        float(resources.get("CPU", 0)),
        float(resources.get("memory", 0)),
        dict(entry.get("Labels") or {}),
        dict(resources),
    )
