"""Room: how many dedicated activations of a class each node takes, and where the next one goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eventray.runtime.placement import Dedicated

if TYPE_CHECKING:
    from eventray.runtime.nodes import Node  # it imports Ray

ACTIVATIONS_PER_CORE = 16  # an idle one takes 0.8 % of a core ...
BYTES_PER_ACTIVATION = 64 << 20  # ... and about 48 MB; half of the memory is for them
ACTIVATIONS_LEAST = 4

Nodes = Mapping[str, "Node"]


def chosen_by_ray(placement: Dedicated) -> bool:
    """Whether Ray finds the node of each: it knows what is free of the resources that are asked for."""
    return bool(demand(placement) or placement.label_selector)


def demand(placement: Dedicated) -> dict[str, float]:
    """The resources of each activation, by Ray's names."""
    named = {"CPU": placement.num_cpus, "GPU": placement.num_gpus, **(placement.resources or {})}
    return {name: amount for name, amount in named.items() if amount}


def rooms(placement: Dedicated, nodes: Nodes) -> dict[str, int]:
    """How many activations of the class each node takes, as long as nothing else uses its resources."""
    usable = nodes
    if not chosen_by_ray(placement):  # a node without CPUs is not meant for work
        usable = {id: node for id, node in nodes.items() if node.cpus} or nodes
    return {id: _room_on(placement, node) for id, node in usable.items()}


def default_max_active(node: Node) -> int:
    """How many activations of a class a node carries: by its cores and its memory, as Ray counts them."""
    by_cores = int(node.cpus * ACTIVATIONS_PER_CORE)
    by_memory = int(node.memory_bytes / 2 / BYTES_PER_ACTIVATION)
    return max(ACTIVATIONS_LEAST, min(by_cores, by_memory))


def best_node(room: Mapping[str, int], of_class: Counter[str], of_all: Counter[str]) -> str | None:
    """The node with room that has the fewest activations of the class, then of all; None: all are full."""
    free = [id for id, most in room.items() if of_class[id] < most]
    return min(free, key=lambda id: (of_class[id], of_all[id]), default=None)


def lacking(name: str, placement: Dedicated, nodes: Nodes) -> str:
    """Why no node can ever take an activation of the class, or empty."""
    if any(rooms(placement, nodes).values()):
        return ""
    asked = ", ".join(f"{what}: {amount:g}" for what, amount in demand(placement).items())
    labels = ", ".join(f"{key}: {value}" for key, value in (placement.label_selector or {}).items())
    wanted = " and ".join(filter(None, [asked, labels and f"labels {labels}"]))
    offers = "; ".join(_offer(node, placement) for node in nodes.values())
    return f"no node of the cluster offers what each {name} asks for ({wanted}). There is: {offers or 'no node'}"


def _room_on(placement: Dedicated, node: Node) -> int:
    if not all(_fits(value, node.labels.get(key)) for key, value in (placement.label_selector or {}).items()):
        return 0
    most = placement.max_active or default_max_active(node)
    for what, amount in demand(placement).items():
        most = min(most, int(node.resources.get(what, 0) / amount + 1e-9))  # 1 / 0.1 may be 9.99...
    return most


def _fits(wanted: str, label: str | None) -> bool:
    """Whether a label is as Ray's selector says: `a`, `in(a, b)`, `!a` or `!in(a, b)`."""
    positive = wanted.removeprefix("!")
    listed = positive.removeprefix("in(").removesuffix(")") if positive.startswith("in(") else positive
    among = label in [value.strip() for value in listed.split(",")]
    return among is not wanted.startswith("!")


def _offer(node: Node, placement: Dedicated) -> str:
    shown = ", ".join(f"{what}: {amount:g}" for what, amount in _plain(node.resources).items())
    labels = ", ".join(f"{key}: {value}" for key, value in node.labels.items()) if placement.label_selector else ""
    return f"{node.address} with {shown}" + (f" and labels {labels}" if labels else "")


def _plain(resources: Mapping[str, float]) -> dict[str, float]:
    """Without what Ray adds for itself, and memory, which is no number of pieces."""
    return {
        name: amount
        for name, amount in resources.items()
        if not name.startswith("node:") and name not in ("memory", "object_store_memory")
    }
