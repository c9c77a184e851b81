"""Looking for shards: which nodes see which files, and on which node each shard belongs.

Every node has a disk of its own under the same path. Several nodes of one machine see the same files: a file is known
by its machine, device and inode, so that it counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ray
from ray.exceptions import RayError

from eventray.domain.errors import ShardUnavailable
from eventray.runtime.nodes import Node, id_of, pinned_to, shown, this_node
from eventray.store.lock import boot_id
from eventray.store.manifest import Manifest
from eventray.store.moving import shard_file

log = logging.getLogger("eventray.runtime")

LOOK_S = 15.0  # a worker process may have to be started for it


class FileSeen(NamedTuple):
    """A shard's file: device and inode tell it from others on its machine."""

    device: int
    inode: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What one node sees of a store; `machine` is the same for all nodes of one machine, until it boots again."""

    node: Node
    machine: str
    files: Mapping[int, FileSeen]


def look(directory: str, shards: int) -> tuple[str, dict[int, FileSeen]]:
    """This machine's boot, and the shards whose files are in `directory` here."""
    files: dict[int, FileSeen] = {}
    for index in range(shards):
        with contextlib.suppress(OSError):
            found = Path(directory, shard_file(index, "db")).stat()
            files[index] = FileSeen(found.st_dev, found.st_ino, found.st_size)
    return boot_id(), files


async def look_on(nodes: Collection[Node], directory: str, shards: int) -> list[Seen]:
    """Look on these nodes side by side. A node that cannot be looked at in time is not among the answers."""
    seen = await asyncio.gather(*(_look_on(node, directory, shards) for node in nodes))
    return [one for one in seen if one is not None]


async def _look_on(node: Node, directory: str, shards: int) -> Seen | None:
    if node.id == this_node():  # needs no process of its own
        boot, files = await asyncio.to_thread(look, directory, shards)
        return Seen(node, boot or node.address, files)
    task = ray.remote(look).options(num_cpus=0, max_retries=0, **pinned_to(node.id)).remote(directory, shards)
    try:
        boot, files = await asyncio.wait_for(task, LOOK_S)
    except (RayError, TimeoutError) as error:
        log.warning("node %s could not be looked at: %s", node, type(error).__name__)
        return None
    return Seen(node, boot or node.address, files)


class Dealer:
    """Finds the node of one shard after the other; what may be on any node is dealt round, in the order of `nodes`.

    Args:
        nodes: those that are alive.
        unseen: ids of those that should have been looked at and could not be.
    """

    def __init__(self, manifest: Manifest, nodes: Mapping[str, Node], unseen: Collection[str] = ()) -> None:
        self._manifest = manifest
        self._nodes = nodes
        self._unseen = unseen
        self._dealt: Counter[str] = Counter()

    def node_for(self, index: int, seen: Sequence[Seen]) -> Node:
        """The node on which a shard belongs.

        A file that was made must be there. A shard whose making was not recorded as done has never answered anyone: it
        stays on the node that began, and starts anew on any other once that one is gone.

        Raises:
            ShardUnavailable: its file is nowhere, or there are two.
        """
        last = id_of(self._manifest.node_of(index))
        having = [one.node for one in _one_file(index, seen)]
        if self._manifest.state_of(index) == "created":
            if not having or last in self._unseen:  # a file elsewhere may be a second one
                raise lost(self._manifest, index)
        elif not having:
            having = [self._nodes[last]] if last in self._nodes else list(self._nodes.values())
        found = next((node for node in having if node.id == last), None)
        found = found or min(having, key=lambda node: self._dealt[node.id])
        self._dealt[found.id] += 1
        return found


def lost(manifest: Manifest, index: int) -> ShardUnavailable:
    """The error of a shard whose file is on no node that is there: where it was last seen, and what to do."""
    path, node = manifest.directory / shard_file(index, "db"), manifest.node_of(index)
    back = "that node is back or another one" if node else "a node"
    where = f"was last seen on {shown(node)}" if node else "is on no node"
    return ShardUnavailable(
        index, f"its file {where}. It serves again, without a restart, when {back} has {path}", lost=True
    )


def _one_file(index: int, seen: Sequence[Seen]) -> list[Seen]:
    having = [one for one in seen if index in one.files]
    files = {(one.machine, *one.files[index][:2]): one for one in having}
    if len(files) > 1:
        places = ", ".join(f"{shown(str(one.node))} ({one.files[index].size_bytes} bytes)" for one in files.values())
        reason = f"there are different files {shard_file(index, 'db')} on {places}: move all but the right one away"
        raise ShardUnavailable(index, reason, lost=True)
    return having
