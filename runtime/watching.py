"""Watch: ends processes that do not run any more, so that Ray starts their successors.

A frozen process (stopped, swapped out, stuck in the kernel) does not die: Ray notices nothing, and calls to it hang. So
every actor has a pulse, answered by a thread of its own: a command that computes for minutes does not stop it, only a
process that does not run at all. Ending one that was merely slow is safe: the store lets only its successor write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from eventray.runtime.config import Config

log = logging.getLogger("eventray.runtime")

LOOKS_MAX = 10  # without an answer; looks, not seconds: a watcher that is itself held up is more patient for that


class Watch:
    """Looks after actors: those that `actors()` names at each look. Each has `unresponsive_s` to answer.

    Whoever begins to watch does not know which of them have started: one that waits for resources may be ended, once,
    before it has begun. It waits on, and Ray says then that it is about to start, which is an answer.
    """

    def __init__(self, actors: Callable[[], Mapping[str, Any]], config: Config) -> None:
        self._actors = actors
        self._every_s = config.unresponsive_s / LOOKS_MAX
        self._pulses: dict[Any, _Pulse] = {}

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            self.look()
            await asyncio.sleep(self._every_s)

    def look(self) -> None:
        """Ask every actor that has answered; end the process of one that has not for too many looks."""
        actors = self._actors()
        self._pulses = {actor: self._pulses.get(actor) or _Pulse(actor) for actor in actors.values()}
        for name, actor in actors.items():
            if self._pulses[actor].is_missed():
                log.warning("%s does not answer: its process is ended, another one takes over", name)
                with contextlib.suppress(RayError, ValueError):
                    ray.kill(actor, no_restart=False)


class _Pulse:
    """For how many looks nothing was heard of one actor. It is asked at each: one call may hang (see `call`)."""

    __slots__ = ("_actor", "_calls", "_looks")

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._calls: set[asyncio.Task[None]] = set()
        self._looks = 0

    def is_missed(self) -> bool:
        """Look; whether it was the last of too many in vain (then counting begins anew)."""
        self._looks += 1
        if self._looks > LOOKS_MAX:
            self._looks = 0
            return True
        call = asyncio.get_running_loop().create_task(self._ask())
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return False

    async def _ask(self) -> None:
        with contextlib.suppress(RayError):  # it is dead or starts again: Ray knows of it
            await self._actor.pulse.remote()
        self._looks = 0
