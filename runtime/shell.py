"""Shell: what the Ray actors of an app have in common, thin shells around the engine. Each starts again after a crash.

Ray runs an actor's constructor again after a crash and tells nobody; so every shell starts lazily, at its first call.

The shells have a file each: so a process imports what its own kind needs, and who waits for a dedicated activation
does not wait for SQLite and views.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass

from ray import cloudpickle

from eventray.runtime.app import App
from eventray.runtime.channel import TargetLost
from eventray.runtime.collector import spare_the_collector
from eventray.runtime.config import Config
from eventray.runtime.inbox import Inbox
from eventray.runtime.remote import answered, dump_error
from eventray.runtime.wire import Batch, pack_reply, unpack_commands

SPARE_AFTER_S = 1.0  # the first caller need not wait for a full collection


@dataclass(frozen=True, slots=True)
class Plan:
    """What every actor of an app is told."""

    app: bytes  # the App by cloudpickle: passed on as it is, so that all processes get the same classes
    app_name: str
    run: str  # this run of the app: its actors may take over files from each other, no one else's may
    directory: str
    config: Config

    def load_app(self) -> App:
        """The App with its classes."""
        app = cloudpickle.loads(self.app)
        assert isinstance(app, App)
        return app


def new_epoch() -> int:
    """A number that no other incarnation of an actor has."""
    return int.from_bytes(os.urandom(6))


class Shell:
    """What all targets share: a start that happens once, and an inbox for batches."""

    _plan: Plan

    def __init__(self) -> None:
        self._inbox: Inbox | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._publishing: asyncio.Task[None] | None = None

    async def _start(self) -> Inbox:
        raise NotImplementedError

    async def _publish(self) -> None:
        """Tell how it goes, again and again, for ever."""
        raise NotImplementedError

    async def _ready(self) -> Inbox:
        if self._inbox is None:
            async with self._starting:
                if self._closed:
                    raise TargetLost("it is closed: it was passivated, or its app is ending")
                if self._inbox is None:
                    self._inbox = await self._start()
                    asyncio.get_running_loop().call_later(SPARE_AFTER_S, spare_the_collector)
                if self._publishing is None:
                    self._publishing = asyncio.get_running_loop().create_task(self._publish())
        return self._inbox

    @property
    def _overloaded(self) -> Counter[str]:
        return Counter() if self._inbox is None else self._inbox.overloaded

    @staticmethod
    def _unpack(data: bytes) -> Batch:
        return unpack_commands(data)

    @answered
    async def hello(self, client: str) -> int:
        """Greet a client; the epoch that its batches must name."""
        return (await self._ready()).hello(client)

    @answered
    async def submit(self, data: bytes) -> bytes:
        """Take a batch; the answers that are ready."""
        inbox = await self._ready()
        return pack_reply(await inbox.submit(self._unpack(data)), dump_error)

    @answered
    async def collect(self, client: str, number: int) -> bytes:
        """The next answers of a batch."""
        inbox = await self._ready()
        return pack_reply(await inbox.collect(client, number), dump_error)

    @answered
    async def wake(self) -> None:
        """Start, if it has not yet."""
        await self._ready()
