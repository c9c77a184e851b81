"""Channel: the way to one incarnation of a target, as a link knows it; a transport makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Protocol

from eventray.domain.errors import EventRayError
from eventray.runtime.wire import Batch, Reply


class TargetLost(Exception):  # noqa: N818  (control flow between engine parts; users never see it)
    """The target cannot be reached; whether it ran what was sent is not known."""


class ViewMoved(EventRayError):  # noqa: N818  (as above)
    """Another version of the view serves now: ask that. (Users never see it, either.)"""

    def __init__(self, view: str, version: int) -> None:
        super().__init__(view, version)
        self.view = view
        self.version = version


class Channel(Protocol):
    """A connection to one incarnation of a target."""

    epoch: int

    async def submit(self, batch: Batch) -> Reply:
        """Send a batch; TargetLost, BatchRefused."""
        ...

    async def collect(self, client: str, number: int) -> Reply:
        """The next part of its answers; TargetLost, BatchRefused."""
        ...


Connect = Callable[[Hashable], Awaitable[Channel]]  # finds a target's live incarnation; TargetLost
