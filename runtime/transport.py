"""Transport: how a runtime reaches its targets. All that differs between one process and a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from eventray.runtime.app import App
from eventray.runtime.channel import Channel
from eventray.runtime.rebuild_fold import Folded
from eventray.runtime.status import Status
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

    def target_of(self, aggregate: str, id: str) -> Hashable:
        """Where commands of an instance go."""
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
    def views(self) -> tuple[str, ...]:
        """The names of its views (known after `start`)."""
        ...

    async def manage(self, view: str, method: str, *args: Any) -> Any:
        """Call one of a view's methods that are not queries (`retry`, `drop`, `take_over`) in its process, once."""
        ...

    async def fold(self, view: str, upto: Mapping[int, int], say: Callable[[int], None]) -> Any:
        """Make a view anew from the log up to these positions, beside those that serve; `say(n)` hears of events.

        Gives what `manage(view, "take_over", ...)` takes, and `fetch`. Cancelling ends it.
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


def view_target(name: str) -> Hashable:
    """The target of a view's queries."""
    return ("view", name)


def shard_target(index: int) -> Hashable:
    """The target of the commands of a shard's packed instances."""
    return ("shard", index)


def activation_target(stream: str) -> Hashable:
    """The target of a dedicated instance's commands."""
    return ("activation", stream)
