"""Shards: where the shards of an app live. Finds their files, makes their actors, and takes back what was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ray.exceptions import RayError

from eventray.domain.errors import EventRayError, ShardUnavailable
from eventray.runtime.channel import TargetLost
from eventray.runtime.front import actor_class
from eventray.runtime.looking import Dealer, look_on, lost
from eventray.runtime.nodes import Node, alive_nodes, id_of, pinned_to, shown, this_node
from eventray.runtime.remote import PATIENCE_S, ask_status, call, end_all, find_actor, kill, patiently
from eventray.runtime.shell import Plan
from eventray.runtime.shell_shard import Shard
from eventray.runtime.status import ShardStatus
from eventray.store.manifest import Manifest

log = logging.getLogger("eventray.runtime")

LOOK_AGAIN_S = 10.0  # for a file that is on none of the nodes; a node that joins is looked at on the next occasion


class Shards:
    """Each shard is pinned to the node that has its file, or it is lost: its node is gone, or its file is.

    A lost shard is looked for on nodes that joined after it was placed. The others have not got its disk: if they see
    its file all the same they are on its machine. (A node that comes back is a new one to Ray, and may join before the
    end of the old one is noticed.)

    Args:
        directory: the actor that the shards ask.
        options: Ray options of an actor by name and namespace.
    """

    def __init__(
        self, plan: Plan, manifest: Manifest, directory: Any, options: Callable[[str, str], dict[str, Any]]
    ) -> None:
        self.actors: dict[int, Any] = {}  # what serves, starts, or is restarted by Ray
        self._plan = plan
        self._manifest = manifest
        self._directory = directory
        self._options = options
        self._lost: dict[int, ShardUnavailable] = {}
        self._alive: dict[str, Node] = {}
        self._bystanders: dict[int, set[str]] = {}  # by shard: nodes on which it is not looked for
        self._counting = asyncio.Lock()
        self._look_at = 0.0

    # starting

    async def place(self, *, resumed: bool) -> None:
        """Make the actor of every shard whose place is found; `resumed`: those that are there go on."""
        await self._count_nodes()
        for index in range(self._manifest.shards) if resumed else ():
            actor = find_actor(_name(index), self._plan.app_name)
            if actor is not None and self._node_of(index) is not None:
                self.actors[index] = actor
                self._bystanders[index] = set(self._alive)
        rest = [index for index in range(self._manifest.shards) if index not in self.actors]
        nodes = list(self._alive.values())
        if not any(self._manifest.node_of(index) or self._manifest.state_of(index) == "created" for index in rest):
            nodes = nodes[:1]  # nothing was ever begun: there are no files to look for
        for index, node in (await self._find(rest, nodes)).items():
            await self._make(index, node)

    async def start(self, *, resumed: bool) -> None:
        """Wait until every shard serves or is lost; `resumed`: or fails, which is no reason to end the others.

        Raises:
            ShardUnavailable: all are lost.
            EventRayError: what is wrong with the file of one that is there.
        """
        indexes = list(self.actors)
        outcomes = await asyncio.gather(*(self._serve(index) for index in indexes), return_exceptions=True)
        for index, outcome in zip(indexes, outcomes, strict=True):
            if isinstance(outcome, ShardUnavailable):
                self._lose(index, outcome.reason)
            elif isinstance(outcome, BaseException) and not resumed:
                raise outcome
        if not self.actors and not resumed:
            raise self._lost[min(self._lost)]

    async def _serve(self, index: int, patience_s: float = float("inf")) -> None:
        """Wait until a shard that was made serves; `ShardUnavailable` when its node is gone, or what it raises."""

        async def attempt() -> None:
            actor = self.actors.get(index)
            if actor is None:
                raise self._lost[index]
            try:
                await call(actor.wake)
            except TargetLost:
                await self._count_nodes()
                raise

        await patiently(attempt, patience_s)

    # what those who call shards ask

    async def locate(self, index: int) -> Any:
        """The actor of a shard. Who asks has perhaps lost it, so nodes are counted first.

        Raises:
            ShardUnavailable: it is lost; the reason says where its file was last seen.
        """
        if index not in self._lost:
            await self._count_nodes()
        self.require(index)
        return self.actors[index]

    def require(self, index: int) -> None:
        """Raise `ShardUnavailable` for a shard that is known to be lost."""
        if index in self._lost:
            raise ShardUnavailable(index, self._lost[index].reason, lost=True)

    def require_place(self, index: int, node: str) -> None:
        """Raise `ShardUnavailable` unless the shard belongs to this node: one that was lost may live on there.

        So a file whose making began on two nodes, one after the other, serves on the last one only.
        """
        if index in self._lost and index not in self.actors:
            raise self._lost[index]
        if id_of(self._manifest.node_of(index)) != node:
            raise ShardUnavailable(index, f"it was given to {shown(self._manifest.node_of(index))}")

    async def statuses(self) -> tuple[ShardStatus, ...]:
        """How every shard stands."""
        return tuple(await asyncio.gather(*(self._status(index) for index in range(self._manifest.shards))))

    async def _status(self, index: int) -> ShardStatus:
        found = self._lost[index] if index in self._lost else await ask_status(self.actors[index])
        if isinstance(found, ShardStatus):
            return found
        reason = found.reason if isinstance(found, ShardUnavailable) else str(found)
        return ShardStatus(index, "unavailable", node=self._manifest.node_of(index), reason=reason)

    # supervision

    async def wake(self) -> None:
        """Make what crashed take up its work again, and make again what someone has ended for good."""
        await asyncio.gather(*(self._wake(index, actor) for index, actor in self.actors.items()))

    async def _wake(self, index: int, actor: Any) -> None:
        found, node = await ask_status(actor), self._node_of(index)
        gone = isinstance(found, TargetLost) and find_actor(_name(index), self._plan.app_name) is None
        if gone and node is not None and index not in self._lost:
            await self._make(index, node)

    async def reconcile(self) -> None:
        """Notice which nodes are gone, and look for what is lost."""
        await self._count_nodes()
        if self._lost and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_AGAIN_S
            found = await self._find(list(self._lost), list(self._alive.values()))
            await asyncio.gather(*(self._take_back(index, node) for index, node in found.items()))

    async def _take_back(self, index: int, node: Node) -> None:
        avoided = self._bystanders.get(index, set())
        await self._make(index, node)
        try:
            await self._serve(index, PATIENCE_S)
        except TargetLost as error:
            self._lose(index, str(error))
            self._bystanders[index] = avoided
        except EventRayError as error:
            self._lose(index, str(error))
            self._bystanders[index] = avoided | {node.id}  # a person must mend that: it is not tried again there
        else:
            del self._lost[index]
            log.warning("shard %d serves again, on node %s", index, node)

    async def _count_nodes(self) -> None:
        async with self._counting:  # one after the other: what is older never replaces what is newer
            try:
                before, self._alive = self._alive, await asyncio.to_thread(_nodes_from_here)
            except RayError as error:  # its head is away: as far as anyone knows all is as it was
                log.warning("the nodes of %s could not be counted: %s", self._plan.app_name, error)
                return
            if self._alive.keys() - before.keys():
                self._look_at = 0.0
            for index in [index for index in self.actors if self._node_of(index) is None]:
                self._lose(index, lost(self._manifest, index).reason)

    def _lose(self, index: int, reason: str) -> None:
        actor = self.actors.pop(index, None)
        if actor is not None:
            kill(actor)  # it may only be cut off, and serve on
            self._lost[index] = ShardUnavailable(index, reason, lost=True)
            log.warning("%s", self._lost[index])

    # placing

    async def _find(self, indexes: Sequence[int], nodes: Collection[Node]) -> dict[int, Node]:
        """Where each of these shards belongs, recorded before anything is made there; what has no place is lost."""
        avoided = {index: self._avoided(index) for index in indexes}
        nodes = [node for node in nodes if any(node.id not in avoid for avoid in avoided.values())]
        seen = await look_on(nodes, str(self._manifest.directory), self._manifest.shards)
        dealer = Dealer(self._manifest, self._alive, {node.id for node in nodes} - {one.node.id for one in seen})
        found: dict[int, Node] = {}
        for index in indexes:
            own = [one for one in seen if one.node.id not in avoided[index]]
            try:
                found[index] = dealer.node_for(index, own)
            except ShardUnavailable as error:
                if index not in self._lost:
                    log.warning("%s", error)
                if index not in self._lost or any(index in one.files for one in own):  # else the old reason says more
                    self._lost[index] = error
        self._manifest.place({index: str(node) for index, node in found.items()})
        return found

    async def _make(self, index: int, node: Node) -> None:
        name = _name(index)
        if find_actor(name, self._plan.app_name) is not None:  # the one before has not ended yet
            await end_all(self._plan.app_name, name.__eq__)
        self._bystanders[index] = set(self._alive)
        self.actors[index] = (
            actor_class(Shard)
            .options(**self._options(name, self._plan.app_name), **pinned_to(node.id))
            .remote(self._plan, self._directory, index)
        )

    def _avoided(self, index: int) -> set[str]:
        return self._bystanders.get(index, set()) if self._manifest.state_of(index) == "created" else set()

    def _node_of(self, index: int) -> Node | None:
        """Its node, if that is alive."""
        return self._alive.get(id_of(self._manifest.node_of(index)))


def _nodes_from_here() -> dict[str, Node]:
    """The nodes that are alive, this one first."""
    here, nodes = this_node(), alive_nodes()
    return {here: nodes[here], **nodes} if here in nodes else nodes


def _name(index: int) -> str:
    return f"shard-{index:04d}"
