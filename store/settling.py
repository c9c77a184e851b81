"""An append on its way to its shard, and how its outcome reaches who asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from eventray.store.records import Appended, BatchResult, Committed, NewCommand

T = TypeVar("T")

Settle = Callable[[Any], None]  # called once, in the loop, with the job that has ended; must not raise
NOTHING_FOUND: Mapping[str, Committed] = {}


class AppendJob:
    """The events of some commands for one stream, to be stored all or none.

    Attributes:
        events, size_bytes: of all commands; known once it was admitted.
        ended: whether what follows is so, and not only drawn up in an open transaction.
        error: why nothing of it is stored, or None.
        found: what the ids in `lookups` did.
        version, position: the stream's last afterwards; `before`: its last position before.
    """

    __slots__ = (
        "before",
        "commands",
        "ended",
        "error",
        "events",
        "expected_version",
        "found",
        "lookups",
        "position",
        "settle",
        "size_bytes",
        "stream",
        "token",
        "version",
    )

    def __init__(
        self,
        stream: str,
        commands: Sequence[NewCommand],
        settle: Settle,
        expected_version: int | None = None,
        token: int | None = None,
        lookups: Sequence[str] = (),
    ) -> None:
        self.stream = stream
        self.commands = commands
        self.settle = settle
        self.expected_version = expected_version
        self.token = token
        self.lookups = lookups
        self.events = self.size_bytes = 0
        self.ended = False
        self.error: Exception | None = None
        self.found = NOTHING_FOUND
        self.version = self.position = self.before = 0

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        self.error = error
        self.ended = True

    def result(self, shard: int) -> BatchResult:
        """What it came to, for each of its commands; raises its error."""
        if self.error is not None:
            raise self.error
        appended = []
        version, position = self.version - self.events, self.before
        for command in self.commands:
            count = len(command.records)
            if count:
                version += count
                position = self.position - (self.version - version)  # both are contiguous within an append
            appended.append(Appended(self.stream, version, shard, position, count, command.command_id))
        return BatchResult(appended, dict(self.found), self.version, self.position)


def settle_future(future: asyncio.Future[T], outcome: T | Exception) -> None:
    """Complete a future, unless its caller was cancelled."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
