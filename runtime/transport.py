"""Transport: how a runtime reaches its targets. All that differs between one process and a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, Protocol

from eventray.domain.errors import UnknownName
from eventray.runtime.app import App
from eventray.runtime.channel import Channel
from eventray.runtime.rebuild_fold import Folded
from eventray.runtime.status import Status
from eventray.runtime.units import Unit
from eventray.store.port import CheckpointPort, ShardPort


class Transport(Protocol):
    """Where an app runs."""

    @property
    def app(self) -> App:
        """The app that runs there (known after `start`)."""
        ...

    @property
    def shards(self) -> Mapping[int, ShardPort]:
        """Its shards (known after `start`)."""
        ...

    async def start(self) -> None:
        """Wait until the app serves; EventRayError when it cannot."""
        ...

    async def connect(self, target: Hashable, client: str) -> Channel:
        """The live incarnation of a target; TargetLost."""
        ...

    def target_of(self, aggregate: str, stream: str) -> Hashable:
        """Where commands go of the instance of an aggregate that has this stream."""
        ...

    def shard_of(self, stream: str) -> int:
        """The shard of a stream."""
        ...

    @property
    def generation(self) -> int:
        """The store's generation (known after `start`)."""
        ...

    async def heads(self) -> dict[int, int]:
        """The last position of every shard."""
        ...

    async def status(self) -> Status:
        """How the app stands."""
        ...

    @property
    def checkpoints(self) -> CheckpointPort:
        """Where views and subscriptions are kept (known after `start`)."""
        ...

    @property
    def units(self) -> tuple[Unit, ...]:
        """What its views are made of (known after `start`)."""
        ...

    @property
    def serving(self) -> Mapping[str, int]:
        """The version of each view that serves, as far as is known here (after `start`)."""
        ...

    async def manage(self, unit: Unit, method: str, *args: Any) -> Any:
        """Call one of a unit's methods that are not queries (`retry`, `drop`, `take_over`...) in its process, once."""
        ...

    async def switch(self, view: str, version: int) -> None:
        """Let another version of a view serve."""
        ...

    def fold(self, unit: Unit, upto: Mapping[int, int], say: Callable[[int], None]) -> Coroutine[Any, Any, Any]:
        """Make a unit anew from the log up to these positions, beside those that serve; `say(n)` hears of events.

        Gives what `manage(unit, "take_over", ...)` takes, and `fetch`. Cancelling ends it.
        """
        ...

    async def fetch(self, folded: Any) -> Folded:
        """What `fold` has made, brought here."""
        ...

    async def leave(self) -> None:
        """End the connection; ends the app too where this client's lease holds it up."""
        ...

    async def shutdown(self) -> None:
        """Drain and end the app."""
        ...


def units_of_view(transport: Transport, view: str, version: int | None = None) -> list[Unit]:
    """The units of a view, in all its versions or in one; 0: in the one that serves.

    Raises:
        UnknownName: there is no such view, or not in that version.
    """
    found = [unit for unit in transport.units if unit.view == view]
    if not found:
        raise UnknownName("projection", view, tuple(dict.fromkeys(unit.view for unit in transport.units)))
    if version is None:
        return found
    wanted = version or transport.serving[view]
    known = tuple(dict.fromkeys(str(unit.version) for unit in found))
    if str(wanted) not in known:
        raise UnknownName(f"version of {view}", str(wanted), known)
    return [unit for unit in found if unit.version == wanted]


def view_target(unit: Unit, *, own: bool = False) -> Hashable:
    """The target of a view's queries; with `own` whether or not the unit's version serves."""
    return ("view", (unit, own))


def shard_target(index: int) -> Hashable:
    """The target of the commands of a shard's packed instances."""
    return ("shard", index)


def activation_target(stream: str) -> Hashable:
    """The target of a dedicated instance's commands."""
    return ("activation", stream)
